"""Further indices that a run joins to its bars, such as VVIX: the setting ``ingest.covariates``.

An entry is ``NAME[=FILE][@HH:MM[+DAYS]]``: ``VVIX``, ``VIX9D=/data/VIX9D_History.csv``, ``DGS2=DGS2.csv@08:30+1``.
NAME in lower case is the column of the bars. FILE is an absolute path or a path in the raw folder; without FILE it is
the file of the raw folder that names the index. A daily value is known at HH:MM New York (16:15), DAYS business days
after its date. A time that is too early, or too few DAYS, is look-ahead.
"""

from __future__ import annotations

import re
from datetime import time
from pathlib import Path
from typing import NamedTuple

from vpoc_ml.artifacts.schemas import BARS
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.ingest.vix.index_files import PublicationTime
from vpoc_ml.ingest.vix.index_header import VIX

_ENTRY = re.compile(
    r"(?P<name>[A-Za-z][A-Za-z0-9_]*)\s*(?:=\s*(?P<file>.+?))?\s*(?:@\s*(?P<at>\d{2}:\d{2})(?:\+(?P<days>\d{1,2}))?)?"
)


class Covariate(NamedTuple):
    """One index: its symbol in capitals, its file if the setting names one, and its time of publication."""

    symbol: str
    file: str | None
    published: PublicationTime

    @property
    def column(self) -> str:
        """Name of its column among the bars."""
        return self.symbol.lower()


def covariates(config: IngestConfig) -> tuple[Covariate, ...]:
    """Return the entries of ``ingest.covariates`` in order.

    Raises:
        InvalidValueError: an entry of another form, a name that the bars have already, or a name twice.
    """
    found: list[Covariate] = []
    for entry in config.covariates:
        fitting = _ENTRY.fullmatch(entry.strip())
        if fitting is None:
            raise InvalidValueError("ingest.covariates", entry, "NAME[=FILE][@HH:MM[+DAYS]], such as VVIX@16:15")
        name = fitting["name"]
        if name.lower() in (*BARS, *(each.column for each in found)):
            raise InvalidValueError("ingest.covariates", entry, "a name that is no column of the bars yet")
        try:
            at = time.fromisoformat(fitting["at"]) if fitting["at"] else PublicationTime().at
        except ValueError as error:
            raise InvalidValueError("ingest.covariates", entry, "a time of day such as 16:15 behind the @") from error
        published = PublicationTime(at, int(fitting["days"] or 0))
        found.append(Covariate(name.upper(), fitting["file"], published))
    return tuple(found)


def symbols(config: IngestConfig) -> tuple[str, ...]:
    """Return the indices whose files a run reads: the VIX, then the covariates."""
    return (VIX, *(each.symbol for each in covariates(config)))


def files(config: IngestConfig, folder: Path) -> set[Path]:
    """Return the files that the entries name, relative ones in ``folder``."""
    return {folder / each.file for each in covariates(config) if each.file is not None}
