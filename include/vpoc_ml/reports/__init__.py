"""Every HTML page, and the tables of the terminal."""
