"""Generated markets: with a signal, without one, and with planted faults."""
