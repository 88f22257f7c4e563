"""How one delimited text is written, and its lines as typed rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import polars as pl

from vpoc_ml.ingest.parsing import zones

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
ISO = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M")
_QUOTED_THOUSANDS = r'"([+-]?\d+),([\d,.]+)"'
_QUOTED_DECIMALS, _DECIMAL = r'"([+-]?[\d.]*),(\d*)"', "\x1f"
_EPOCHS = {"epoch:s": 1_000_000, "epoch:ms": 1_000, "epoch:us": 1, "epoch:ns": -1_000}


@dataclass(frozen=True)
class TimestampFormat:
    """How a timestamp is written.

    ``formats`` are tried in order: chrono formats (with ``%z`` or a final ``Z`` where the timestamp tells its zone), or
    ``epoch:s``, ``epoch:ms``, ``epoch:us``, ``epoch:ns``, counted from ``day``. ``offset``: the formats may be followed
    by an offset, ``Z`` or the abbreviation of a zone; ``zone_name``: by this name of a zone, always. ``zone`` is that
    of timestamps which do not tell theirs, None if such a timestamp cannot be read. ``end``: timestamps mark the END
    of the bar; only the first ``length`` characters are read.
    """

    formats: tuple[str, ...]
    zone: str | None = "UTC"
    end: bool = False
    day: date = date(1970, 1, 1)
    length: int | None = None
    offset: bool = False
    zone_name: str = ""

    def to_utc(self, text: pl.Expr) -> pl.Expr:
        """Return START-of-bar UTC timestamps of text; null where it does not parse or the local time is ambiguous."""
        cut = text if self.length is None else text.str.slice(0, self.length)
        if self.zone_name:
            cut = pl.when(cut.str.ends_with(self.zone_name)).then(cut.str.strip_suffix(self.zone_name))
            cut = cut.str.strip_chars_end(" ")
        known = [form for form in self.formats if form in _EPOCHS or "%z" in form or form.endswith("Z")]
        local = [form for form in self.formats if form not in known]
        if self.offset:
            known += [f"{form}%z" for form in local]
            cut = zones.with_offsets(cut)
        parsed = [self._known(cut, form) for form in known]
        if self.zone is not None:
            parsed += [self._local(cut, form, self.zone) for form in local]
        stamp = pl.coalesce(*parsed)
        return stamp - pl.duration(minutes=1) if self.end else stamp

    def _known(self, text: pl.Expr, form: str) -> pl.Expr:
        """Return UTC timestamps of a format that tells the zone."""
        if form in _EPOCHS:
            factor, number = _EPOCHS[form], text.cast(pl.Int64, strict=False)
            micros = number * factor if factor > 0 else number // -factor
            return micros.cast(pl.Datetime("us", "UTC")) + (self.day - date(1970, 1, 1))
        parsed = text.str.to_datetime(form, strict=False, time_unit="us")
        return parsed.dt.convert_time_zone("UTC") if "%z" in form else parsed.dt.replace_time_zone("UTC")

    def _local(self, text: pl.Expr, form: str, zone: str) -> pl.Expr:
        parsed = text.str.to_datetime(form, strict=False, time_unit="us")
        return parsed.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")


@dataclass(frozen=True)
class Layout:
    """Fields of a line in order, by role: stamp (or date and time), open, high, low, close (or price, of a trade),
    volume, symbol; an empty role is not read, several fields of role volume are added. ``header`` lines come before
    the rows; lines that match ``footer`` are no rows; fields may be ``quoted``, with thousands separators; prices are
    divided by ``divisor``; symbols that are ``numbered`` name no contract, so there must be only one of them;
    ``decimal_comma``: numbers are written 4.000,50; ``unbroken``: whole files may lack the last line break."""

    separator: str
    fields: tuple[str, ...]
    stamp: TimestampFormat
    note: str
    header: int = 0
    footer: str | None = None
    quoted: bool = False
    divisor: float = 1.0
    numbered: bool = False
    decimal_comma: bool = False
    unbroken: bool = False

    @property
    def trades(self) -> bool:
        """Whether a line is a trade, not a bar."""
        return "price" in self.fields


def parse(lines: pl.Series, layout: Layout) -> pl.DataFrame:
    """Return ts (START, UTC), open, high, low, close, volume, text, and symbol if there is one, a row per line.

    A malformed line has null in every column but text: too few or too many fields, a field that is no finite
    number, a volume that is no whole number, a stamp that does not parse or, of a bar, is not on a whole minute.
    """
    frame = lines.alias("text").to_frame()
    split = frame.select("text", _split(layout)).unnest("parts")
    alone = pl.col(f"field_{len(layout.fields)}").is_null().alias("alone")
    typed = split.select("text", alone, *_typed(layout))
    # a stamp far outside any data (a year of 30000 as nanoseconds) would break calendar arithmetic
    checks = [pl.col("ts").dt.year().is_between(1980, 2100), pl.col("volume").is_not_null()]
    checks += [pl.col(name).is_finite() for name in PRICES]
    if not layout.trades:
        checks.append(pl.col("ts").dt.truncate("1m") == pl.col("ts"))
    checks.append(pl.col("alone"))
    whole = pl.all_horizontal(*checks).fill_null(value=False)
    columns = ["ts", *VALUES, *(["symbol"] if "symbol" in layout.fields else [])]
    return typed.select(pl.when(whole).then(pl.col(columns)), "text")


def cause(line: str, layout: Layout) -> tuple[str, str, str]:
    """Return of a malformed line what was expected, what was found, and what to do about it."""
    split = pl.Series("text", [line]).to_frame().select(_split(layout)).unnest("parts")
    count = len(layout.fields)
    written = [text.strip(" ") for text in split.row(0) if text is not None]
    if len(written) != count:
        many = f"{len(written)} fields" if len(written) < count else "more"
        remedy = "Check the separator and, of numbers such as 4000,50, decimal=comma in ingest.mapping."
        return f"{count} fields separated by {layout.separator!r}", f"{many} in {line[:80]!r}", remedy
    row = split.select(_typed(layout)).row(0, named=True)
    if row["ts"] is None:
        fields = dict(zip(layout.fields, written, strict=True))
        text = fields.get("stamp") or f"{fields.get('date')} {fields.get('time')}"
        shown = f"a timestamp as {' or '.join(dict.fromkeys(layout.stamp.formats))}"
        return shown, repr(text[:40]), zones.remedy(text, layout.stamp.zone)
    for role, text in zip(layout.fields, written, strict=True):
        if role in (*PRICES, "price", "volume") and not _is_number(text, layout, whole=role == "volume"):
            comma = "," in text and not layout.decimal_comma
            remedy = "Add decimal=comma to ingest.mapping." if comma else "Correct the file or the columns."
            return f"a {'whole ' if role == 'volume' else ''}number as {role}", repr(text[:40]), remedy
    return "timestamps on whole minutes, of the years 1980 to 2100", str(row["ts"]), "Export one-minute bars."


def _is_number(text: str, layout: Layout, *, whole: bool) -> bool:
    frame = pl.Series("text", [text]).to_frame()
    value = frame.select((_whole if whole else _number)(pl.col("text"), layout)).item()
    return value is not None and math.isfinite(value)


def _split(layout: Layout) -> pl.Expr:
    text = pl.col("text")
    if layout.quoted and layout.decimal_comma:
        text = text.str.replace_all(_QUOTED_DECIMALS, f"${{1}}{_DECIMAL}${{2}}")
    elif layout.quoted:
        for _ in range(4):
            text = text.str.replace_all(_QUOTED_THOUSANDS, '"$1$2"')
    if layout.quoted:
        text = text.str.replace_all('"', "", literal=True)
    return text.str.splitn(layout.separator, len(layout.fields) + 1).alias("parts")


def _typed(layout: Layout) -> list[pl.Expr]:
    def role(name: str) -> list[pl.Expr]:
        return [pl.col(f"field_{n}").str.strip_chars(" ") for n, each in enumerate(layout.fields) if each == name]

    stamp = role("stamp")
    text = stamp[0] if stamp else pl.concat_str(role("date")[0], role("time")[0], separator=" ")
    prices = {name: (role(name) or role("price"))[0] for name in PRICES}
    volumes = [_whole(value, layout) for value in role("volume")]
    typed = [
        layout.stamp.to_utc(text).alias("ts"),
        *(_number(value, layout).alias(name) for name, value in prices.items()),
        (volumes[0] if len(volumes) == 1 else pl.sum_horizontal(*volumes, ignore_nulls=False)).alias("volume"),
    ]
    return [*typed, *(symbol.alias("symbol") for symbol in role("symbol")[:1])]


def _number(text: pl.Expr, layout: Layout) -> pl.Expr:
    number = _pointed(text, layout).cast(pl.Float64, strict=False)
    return number / layout.divisor if layout.divisor != 1 else number


def _whole(text: pl.Expr, layout: Layout) -> pl.Expr:
    """Return whole numbers as integers, also those written with a zero fraction."""
    pointed = _pointed(text, layout)
    number = pointed.cast(pl.Float64, strict=False)
    return pl.coalesce(
        pointed.cast(pl.Int64, strict=False),
        pl.when(number == number.floor()).then(number).cast(pl.Int64, strict=False),
    )


def _pointed(text: pl.Expr, layout: Layout) -> pl.Expr:
    """Return numbers with a decimal point."""
    if not layout.decimal_comma:
        return text
    return text.str.replace_all(".", "", literal=True).str.replace(f"[,{_DECIMAL}]", ".")
