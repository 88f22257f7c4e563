"""Daily open interest: a QuantConnect LEAN zip, or a CSV ``contract,session,open_interest``."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import polars as pl

from vpoc_ml.errors import MissingInputError, UnreadableFileError
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import Instrument

COLUMNS = ("contract", "session", "open_interest")
_REMEDY = "Correct data.open_interest, or choose another data.roll_rule."


def read_open_interest(path: Path, instrument: Instrument) -> pl.DataFrame:
    """Return contract, session Date and open_interest i64 (contracts held at the end of the session).

    A LEAN zip holds a CSV a contract, ``es_openinterest_201312.csv``, with rows ``20131216 00:00,1701691``.

    Raises:
        MissingInputError: no such file.
        UnreadableFileError: another format, a row that cannot be read, or a session that comes twice.
        ContractCodeError: a contract's code cannot be read.
    """
    if not path.is_file():
        raise MissingInputError(path, "daily open interest", _REMEDY)
    zipped = zipfile.is_zipfile(path)
    try:
        table = _from_zip(path, instrument) if zipped else _from_csv(path)
    except (pl.exceptions.PolarsError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        expected = "rows 20131216 00:00,1701691" if zipped else f"the columns {','.join(COLUMNS)}"
        raise UnreadableFileError(path, expected, str(error).splitlines()[0], remedy=_REMEDY) from error
    twice = table.filter(table.select("contract", "session").is_duplicated())
    if table.null_count().sum_horizontal().item() or (table["open_interest"] < 0).any() or not twice.is_empty():
        found = f"{twice['contract'][0]} {twice['session'][0]} twice" if not twice.is_empty() else "an empty field"
        raise UnreadableFileError(path, "one figure a contract and session, at least 0", found, remedy=_REMEDY)
    return table


def _from_csv(path: Path) -> pl.DataFrame:
    raw = pl.read_csv(path, columns=list(COLUMNS), schema_overrides=dict.fromkeys(COLUMNS, pl.String)).select(COLUMNS)
    codes = {text: parse_contract(text, where=path.name).code for text in raw["contract"].unique().drop_nulls()}
    return raw.select(
        pl.col("contract").replace_strict(codes, return_dtype=pl.String),
        pl.col("session").str.to_date("%Y-%m-%d"),
        pl.col("open_interest").cast(pl.Int64),
    )


def _from_zip(path: Path, instrument: Instrument) -> pl.DataFrame:
    frames = [pl.DataFrame(schema={"contract": pl.String, "session": pl.Date, "open_interest": pl.Int64})]
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            root, kind, month = (*Path(name).stem.split("_"), "", "", "")[:3]
            if root.upper() != instrument.symbol or kind != "openinterest":
                continue
            raw = pl.read_csv(
                io.BytesIO(archive.read(name)), has_header=False, schema={"day": pl.String, "open_interest": pl.Int64}
            )
            day = pl.col("day").str.slice(0, 8).str.to_date("%Y%m%d")
            code = parse_contract(f"{root}{month}", where=name).code
            frames.append(raw.select(pl.lit(code).alias("contract"), day.alias("session"), "open_interest"))
    return pl.concat(frames)
