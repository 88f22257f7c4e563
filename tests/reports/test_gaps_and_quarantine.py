"""The gap calendar and the quarantine: counted by hand, shown with their source, downloaded in full."""

import io
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from vpoc_ml.artifacts.schemas import BAD_PRINT, QUARANTINE, UNPARSABLE
from vpoc_ml.lake.manifest import BuildKey
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import contract_sessions
from vpoc_ml.market.instruments import instrument
from vpoc_ml.reports.gap_calendar import find_gaps
from vpoc_ml.reports.pages.gaps import GapsQuery, RangesQuery, gap_ranges, gaps_page
from vpoc_ml.reports.pages.quarantine import (
    QuarantineDownload,
    QuarantineQuery,
    quarantine_download,
    quarantine_page,
)
from vpoc_ml.reports.site import NoSuchPageError, Site

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")


def store(root, kind, frame):
    Lake(root).write_frame(f"{kind}/ES/ESM23.parquet", frame, BuildKey(inputs={}, config="", code=""))


@pytest.fixture
def site(tmp_path):
    return Site(Lake(tmp_path), NOW, base="/air")


def test_gaps_are_counted_by_session_and_hour_and_listed_as_ranges():
    opens = datetime(2023, 5, 15, 13, 58, tzinfo=UTC)  # 08:58 in Chicago
    halt = opens + timedelta(minutes=4), opens + timedelta(minutes=6)
    days = [date(2023, 5, 15), date(2023, 5, 16)]
    calendar = pl.DataFrame(
        {
            "session": days,
            "open": [opens, opens + timedelta(minutes=8)],
            "close": [opens + timedelta(minutes=8), opens + timedelta(minutes=10)],
            "halt_start": [halt[0], None],
            "halt_end": [halt[1], None],
        },
        schema_overrides=dict.fromkeys(("open", "close", "halt_start", "halt_end"), TIME),
    )
    # minutes 0, 3, 6 and 9 have a bar; 4 and 5 are the halt; the second session begins with minute 8
    bars = pl.DataFrame({"ts": [opens + timedelta(minutes=at) for at in (0, 3, 3, 6, 9)]}, schema={"ts": TIME})
    gaps = find_gaps(bars, calendar)
    assert gaps.sessions.rows() == [(days[0], 6, 3), (days[1], 2, 1)]
    assert gaps.hours.rows() == [(days[0], 8, 2, 1), (days[0], 9, 4, 2), (days[1], 9, 2, 1)]
    at = [opens + timedelta(minutes=minute) for minute in range(10)]
    assert gaps.ranges.rows() == [(days[0], at[1], at[2], 2), (days[0], at[7], at[7], 1), (days[1], at[8], at[8], 1)]


def test_the_page_shows_a_missing_session_and_the_download_has_its_range(site, tmp_path):
    contract = parse_contract("ESM23")
    calendar = contract_sessions(contract, instrument("ES"), date(2023, 5, 15), date(2023, 5, 17))
    minutes = calendar.select("session", ts=pl.datetime_ranges("open", "close", "1m", closed="left", time_unit="us"))
    bars = minutes.explode("ts").filter(pl.col("session") != date(2023, 5, 16))
    halts = calendar["minutes"].to_list()
    store(tmp_path, "bars", bars)
    page = gaps_page(site, GapsQuery())
    assert f"2023-05-16: {halts[1]:,} of {halts[1]:,} minutes without a bar" in page
    assert 'href="/air/sessions?contract=ESM23&amp;session=2023-05-15"' in page
    assert "session=2023-05-16" not in page
    download = gap_ranges(site, RangesQuery(contract="ESM23", format="parquet"))
    ranges = pl.read_parquet(io.BytesIO(download.content))
    assert set(ranges["session"]) == {date(2023, 5, 16)}
    assert ranges["minutes"].sum() == halts[1]
    for unknown in ("ESZ23", "nonsense", "../x"):
        with pytest.raises(NoSuchPageError, match="a contract with bars"):
            gaps_page(site, GapsQuery(contract=unknown))


def test_the_quarantine_shows_reason_and_source_and_filters(site, tmp_path):
    assert "The quarantine is empty" in quarantine_page(site, QuarantineQuery())
    assert "No contract has bars" in gaps_page(site, GapsQuery())
    rows = pl.DataFrame({name: [None] * 2 for name in QUARANTINE}, schema=QUARANTINE).with_columns(
        reason=pl.Series([UNPARSABLE, BAD_PRINT]),
        line=pl.Series([7, 3]),
        file=pl.Series(["a.txt"] * 2),
        text=pl.Series(["=1+<b>", "x;y"]),
    )
    store(tmp_path, "quarantine", rows)
    page = quarantine_page(site, QuarantineQuery())
    assert "=1+&lt;b&gt;" in page
    assert page.index("x;y") < page.index("=1+")  # by line
    assert "reason=isolated+bad+print" in page
    only = quarantine_page(site, QuarantineQuery(reason=BAD_PRINT))
    assert "=1+" not in only
    made = quarantine_download(site, QuarantineDownload(contract="ESM23", reason=UNPARSABLE))
    assert made.name == "quarantine-ESM23-unparsable.csv"
    assert b"'=1+<b>" in made.content
    with pytest.raises(NoSuchPageError):
        quarantine_download(site, QuarantineDownload(contract="ESZ23"))
