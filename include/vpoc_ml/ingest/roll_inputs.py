"""Files about rolls: daily open interest, and steps that a person states.

Open interest is a QuantConnect LEAN zip, or a CSV ``contract,session,open_interest``. Steps are a CSV ``contract,gap``
or ``contract,gap,ratio``.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

import polars as pl

from vpoc_ml.artifacts.schemas import OPEN_INTEREST
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import ContractCodeError, MissingInputError, UnreadableFileError
from vpoc_ml.ingest.file_streams import open_unpacked, zip_members
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import Instrument

_OPEN_INTEREST_REMEDY = "Correct data.open_interest, or choose another data.roll_rule."


def read_open_interest(path: Path, instrument: Instrument, config: IngestConfig | None = None) -> pl.DataFrame:
    """Return contract, session Date and open_interest i64 (contracts held at the end of the session).

    A LEAN zip holds a CSV per contract, ``es_openinterest_201312.csv``, with rows ``20131216 00:00,1701691``. A CSV may
    be packed with gzip or zstandard.

    Args:
        path: zip or CSV.
        instrument: its contracts are read from a zip.
        config: gives ``expansion_limit``; None: the default.

    Raises:
        MissingInputError: no such file.
        UnreadableFileError: another format, a row that cannot be read, or a session that appears twice.
        ExpansionLimitError: a packed file expands to more than ``ingest.expansion_limit`` allows.
        ContractCodeError: a contract's code cannot be read.
    """
    if not path.is_file():
        raise MissingInputError(path, "daily open interest", _OPEN_INTEREST_REMEDY)
    limit = (config or IngestConfig()).expansion_limit
    inner = zip_members(path, ratio=limit)
    try:
        table = _from_csv(path, limit) if inner is None else _from_zip(path, inner, instrument, limit)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        expected = f"the columns {','.join(OPEN_INTEREST)}" if inner is None else "rows 20131216 00:00,1701691"
        raise UnreadableFileError(path, expected, str(error).splitlines()[0], remedy=_OPEN_INTEREST_REMEDY) from error
    twice = table.filter(table.select("contract", "session").is_duplicated())
    if table.null_count().sum_horizontal().item() or (table["open_interest"] < 0).any() or not twice.is_empty():
        found = f"{twice['contract'][0]} {twice['session'][0]} twice" if not twice.is_empty() else "an empty field"
        raise UnreadableFileError(
            path, "one figure a contract and session, at least 0", found, remedy=_OPEN_INTEREST_REMEDY
        )
    return table


def _from_csv(path: Path, limit: float) -> pl.DataFrame:
    with open_unpacked(path, ratio=limit) as stream:
        types = dict.fromkeys(OPEN_INTEREST, pl.String)
        raw = pl.read_csv(stream.read(), columns=list(OPEN_INTEREST), schema_overrides=types).select(*OPEN_INTEREST)
    codes = {text: parse_contract(text, where=path.name).code for text in raw["contract"].unique().drop_nulls()}
    return raw.select(
        pl.col("contract").replace_strict(codes, return_dtype=pl.String),
        pl.col("session").str.to_date("%Y-%m-%d"),
        pl.col("open_interest").cast(pl.Int64),
    )


def _from_zip(path: Path, inner: list[str], instrument: Instrument, limit: float) -> pl.DataFrame:
    frames = [pl.DataFrame(schema=OPEN_INTEREST)]
    for name in sorted(inner):
        root, kind, month = (*Path(name).stem.split("_"), "", "", "")[:3]
        if root.upper() != instrument.symbol or kind != "openinterest":
            continue
        schema = {"day": pl.String, "open_interest": pl.Int64}
        with open_unpacked(path, name, ratio=limit) as stream:
            raw = pl.read_csv(stream.read(), has_header=False, schema=schema)
        day = pl.col("day").str.slice(0, 8).str.to_date("%Y%m%d")
        code = parse_contract(f"{root}{month}", where=name).code
        frames.append(raw.select(pl.lit(code).alias("contract"), day.alias("session"), "open_interest"))
    return pl.concat(frames)


COLUMNS = (["contract", "gap"], ["contract", "gap", "ratio"])
_STEPS_REMEDY = "Correct data.rolls."


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
        raise MissingInputError(path, "the steps of the rolls that data.rolls names", _STEPS_REMEDY)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFileError(path, "a CSV in UTF-8", str(error), remedy=_STEPS_REMEDY) from error
    header = lines[0][1] if lines else []
    if header not in COLUMNS:
        expected = "the header contract,gap or contract,gap,ratio"
        raise UnreadableFileError(path, expected, ",".join(header) or "an empty file", line=1, remedy=_STEPS_REMEDY)
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
            raise UnreadableFileError(path, expected, found, line=line, remedy=_STEPS_REMEDY) from error
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
