"""Instruments, contract codes, the exchange calendar and rolls."""
