"""Formats that are known and not read: an error names them."""

from __future__ import annotations

import re

_KNOWN = {
    r"^\d{8};[\d.;]+$": "a NinjaTrader day export",
    r"^\d{8} \d{6} \d{7};[\d.;]+$": "a NinjaTrader tick export",
    r"^\d{4}-\d{2}-\d{2},[\d.,]+$": "daily bars",
    r"^\d{2}/\d{2}/\d{4},[\d.,]+$": "daily bars",
    r"(?i)^(symbol|ticker),time": "an equity export, symbol first",
}


def described(line: str) -> str:
    """Return what a first line shows the file to be: a known format, else the line itself."""
    known = next((name for form, name in _KNOWN.items() if re.search(form, line)), None)
    return known or repr(line[:80])
