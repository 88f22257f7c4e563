"""The picture of a session shows the levels of the lake where they belong."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from typer.testing import CliRunner

from vpoc_ml.artifacts.layout import contract_key
from vpoc_ml.artifacts.schemas import BARS
from vpoc_ml.cli import app
from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import MissingInputError
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.reports.pages.session import BarsQuery, SessionQuery, session_bars, session_page
from vpoc_ml.reports.session_chart import (
    CANDLES,
    HEIGHT,
    TOP,
    joined_bars,
    nearest_naked,
    plot_session,
    read_session,
    session_days,
    session_svg,
)
from vpoc_ml.reports.site import NoSuchPageError, Site

ES = instrument("ES")
FIRST, SECOND = date(2024, 3, 5), date(2024, 3, 6)
SVG = "{http://www.w3.org/2000/svg}"


def bars_of(day: date, prices: list[float], volumes: list[int]) -> pl.DataFrame:
    """One bar a minute from the opening of RTH (14:30 UTC in March); each bar trades one price."""
    begin = datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC)
    rows = {
        "ts": [begin + timedelta(minutes=at) for at in range(len(prices))],
        "contract": "ESH24",
        "session": day,
        "rth": True,
        **dict.fromkeys(("open", "high", "low", "close"), prices),
        "volume": volumes,
        "vix": 14.0,
    }
    return pl.DataFrame(rows, schema=BARS)


@pytest.fixture
def lake(tmp_path) -> Lake:
    """The first session trades most at 5000, the second never comes back to it."""
    bars = pl.concat(
        [
            bars_of(FIRST, [5000.0, 5000.25, 5000.0, 5001.0], [70, 10, 20, 10]),
            bars_of(SECOND, [5002.0, 5003.0, 5003.0, 5004.0, 5003.0], [10, 50, 40, 10, 5]),
        ]
    )
    made = Lake(tmp_path)
    tables = {
        "bars": bars,
        "sessions": build_sessions(bars, ES, ProfileConfig()),
        "developing": build_developing(bars, ES, ProfileConfig()),
    }
    for kind, frame in tables.items():
        made.write_frame(contract_key(kind, "ES", "ESH24"), frame, BuildKey({}, "", ""))
    return made


def test_a_session_is_read_with_the_levels_that_were_naked_before_it(lake):
    assert session_days(lake, "ESH24") == [FIRST, SECOND]
    data = read_session(lake, "ESH24", SECOND)
    assert data.bars["session"].unique().to_list() == [SECOND]
    assert data.levels["vpoc"] == 5003.0
    assert data.naked.select("session", "vpoc").rows() == [(FIRST, 5000.0)]
    assert read_session(lake, "ESH24", FIRST).naked.is_empty()
    table = data.table()
    assert table["vpoc"].to_list() == [5002.0, 5003.0, 5003.0, 5003.0, 5003.0], "as known at the close of each bar"


def test_the_picture_is_well_formed_and_places_the_vpoc(lake):
    root = ET.fromstring(plot_session(str(lake.root), "ESH24", SECOND)._repr_svg_())
    label = root.attrib["aria-label"]
    assert label == "ESH24 session 2024-03-06: VPOC 5,003.00, value area 5,003.00 to 5,003.00"
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert {"VPOC 5,003.00", "IB HIGH 5,004.00", "IB LOW 5,002.00", "naked 2024-03-05 5,000.00"} <= set(texts)
    line = next(each for each in root.iter(f"{SVG}path") if each.attrib.get("class") == "level vpoc")
    y = float(line.attrib["d"].split()[1].split("H")[0])
    low, high = 5000.0 - 0.12, 5004.0 + 0.12  # the naked level widens the range by 3 % of it at either side
    assert y == pytest.approx(TOP + HEIGHT * (high - 5003.0) / (high - low), abs=0.06)
    assert not [each for each in root.iter() if any("://" in value for value in each.attrib.values())]


def test_candles_join_minutes_until_they_fit(lake):
    minutes, found = joined_bars(bars_of(FIRST, [5000.0 + at % 7 for at in range(600)], [1] * 600))
    assert (minutes, found.height) == (5, 120)
    assert found.row(0)[1:] == (5000.0, 5004.0, 5000.0, 5004.0)
    assert joined_bars(read_session(lake, "ESH24", FIRST).bars)[0] == 1
    assert joined_bars(bars_of(FIRST, [5000.0] * CANDLES, [1] * CANDLES))[0] == 1


def test_only_near_naked_levels_are_shown(lake):
    data = read_session(lake, "ESH24", SECOND)
    wide = pl.DataFrame({"session": [FIRST] * 3, "vpoc": [4000.0, 5000.5, 5005.0], "age": [2, 1, 0]})
    near = nearest_naked(replace(data, naked=wide))
    assert near["vpoc"].to_list() == [5000.5, 5005.0]


def test_a_session_without_volume_has_a_picture_without_levels(tmp_path):
    bars = bars_of(FIRST, [5000.0, 5001.0], [0, 0])
    lake = Lake(tmp_path)
    for kind, frame in (
        ("bars", bars),
        ("sessions", build_sessions(bars, ES, ProfileConfig())),
        ("developing", build_developing(bars, ES, ProfileConfig())),
    ):
        lake.write_frame(contract_key(kind, "ES", "ESH24"), frame, BuildKey({}, "", ""))
    svg = session_svg(read_session(lake, "ESH24", FIRST), ES)
    ET.fromstring(svg)
    assert "VPOC n/a" in svg


@pytest.mark.parametrize(
    ("contract", "found"), [("ESH24", "sessions from 2024-03-05 to 2024-03-06"), ("ESM24", "no such contract")]
)
def test_an_unknown_session_names_what_there_is(lake, contract, found):
    with pytest.raises(MissingInputError, match=found):
        read_session(lake, contract, date(2024, 3, 7))


def test_the_page_opens_at_the_newest_session_and_links_its_neighbours(lake):
    site = Site(lake, datetime(2024, 3, 7, tzinfo=UTC), base="/b", path="/sessions")
    page = session_page(site, SessionQuery())
    assert "ESH24, session 2024-03-06" in page
    assert 'rel="prev" href="/b/sessions?contract=ESH24&amp;session=2024-03-05"' in page
    assert 'rel="next"' not in page
    assert "<style>" not in page, "the policy of the page refuses inline styles"
    earlier = session_page(site, SessionQuery(contract="ES 03-24", session=FIRST))
    assert 'rel="next"' in earlier
    assert "5,000.00" in earlier
    assert "No contract has sessions" in session_page(Site(Lake(lake.root / "empty"), site.now), SessionQuery())


def test_the_download_holds_bars_and_developing_levels(lake):
    made = session_bars(Site(lake, datetime(2024, 3, 7, tzinfo=UTC)), BarsQuery(contract="ESH24", session=SECOND))
    assert made.name == "ESH24-2024-03-06.csv"
    assert pl.read_csv(made.content)["vpoc"].to_list() == [5002.0, 5003.0, 5003.0, 5003.0, 5003.0]


@pytest.mark.parametrize("contract", ["ESM24", "../x", "<script>"])
def test_an_unknown_contract_has_no_page(lake, contract):
    with pytest.raises(NoSuchPageError):
        session_page(Site(lake, datetime(2024, 3, 7, tzinfo=UTC)), SessionQuery(contract=contract))


def test_the_command_prints_the_session_of_the_page_and_writes_picture_and_bars(lake, tmp_path):
    def call(*words):
        return CliRunner().invoke(app, ["report", "session", *words, "--lake", str(lake.root)], catch_exceptions=False)

    svg, csv = tmp_path / "out" / "session.svg", tmp_path / "out" / "bars.csv"
    shown = call("--svg", str(svg), "--csv", str(csv)).stdout
    assert f"ESH24, session {SECOND}, 5 bars" in shown
    assert "5,003.00" in shown
    assert f"{FIRST}   5,000.00" in shown.split("Naked VPOCs")[1]
    assert svg.read_text() == plot_session(lake, "ESH24", SECOND).svg
    page = session_bars(Site(lake, datetime(2024, 3, 7, tzinfo=UTC)), BarsQuery(contract="ESH24", session=SECOND))
    written = pl.read_csv(csv)
    assert written.columns == pl.read_csv(page.content).columns
    assert written["vpoc"].to_list() == pl.read_csv(page.content)["vpoc"].to_list()
    first = json.loads(call("ESH24", str(FIRST), "--json").stdout)
    assert (first["session"], first["levels"]["vpoc"], first["naked"]) == (str(FIRST), 5000.0, [])
    assert max(map(len, shown.splitlines())) <= 80
