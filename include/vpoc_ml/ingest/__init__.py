"""Vendor files in, canonical bars out: readers, cleaning with a quarantine, and the VIX."""
