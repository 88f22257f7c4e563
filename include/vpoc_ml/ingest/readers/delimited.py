"""Reader of a delimited text: everything that vendors' texts have in common."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import polars as pl

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import MissingInputError, UnreadableFileError
from vpoc_ml.ingest.readers.base import Listing, Place
from vpoc_ml.ingest.readers.foreign import described
from vpoc_ml.ingest.readers.layout import VALUES, Layout, parse
from vpoc_ml.ingest.readers.naming import contract_of
from vpoc_ml.ingest.readers.split import index, refuse_without_contract, rows_of_symbol
from vpoc_ml.ingest.readers.trades import to_minutes
from vpoc_ml.ingest.sources import Source, Span
from vpoc_ml.ingest.streams import (
    Block,
    Head,
    blocks,
    hash_content,
    lacks_last_break,
    last_line,
    opened,
    packed,
    read_head,
)
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import Instrument

REDELIVER = "Export the contract again once it is complete and replace the file."
_HEAD = 20


@dataclass(frozen=True)
class TextReader:
    """A vendor's text. ``recognise`` judges the first lines; ``layout`` says how a recognised text is written, and
    raises a typed error that names the setting when that cannot be known. ``contract_text`` is the part of the name
    that tells the contract. A ``forced`` reader is never found by its content."""

    name: str
    expected: str
    recognise: Callable[[Head], bool]
    layout: Callable[[Place, Head, IngestConfig], Layout]
    contract_text: Callable[[str], str] = str
    forced: bool = False

    def recognises(self, head: Head) -> bool:
        """Return whether the first lines have this format; judges content, not the name."""
        return bool(head.lines) and self.recognise(head)

    def listing(self, place: Place, head: Head, instrument: Instrument, config: IngestConfig) -> Listing:
        """Return a source for each contract: of the symbol column, else the one contract that the name tells.

        Raises:
            ContractCodeError: the name or the symbols tell no contract.
            UnreadableFileError: zone, side or date order are not certain.
        """
        layout = self.layout(place, head, config)
        cut = cut_off(place, head, layout)
        if "symbol" not in layout.fields:
            contract = contract_of(self.contract_text(place.name), near=first_day(head, layout))
            return Listing((Source(place.path, self.name, contract.code, place.member),), cut=cut)
        with opened(place.path, place.member) as stream:
            parts = ((block, rows_of(block, layout)) for block in blocks(stream))
            if layout.numbered:
                return Listing((self._single(place, head, layout, parts),), cut=cut)
            found = index(parts)
        refuse_without_contract(found, any_contract=bool(found.spans))
        sources = (
            Source(place.path, self.name, contract.code, place.member, symbol, span)
            for (symbol, contract), span in found.spans.items()
        )
        return Listing(tuple(sources), found.notes(), cut=cut)

    def batches(self, source: Source, instrument: Instrument, config: IngestConfig) -> Iterator[pl.DataFrame]:
        """Yield the source's rows in the file's order; malformed lines have null in all but line and text.

        The last line must be whole: a plain file that does not end with a line break is refused, because the
        digits of its last volume may be cut (``...;36`` of ``...;3656``) without leaving a trace. Packed files are
        proved whole by their checksum. Trades come as minute bars.

        Raises:
            MissingInputError, UnreadableFileError: absent, empty, not this format, or cut off.
        """
        place = Place(source.path, source.member)
        head = self._checked_head(place)
        layout = self.layout(place, head, config)
        if not packed(place.path) and (cut := cut_off(place, head, layout)):
            raise cut
        rows = self._rows(source, place, layout)
        yield from to_minutes(rows) if layout.trades else rows

    def note(self, source: Source, config: IngestConfig) -> str:
        """Return what the reader converts, for the run's report."""
        return self.layout_of(source, config).note

    def layout_of(self, source: Source, config: IngestConfig) -> Layout:
        """Return how a source is written.

        Raises:
            MissingInputError, UnreadableFileError: as ``batches``.
        """
        return self.layout(Place(source.path, source.member), read_head(source.path, source.member), config)

    def _rows(self, source: Source, place: Place, layout: Layout) -> Iterator[pl.DataFrame]:
        batches = self._all_rows(source, place, layout)
        if source.symbol is not None and source.span is not None:
            contract = parse_contract(source.contract)
            yield from rows_of_symbol(batches, source.symbol, contract, source.span.carried)
        else:
            yield from (batch.drop("symbol", strict=False) for batch in batches)

    def _all_rows(self, source: Source, place: Place, layout: Layout) -> Iterator[pl.DataFrame]:
        """Yield every row of the source's span; the last one must be whole."""
        span = source.span or Span(0, sys.maxsize, 1, "")
        last = None
        with opened(source.path, source.member) as stream:
            for block in blocks(stream, offset=span.start, line=span.line, stop=span.stop):
                rows = rows_of(block, layout)
                last = rows.row(-1, named=True) if rows.height else last
                yield rows
        if last is None:
            raise UnreadableFileError(place.shown, self.expected, "no rows", line=1, remedy=REDELIVER)
        if last["volume"] is None and source.span is None:
            raise UnreadableFileError(
                place.shown, "a whole last row", repr(last["text"][:80]), line=last["line"], remedy=REDELIVER
            )

    def _single(self, place: Place, head: Head, layout: Layout, parts: Iterable[tuple[Block, pl.DataFrame]]) -> Source:
        """Return the source of a file whose rows name their contract by number only."""
        numbers = {number for _, rows in parts for number in rows["symbol"].drop_nulls().unique()}
        if len(numbers) > 1:
            raise UnreadableFileError(
                place.shown,
                "one instrument, or a column that names the symbol",
                f"{len(numbers)} numbered instruments",
                remedy="Request it with symbols mapped (map_symbols), or as DBN.",
            )
        contract = contract_of(self.contract_text(place.name), near=first_day(head, layout))
        return Source(place.path, self.name, contract.code, place.member)

    def _checked_head(self, place: Place) -> Head:
        if not place.path.is_file():
            raise MissingInputError(place.path, self.expected, "Deliver the file.")
        head = read_head(place.path, place.member)
        if not head.lines:
            raise UnreadableFileError(place.shown, self.expected, "an empty file", line=1, remedy=REDELIVER)
        if not self.forced and not self.recognises(head):
            raise UnreadableFileError(place.shown, self.expected, described(head.lines[0]), line=1)
        return head


