"""The earlier system's command line and its merged files."""
