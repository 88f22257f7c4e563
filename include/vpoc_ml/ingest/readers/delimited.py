"""Reader of a delimited text: everything that vendors' texts have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

import polars as pl

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import MissingInputError, UnreadableFileError
from vpoc_ml.ingest.readers.base import Listing, Place
from vpoc_ml.ingest.readers.foreign import described
from vpoc_ml.ingest.readers.layout import VALUES, Layout, parse
from vpoc_ml.ingest.readers.naming import contract_of
from vpoc_ml.ingest.sources import Source
from vpoc_ml.ingest.streams import Block, Head, blocks, lacks_last_break, opened, packed, read_head
from vpoc_ml.market.instruments import Instrument

REDELIVER = "Export the contract again once it is complete and replace the file."
_HEAD = 20


@dataclass(frozen=True)
class TextReader:
    """A vendor's text. ``recognise`` judges the first lines; ``layout`` says how a recognised text is written, and
    raises a typed error that names the setting when that cannot be known."""

    name: str
    expected: str
    recognise: Callable[[Head], bool]
    layout: Callable[[Place, Head, IngestConfig], Layout]

    def recognises(self, head: Head) -> bool:
        """Return whether the first lines have this format; judges content, not the name."""
        return bool(head.lines) and self.recognise(head)

    def listing(self, place: Place, head: Head, instrument: Instrument, config: IngestConfig) -> Listing:
        """Return the one contract that the name tells.

        Raises:
            ContractCodeError: the name tells none.
            UnreadableFileError: the format is not certain, or the file is cut off.
        """
        layout = self.layout(place, head, config)
        contract = contract_of(place.name, near=first_day(head, layout))
        return Listing((Source(place.path, self.name, contract.code, place.member),))

    def batches(self, source: Source, instrument: Instrument, config: IngestConfig) -> Iterator[pl.DataFrame]:
        """Yield the rows in the file's order, a row per line; malformed lines have null in all but line and text.

        The last line must be whole: a plain file that does not end with a line break is refused, because the
        digits of its last volume may be cut (``...;36`` of ``...;3656``) without leaving a trace. Packed files are
        proved whole by their checksum.

        Raises:
            MissingInputError, UnreadableFileError: absent, empty, not this format, or cut off.
        """
        place = Place(source.path, source.member)
        layout = self.layout(place, self._checked_head(place, config), config)
        last = None
        with opened(source.path, source.member) as stream:
            for block in blocks(stream):
                rows = rows_of(block, layout)
                if rows.height:
                    last = rows.row(-1, named=True)
                yield rows
        if last is None:
            raise UnreadableFileError(place.shown, self.expected, "no rows", line=1, remedy=REDELIVER)
        if last["volume"] is None:
            raise UnreadableFileError(
                place.shown, "a whole last row", repr(last["text"][:80]), line=last["line"], remedy=REDELIVER
            )

    def note(self, source: Source, config: IngestConfig) -> str:
        """Return what the reader converts, for the run's report."""
        place = Place(source.path, source.member)
        return self.layout(place, read_head(source.path, source.member), config).note

    def _checked_head(self, place: Place, config: IngestConfig) -> Head:
        if not place.path.is_file():
            raise MissingInputError(place.path, self.expected, "Deliver the file.")
        head = read_head(place.path, place.member)
        if not head.lines:
            raise UnreadableFileError(place.shown, self.expected, "an empty file", line=1, remedy=REDELIVER)
        if not self.recognises(head):
            raise UnreadableFileError(place.shown, self.expected, described(head.lines[0]), line=1)
        refuse_cut(place, head)
        return head


def refuse_cut(place: Place, head: Head) -> None:
    """Raise if a plain file does not end with a line break.

    Raises:
        UnreadableFileError: naming the last line.
    """
    if place.member is not None or packed(place.path):
        return
    line = lacks_last_break(place.path)
    if line is not None:
        shown = f"{head.lines[-1][:80]!r}, so" if head.whole else "none, so"
        raise UnreadableFileError(
            place.path,
            "a last line that ends with a line break",
            f"{shown} the file is cut off or still being written",
            line=line,
            remedy=f"{REDELIVER} A vendor's file that never has the break can be delivered as .gz or .zip.",
        )


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
