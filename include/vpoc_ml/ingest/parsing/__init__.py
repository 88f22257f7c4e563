"""Shared parts of the vendor readers: text layouts, zones, contract names, files with several contracts."""
