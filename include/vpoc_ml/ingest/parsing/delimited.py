"""The reader of delimited texts: everything that the vendors' text formats share.

``to_minutes`` aggregates trades to minute bars, for text and binary formats.
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import date

import polars as pl

from vpoc_ml.artifacts.schemas import OHLCV, PRICES
from vpoc_ml.artifacts.sources import Source, Span
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import ExpansionLimitError, MissingInputError, UnreadableFileError
from vpoc_ml.ingest.file_streams import (
    Block,
    Head,
    blocks,
    hash_content,
    is_compressed,
    last_line,
    open_unpacked,
    read_head,
    read_tail,
    unterminated_last_line,
)
from vpoc_ml.ingest.parsing.reader import FileContents, FileRef, setting_for
from vpoc_ml.ingest.parsing.symbols import contract_in_name, index_symbols, refuse_without_contract, rows_of_symbol
from vpoc_ml.ingest.parsing.text_layout import Layout, describe_line, explain_malformed, parse_lines
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import Instrument

REDELIVER = "Export the contract again once it is complete and replace the file."
BLANK = " \t\r\x1a"
_HEAD = 20


class TextReader(ABC):
    """A vendor's text format.

    Attributes:
        name: of the reader, as ``ingest.reader`` takes it.
        expected: description of the format, for errors.
        forced: the reader is chosen by a setting only, never by content.
    """

    name: str
    expected: str
    forced: bool = False

    @abstractmethod
    def fits(self, head: Head) -> bool:
        """Return whether the first lines, of which there is at least one, have the format."""

    @abstractmethod
    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        """Return the layout of a recognised text.

        Raises:
            UnreadableFileError: naming the setting that is missing.
        """

    def contract_text(self, name: str) -> str:
        """Return the part of a file name that names the contract."""
        return name

    def recognises(self, head: Head) -> bool:
        """Return whether the first lines have this format. The file's name does not count."""
        return bool(head.lines) and self.fits(head)

    def contents(self, file: FileRef, head: Head, instrument: Instrument, config: IngestConfig) -> FileContents:
        """Return a source for each contract of the symbol column, else for the one contract of the file name.

        Raises:
            ContractCodeError: neither the name nor the symbols name a contract.
            UnreadableFileError: zone, label side or date order are not known.
        """
        layout = self._checked_layout(file, head, config)
        truncation = find_truncation(file, head, layout, config)
        if "symbol" not in layout.fields:
            contract = contract_in_name(self.contract_text(file.name), near=first_day(head, layout))
            return FileContents((file.source(self.name, contract),), truncation=truncation)
        with open_unpacked(file.path, file.member, ratio=config.expansion_limit) as stream:
            parts = ((block, rows_of(block, layout)) for block in blocks(stream))
            if layout.numbered:
                return FileContents((self._numbered_source(file, head, layout, parts),), truncation=truncation)
            index = index_symbols(parts)
        if not (index.spans or index.spreads or index.others):
            lines = [(n, line) for n, line in enumerate(head.lines[layout.header :], layout.header + 1) if line.strip()]
            if lines and not parse_lines(pl.Series([line for _, line in lines]), layout)["volume"].count():
                raise _all_malformed(file, lines[0][1], lines[0][0], layout)
        refuse_without_contract(index, any_contract=bool(index.spans))
        sources = (file.source(self.name, contract, symbol, span) for (symbol, contract), span in index.spans.items())
        return FileContents(tuple(sources), index.notes(), truncation=truncation)

    def batches(self, source: Source, instrument: Instrument, config: IngestConfig) -> Iterator[pl.DataFrame]:
        """Yield the source's rows in the file's order; malformed lines have null in all but line and text.

        A plain file that does not end with a line break is refused: the last digits of its last volume may be missing
        (``...;36`` of ``...;3656``), and nothing else would show that. The checksum of a packed file proves that it
        is complete. Trades come as minute bars.

        Raises:
            MissingInputError, UnreadableFileError: absent, empty, not this format, or cut off.
        """
        file = FileRef(source.path, source.member)
        if not file.path.is_file():
            raise MissingInputError(file.path, self.expected, "Deliver the file.")
        head = read_head(file.path, file.member)
        if not head.lines:
            raise UnreadableFileError(file.shown, self.expected, "an empty file", line=1, remedy=REDELIVER)
        if not self.forced and setting_for(config.reader, file) != self.name and not self.recognises(head):
            raise UnreadableFileError(file.shown, self.expected, describe_line(head.lines[0]), line=1)
        layout = self._checked_layout(file, head, config)
        if not is_compressed(file.path) and (truncation := find_truncation(file, head, layout, config)):
            raise truncation
        rows = self._rows(source, file, layout, config)
        if source.symbol is not None and source.span is not None:
            rows = rows_of_symbol(rows, source.symbol, parse_contract(source.contract), source.span.carried)
        else:
            rows = (batch.drop("symbol", strict=False) for batch in rows)
        yield from to_minutes(rows) if layout.trades else rows

    def note(self, source: Source, config: IngestConfig) -> str:
        """Return the sentence about the conversion, for the run's report."""
        return self.layout_of(source, config).note

    def layout_of(self, source: Source, config: IngestConfig) -> Layout:
        """Return the layout of a source.

        Raises:
            MissingInputError, UnreadableFileError: as ``batches``.
        """
        head = read_head(source.path, source.member)
        return self._checked_layout(FileRef(source.path, source.member), head, config)

    def _checked_layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        """Return a text's layout; refuse one without a needed column, because ``ingest.reader`` may be wrong."""
        layout = self.layout(file, head, config)
        fields = {
            *layout.fields,
            *(PRICES if layout.trades else ()),
            *(("date", "time") if "timestamp" in layout.fields else ()),
        }
        if missing := [role for role in ("date", "time", *OHLCV) if role not in fields]:
            found = repr(head.lines[0][:80] if head.lines else "an empty file")
            raise UnreadableFileError(file.shown, f"{self.expected}; {', '.join(missing)} is missing", found, line=1)
        return layout

    def _rows(self, source: Source, file: FileRef, layout: Layout, config: IngestConfig) -> Iterator[pl.DataFrame]:
        """Yield every row of the source's span; the last one must be complete."""
        span = source.span or Span(start=0, stop=sys.maxsize, line=1, carried="")
        first, last, any_valid = None, None, False
        with open_unpacked(source.path, source.member, ratio=config.expansion_limit) as stream:
            for block in blocks(stream, offset=span.start, line=span.line, stop=span.stop):
                rows = rows_of(block, layout)
                if rows.height:
                    first, last = first or rows.row(0, named=True), rows.row(-1, named=True)
                    any_valid = any_valid or bool(rows["volume"].count())
                yield rows
        if first is None or last is None:
            raise UnreadableFileError(file.shown, self.expected, "no rows", line=1, remedy=REDELIVER)
        if not any_valid:
            raise _all_malformed(file, first["text"], first["line"], layout)
        if last["volume"] is None and source.span is None:
            raise UnreadableFileError(
                file.shown, "a complete last row", repr(last["text"][:80]), line=last["line"], remedy=REDELIVER
            )

    def _numbered_source(
        self, file: FileRef, head: Head, layout: Layout, parts: Iterable[tuple[Block, pl.DataFrame]]
    ) -> Source:
        """Return the source of a file whose symbols are instrument numbers."""
        numbers = {number for _, rows in parts for number in rows["symbol"].drop_nulls().unique()}
        if len(numbers) > 1:
            raise UnreadableFileError(
                file.shown,
                "one instrument, or a column that names the symbol",
                f"{len(numbers)} numbered instruments",
                remedy="Request it with symbols mapped (map_symbols), or as DBN.",
            )
        contract = contract_in_name(self.contract_text(file.name), near=first_day(head, layout))
        return file.source(self.name, contract)


