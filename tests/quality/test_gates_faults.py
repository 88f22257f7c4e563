"""Planted faults: each is found at its severity, with the exact count and the first timestamps."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from vpoc_ml.config import QualityThresholds
from vpoc_ml.errors import GateFailedError, MissingInputError
from vpoc_ml.quality.checks import ContractFacts, MarketFacts
from vpoc_ml.quality.gates import raise_if_failed, validate_bars
from vpoc_ml.reports.gate_pages import write_gates_page

pytestmark = pytest.mark.slow

INF, NAN = float("inf"), float("nan")


def planted(frame, column, rows, value):
    """Return ``frame`` with ``value`` at the row numbers ``rows`` of ``column``."""
    at = pl.int_range(pl.len()).is_in(list(rows))
    return frame.with_columns(
        pl.when(at).then(pl.lit(value)).otherwise(pl.col(column)).cast(frame.schema[column]).alias(column)
    )


def found(verdict, check, column=None):
    """Return the only failure of a check."""
    matching = [f for f in verdict.failures if f.check == check and column in (None, f.column)]
    assert len(matching) == 1, verdict.message()
    return matching[0]


def timestamps(frame, rows):
    return tuple(frame["ts"][row].isoformat() for row in rows)


# ---------------------------------------------------------------- bars


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_three_nan_in_a_price_are_found_with_count_and_timestamps(world, validated, column):
    verdict = validated("bars", planted(world.bars, column, (7, 400, 900), NAN))
    failure = found(verdict, "nan", column)
    assert not verdict.passed
    assert (failure.severity, failure.count, failure.rows) == ("critical", 3, world.bars.height)
    assert failure.first == timestamps(world.bars, (7, 400, 900))
    assert failure.values == ("nan", "nan", "nan")


def test_null_prices_are_not_mistaken_for_nan(world, validated):
    verdict = validated("bars", planted(world.bars, "low", (3, 4), None))
    assert found(verdict, "null", "low").count == 2
    assert not [f for f in verdict.failures if f.check == "nan"]


@pytest.mark.parametrize("value", [INF, -INF])
def test_infinite_prices_are_found_although_only_a_lower_bound_is_declared(world, validated, value):
    failure = found(validated("bars", planted(world.bars, "close", (11,), value)), "infinite", "close")
    assert (failure.severity, failure.count) == ("critical", 1)
    assert failure.first == timestamps(world.bars, (11,))


def test_ohlc_violation_is_found(world, validated):
    broken = world.bars.with_columns(
        high=pl.when(pl.col("ts") == world.bars["ts"][50]).then(pl.col("low") - 1).otherwise("high")
    )
    failure = found(validated("bars", broken), "ohlc")
    assert (failure.severity, failure.count, failure.first) == ("critical", 1, timestamps(world.bars, (50,)))


def test_price_off_the_tick_grid_is_found(world, validated):
    broken = planted(world.bars, "low", (9,), world.bars["low"][9] - 0.1)
    assert found(validated("bars", broken), "tick", "low").count == 1


def test_duplicated_timestamps_are_counted_once_per_extra_row(world, validated):
    doubled = pl.concat([world.bars, world.bars.slice(30, 2), world.bars.slice(30, 1)]).sort("ts")
    verdict = validated("bars", doubled)
    failure = found(verdict, "unique")
    assert (failure.count, failure.severity) == (3, "critical")
    assert failure.first[0] == timestamps(world.bars, (30,))[0]


def test_timestamps_out_of_order_are_found(world, validated):
    swapped = pl.concat([world.bars[:20], world.bars[21:22], world.bars[20:21], world.bars[22:]])
    verdict = validated("bars", swapped)
    assert found(verdict, "order").count == 1
    assert not verdict.passed


def test_bar_outside_its_session_is_found(world, validated):
    late = world.bars.with_columns(
        ts=pl.when(pl.int_range(pl.len()) == pl.len() - 1).then(pl.col("ts") + timedelta(hours=3)).otherwise("ts")
    )
    assert found(validated("bars", late), "hours").count == 1


def test_session_unknown_to_the_calendar_is_found(world, validated):
    moved = world.bars.with_columns(session=pl.col("session") + pl.duration(days=200))
    assert found(validated("bars", moved), "hours").count == world.bars.height


@pytest.mark.parametrize(("keep", "severity"), [(0.97, "warning"), (0.7, "critical")])
def test_missing_minutes_warn_then_fail(world, validated, keep, severity):
    thinned = world.bars.filter(pl.int_range(pl.len()) % 100 < 100 * keep)
    failure = found(validated("bars", thinned), "minutes")
    assert failure.severity == severity
    assert failure.share == pytest.approx(1 - keep, abs=0.01)


def test_only_the_time_as_front_contract_must_be_covered(world, validated):
    days = world.calendar["session"]
    early = world.bars.filter((pl.col("session") >= days[4]) | (pl.int_range(pl.len()) % 2 == 0))
    assert found(validated("bars", early), "minutes").share == pytest.approx(0.5 * 4 / len(days), abs=0.02)
    assert validated("bars", early, name="run2", front=(days[4], days[-1])).failures == ()
    late = found(validated("bars", early, name="run3", front=(days[0], days[3])), "minutes")
    assert late.share == pytest.approx(0.5, abs=0.01)


def test_contract_shorter_than_a_warm_up_passes_and_a_longer_one_without_values_fails(world, validated):
    name = world.features.columns[3]
    cold = world.features.with_columns(pl.lit(float("nan"), pl.Float32).alias(name))
    assert found(validated("features", cold), "empty", name).severity == "critical"
    days = world.calendar["session"]
    first = pl.col("session") == days[0]
    short = validated("features", world.features.filter(first), name="run2")
    assert not [failure for failure in short.failures if failure.check in ("empty", "constant", "late")]


def test_session_without_bars_warns_and_is_named(world, validated):
    gone = world.calendar["session"][4]
    verdict = validated("bars", world.bars.filter(pl.col("session") != gone))
    assert found(verdict, "sessions").first == (gone.isoformat(),)
    assert verdict.passed


def test_quarantined_rows_give_a_remark_then_a_warning(world, validated):
    assert found(validated("bars", world.bars, quarantined=1), "quarantine").severity == "info"
    assert found(validated("bars", world.bars, quarantined=40), "quarantine").severity == "warning"


def test_vix_of_zero_or_above_150_and_unknown_vix(world, validated):
    failure = found(
        validated("bars", planted(planted(world.bars, "vix", (1,), 0.0), "vix", (2,), 151.0)), "outside", "vix"
    )
    assert (failure.count, failure.values) == (2, ("0", "151"))
    assert found(validated("bars", planted(world.bars, "vix", range(10), None)), "null", "vix").severity == "warning"
    assert found(validated("bars", planted(world.bars, "vix", range(900), None)), "null", "vix").severity == "critical"


def test_a_copied_feature_is_found(world, validated):
    copied = world.features.with_columns(mom=pl.col("rsi"))
    failure = found(validated("features", copied), "duplicate")
    assert (failure.column, failure.severity, failure.note) == ("mom", "critical", "the same values as rsi")


def test_flags_may_agree_by_chance(world, validated):
    flag = (pl.int_range(pl.len()) % 2).cast(pl.Float32)
    verdict = validated("features", world.features.with_columns(rsi=flag * 50 + 25, range=flag * 50 + 25))
    assert not [failure for failure in verdict.failures if failure.check == "duplicate"], verdict.message()


@pytest.mark.parametrize("gate", ["bars", "features", "training-set"])
def test_a_gate_over_zero_rows_fails(world, validated, gate):
    frames = {"bars": world.bars, "features": world.features, "training-set": world.training}
    verdict = validated(gate, frames[gate].clear())
    assert not verdict.passed
    assert found(verdict, "rows", "*").severity == "critical"


@pytest.mark.parametrize(("gate", "column"), [("bars", "close"), ("bars", "volume"), ("bars", "vix")])
def test_a_column_of_bars_without_a_value_fails(world, validated, gate, column):
    empty = world.bars.with_columns(pl.lit(None, world.bars.schema[column]).alias(column))
    verdict = validated(gate, empty)
    assert any(f.severity == "critical" and f.column == column for f in verdict.failures), verdict.message()


def test_changed_thresholds_show_in_verdict_and_message(world, validated):
    verdict = validated("features", world.features, config=QualityThresholds(outlier_warn=0.4))
    assert verdict.changed_thresholds == ("outlier_warn=0.4 (standard 0.2)",)
    assert "Changed thresholds: outlier_warn=0.4 (standard 0.2)" in verdict.message()
    assert not validated("features", world.features).changed_thresholds
    page = write_gates_page(world.reports, "run1", ["features"]).read_text()
    assert "outlier_warn" not in page, "the last verdict has the usual ones"
    validated("features", world.features, config=QualityThresholds(outlier_warn=0.4))
    assert "outlier_warn=0.4 (standard 0.2)" in write_gates_page(world.reports, "run1", ["features"]).read_text()


def test_empty_file_fails(world, validated):
    verdict = validated("bars", world.bars.clear())
    assert not verdict.passed
    assert found(verdict, "rows").severity == "critical"


@pytest.mark.parametrize("content", [None, b"", b"PAR1 torn"])
def test_missing_or_torn_file_fails_with_one_clear_cause(world, validated, content):
    path = world.root / "ESM25.parquet"
    if content is not None:
        path.write_bytes(content)
    good = world.file("good", world.bars)
    contracts = {"ESH25": ContractFacts(good, world.calendar), "ESM25": ContractFacts(path, world.calendar)}
    verdict = validate_bars(contracts, MarketFacts(0.25), run="torn", reports_dir=world.reports, now=world.now)
    assert [(f.contract, f.check) for f in verdict.failures] == [("ESM25", "readable")], verdict.message()
    assert not verdict.passed


def test_missing_column_is_one_failure_not_many(world, validated):
    verdict = validated("bars", world.bars.drop("vix"))
    assert [(f.column, f.check, f.note) for f in verdict.failures] == [("vix", "schema", "column is missing")]
    assert not verdict.passed


def test_missing_ts_still_fails_without_raising(world, validated):
    assert not validated("bars", world.bars.drop("ts")).passed


@pytest.mark.parametrize(
    "change",
    [
        pl.col("close").cast(pl.String),
        pl.col("volume").cast(pl.Float64),
        pl.col("ts").dt.replace_time_zone(None),
        pl.col("ts").cast(pl.Datetime("ns", "UTC")),
    ],
)
def test_wrong_dtype_is_named(world, validated, change):
    verdict = validated("bars", world.bars.with_columns(change))
    schema = [f for f in verdict.failures if f.check == "schema"]
    assert len(schema) == 1
    assert schema[0].note.startswith("was ")
    assert not verdict.passed


def test_extra_column_and_other_order_are_found(world, validated):
    assert found(validated("bars", world.bars.with_columns(x=1.0)), "schema").note == "unknown x"
    assert found(validated("bars", world.bars.select(*reversed(world.bars.columns))), "schema").note == "other order"


def test_a_gate_without_contracts_is_an_error(world):
    with pytest.raises(MissingInputError, match="at least one contract"):
        validate_bars({}, MarketFacts(0.25), run="r", reports_dir=world.reports, now=world.now)


# ---------------------------------------------------------------- features


def test_nan_after_the_warm_up_is_found_and_inside_it_is_not(world, validated):
    rows = (500, 700, 701)
    failure = found(validated("features", planted(world.features, "rsi", rows, NAN)), "late", "rsi")
    assert (failure.severity, failure.count, failure.first) == ("critical", 3, timestamps(world.bars, rows))
    assert validated("features", planted(world.features, "mom", (0, 150, 239), NAN)).passed


def test_infinity_passes_a_one_sided_bound_but_not_the_gate(world, validated):
    verdict = validated("features", planted(world.features, "range", (600,), INF))
    assert [(f.check, f.column, f.count) for f in verdict.failures] == [("infinite", "range", 1)]
    assert not verdict.passed


def test_all_nan_column_fails(world, validated):
    verdict = validated("features", world.features.with_columns(rsi=pl.lit(NAN, dtype=pl.Float32)))
    assert found(verdict, "empty", "rsi").severity == "critical"
    assert not verdict.passed


def test_constant_column_fails_and_shows_its_value(world, validated):
    verdict = validated("features", world.features.with_columns(range=pl.lit(20.0, dtype=pl.Float32)))
    assert found(verdict, "constant", "range").values == ("20",)
    assert not verdict.passed


def test_hard_bound_fails_soft_range_warns(world, validated):
    hard = validated("features", planted(world.features, "rsi", (300,), 100.5))
    assert found(hard, "outside", "rsi").values == ("100.5",)
    assert not hard.passed
    soft = validated("features", planted(world.features, "rsi", range(300, 420), 99.0))
    assert found(soft, "soft", "rsi").severity == "warning"
    assert soft.passed


def test_value_on_a_hard_bound_rounded_to_float32_is_inside(world, validated):
    from dataclasses import replace

    from vpoc_ml.quality.gates import validate_features

    frame = planted(world.features, "rsi", (300,), 13**0.5)
    bound = {name: replace(known) for name, known in world.registry.items()}
    bound["rsi"] = replace(bound["rsi"], hard=(0.0, 13**0.5), soft=(-INF, INF))
    frame = frame.with_columns(pl.min_horizontal("rsi", pl.lit(13**0.5, dtype=pl.Float32)).alias("rsi"))
    bars = {"ESH25": world.file("b", world.bars)}
    verdict = validate_features(
        {"ESH25": world.file("f", frame)}, bars=bars, run="r", reports_dir=world.reports, now=world.now, registry=bound
    )
    assert not [f for f in verdict.failures if f.check == "outside"]


def test_heavy_tail_warns_beyond_5_mad(world, validated):
    verdict = validated("features", planted(world.features, "mom", range(300, 700), 5000.0))
    failure = found(verdict, "beyond", "mom")
    assert failure.severity == "warning"
    assert 400 <= failure.count <= 420
    assert failure.share == pytest.approx(failure.count / world.features.height)


def test_short_and_foreign_keys_are_found(world, validated):
    short = validated("features", world.features[:-5])
    assert (found(short, "missing_bars").count, short.passed) == (5, False)
    moved = world.features.with_columns(ts=pl.col("ts") + pl.duration(seconds=30))
    assert found(validated("features", moved), "unknown_bars").count == world.features.height


def test_wrong_float_width_of_a_feature_is_found(world, validated):
    verdict = validated("features", world.features.with_columns(pl.col("mom").cast(pl.Float64)))
    assert found(verdict, "schema", "mom").note == "was Float64"


# ---------------------------------------------------------------- training set


def test_embargo_breach_is_found_with_the_sessions_that_touch(world, validated):
    sessions = sorted(world.bars["session"].unique())
    train_end, validation_start = sessions[5], sessions[7]
    moved = world.training.with_columns(
        session=pl.when(pl.col("session") == validation_start).then(sessions[6]).otherwise("session"),
        ts=pl.when(pl.col("session") == validation_start).then(pl.col("ts") - pl.duration(days=1)).otherwise("ts"),
    )
    failure = found(validated("training-set", moved), "embargo", "split validation")
    assert (failure.severity, failure.count) == ("critical", 1)
    assert str(train_end) in failure.note


def test_label_that_ends_inside_the_next_split_is_found(world, validated):
    at = pl.col("split") == "train"
    late = world.training.with_columns(
        label_end=pl.when(at & (pl.col("ts") == pl.col("ts").filter(at).max()))
        .then(pl.col("ts").filter(pl.col("split") == "validation").min() + pl.duration(minutes=2))
        .otherwise("label_end")
    )
    failure = found(validated("training-set", late), "purged", "split validation")
    assert (failure.severity, failure.count) == ("critical", 3)


def test_a_timestamp_in_two_splits_is_found(world, validated):
    leaked = world.training.filter(pl.col("split") == "test")[:4].with_columns(split=pl.lit("train"))
    verdict = validated("training-set", pl.concat([world.training, leaked]).sort("ts"))
    assert found(verdict, "two_splits").count == 4
    assert not verdict.passed


def test_target_faults_are_found(world, validated):
    base = world.training
    assert found(validated("training-set", planted(base, "y", (5,), 1.5)), "outside", "y").count == 1
    assert found(validated("training-set", planted(base, "ret", (5,), 0.2)), "outside", "ret").count == 1
    assert found(validated("training-set", planted(base, "y", (5,), NAN)), "labelled").count == 1
    assert found(validated("training-set", planted(base, "weight", (5,), 0.5)), "labelled").count == 1


def test_non_finite_feature_in_a_labelled_row_is_found(world, validated):
    failure = found(validated("training-set", planted(world.training, "mom", (8, 9), INF)), "finite", "mom")
    assert (failure.severity, failure.count) == ("critical", 2)
    assert failure.first == timestamps(world.training, (8, 9))


def test_missing_class_and_unbalanced_split_fail(world, validated):
    up = world.training.with_columns(ret=pl.when(pl.col("split") == "test").then(pl.col("ret").abs()).otherwise("ret"))
    failure = found(validated("training-set", up), "balance")
    assert (failure.column, failure.severity, failure.contract) == ("split test", "critical", "*")


def test_stale_prices_warn(world, validated):
    stale = world.training.with_columns(
        ret=pl.when((pl.col("split") == "test") & pl.col("ret").is_finite() & (pl.int_range(pl.len()) % 4 > 0))
        .then(0.0)
        .otherwise("ret")
    )
    verdict = validated("training-set", stale)
    assert (found(verdict, "zero").severity, verdict.passed) == ("warning", True)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_missing_split_fails(world, validated, split):
    assert not validated("training-set", world.training.filter(pl.col("split") != split)).passed


def test_empty_training_set_fails(world, validated):
    verdict = validated("training-set", world.training.clear())
    assert not verdict.passed
    assert found(verdict, "rows", "*").contract == "*"


# ---------------------------------------------------------------- the error


def test_error_names_gate_contract_column_count_share_first_and_report(world, validated):
    verdict = validated("bars", planted(world.bars, "close", (7, 400, 900), NAN))
    with pytest.raises(GateFailedError) as raised:
        raise_if_failed(verdict)
    text = str(raised.value)
    for part in (
        "bars",
        "ESH25 close",
        "[CRITICAL] no NaN",
        "3 of 1,440 rows (0.2083%)",
        timestamps(world.bars, (7,))[0],
    ):
        assert part in text
    assert f"Report: {verdict.report}" in text
    assert raised.value.verdict == verdict.to_json()
    assert raised.value.exit_code == 3


@pytest.mark.parametrize("column", ["contract", "ts", "y", "rsi", "split", "weight"])
@pytest.mark.parametrize("how", ["missing", "text"])
def test_training_set_with_a_broken_column_fails_by_that_column(world, validated, column, how):
    broken = (
        world.training.drop(column)
        if how == "missing"
        else world.training.with_columns(pl.lit(1, pl.Int8).alias(column))
    )
    verdict = validated("training-set", broken)
    assert not verdict.passed
    assert {f.column for f in verdict.failures if f.severity == "critical"} == {column}, verdict.message()
