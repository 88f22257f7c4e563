"""Daily open interest: a QuantConnect LEAN zip, or a CSV ``contract,session,open_interest``."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.schemas import OPEN_INTEREST
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import MissingInputError, UnreadableFileError
from vpoc_ml.ingest.file_streams import open_unpacked, zip_members
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import Instrument

_REMEDY = "Correct data.open_interest, or choose another data.roll_rule."


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
        raise MissingInputError(path, "daily open interest", _REMEDY)
    limit = (config or IngestConfig()).expansion_limit
    inner = zip_members(path, ratio=limit)
    try:
        table = _from_csv(path, limit) if inner is None else _from_zip(path, inner, instrument, limit)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        expected = f"the columns {','.join(OPEN_INTEREST)}" if inner is None else "rows 20131216 00:00,1701691"
        raise UnreadableFileError(path, expected, str(error).splitlines()[0], remedy=_REMEDY) from error
    twice = table.filter(table.select("contract", "session").is_duplicated())
    if table.null_count().sum_horizontal().item() or (table["open_interest"] < 0).any() or not twice.is_empty():
        found = f"{twice['contract'][0]} {twice['session'][0]} twice" if not twice.is_empty() else "an empty field"
        raise UnreadableFileError(path, "one figure a contract and session, at least 0", found, remedy=_REMEDY)
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
