"""Reader of a delimited text: everything that vendors' texts have in common."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import polars as pl

from vpoc_ml.artifacts.sources import Source, Span
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import ExpansionLimitError, MissingInputError, UnreadableFileError
from vpoc_ml.ingest.file_streams import (
    Block,
    Head,
    blocks,
    hash_content,
    lacks_last_break,
    last_line,
    opened,
    packed,
    read_head,
    tail_of,
)
from vpoc_ml.ingest.parsing.contract_names import contract_in_name
from vpoc_ml.ingest.parsing.file_settings import option
from vpoc_ml.ingest.parsing.reader import FileContents, FileRef
from vpoc_ml.ingest.parsing.symbol_column import index, refuse_without_contract, rows_of_symbol
from vpoc_ml.ingest.parsing.text_layout import PRICES, VALUES, Layout, cause, parse
from vpoc_ml.ingest.parsing.trades import to_minutes
from vpoc_ml.ingest.parsing.unsupported import described
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import Instrument

REDELIVER = "Export the contract again once it is complete and replace the file."
BLANK = " \t\r\x1a"
_HEAD = 20


@dataclass(frozen=True)
class TextReader:
    """A vendor's text. ``recognise`` judges the first lines; ``layout`` says how a recognised text is written, and
    raises a typed error that names the setting when that cannot be known. ``contract_text`` is the part of the name
    that tells the contract. A ``forced`` reader is never found by its content."""

    name: str
    expected: str
    recognise: Callable[[Head], bool]
    layout: Callable[[FileRef, Head, IngestConfig], Layout]
    contract_text: Callable[[str], str] = str
    forced: bool = False

    def recognises(self, head: Head) -> bool:
        """Return whether the first lines have this format; judges content, not the name."""
        return bool(head.lines) and self.recognise(head)

    def contents(self, file: FileRef, head: Head, instrument: Instrument, config: IngestConfig) -> FileContents:
        """Return a source for each contract: of the symbol column, else the one contract that the name tells.

        Raises:
            ContractCodeError: the name or the symbols tell no contract.
            UnreadableFileError: zone, side or date order are not certain.
        """
        layout = self._layout_at(file, head, config)
        cut = cut_off(file, head, layout, config)
        if "symbol" not in layout.fields:
            contract = contract_in_name(self.contract_text(file.name), near=first_day(head, layout))
            return FileContents((file.source(self.name, contract),), cut=cut)
        with opened(file.path, file.member, ratio=config.expansion_limit) as stream:
            parts = ((block, rows_of(block, layout)) for block in blocks(stream))
            if layout.numbered:
                return FileContents((self._single(file, head, layout, parts),), cut=cut)
            found = index(parts)
        if not (found.spans or found.spreads or found.others):
            _refuse_unless_any_whole(file, head, layout)
        refuse_without_contract(found, any_contract=bool(found.spans))
        sources = (file.source(self.name, contract, symbol, span) for (symbol, contract), span in found.spans.items())
        return FileContents(tuple(sources), found.notes(), cut=cut)

    def batches(self, source: Source, instrument: Instrument, config: IngestConfig) -> Iterator[pl.DataFrame]:
        """Yield the source's rows in the file's order; malformed lines have null in all but line and text.

        The last line must be whole: a plain file that does not end with a line break is refused, because the
        digits of its last volume may be cut (``...;36`` of ``...;3656``) without leaving a trace. Packed files are
        proved whole by their checksum. Trades come as minute bars.

        Raises:
            MissingInputError, UnreadableFileError: absent, empty, not this format, or cut off.
        """
        file = FileRef(source.path, source.member)
        head = self._checked_head(file, config)
        layout = self._layout_at(file, head, config)
        if not packed(file.path) and (cut := cut_off(file, head, layout, config)):
            raise cut
        rows = self._rows(source, file, layout, config)
        yield from to_minutes(rows) if layout.trades else rows

    def note(self, source: Source, config: IngestConfig) -> str:
        """Return what the reader converts, for the run's report."""
        return self.layout_of(source, config).note

    def layout_of(self, source: Source, config: IngestConfig) -> Layout:
        """Return how a source is written.

        Raises:
            MissingInputError, UnreadableFileError: as ``batches``.
        """
        return self._layout_at(FileRef(source.path, source.member), read_head(source.path, source.member), config)

    def _layout_at(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        """Return how a text is written; a reader that was set by hand may be the wrong one.

        Raises:
            UnreadableFileError: columns that the format needs are missing, or as ``layout``.
        """
        layout = self.layout(file, head, config)
        fields = {
            *layout.fields,
            *(PRICES if layout.trades else ()),
            *(("date", "time") if "stamp" in layout.fields else ()),
        }
        if missing := [role for role in ("date", "time", *VALUES) if role not in fields]:
            found = head.lines[0][:80] if head.lines else "an empty file"
            raise UnreadableFileError(
                file.shown, f"{self.expected}; {', '.join(missing)} is missing", repr(found), line=1
            )
        return layout

    def _rows(self, source: Source, file: FileRef, layout: Layout, config: IngestConfig) -> Iterator[pl.DataFrame]:
        batches = self._all_rows(source, file, layout, config)
        if source.symbol is not None and source.span is not None:
            contract = parse_contract(source.contract)
            yield from rows_of_symbol(batches, source.symbol, contract, source.span.carried)
        else:
            yield from (batch.drop("symbol", strict=False) for batch in batches)

    def _all_rows(self, source: Source, file: FileRef, layout: Layout, config: IngestConfig) -> Iterator[pl.DataFrame]:
        """Yield every row of the source's span; the last one must be whole."""
        span = source.span or Span(start=0, stop=sys.maxsize, line=1, carried="")
        first, last, any_whole = None, None, False
        with opened(source.path, source.member, ratio=config.expansion_limit) as stream:
            for block in blocks(stream, offset=span.start, line=span.line, stop=span.stop):
                rows = rows_of(block, layout)
                if rows.height:
                    first, last = first or rows.row(0, named=True), rows.row(-1, named=True)
                    any_whole = any_whole or bool(rows["volume"].count())
                yield rows
        if first is None or last is None:
            raise UnreadableFileError(file.shown, self.expected, "no rows", line=1, remedy=REDELIVER)
        if not any_whole:
            raise _unparsable(file, first["text"], first["line"], layout)
        if last["volume"] is None and source.span is None:
            raise UnreadableFileError(
                file.shown, "a whole last row", repr(last["text"][:80]), line=last["line"], remedy=REDELIVER
            )

    def _single(self, file: FileRef, head: Head, layout: Layout, parts: Iterable[tuple[Block, pl.DataFrame]]) -> Source:
        """Return the source of a file whose rows name their contract by number only."""
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

    def _checked_head(self, file: FileRef, config: IngestConfig) -> Head:
        if not file.path.is_file():
            raise MissingInputError(file.path, self.expected, "Deliver the file.")
        head = read_head(file.path, file.member)
        if not head.lines:
            raise UnreadableFileError(file.shown, self.expected, "an empty file", line=1, remedy=REDELIVER)
        if not self.forced and option(config.reader, file) != self.name and not self.recognises(head):
            raise UnreadableFileError(file.shown, self.expected, described(head.lines[0]), line=1)
        return head


def cut_off(file: FileRef, head: Head, layout: Layout, config: IngestConfig) -> UnreadableFileError | None:
    """Return the error of a packed text without its end, or of a plain one without a last line break (or footer).

    Where whole files lack that line break as well (``Layout.unbroken``) the last row must be ``plausible``.
    """
    if packed(file.path, file.member):
        return _torn(file, config)
    if file.member is not None:
        return None
    line = lacks_last_break(file.path)
    if line is None or (layout.footer and re.search(layout.footer, last_line(file.path))):
        return None
    if layout.unbroken and plausible(file, layout, only_row=line <= layout.header + 1):
        return None
    remedy = f"{REDELIVER} A file that is whole as it is can be delivered with a line break at its end, or as .gz."
    return UnreadableFileError(
        file.path,
        "a last line that ends with a line break"
        + (", or a whole row like those before it" if layout.unbroken else ""),
        f"{last_line(file.path)[-80:]!r}, so the file is cut off or still being written",
        line=line,
        remedy=remedy,
    )


def plausible(file: FileRef, layout: Layout, *, only_row: bool) -> bool:
    """Return whether the last row of a text without a last line break may be whole.

    It has every field, each parses, and the last field is not shorter than the shortest of the rows before it (of the
    last 4 KiB): a cut takes digits away. A single row proves nothing.
    """
    lines = tail_of(file.path).decode("utf-8", errors="replace").rstrip().split("\n")[1:]
    rows = parse(pl.Series("text", [line.rstrip("\r") for line in lines], dtype=pl.String), layout)
    if only_row or len(lines) < 2 or rows["volume"][-1] is None:
        return False
    lengths = [len(line.rstrip().rpartition(layout.separator)[2]) for line in rows.drop_nulls("volume")["text"]]
    return len(lengths) > 1 and lengths[-1] >= min(lengths[:-1])


def _torn(file: FileRef, config: IngestConfig) -> UnreadableFileError | None:
    """Return the error of reading a packed file to its end, where its checksum is."""
    try:
        hash_content(file.path, file.member, ratio=config.expansion_limit)
    except ExpansionLimitError:
        raise
    except UnreadableFileError as error:
        return error
    return None


def _refuse_unless_any_whole(file: FileRef, head: Head, layout: Layout) -> None:
    """Raise if none of the first rows can be read."""
    lines = [(n, line) for n, line in enumerate(head.lines[layout.header :], layout.header + 1) if line.strip()]
    if lines and not parse(pl.Series([line for _, line in lines]), layout)["volume"].count():
        raise _unparsable(file, lines[0][1], lines[0][0], layout)


def _unparsable(file: FileRef, text: str, line: int, layout: Layout) -> UnreadableFileError:
    """Return the error of a file of which no row can be read: what is wrong with the first."""
    expected, found, remedy = cause(text, layout)
    return UnreadableFileError(file.shown, expected, f"{found}; no row can be read", line=line, remedy=remedy)


def first_day(head: Head, layout: Layout) -> date | None:
    """Return the date of the first row of the head that can be read."""
    rows = parse(pl.Series(list(head.lines[layout.header :]), dtype=pl.String), layout)
    day = rows["ts"].drop_nulls().head(1).dt.date().to_list()
    return day[0] if day else None


def mostly(head: Head, layout: Layout) -> bool:
    """Return whether most of the first lines parse."""
    lines = [line for line in head.lines[layout.header :] if line.strip(BLANK)][:_HEAD]
    if not lines:
        return False
    return 2 * parse(pl.Series(lines, dtype=pl.String), layout)["volume"].count() > len(lines)


def rows_of(block: Block, layout: Layout) -> pl.DataFrame:
    """Return the rows of a block with their line numbers; header, footer and blank lines are left out."""
    lines = pl.Series([block.text]).str.split("\n").explode().str.strip_chars_end("\r")
    parsed = parse(lines, layout).with_columns(line=pl.int_range(block.line, block.line + pl.len(), dtype=pl.Int64))
    rows = parsed.select("ts", *VALUES, "line", "text", *(["symbol"] if "symbol" in layout.fields else []))
    if rows["volume"].has_nulls():
        rows = rows.filter(pl.col("text").str.strip_chars(BLANK) != "")
    if block.line <= layout.header:
        rows = rows.filter(pl.col("line") > layout.header)
    if layout.footer is not None:
        rows = rows.filter(~pl.col("text").str.contains(layout.footer))
    return rows
