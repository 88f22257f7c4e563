"""Analysis of a run's features before any model is trained.

It reads training and validation rows only. Choices made after reading the analysis therefore do not use the test rows.
"""
