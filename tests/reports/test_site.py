"""What the pages under Reports share: addresses, downloads, times, and the same page from a folder and a store."""

import io
import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from vpoc_ml.lake.store import Lake
from vpoc_ml.reports.pages.run import StoredRunQuery, stored_run_page
from vpoc_ml.reports.pages.runs import runs_page
from vpoc_ml.reports.pages.table import PAGES, navigation
from vpoc_ml.reports.site import NoSuchPageError, Query, Site, csv_download, parquet_download
from vpoc_ml.reports.templating import environment

NOW = datetime(2026, 5, 15, 12, 0, tzinfo=UTC)


@pytest.fixture
def site(tmp_path):
    return Site(Lake(tmp_path), NOW, base="/air/vpoc-reports", name="demo", lakes=("", "demo"), navigation=navigation())


def test_addresses_keep_the_mount_and_the_lake(site):
    assert site.url("/runs/a%20b", gate="bars", night=None, text="") == (
        "/air/vpoc-reports/runs/a%20b?gate=bars&lake=demo"
    )
    assert site.file_url("reports/a b.html") == "/air/vpoc-reports/view/demo/reports/a%20b.html"
    assert Site(site.lake, NOW).url("/") == "/"


def test_a_page_has_one_row_and_its_path_names_fields_of_its_query():
    assert len({page.path for page in PAGES}) == len(PAGES)
    for page in PAGES:
        fields = {part[1:-1] for part in page.path.split("/") if part.startswith("{")}
        assert fields <= set(page.query.model_fields), page.path
        needed = {name for name, field in page.query.model_fields.items() if field.is_required()}
        assert needed == fields, page.path
        assert not (page.title and fields), "the navigation cannot fill in a field"


def test_csv_has_no_formula_and_keeps_numbers():
    at = pl.Series("ts", [NOW] * 7).cast(pl.Datetime("us", "UTC"))
    text = ["=1+1", "+cmd|' /C calc'!A0", "-1.5", "@SUM(A1)", "\tx", "plain", None]
    category = pl.Series("category", ["-a", "b", "c", "+2", "e", "f", "g"], dtype=pl.Categorical)
    frame = pl.DataFrame(
        {"=text": text, "number": [-1.5, 2.0, None, 0.0, 1.0, 1.0, 1.0], "category": category, "ts": at}
    )
    made = csv_download("run/../x y", frame)
    read = pl.read_csv(io.BytesIO(made.content), infer_schema=False)
    assert made.name == "run-..-x-y.csv"
    assert read.columns == ["'=text", "number", "category", "ts"]
    assert read["'=text"].to_list() == ["'=1+1", "'+cmd|' /C calc'!A0", "-1.5", "'@SUM(A1)", "'\tx", "plain", None]
    assert read["category"].to_list()[:4] == ["'-a", "b", "c", "+2"]
    assert read["number"][0] == "-1.5"
    assert read["ts"][0] == "2026-05-15T12:00:00Z"


def test_parquet_download_is_the_frame():
    frame = pl.DataFrame({"a": ["=1"], "ts": pl.Series([NOW]).cast(pl.Datetime("us", "UTC"))})
    made = parquet_download("bars ES\r\nX: y", frame)
    assert made.name == "bars-ES--X--y.parquet"
    assert pl.read_parquet(io.BytesIO(made.content)).equals(frame)


def test_times_are_of_chicago_with_utc_on_hover():
    chicago, age = environment().filters["chicago"], environment().filters["age"]
    assert chicago(NOW) == (
        '<time datetime="2026-05-15T12:00:00Z" title="2026-05-15 12:00:00 UTC">2026-05-15 07:00 CDT</time>'
    )
    assert ">2026-01-15 06:00 CST<" in chicago("2026-01-15T12:00:00+00:00")
    assert chicago(None) == "n/a"
    spans = [timedelta(minutes=m) for m in (0, 119, 120, 2879, 2880)]
    assert [age(span) for span in spans] == ["0 min", "119 min", "2 h", "47 h", "2 days"]


def test_page_of_an_unknown_run_is_not_found(site):
    for run in ("absent", "..", "a/b", ""):
        with pytest.raises(NoSuchPageError, match="name of a run"):
            stored_run_page(site, StoredRunQuery(run=run))


def test_a_store_and_a_folder_show_the_same_pages(bucket, tmp_path):
    shown = []
    for root in (f"{bucket}/pages", tmp_path):
        lake = Lake(root)
        lake.write_text("runs/night-1/report.html", "report")
        lake.write_text("reports/runs/night-1/gates.html", "gates")
        lake.write_json(
            "runs/night-2/failures/train.json", {"stage": "train", "error": "E", "message": "<b>", "exit_code": 4}
        )
        lake.write_text("reports/data_docs/index.html", "docs")
        site = Site(lake, NOW)
        pages = runs_page(site, Query()), *(stored_run_page(site, StoredRunQuery(run=f"night-{k}")) for k in (1, 2))
        shown.append([without_times(page).replace(str(lake.root), "") for page in pages])
    assert shown[0] == shown[1]
    assert "/view/reports/runs/night-1/gates.html" in shown[0][0]
    assert "E: &lt;b&gt;" in shown[0][0]
    assert "Start the run again with a lower learning rate" in shown[0][2]


def without_times(page):
    return re.sub(r'<time[^>]*>[^<]*</time>|data-sort="[^"]*"', "", page)
