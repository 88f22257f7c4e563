"""Own gate checks: counted, limited, explained and kept like those of the product."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from vpoc_ml.errors import PluginError
from vpoc_ml.pipeline.active_plugins import use_plugins
from vpoc_ml.plugins.load import activate
from vpoc_ml.quality.own_checks import measure_own

from .pages import code_of

PAGE = code_of("own-gate-check.md")
START = datetime(2025, 1, 6, 15, tzinfo=UTC)


def table(volume):
    ts = pl.datetime_range(START, START.replace(hour=23), "1m", eager=True, time_zone="UTC", closed="left")
    bars = pl.DataFrame({"ts": ts.dt.cast_time_unit("us"), "session": START.date(), "volume": 10})
    return bars.with_columns(pl.when(pl.int_range(pl.len()) == 7).then(volume).otherwise("volume").alias("volume"))


def test_the_check_of_the_page_finds_the_bar(write):
    activate(write(PAGE))
    found = measure_own("bars", {"ESH25": table(4000).lazy(), "ESM25": table(11).lazy()})
    (check,) = found.checks
    assert (check.name, check.column, check.error_if, check.warn_if.count) == ("large_bar", "volume", None, 0)
    large, plain = found.measurements
    assert (large.contract, large.count, large.rows) == ("ESH25", 1, 480)
    assert large.first == (START.replace(minute=7),)
    assert large.values[0] == pytest.approx(4000 / 8790)
    assert large.found.columns == ["ts", "value"]
    assert plain.count == 0
    assert "time and sales" in found.texts["large_bar"][1]
    assert measure_own("features", {"ESH25": table(4000).lazy()}).checks == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    return bars.filter(pl.col('nothing') > 1)\n", "ColumnNotFoundError"),
        ("    return 3\n", "found 3"),
        ("    return bars.select('volume')\n", "found columns volume"),
    ],
)
def test_a_check_that_cannot_be_made_ends_the_gate(write, body, message):
    activate(write(PAGE.replace('    share = pl.col("volume") /', f"{body}    share = pl.col('volume') /")))
    with pytest.raises(PluginError, match=rf"plugins\.py, CHECKS: expected a frame of defective rows.*{message}"):
        measure_own("bars", {"ESH25": table(9).lazy()})


def test_a_file_that_cannot_be_read_is_left_to_the_checks_of_the_product(write, tmp_path):
    activate(write(PAGE))
    broken = tmp_path / "bars.parquet"
    broken.write_bytes(b"nothing")
    assert measure_own("bars", {"ESH25": pl.scan_parquet(broken)}).measurements == []


def test_a_name_of_the_gate_is_refused(write):
    with pytest.raises(PluginError, match="a name that gate bars does not use; found stale"):
        use_plugins(str(write(PAGE.replace("large_bar", "stale"))))


@pytest.mark.parametrize("limits", ["fail_above=None,\n        warn_above=None", "gate='rolls'"])
def test_a_declaration_that_no_gate_can_use_is_refused(write, limits):
    text = PAGE.replace("fail_above=None,\n        warn_above=0", limits)
    if "gate" in limits:
        text = PAGE.replace('gate="bars"', limits)
    with pytest.raises(PluginError, match="check large_bar"):
        activate(write(text))
