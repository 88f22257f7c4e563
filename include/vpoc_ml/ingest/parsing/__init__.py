"""What the vendors' readers share: text layouts, zones, contract names, files with several contracts."""
