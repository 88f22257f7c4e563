"""The pages of searches: best so far, settings to paste, luck, trials that were not scored."""

from __future__ import annotations

import html
import json
from datetime import UTC, datetime

import pytest

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.metrics import Interval, ValidationMetrics
from vpoc_ml.artifacts.stage_results import SearchResult
from vpoc_ml.artifacts.studies import SearchSummary, TrialRecord
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.store import Lake
from vpoc_ml.reports.pages.searches import SearchQuery, progress_chart, search_page, searches_page, setting_charts
from vpoc_ml.reports.site import NoSuchPageError, Query, Site

NOW = datetime(2024, 9, 1, tzinfo=UTC)


def trial(number: int, value: float | None, rate: float, **changes) -> TrialRecord:
    interval = Interval(0.52, 0.5, 0.54)
    metrics = ValidationMetrics(rank_ic=interval, direction_accuracy=interval, huber=None, net=-1234.5, sharpe=None)
    fields = {
        "number": number,
        "trial": f"t{number}",
        "status": "unstable" if value is None else "scored",
        "value": value,
        "metrics": None if value is None else metrics,
        "error": "Losses grew <fast>" if value is None else None,
        "params": {"training.learning_rate": rate, "model.hidden_dims": "32-16"},
        "overrides": (f"training.learning_rate={rate:g}",),
    }
    return TrialRecord(**(fields | changes))


RECORDS = (trial(0, 0.02, 1e-3, own=True), trial(1, None, 1.0), trial(2, 0.03, 1e-4), trial(3, 0.01, 1e-2))


@pytest.fixture
def lake(tmp_path) -> Lake:
    summary = SearchSummary(
        space=("x",), seed=0, trials=5, finished=4, unstable=1, impossible=0, best=RECORDS[2], records=RECORDS
    )
    write_json(tmp_path / layout.run_file("tried", layout.SEARCH_RESULT), summary.to_json())
    return Lake(tmp_path)


def site(lake: Lake) -> Site:
    return Site(lake, NOW, base="/air/vpoc-reports", path="/searches")


def test_the_best_settings_are_ready_to_paste(lake):
    page = html.unescape(search_page(site(lake), SearchQuery(run="tried")))
    pasted = page.split('<pre tabindex="0">')[1].split("</pre>")[0]
    assert json.loads(pasted) == {"training.learning_rate": 1e-4, "model.hidden_dims": "32-16"}
    assert "vpoc-ml run -o training.learning_rate=0.0001" in page
    assert "Trial 2 is the best: rank IC 0.0300" in page
    assert "the run's own settings have 0.0200" in page
    assert "The search has not finished" in page
    assert "-1,234.50" in page
    assert "Losses grew <fast>" not in search_page(site(lake), SearchQuery(run="tried")), "text of data is escaped"


def test_a_finished_search_says_how_much_may_be_luck(lake):
    result = SearchResult(
        stage="search",
        finished=4,
        unstable=1,
        impossible=0,
        space=("x",),
        seed=0,
        best=RECORDS[2].overrides,
        value=0.03,
        own_value=0.02,
        search="",
        returns="",
        overfitting=0.37,
        deflated_sharpe=0.61,
    )
    write_json(lake.path(layout.stage_key("tried", "search")), result.to_json())
    page = search_page(site(lake), SearchQuery(run="tried"))
    assert "The probability that this choice is overfitted is 37%" in page
    assert "is 61%" in page


def test_the_pictures_show_the_best_so_far_and_each_setting_in_its_order():
    (chart,) = progress_chart(RECORDS)
    assert [row[2] for row in chart.rows] == ["0.0200", "0.0200", "0.0300", "0.0300"]
    assert [row[1] for row in chart.rows] == ["0.0200", "n/a", "0.0300", "0.0100"]
    rate, dims = setting_charts(RECORDS)
    assert rate.rows == (("1.0e-04", "0.0300"), ("0.00100", "0.0200"), ("0.0100", "0.0100"))
    assert [row[0] for row in dims.rows] == ["32-16"] * 3
    assert progress_chart(RECORDS[1:2]) == setting_charts(RECORDS[:2]) == []


def test_the_list_links_each_search(lake):
    page = searches_page(site(lake), Query())
    assert 'href="/air/vpoc-reports/searches/tried"' in page
    assert "4 of 5" in page
    assert "No search has run yet" in searches_page(site(Lake(lake.path("empty"))), Query())
    with pytest.raises(NoSuchPageError):
        search_page(site(lake), SearchQuery(run="other"))
