"""Networks, the input guard they all carry, and the files they are stored in."""
