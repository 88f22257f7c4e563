"""Contract codes: read many spellings, write one (``ESH25``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from vpoc_ml.errors import ContractCodeError
from vpoc_ml.market.instrument_files import MONTH_CODES
from vpoc_ml.market.instruments import instrument, symbols, weekdays_before

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_ROOT = r"(?P<root>[A-Z0-9]{1,4}?)"
_FORMS = (
    rf"{_ROOT} ?(?P<letter>[{MONTH_CODES}])(?P<year>\d{{4}}|\d{{1,2}})",
    rf"{_ROOT} (?P<number>\d{{2}})-(?P<year>\d{{2}}|\d{{4}})",
    rf"{_ROOT} (?P<number>\d{{2}}) (?P<year>\d{{2}})",
    rf"{_ROOT} ?(?P<year>(?:19|20)\d{{2}})-?(?P<number>\d{{2}})",
    rf"{_ROOT} ?(?P<name>{'|'.join(_MONTHS)}) ?(?P<year>\d{{4}}|\d{{2}})",
)
_PATTERNS = tuple(re.compile(form) for form in _FORMS)
_VENUE = re.compile(r"(?: FUT)?[ .:-](?:CME|CBOT|CBT|NYMEX|NYM|COMEX|CMX|XCME|XCBT|XNYM|XCEC)$")
_CONTINUOUS = re.compile(r"[A-Z0-9]{1,4}(?:\d!|=F|#|\.[A-Z]\.\d+| ##-##)")


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
        """Last trading day, by the instrument's rule.

        If the third Friday of an equity index is a holiday of the stock market (Juneteenth: 2026-06-19, 2027-06-18),
        trading ends on the Thursday; this date then is one session after the last bar.

        Raises:
            InvalidValueError: the root is no known instrument.
        """
        return instrument(self.root).expiry.of(self.year, self.month)

    @property
    def scheduled_roll(self) -> date:
        """The scheduled roll date: ``roll_days`` weekdays before expiry; for equity indices the Monday of its week."""
        return weekdays_before(self.expiry, instrument(self.root).roll_days)

    @property
    def previous(self) -> Contract:
        """The delivery month before this one in the instrument's roll cycle."""
        cycle = instrument(self.root).cycle
        year, month = self.year, self.month
        while True:
            year, month = (year, month - 1) if month > 1 else (year - 1, 12)
            if MONTH_CODES[month - 1] in cycle:
                return Contract(self.root, year, month)


def parse_contract(text: str, *, where: str = "contract name", near: date | None = None) -> Contract:
    """Return the contract of a name in any vendor's spelling and any case.

    ``ESH25``, ``ESH5``, ``ESH2025``, ``ES_H25``, ``ES 03-25``, ``ES_03_25``, ``ES202503``, ``ES MAR25``, each also
    with ``/`` or ``@`` before it or the exchange after it (``ESH25.CME``, ``ESH25_FUT_CME``).

    Args:
        text: the name.
        where: origin of the name, for errors.
        near: a date of the data. A year of one or two digits is the one whose expiry lies nearest to it. Without it
            two digits mean 1970-2069 and one digit is refused.

    Raises:
        ContractCodeError: no such name, a continuous series, an unknown root, or a month that the instrument does not
            list.
    """
    clean = _VENUE.sub("", re.sub(r"[_\s]+", " ", text.strip().upper().lstrip("/@")))
    if _CONTINUOUS.fullmatch(clean):
        raise ContractCodeError(text, where=where, reason="a continuous series mixes contracts; name one of them")
    found = next((match.groupdict() for form in _PATTERNS if (match := form.fullmatch(clean))), None)
    if found is None:
        raise ContractCodeError(text, where=where)
    root, year = found["root"], found["year"]
    if "number" in found:
        month = int(found["number"])
    else:
        month = MONTH_CODES.index(found["letter"]) + 1 if "letter" in found else _MONTHS.index(found["name"]) + 1
    if root not in symbols():
        raise ContractCodeError(text, where=where, reason=f"no instrument {root}; known: {', '.join(symbols())}")
    listed = instrument(root).months
    if not 1 <= month <= 12 or MONTH_CODES[month - 1] not in listed:
        raise ContractCodeError(text, where=where, reason=f"{root} lists the months {', '.join(listed)}")
    if len(year) == 4:
        return Contract(root, int(year), month)
    if near is not None:
        period = 10 ** len(year)
        years = (near.year - near.year % period + int(year) + shift for shift in (-period, 0, period))
        return min((Contract(root, each, month) for each in years), key=lambda each: abs(each.expiry - near))
    if len(year) == 1:
        raise ContractCodeError(text, where=where, reason="a one-digit year needs a date of the data")
    return Contract(root, int(year) + (1900 if int(year) >= 70 else 2000), month)
