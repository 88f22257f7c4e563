"""Networks with their input guard, and the files of a stored model."""
