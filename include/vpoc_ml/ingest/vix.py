"""Daily VIX closes: Cboe, ISO and FRED files in; as-of join without look-ahead out.

A close is published at 16:15 New York of its date and may be used by bars that start after that, strictly. On the
few half days it is known earlier; 16:15 is then late by hours and never early.
"""

from __future__ import annotations

from datetime import date, time
from pathlib import Path

import polars as pl

from vpoc_ml.errors import MissingInputError, UnreadableFileError, VixCoverageError
from vpoc_ml.market.calendar import reviewed, sessions

MAX_STALE_SESSIONS = 5
EXPECTED = "VIX closes as Cboe (DATE,OPEN,HIGH,LOW,CLOSE) or FRED (observation_date,VIXCLS) publish them"
_DATE_NAMES = ("date", "observation_date")
_CLOSE_NAMES = ("close", "vixcls")
_MISSING = ("", ".")


def read_vix(path: Path) -> pl.DataFrame:
    """Return the closes of one file: date Date, close f64, available_at Datetime[us, UTC]; sorted by date.

    Header names are compared without case. Dates are ISO or month first; slashed dates of which none has a day
    above 12 could be day first and are refused. Days without a value (holidays of FRED) are left out.

    Raises:
        MissingInputError: no such file.
        UnreadableFileError: unknown columns, ambiguous dates, a close that is no positive number, or two
            closes of one date.
    """
    if not path.is_file():
        raise MissingInputError(path, EXPECTED, "Deliver the VIX file or name another place.")
    table = _columns(path)
    closes = table.with_columns(
        date=_dates(path, table), close=pl.col("close").cast(pl.Float64, strict=False), written="close"
    ).filter(~pl.col("written").is_in(_MISSING))
    bad = closes.filter(~(pl.col("close").is_finite() & (pl.col("close") > 0)).fill_null(False))
    if bad.height:
        raise UnreadableFileError(path, "a positive close", repr(bad["written"][0]), line=bad["line"][0])
    closes = closes.unique(["date", "close"], keep="first").sort("date")
    if (twice := closes.filter(pl.col("date").is_duplicated())).height:
        raise UnreadableFileError(
            path,
            "one close a date",
            f"two for {twice['date'][0]}",
            line=twice["line"].max(),  # type: ignore[arg-type]
        )
    if not closes.height:
        raise UnreadableFileError(path, EXPECTED, "no close at all")
    return closes.select("date", "close", available_at=available_at("date"))


def available_at(day: str) -> pl.Expr:
    """Return the time at which the close of a Date column is known: 16:15 New York, as UTC."""
    local = pl.col(day).dt.combine(time(16, 15), "us").dt.replace_time_zone("America/New_York")
    return local.dt.convert_time_zone("UTC")


def looks_like(head: list[str]) -> bool:
    """Return whether the first line of a file is the header of a VIX file; one with volume is of something traded."""
    return bool(head) and _named(head[0]) is not None and "volume" not in head[0].lower()


def join_vix(bars: pl.DataFrame, vix: pl.DataFrame) -> pl.DataFrame:
    """Return ``bars`` (sorted by ts) with ``vix``: the last close available strictly before ts, else null."""
    known = vix.select(pl.col("available_at"), vix="close").sort("available_at")
    return bars.join_asof(
        known, left_on="ts", right_on="available_at", strategy="backward", allow_exact_matches=False
    ).drop("available_at", strict=False)


def check_coverage(bars: pl.DataFrame, vix: pl.DataFrame, calendar: str, *, path: object = "the VIX file") -> None:
    """Refuse VIX closes that cannot serve the bars (ts, session).

    The first bar must see a close, and at most 5 sessions may lie between the last close's date and the last
    bar's session; a file that merely lags the bars by a holiday or a weekend passes.

    Raises:
        VixCoverageError: otherwise.
    """
    if not bars.height:
        return
    first, last = bars["session"].min(), bars["session"].max()
    oldest, newest = vix["date"].min(), vix["date"].max()
    assert isinstance(first, date) and isinstance(last, date)  # noqa: PT018
    assert isinstance(oldest, date) and isinstance(newest, date)  # noqa: PT018
    early = vix["available_at"].min() >= bars["ts"].min()  # type: ignore[operator]
    if early or _sessions_between(calendar, newest, last) > MAX_STALE_SESSIONS:
        raise VixCoverageError(path, f"{oldest}..{newest}", f"{first}..{last}")


def _sessions_between(calendar: str, newest: date, last: date) -> int:
    """Return the number of sessions in (newest, last)."""
    start = max(newest, reviewed(calendar)[0])
    if start >= last:
        return 0
    return sessions(calendar, start, last).filter(pl.col("session").is_between(newest, last, closed="none")).height


def _named(header: str) -> tuple[int, int] | None:
    """Return the positions of the date and the close among the header's columns."""
    names = [name.strip().strip('"').lower() for name in header.removeprefix("\ufeff").split(",")]
    day = [names.index(name) for name in _DATE_NAMES if name in names]
    close = [names.index(name) for name in _CLOSE_NAMES if name in names]
    return (day[0], close[0]) if len(day) == 1 and len(close) == 1 else None


def _columns(path: Path) -> pl.DataFrame:
    """Return date and close as written, with the 1-based line."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = _named(lines[0]) if lines else None
    if found is None:
        shown = repr(lines[0][:80]) if lines else "an empty file"
        raise UnreadableFileError(path, EXPECTED, shown, line=1, remedy="Deliver one of these formats.")
    rows = [(n, line.split(",")) for n, line in enumerate(lines[1:], start=2) if line.strip()]
    short = next((n for n, fields in rows if len(fields) <= max(found)), None)
    if short is not None:
        raise UnreadableFileError(path, f"{max(found) + 1} fields", repr(lines[short - 1][:80]), line=short)
    return pl.DataFrame(
        [(n, fields[found[0]].strip(' "'), fields[found[1]].strip(' "')) for n, fields in rows],
        schema={"line": pl.Int64, "date": pl.String, "close": pl.String},
        orient="row",
    )


def _dates(path: Path, table: pl.DataFrame) -> pl.Series:
    """Return the parsed dates; one format must fit every row, and slashed dates must prove their order."""
    written = table["date"]
    iso = written.str.to_date("%Y-%m-%d", strict=False)
    month_first = written.str.to_date("%m/%d/%Y", strict=False)
    best = max(iso, month_first, key=pl.Series.count)
    expected, remedy = "dates as 2025-01-31 or 01/31/2025", "Deliver ISO dates."
    if best.has_nulls():
        wrong = table.filter(best.is_null()).row(0, named=True)
        raise UnreadableFileError(path, expected, repr(wrong["date"]), line=wrong["line"], remedy=remedy)
    if best is month_first and best.len() and not written.str.to_date("%d/%m/%Y", strict=False).has_nulls():
        raise UnreadableFileError(path, expected, "dates that could be day first as well", remedy=remedy)
    return best
