"""Contracts by name: in file names, in vendors' symbols, and in the symbol column of a text with several contracts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.sources import Span
from vpoc_ml.errors import ContractCodeError
from vpoc_ml.ingest.file_streams import Block
from vpoc_ml.ingest.parsing.reader import FileContents, FileRef
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.instruments import symbols

_SPREAD = re.compile(
    r"[A-Z0-9]{2,4}[FGHJKMNQUVXZ]\d{1,4}\s*[-:]\s*[A-Z0-9]{2,4}[FGHJKMNQUVXZ]\d{1,4}|.*(:BF|:CF|UD:).*"
)
_HALF_DECADE_DAYS = 1826  # days around expiry: a one-digit year comes back after ten years


@dataclass
class SymbolIndex:
    """Spans by symbol and contract; row counts of calendar spreads and of symbols that name no contract."""

    spans: dict[tuple[str, Contract], Span] = field(default_factory=dict)
    spreads: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)

    def contract_near(self, symbol: str, day: date) -> Contract | None:
        """Return the contract that a symbol names near a day; None, and a row count of 0, if it names none."""
        try:
            return parse_contract(symbol, where="symbol column", near=day)
        except ContractCodeError:
            (self.spreads if _SPREAD.fullmatch(symbol) else self.others).setdefault(symbol, 0)
            return None

    def count(self, symbol: str, rows: int) -> None:
        """Add rows of a symbol that names no contract."""
        (self.spreads if symbol in self.spreads else self.others)[symbol] += rows

    def extend(self, symbol: str, contract: Contract, block: Block, carried: str) -> None:
        """Extend the span of a symbol to the end of a block."""
        span = self.spans.get((symbol, contract)) or Span(
            start=block.offset, stop=block.stop, line=block.line, carried=carried
        )
        self.spans[symbol, contract] = span.model_copy(update={"stop": block.stop})

    def notes(self) -> tuple[str, ...]:
        """Return what was set apart, for the run's report."""
        kinds = (("calendar spreads", self.spreads), ("symbols that are no single contract", self.others))
        return tuple(
            f"{kind} set apart, never mixed with a contract: "
            + ", ".join(f"{symbol} ({rows} rows)" for symbol, rows in sorted(counts.items())[:8])
            for kind, counts in kinds
            if counts
        )


def index_symbols(parts: Iterable[tuple[Block, pl.DataFrame]]) -> SymbolIndex:
    """Return the index of a text from its blocks and their rows (ts, symbol)."""
    index, carried = SymbolIndex(), ""
    known: dict[tuple[str, date], Contract | None] = {}
    for block, rows in parts:
        if not rows.height:
            continue
        valid = rows.filter(pl.col("symbol").is_not_null())
        if not carried and valid.height:
            carried = str(valid["symbol"][0])
        if rows["symbol"][0] is None:  # lines at the start that belong to the symbol of the block before
            for key in [key for key in index.spans if key[0] == carried]:
                index.extend(*key, block, carried)
        months = valid.group_by("symbol", month=pl.col("ts").dt.date().dt.month_start()).len()
        for symbol, month, count in months.iter_rows():
            if (symbol, month) not in known:
                known[symbol, month] = index.contract_near(symbol, month)
            contract = known[symbol, month]
            if contract is None:
                index.count(symbol, count)
            else:
                index.extend(symbol, contract, block, carried)
        if valid.height:
            carried = str(valid["symbol"][-1])
    return index


