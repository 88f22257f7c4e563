"""What the features of a run are worth before any model is trained, and the page that explains each of them.

Everything here reads training and validation rows only. The test rows stay unseen, so that the analysis
may guide choices without spending them.
"""
