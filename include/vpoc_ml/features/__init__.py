"""Causal features of one contract's bars.

One decision time: at the close of bar t, with bars closed at or before it, with levels of the session
as developed so far, with sessions completed before, and with VIX closes published before the bar
started. Sums run over integers (ticks, contracts, squared returns in fixed point), so that a value
does not depend on where a file or a chunk begins, to the last bit.
"""