def cut_off(place: Place, head: Head, layout: Layout) -> UnreadableFileError | None:
    """Return the error of a gzip without its end, or of a plain file without a last line break (or footer)."""
    if place.member is not None:
        return None
    if packed(place.path):
        return _torn(place)
    line = lacks_last_break(place.path)
    if line is None or (layout.footer and re.search(layout.footer, last_line(place.path))):
        return None
    return UnreadableFileError(
        place.path,
        "a last line that ends with a line break",
        f"{last_line(place.path)[-80:]!r}, so the file is cut off or still being written",
        line=line,
        remedy=f"{REDELIVER} A vendor's file that never has the break can be delivered as .gz or .zip.",
    )


def _torn(place: Place) -> UnreadableFileError | None:
    """Return the error of reading a packed file to its end, where its checksum is."""
    try:
        hash_content(place.path)
    except UnreadableFileError as error:
        return error
    return None


def first_day(head: Head, layout: Layout) -> date | None:
    """Return the date of the first row of the head that can be read."""
    rows = parse(pl.Series(list(head.lines[layout.header :]), dtype=pl.String), layout)
    day = rows["ts"].drop_nulls().head(1).dt.date().to_list()
    return day[0] if day else None


def mostly(head: Head, layout: Layout) -> bool:
    """Return whether most of the first lines parse."""
    lines = list(head.lines[layout.header : layout.header + _HEAD])
    if not lines:
        return False
    return 2 * parse(pl.Series(lines, dtype=pl.String), layout)["volume"].count() > len(lines)


def rows_of(block: Block, layout: Layout) -> pl.DataFrame:
    """Return the rows of a block with their line numbers; header and footer lines are left out."""
    lines = pl.Series([block.text]).str.split("\n").explode().str.strip_chars_end("\r")
    parsed = parse(lines, layout).with_columns(line=pl.int_range(block.line, block.line + pl.len(), dtype=pl.Int64))
    rows = parsed.select("ts", *VALUES, "line", "text", *(["symbol"] if "symbol" in layout.fields else []))
    if block.line <= layout.header:
        rows = rows.filter(pl.col("line") > layout.header)
    if layout.footer is not None:
        rows = rows.filter(~pl.col("text").str.contains(layout.footer))
    return rows
