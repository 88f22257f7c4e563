"""Vendor files in, canonical bars out: readers, cleaning with quarantine, VIX, and a synthetic market."""
