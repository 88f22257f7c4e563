"""Reader of NinjaTrader minute exports (``ES 03-25.Last.txt``).

No header; ``yyyyMMdd HHmmss;open;high;low;close;volume``, CRLF or LF, prices without trailing zeros. Stamps are UTC
and mark the END of the bar; the reader turns them into the START.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from vpoc_ml.errors import MissingInputError, UnreadableFileError

NOTE = "NinjaTrader minute export: stamps are UTC and mark the end of a bar; moved back 60 s to its start"
EXPECTED = "a NinjaTrader minute export (yyyyMMdd HHmmss;open;high;low;close;volume)"
_REDELIVER = "Export the contract again once it is complete and replace the file."
_LINE = r"^(?<stamp>\d{8} \d{6});(?<open>N);(?<high>N);(?<low>N);(?<close>N);(?<volume>-?\d+)$".replace(
    "N", r"-?\d+(?:\.\d+)?"
)
_PRICES = ("open", "high", "low", "close")
_OTHER_EXPORTS = {
    r"^\d{8};[\d.;]+$": "a NinjaTrader day export",
    r"^\d{8} \d{6} \d{7};[\d.;]+$": "a NinjaTrader tick export",
}
_HEAD = 20
_GRID_ROWS = 100


def read(path: Path) -> pl.DataFrame:
    """Return the rows of one file, in the file's order, one per line.

    Columns: ts Datetime[us, UTC] (START of bar), open, high, low, close f64 (points), volume i64 (contracts),
    line i64 (1-based), text str. A malformed line inside the file has null in every column but line and text.

    The last line must be whole: a file that does not end with a line break is refused, because the digits of
    its last volume may be cut (``...;36`` of ``...;3656``) without leaving a trace.

    Raises:
        MissingInputError, UnreadableFileError: absent, empty, not this format, of another bar length, or cut off.
    """
    lines = _lines(path)
    rows = parse(lines)
    _check_format(path, rows)
    last = rows.row(-1, named=True)
    if last["ts"] is None:
        raise UnreadableFileError(path, "a whole last row", repr(last["text"]), line=last["line"], remedy=_REDELIVER)
    _check_minutes(path, rows)
    return rows


def looks_like(head: list[str]) -> bool:
    """Return whether most of the first lines of a file have this format; judges content, not the name."""
    if not head:
        return False
    return 2 * parse(pl.Series("text", head))["ts"].count() > len(head)


def parse(lines: pl.Series) -> pl.DataFrame:
    """Return the columns of ``read`` for lines of text without line breaks."""
    fields = lines.to_frame("text").with_columns(parts=pl.col("text").str.extract_groups(_LINE)).unnest("parts")
    stamp = pl.col("stamp").str.to_datetime("%Y%m%d %H%M%S", strict=False, time_unit="us")
    typed = fields.select(
        (stamp.dt.replace_time_zone("UTC") - pl.duration(minutes=1)).alias("ts"),
        *(pl.col(name).cast(pl.Float64, strict=False) for name in _PRICES),
        pl.col("volume").cast(pl.Int64, strict=False),
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("line"),
        "text",
    )
    whole = pl.all_horizontal(pl.col("ts", *_PRICES, "volume").is_not_null()) & (pl.col("ts").dt.second() == 0)
    return typed.with_columns(pl.when(whole).then(pl.col("ts", *_PRICES, "volume")))


def _lines(path: Path) -> pl.Series:
    """Return the lines without their breaks; the file must end with one."""
    if not path.is_file():
        raise MissingInputError(path, EXPECTED, "Deliver the file.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableFileError(path, EXPECTED, f"{error.strerror or error}") from error
    if not content:
        raise UnreadableFileError(path, EXPECTED, "an empty file", line=1, remedy=_REDELIVER)
    lines = pl.Series("text", content.decode("utf-8", errors="replace").split("\n")).str.strip_chars_end("\r")
    if last := lines[-1]:
        _check_format(path, parse(lines.head(_HEAD)))
        raise UnreadableFileError(
            path,
            "a last line that ends with a line break",
            f"{last[:80]!r}, so the file is cut off or still being written",
            line=lines.len(),
            remedy=_REDELIVER,
        )
    return lines.head(-1)


def _check_format(path: Path, rows: pl.DataFrame) -> None:
    head = rows.head(_HEAD)
    if 2 * head["ts"].count() > head.height:
        return
    first = head["text"][0]
    found = next((name for form, name in _OTHER_EXPORTS.items() if pl.Series([first]).str.contains(form)[0]), None)
    raise UnreadableFileError(
        path, EXPECTED, found or repr(first[:80]), line=1, remedy="Export one-minute bars as Last from NinjaTrader."
    )


def _check_minutes(path: Path, rows: pl.DataFrame) -> None:
    """Refuse bars of 5, 15, 30 or 60 minutes: their stamps all lie on a coarser grid."""
    stamps = rows["ts"].drop_nulls()
    if stamps.len() >= _GRID_ROWS and ((stamps.dt.minute() + 1) % 5 == 0).all():
        raise UnreadableFileError(
            path, "one-minute bars", "stamps at multiples of five minutes only", remedy="Export one-minute bars."
        )
