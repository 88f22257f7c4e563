"""Optional feature families, off by default: ``features.extras`` names the families a run adds to the registry's.

They follow the same rules: causal, with a finite lookback, bit-identical wherever a file or a chunk begins. Models are
refitted at the start of each session on completed sessions only. The module of a family is imported when the family is
selected. Its function ``compute`` returns the features by name.
"""
