"""Daily closes of the VIX and of other indices, each with the time of its publication."""
