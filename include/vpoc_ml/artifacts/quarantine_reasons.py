"""Reasons for which a row is no bar: the values of column ``reason`` in the quarantine."""

from __future__ import annotations

UNPARSABLE = "unparsable"
OUTSIDE_HOURS = "outside exchange hours"
BELOW_MIN_PRICE = "price below minimum"
OFF_TICK = "price off the tick grid"
OHLC = "high or low does not bound open and close"
NEGATIVE_VOLUME = "negative volume"
DUPLICATE = "duplicate"
CONFLICTING = "conflicting duplicate"
BAD_PRINT = "isolated bad print"
