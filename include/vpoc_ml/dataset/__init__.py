"""From bars and features to one training set: labels, chronological splits, rank target, guard statistics."""