def find_truncation(file: FileRef, head: Head, layout: Layout, config: IngestConfig) -> UnreadableFileError | None:
    """Return the error of a packed text without its end, or of a plain one without a last line break or footer.

    If complete files of the format may lack that line break (``Layout.final_newline_optional``), the last row must be
    plausible instead.
    """
    if is_compressed(file.path, file.member):
        try:
            hash_content(file.path, file.member, ratio=config.expansion_limit)  # reads up to the checksum at the end
        except ExpansionLimitError:
            raise
        except UnreadableFileError as error:
            return error
        return None
    if file.member is not None:
        return None
    line = unterminated_last_line(file.path)
    if line is None or (layout.footer and re.search(layout.footer, last_line(file.path))):
        return None
    if layout.final_newline_optional and line > layout.header + 1 and _last_row_is_plausible(file, layout):
        return None
    remedy = f"{REDELIVER} A file that is complete as it is can be delivered with a line break at its end, or as .gz."
    return UnreadableFileError(
        file.path,
        "a last line that ends with a line break"
        + (", or a complete row like those before it" if layout.final_newline_optional else ""),
        f"{last_line(file.path)[-80:]!r}, so the file is cut off or still being written",
        line=line,
        remedy=remedy,
    )


def _last_row_is_plausible(file: FileRef, layout: Layout) -> bool:
    """Return whether the last row of a text without a last line break may be complete.

    It has every field, each parses, and the last field is not shorter than the shortest one of the rows before it (in
    the last 4 KiB): a cut removes digits. A single row proves nothing.
    """
    lines = read_tail(file.path).decode("utf-8", errors="replace").rstrip().split("\n")[1:]
    rows = parse_lines(pl.Series("text", [line.rstrip("\r") for line in lines], dtype=pl.String), layout)
    if len(lines) < 2 or rows["volume"][-1] is None:
        return False
    lengths = [len(line.rstrip().rpartition(layout.separator)[2]) for line in rows.drop_nulls("volume")["text"]]
    return len(lengths) > 1 and lengths[-1] >= min(lengths[:-1])


