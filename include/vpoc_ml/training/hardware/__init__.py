"""Which device trains: probing, known issues of drivers and wheels, the smoke test."""
