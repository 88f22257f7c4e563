"""Steps of rolls that a person states: a CSV ``contract,gap`` or ``contract,gap,ratio``."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

from vpoc_ml.errors import ContractCodeError, MissingInputError, UnreadableFileError
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import Instrument

COLUMNS = (["contract", "gap"], ["contract", "gap", "ratio"])
_REMEDY = "Correct data.rolls."


class StatedRoll(NamedTuple):
    """The step to a contract: new minus old in points, and new over old, None where only the gap is stated."""

    gap: float
    ratio: float | None


def read_stated_rolls(path: Path, instrument: Instrument) -> dict[str, StatedRoll]:
    """Return the stated step by the code of the contract that becomes front.

    Args:
        path: UTF-8 CSV with the header ``contract,gap`` or ``contract,gap,ratio``. A contract's code may have any
            spelling; an empty ratio is none.
        instrument: the futures all contracts belong to.

    Raises:
        MissingInputError: no such file.
        UnreadableFileError: another header, a row of another length, a code that cannot be read or is of another
            instrument, a gap that is no number, a ratio that is not above 0, or a contract twice. Names the line.
    """
    if not path.is_file():
        raise MissingInputError(path, "the steps of the rolls that data.rolls names", _REMEDY)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFileError(path, "a CSV in UTF-8", str(error), remedy=_REMEDY) from error
    header = lines[0][1] if lines else []
    if header not in COLUMNS:
        expected = "the header contract,gap or contract,gap,ratio"
        raise UnreadableFileError(path, expected, ",".join(header) or "an empty file", line=1, remedy=_REMEDY)
    steps: dict[str, StatedRoll] = {}
    for line, row in lines[1:]:
        try:
            if len(row) != len(header):
                raise ValueError(f"{len(row)} fields")
            code, step = _step(row, path.name, instrument)
            if code in steps:
                raise ValueError(f"{code} twice")
        except (ContractCodeError, ValueError) as error:
            expected = f"one row {','.join(header)} for each contract of {instrument.symbol}"
            reason = error.reason or "no contract code" if isinstance(error, ContractCodeError) else error
            found = f"{','.join(row)} ({reason})"
            raise UnreadableFileError(path, expected, found, line=line, remedy=_REMEDY) from error
        steps[code] = step
    return steps


def _step(row: list[str], where: str, instrument: Instrument) -> tuple[str, StatedRoll]:
    """Return code and step of a row; ValueError or ContractCodeError if it states none."""
    contract = parse_contract(row[0], where=where)
    gap, ratio = float(row[1]), float(row[2]) if len(row) > len(COLUMNS[0]) and row[2] else None
    if contract.root != instrument.symbol:
        raise ValueError(f"no contract of {instrument.symbol}")
    if not math.isfinite(gap) or (ratio is not None and not 0 < ratio < math.inf):
        raise ValueError("a gap is a number of points, a ratio a number above 0")
    return contract.code, StatedRoll(gap, ratio)
