"""Causal features of one contract's bars.

Every value belongs to one decision time, the close of bar t. It may use bars that closed at or before it, levels of
the session as developed so far, sessions that were completed before, and VIX closes that were published before the
bar started. Sums run over integers (ticks, contracts, squared returns in fixed point), so a value is bit-identical
wherever a file or a chunk begins.

Two types of ``inputs`` carry the data. ``Inputs`` holds the contract's own bars: one entry per bar of the result.
``BarHistory`` holds bars of the past followed by the own bars, either all of them (``full_history``) or as
many as the longest window of bars reads (``padded``). ``BarHistory.own`` converts the second form into the first.
"""
