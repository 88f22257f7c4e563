"""The training set: labels, chronological splits, targets, scalers and their statistics."""