def rows_of_symbol(
    batches: Iterable[pl.DataFrame], symbol: str, contract: Contract, carried: str
) -> Iterator[pl.DataFrame]:
    """Yield the rows of one symbol, without that column; a malformed row belongs to the symbol of the row before.

    A symbol with a one-digit year returns every decade: rows that are nearer to the contract of another decade are
    left out.
    """
    one_digit = re.search(r"[A-Z]\d$", symbol) is not None
    last: tuple[str, object] = (carried, None)
    for batch in batches:
        owner = pl.col("symbol").fill_null(strategy="forward").fill_null(last[0])
        timestamp = pl.col("ts").fill_null(strategy="forward").fill_null(pl.lit(last[1], pl.Datetime("us", "UTC")))
        owned = batch.with_columns(owner=owner, near=timestamp.dt.date())
        if owned.height:
            last = (owned["owner"][-1], owned.select(timestamp.alias("ts"))["ts"][-1])
        selected = pl.col("owner") == symbol
        if one_digit:
            distance = (pl.col("near") - contract.expiry).dt.total_days().abs()
            selected &= (distance < _HALF_DECADE_DAYS).fill_null(value=True)
        yield owned.filter(selected).drop("owner", "near", "symbol")


def contents_by_month(file: FileRef, reader: str, counted: Mapping[tuple[str, date], int]) -> FileContents:
    """Return the contents of a binary file from its row counts by symbol and month.

    Raises:
        ContractCodeError: none of its symbols is a contract.
    """
    index = SymbolIndex()
    contracts = []
    for (symbol, month), rows in sorted(counted.items()):
        contract = index.contract_near(symbol, month)
        if contract is not None:
            contracts.append((symbol, contract))
        else:
            index.count(symbol, rows)
    refuse_without_contract(index, bool(contracts))
    unbounded = Span(start=0, stop=0, line=1, carried="")
    sources = (file.source(reader, contract, symbol, unbounded) for symbol, contract in dict.fromkeys(contracts))
    return FileContents(tuple(sources), index.notes())


def refuse_without_contract(index: SymbolIndex, any_contract: bool) -> None:
    """Raise if a file's symbols name no contract at all.

    Raises:
        ContractCodeError: with the first symbol and what is wrong with it.
    """
    if any_contract:
        return
    symbol = next(iter([*index.others, *index.spreads]), "no symbol at all")
    if symbol in index.spreads:
        raise ContractCodeError(symbol, where="symbol column", reason="the file holds calendar spreads only")
    parse_contract(symbol, where="symbol column", near=date(2000, 1, 1))
    raise ContractCodeError(symbol, where="symbol column")


_CONTINUOUS = re.compile(
    r"(?i)continuous|(?<![A-Z0-9])[A-Z0-9]{1,4}(?:[12]!|=F|\.[CNV]\.\d| ##-##)"
    r"|(?<![A-Z0-9])@[A-Z]{1,4}(?![A-Z0-9])|#[CF](?![A-Z0-9])"
)
_ADJUSTED = re.compile(r"(?i)(?<!un)adjusted|back-?adj|ratio_adj")
_CODE = r"(?<![A-Z0-9])(?:{roots})(?:[ _]?[FGHJKMNQUVXZ](?:\d{{4}}|\d{{1,2}})|[ _]\d{{2}}[-_]\d{{2}})(?![A-Z0-9])"


def contract_in_name(text: str, *, near: date | None = None, where: str = "file name") -> Contract:
    """Return the one contract that a file name or symbol names; other text around it is ignored.

    Args:
        text: file name or symbol.
        near: a date of the data; it decides the decade of a one-digit year.
        where: origin of the text, for errors.

    Raises:
        ContractCodeError: no contract, several, or a continuous or adjusted series: only raw contracts have
            tradeable prices and a volume profile of their own.
    """
    if _CONTINUOUS.search(text) or _ADJUSTED.search(text):
        raise ContractCodeError(
            text,
            where=where,
            reason="a continuous or adjusted series is not a contract: deliver the single contracts, unadjusted",
        )
    stem = Path(text).name.split(".")[0]
    try:
        return parse_contract(stem, where=where, near=near)
    except ContractCodeError as error:
        roots = "|".join(sorted(map(re.escape, symbols()), key=len, reverse=True))
        codes = set(re.findall(_CODE.format(roots=roots), text.upper()))
        found = {parse_contract(code, where=where, near=near) for code in codes}
        if len(found) == 1:
            return found.pop()
        if found:
            named = ", ".join(sorted(contract.code for contract in found))
            raise ContractCodeError(text, where=where, reason=f"it names {named}") from error
        raise
