"""Scores of new bars: predictions, their intervals, abstention, and the coverage of the intervals."""
