"""Contract codes: many spellings in, one (``ESH25``) out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

from vpoc_ml.errors import ContractCodeError
from vpoc_ml.market.instruments import instrument, symbols

MONTH_CODES = "FGHJKMNQUVXZ"
_FRIDAY = 4
_LETTER = re.compile(r"([A-Z0-9]{1,3}?)[ _]?([FGHJKMNQUVXZ])(\d{4}|\d{1,2})")
_NUMBER = re.compile(r"([A-Z0-9]{1,3})[ _](\d{2})-(\d{2})")


@dataclass(frozen=True, order=True)
class Contract:
    """One delivery month of an instrument. Contracts of one root sort by expiry."""

    root: str
    year: int
    month: int

    @property
    def code(self) -> str:
        """The canonical code, such as ``ESH25``."""
        return f"{self.root}{MONTH_CODES[self.month - 1]}{self.year % 100:02d}"

    @property
    def expiry(self) -> date:
        """Third Friday of the delivery month, the last trading day of equity index futures.

        Where that Friday is a holiday of the stock market (Juneteenth: 2026-06-19, 2027-06-18) trading ends on the
        Thursday; this date then names one session more than has bars.
        """
        first = date(self.year, self.month, 1)
        return first + timedelta(days=(_FRIDAY - first.weekday()) % 7 + 14)

    @property
    def scheduled_roll(self) -> date:
        """Monday of the expiry week, the exchange's published roll date for equity index futures."""
        return self.expiry - timedelta(days=_FRIDAY)


def parse_contract(text: str, *, where: str = "contract name", near: date | None = None) -> Contract:
    """Read ``ESH25``, ``ES 03-25``, ``ES_03_25``, ``ESH5``, ``ESH2025`` or ``ES_H25``, in any case.

    A two-digit year is 1970-2069. A one-digit year is the one whose expiry lies nearest to ``near``, so it
    needs that date.

    Raises:
        ContractCodeError: not such a name, an unknown root, or a month the instrument does not list.
    """
    clean = text.strip().upper().replace("_", " ")
    clean = re.sub(r"(\d{2}) (\d{2})$", r"\1-\2", clean)
    if match := _NUMBER.fullmatch(clean):
        root, month, year = match[1], int(match[2]), match[3]
    elif match := _LETTER.fullmatch(clean):
        root, month, year = match[1], MONTH_CODES.index(match[2]) + 1, match[3]
    else:
        raise ContractCodeError(text, where=where)
    _check_listed(text, where, root, month)
    if len(year) > 1:
        return Contract(root, int(year) if len(year) == 4 else _century(int(year)), month)
    if near is None:
        raise ContractCodeError(text, where=where, reason="a one-digit year needs a date to lie near")
    years = (near.year - near.year % 10 + int(year) + shift for shift in (-10, 0, 10))
    return min((Contract(root, y, month) for y in years), key=lambda c: abs(c.expiry - near))


def _century(year: int) -> int:
    return year + (1900 if year >= 70 else 2000)


def _check_listed(text: str, where: str, root: str, month: int) -> None:
    if root not in symbols():
        raise ContractCodeError(text, where=where, reason=f"no instrument {root}; known: {', '.join(symbols())}")
    listed = instrument(root).months
    if not 1 <= month <= 12 or MONTH_CODES[month - 1] not in listed:
        raise ContractCodeError(text, where=where, reason=f"{root} lists the months {', '.join(listed)}")
