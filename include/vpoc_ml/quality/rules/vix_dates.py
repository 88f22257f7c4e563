"""Checks that the VIX closes joined with a contract's bars are recent, and that their dates are right."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import polars as pl

from vpoc_ml.artifacts.gate_report import ALL
from vpoc_ml.ingest.vix.publication_times import NEW_YORK
from vpoc_ml.quality.checks import NONE, Check, MarketFacts, Measurement

MAX_AGE = 5
"""Sessions that may lie between a VIX close and the session that it is joined to. Holidays give one or two."""
_USUAL_AGE = 2
_SHOWN = 5

# The VIX moves against the index on the same day: the rank correlation is -0.65 to -0.85. Uncorrelated series of 40
# sessions reach -0.45 at one of four lags in 0.6 % of the cases, and a correct file whose true correlation is -0.65
# shows less than -0.2 at lag 0 in 0.03 %. An alarm needs both, which has a probability of about 2 in a million.
MIN_SESSIONS = 40
_LAGS = (-2, -1, 1, 2)
_STRONG, _MARGIN = -0.45, 0.25

CHECKS = (
    Check("age", "vix", f"a VIX close not older than {MAX_AGE} sessions before every session"),
    Check("late", "vix", f"a VIX close not older than {_USUAL_AGE} sessions", error_if=None, warn_if=NONE),
    Check("dates", "vix", "VIX changes that move against the session returns of their own date"),
)
FUTURE = Check("future", "vix", "no VIX close dated after the run's clock", whole_run=True)


def future(closes: pl.DataFrame | None, now: datetime) -> Measurement:
    """Measure the dates of the VIX file (date) that lie after the day of ``now`` (aware) in New York.

    Today's unfinished row passes, because no bar is joined with it yet.
    """
    if closes is None:
        return Measurement(ALL, "vix", FUTURE.name, 0, 1, unit="dates")
    today = now.astimezone(ZoneInfo(NEW_YORK)).date()
    dates = closes.select(pl.col("date").unique().sort())
    after = dates.filter(pl.col("date") > today)["date"]
    note = f"{after[0]} to {after[-1]}, the clock says {today}; correct the dates or the clock" if after.len() else ""
    first = tuple(after.head(3))
    return Measurement(ALL, "vix", FUTURE.name, after.len(), dates.height, first, note=note, unit="dates")


def measurements(days: pl.DataFrame, contract: str, calendar: pl.DataFrame, market: MarketFacts) -> list[Measurement]:
    """Measure every check of ``CHECKS``. Without the VIX file (``market.vix_closes``) nothing is found.

    Args:
        days: session, first (ts), close, before (close of the session before), steady; sorted by session.
        contract: Contract code of the measurements.
        calendar: session of every session around the bars.
        market: The closes of the VIX file. Their dates are compared with returns only if the VIX measures the
            instrument's volatility.
    """
    if market.vix_closes is None:
        return [Measurement(contract, "vix", check.name, 0, 1, unit="sessions") for check in CHECKS]
    closes = market.vix_closes.sort("available_at")
    return [*_ages(days, contract, calendar, closes), _dates(days, contract, closes, applies=market.vix_implied)]


def _ages(days: pl.DataFrame, contract: str, calendar: pl.DataFrame, closes: pl.DataFrame) -> list[Measurement]:
    """Measure the sessions whose first bar is joined to an old close; the age counts the sessions strictly between."""
    joined = days.select("session", "first").join_asof(
        closes.select("available_at", "date"),
        left_on="first",
        right_on="available_at",
        strategy="backward",
        allow_exact_matches=False,
    )
    joined = joined.drop_nulls("date")  # check "null" counts the bars before the file's first close
    sessions = calendar["session"].unique().sort()
    age = sessions.search_sorted(joined["session"]).cast(pl.Int64) - sessions.search_sorted(joined["date"], "right")
    found = []
    for check, limit in (("age", MAX_AGE), ("late", _USUAL_AGE)):
        old = joined.filter(age > limit)
        runs = old.group_by("date", maintain_order=True).agg(
            pl.col("session").first(), pl.col("session").last().alias("to"), pl.len().alias("size")
        )
        texts = [
            f"sessions {first} to {last} ({size:,}) see the close of {date}"
            for date, first, last, size in runs.head(_SHOWN).iter_rows()
        ]
        texts += [f"and {runs.height - _SHOWN} more ranges"] if runs.height > _SHOWN else []
        note = f"{', '.join(texts)}; deliver a VIX file with the closes in between" if texts else ""
        first, count = tuple(old["session"].head(3)), max(joined.height, 1)
        found.append(Measurement(contract, "vix", check, old.height, count, first, note=note, unit="sessions"))
    return found


def _dates(days: pl.DataFrame, contract: str, closes: pl.DataFrame, *, applies: bool) -> Measurement:
    """Measure a file whose changes fit the returns of other sessions better than those of their own dates."""
    daily = closes.group_by("date", maintain_order=True).agg(pl.col("close").last()).sort("date")
    change = pl.col("close").log().diff()
    changes = daily.select("date", now=change, **{f"lag {lag}": change.shift(-lag) for lag in _LAGS})
    returns = days.filter("steady", pl.col("steady").shift(1), pl.col("close") > 0, pl.col("before") > 0).select(
        "session", ret=(pl.col("close") / pl.col("before")).log()
    )
    table = returns.join(changes, left_on="session", right_on="date").drop_nulls()
    fits = {
        lag: value
        for lag, name in ((0, "now"), *((lag, f"lag {lag}") for lag in _LAGS))
        if (value := table.select(pl.corr("ret", name, method="spearman")).item()) == value and value is not None
    }
    lag = min(fits, key=lambda each: fits[each], default=0)
    wrong = applies and table.height >= MIN_SESSIONS and lag != 0
    wrong = wrong and fits[lag] < _STRONG and fits.get(0, 0.0) > fits[lag] + _MARGIN
    note = ""
    if wrong:
        side, danger = ("early", ": bars see closes of their future") if lag < 0 else ("late", "")
        note = (
            f"over {table.height} sessions the rank correlation with the returns of the same date is"
            f" {fits.get(0, 0.0):.2f}, with those of {abs(lag)} session(s) {'later' if lag < 0 else 'earlier'}"
            f" {fits[lag]:.2f}; the dates are {abs(lag)} session(s) too {side}{danger}; correct the VIX file's dates"
        )
    first = (table["session"][0],) if wrong else ()
    return Measurement(contract, "vix", "dates", int(wrong), 1, first, note=note, unit="files")