def _all_malformed(file: FileRef, text: str, line: int, layout: Layout) -> UnreadableFileError:
    """Return the error of a file without a valid row; it explains the first row."""
    expected, found, remedy = explain_malformed(text, layout)
    return UnreadableFileError(file.shown, expected, f"{found}; no row can be read", line=line, remedy=remedy)


def first_day(head: Head, layout: Layout) -> date | None:
    """Return the date of the first valid row of the head."""
    rows = parse_lines(pl.Series(list(head.lines[layout.header :]), dtype=pl.String), layout)
    day = rows["ts"].drop_nulls().head(1).dt.date().to_list()
    return day[0] if day else None


def mostly(head: Head, layout: Layout) -> bool:
    """Return whether most of the first lines parse."""
    lines = [line for line in head.lines[layout.header :] if line.strip(BLANK)][:_HEAD]
    if not lines:
        return False
    return 2 * parse_lines(pl.Series(lines, dtype=pl.String), layout)["volume"].count() > len(lines)


def mostly_match(head: Head, pattern: re.Pattern[str]) -> bool:
    """Return whether most of the first lines match a pattern from end to end."""
    lines = head.lines[:_HEAD]
    return 2 * sum(bool(pattern.fullmatch(line)) for line in lines) > len(lines)


def rows_of(block: Block, layout: Layout) -> pl.DataFrame:
    """Return the rows of a block with their line numbers; header, footer and blank lines are left out."""
    lines = pl.Series([block.text]).str.split("\n").explode().str.strip_chars_end("\r")
    parsed = parse_lines(lines, layout)
    parsed = parsed.with_columns(line=pl.int_range(block.line, block.line + pl.len(), dtype=pl.Int64))
    rows = parsed.select("ts", *OHLCV, "line", "text", *(["symbol"] if "symbol" in layout.fields else []))
    if rows["volume"].has_nulls():
        rows = rows.filter(pl.col("text").str.strip_chars(BLANK) != "")
    if block.line <= layout.header:
        rows = rows.filter(pl.col("line") > layout.header)
    if layout.footer is not None:
        rows = rows.filter(~pl.col("text").str.contains(layout.footer))
    return rows


def to_minutes(batches: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield malformed rows as they come and, at the end, one bar a minute of [minute, minute + 60 s).

    Rows are trades or shorter bars (ts, open, high, low, close, volume, line, text) and may be out of order: the
    earliest gives the open, the latest the close; of equal timestamps the order in the file decides. ``line`` of a bar
    is that of its earliest trade.
    """
    partial: list[pl.DataFrame] = []
    for batch in batches:
        yield batch.filter(pl.col("ts").is_null())
        partial.append(_by_minute(batch.filter(pl.col("ts").is_not_null()).with_columns(last=pl.col("ts"))))
        if len(partial) > 64:
            partial = [_by_minute(pl.concat(partial))]
    if partial:
        bars = _by_minute(pl.concat(partial)).with_columns(ts=pl.col("ts").dt.truncate("1m"))
        yield bars.select("ts", *OHLCV, "line", text=pl.format("the minute from line {}", "line"))


def _by_minute(rows: pl.DataFrame) -> pl.DataFrame:
    """Return one row a minute; ``ts`` of the first and ``last`` of the last trade allow grouping again."""
    minute = pl.col("ts").dt.truncate("1m").alias("minute")
    ordered = rows.sort("ts", maintain_order=True)
    return (
        ordered.group_by(minute, maintain_order=True)
        .agg(
            pl.col("ts").first(),
            pl.col("last").max(),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").sort_by("last", maintain_order=True).last(),
            pl.col("volume").sum(),
            pl.col("line").first(),
        )
        .drop("minute")
    )
