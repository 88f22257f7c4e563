"""The legacy system's command line and its merged files."""
