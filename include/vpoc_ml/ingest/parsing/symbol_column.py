"""A text that holds several contracts: which they are, where their lines lie, and the lines of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from vpoc_ml.artifacts.sources import Span
from vpoc_ml.errors import ContractCodeError
from vpoc_ml.ingest.file_streams import Block
from vpoc_ml.ingest.parsing.reader import FileContents, FileRef
from vpoc_ml.market.contracts import Contract, parse_contract

_SPREAD = re.compile(
    r"[A-Z0-9]{2,4}[FGHJKMNQUVXZ]\d{1,4}\s*[-:]\s*[A-Z0-9]{2,4}[FGHJKMNQUVXZ]\d{1,4}|.*(:BF|:CF|UD:).*"
)
_DECADE = 1826  # days around expiry: a one-digit year comes back after ten years


@dataclass
class Index:
    """Spans by symbol and contract; rows of spreads and of symbols that are no contract, by symbol."""

    spans: dict[tuple[str, Contract], Span] = field(default_factory=dict)
    spreads: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)

    def notes(self) -> tuple[str, ...]:
        """Return what was set apart, for the run's report."""
        told = (("calendar spreads", self.spreads), ("symbols that are no single contract", self.others))
        return tuple(
            f"{what} set apart, never mixed with a contract: "
            + ", ".join(f"{symbol} ({rows} rows)" for symbol, rows in sorted(rows_by.items())[:8])
            for what, rows_by in told
            if rows_by
        )


def index(parts: Iterable[tuple[Block, pl.DataFrame]]) -> Index:
    """Return the index of a text from its blocks and their rows (ts, symbol)."""
    found, carried = Index(), ""
    known: dict[tuple[str, date], Contract | None] = {}
    for block, rows in parts:
        if not rows.height:
            continue
        whole = rows.filter(pl.col("symbol").is_not_null())
        if not carried and whole.height:
            carried = str(whole["symbol"][0])
        months = whole.group_by("symbol", month=pl.col("ts").dt.date().dt.month_start()).len()
        if rows["symbol"][0] is None:  # lines at the start that belong to the symbol of the block before
            for key in [key for key in found.spans if key[0] == carried]:
                _extend(found, *key, block, carried)
        for symbol, month, count in months.iter_rows():
            if (symbol, month) not in known:
                known[symbol, month] = _judged(symbol, month, found)
            contract = known[symbol, month]
            if contract is None:
                counts = found.spreads if symbol in found.spreads else found.others
                counts[symbol] += count
            else:
                _extend(found, symbol, contract, block, carried)
        if whole.height:
            carried = str(whole["symbol"][-1])
    return found


def _judged(symbol: str, day: date, found: Index) -> Contract | None:
    """Return the symbol's contract near a day, or None and a count to begin with."""
    try:
        return parse_contract(symbol, where="symbol column", near=day)
    except ContractCodeError:
        (found.spreads if _SPREAD.fullmatch(symbol) else found.others).setdefault(symbol, 0)
        return None


def _extend(found: Index, symbol: str, contract: Contract, block: Block, carried: str) -> None:
    span = found.spans.get((symbol, contract)) or Span(
        start=block.offset, stop=block.stop, line=block.line, carried=carried
    )
    found.spans[symbol, contract] = span.model_copy(update={"stop": block.stop})


def rows_of_symbol(
    batches: Iterable[pl.DataFrame], symbol: str, contract: Contract, carried: str
) -> Iterator[pl.DataFrame]:
    """Yield the rows of one symbol, without that column; a malformed row belongs to the symbol of the row before.

    Of a symbol with a one-digit year, rows nearer to the same symbol of another decade are left out.
    """
    one_digit = re.search(r"[A-Z]\d$", symbol) is not None
    last: tuple[str, object] = (carried, None)
    for batch in batches:
        owner = pl.col("symbol").fill_null(strategy="forward").fill_null(last[0])
        stamp = pl.col("ts").fill_null(strategy="forward").fill_null(pl.lit(last[1], pl.Datetime("us", "UTC")))
        owned = batch.with_columns(owner=owner, near=stamp.dt.date())
        if owned.height:
            last = (owned["owner"][-1], owned.select(stamp.alias("ts"))["ts"][-1])
        mine = pl.col("owner") == symbol
        if one_digit:
            distance = (pl.col("near") - contract.expiry).dt.total_days().abs()
            mine &= (distance < _DECADE).fill_null(value=True)
        yield owned.filter(mine).drop("owner", "near", "symbol")


def listed(file: FileRef, reader: str, counted: Mapping[tuple[str, date], int]) -> FileContents:
    """Return the sources of a file without lines from its rows by symbol and month.

    Raises:
        ContractCodeError: none of its symbols is a contract.
    """
    found = Index()
    contracts = []
    for (symbol, month), rows in sorted(counted.items()):
        contract = _judged(symbol, month, found)
        if contract is not None:
            contracts.append((symbol, contract))
            continue
        (found.spreads if symbol in found.spreads else found.others)[symbol] += rows
    refuse_without_contract(found, bool(contracts))
    whole = Span(start=0, stop=0, line=1, carried="")
    sources = (file.source(reader, c, symbol, whole) for symbol, c in dict.fromkeys(contracts))
    return FileContents(tuple(sources), found.notes())


def refuse_without_contract(found: Index, any_contract: bool) -> None:
    """Raise if a file's symbols name no contract at all.

    Raises:
        ContractCodeError: with the first symbol and what is wrong with it.
    """
    if any_contract:
        return
    symbol = next(iter([*found.others, *found.spreads]), "no symbol at all")
    if symbol in found.spreads:
        raise ContractCodeError(symbol, where="symbol column", reason="the file holds calendar spreads only")
    parse_contract(symbol, where="symbol column", near=date(2000, 1, 1))
    raise ContractCodeError(symbol, where="symbol column")
