"""How one delimited text is written, and its lines as typed rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
_QUOTED_THOUSANDS = r'"([+-]?\d+),([\d,.]+)"'
_EPOCHS = {"epoch:s": 1_000_000, "epoch:ms": 1_000, "epoch:us": 1, "epoch:ns": -1_000}


@dataclass(frozen=True)
class Stamp:
    """How a stamp is written.

    ``formats`` are tried in order: chrono formats (with ``%z`` or a final ``Z`` where the stamp tells its zone), or
    ``epoch:s``, ``epoch:ms``, ``epoch:us``, ``epoch:ns``, counted from ``day``. ``zone`` is that of stamps which do
    not tell theirs; ``end``: stamps mark the END of the bar; only the first ``length`` characters are read.
    """

    formats: tuple[str, ...]
    zone: str = "UTC"
    end: bool = False
    day: date = date(1970, 1, 1)
    length: int | None = None

    def to_utc(self, text: pl.Expr) -> pl.Expr:
        """Return START-of-bar UTC stamps of text; null where it does not parse or the local time is ambiguous."""
        cut = text if self.length is None else text.str.slice(0, self.length)
        stamp = pl.coalesce(self._one(cut, form) for form in self.formats)
        return stamp - pl.duration(minutes=1) if self.end else stamp

    def _one(self, text: pl.Expr, form: str) -> pl.Expr:
        if form in _EPOCHS:
            factor, number = _EPOCHS[form], text.cast(pl.Int64, strict=False)
            micros = number * factor if factor > 0 else number // -factor
            return micros.cast(pl.Datetime("us", "UTC")) + (self.day - date(1970, 1, 1))
        parsed = text.str.to_datetime(form, strict=False, time_unit="us")
        if "%z" in form:
            return parsed.dt.convert_time_zone("UTC")
        zone = "UTC" if form.endswith("Z") else self.zone
        local = parsed.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
        return local.dt.convert_time_zone("UTC")


@dataclass(frozen=True)
class Layout:
    """Fields of a line in order, by role: stamp (or date and time), open, high, low, close (or price, of a trade),
    volume, symbol; an empty role is not read. ``header`` lines come before the rows; lines that match ``footer``
    are no rows; fields may be ``quoted``, with thousands separators; prices are divided by ``divisor``; symbols that
    are ``numbered`` name no contract, so there must be only one of them."""

    separator: str
    fields: tuple[str, ...]
    stamp: Stamp
    note: str
    header: int = 0
    footer: str | None = None
    quoted: bool = False
    divisor: float = 1.0
    numbered: bool = False

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


def _split(layout: Layout) -> pl.Expr:
    text = pl.col("text")
    if layout.quoted:
        for _ in range(4):
            text = text.str.replace_all(_QUOTED_THOUSANDS, '"$1$2"')
        text = text.str.replace_all('"', "", literal=True)
    return text.str.splitn(layout.separator, len(layout.fields) + 1).alias("parts")


def _typed(layout: Layout) -> list[pl.Expr]:
    field = {role: pl.col(f"field_{n}").str.strip_chars(" ") for n, role in enumerate(layout.fields) if role}
    joined = "stamp" not in field
    text = pl.concat_str(field["date"], field["time"], separator=" ") if joined else field["stamp"]
    prices = {name: field.get(name, field.get("price")) for name in PRICES}
    typed = [
        layout.stamp.to_utc(text).alias("ts"),
        *(_number(value, layout.divisor).alias(name) for name, value in prices.items() if value is not None),
        _whole(field["volume"]).alias("volume"),
    ]
    return [*typed, field["symbol"].alias("symbol")] if "symbol" in field else typed


def _number(text: pl.Expr, divisor: float) -> pl.Expr:
    number = text.cast(pl.Float64, strict=False)
    return number / divisor if divisor != 1 else number


def _whole(text: pl.Expr) -> pl.Expr:
    """Return whole numbers as integers, also those written with a zero fraction."""
    number = text.cast(pl.Float64, strict=False)
    return pl.coalesce(
        text.cast(pl.Int64, strict=False),
        pl.when(number == number.floor()).then(number).cast(pl.Int64, strict=False),
    )
