"""Names under which publishers list an index: VIX and its relatives."""

from __future__ import annotations

import re

VIX = "VIX"
_ALIASES = {
    VIX: ("VIXCLS", "VIXCURRENT", "VIXARCHIVE"),
    "VIX1D": (),
    "VIX9D": ("VXST",),
    "VIX3M": ("VXV", "VXVCLS"),
    "VIX6M": ("VXMT",),
    "VIX1Y": (),
    "VVIX": (),
    "VXN": ("VXNCLS",),
    "VXD": ("VXDCLS",),
    "VXO": ("VXOCLS",),
    "RVX": ("RVXCLS",),
    "OVX": ("OVXCLS",),
    "GVZ": ("GVZCLS",),
    "EVZ": ("EVZCLS",),
    "VXEEM": ("VXEEMCLS",),
    "VSTOXX": ("V2TX",),
    "SKEW": (),
    "MOVE": (),
    "SPX": ("GSPC", "SP500", "INX"),
    "NDX": ("NASDAQ100",),
    "RUT": (),
    "DJI": ("DJIA",),
    "VIXY": (),
    "VXX": (),
    "UVXY": (),
    "SVXY": (),
}
_SYMBOLS = {name: symbol for symbol, others in _ALIASES.items() for name in (symbol, *others)}
_TITLE = re.compile(r"(?i)\bcboe volatility index\b")


def symbol_of(text: str, *more: str) -> str | None:
    """Return the index that a vendor's symbol names (``^VIX``, ``CBOE:VIX``, ``VIX.US``), or None.

    ``more`` are further names of indices, in capitals.
    """
    name = text.strip().upper().rpartition(":")[2].lstrip("^$.").split(".")[0]
    return _SYMBOLS.get(name, name if name in more else None)


def symbols_in(name: str, *more: str) -> set[str]:
    """Return the indices in a file name: VIX for ``CBOE_DLY_VIX, 1D.csv``."""
    found = {symbol_of(token, *more) for token in re.split(r"[^A-Za-z0-9]+", name)}
    found |= {VIX} if _TITLE.search(name) else set()
    return {symbol for symbol in found if symbol is not None}
