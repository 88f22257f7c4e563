"""One bad bar explains the checks of the rows that read it; the rows and the bars around them are kept."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.schemas import FAILING_BARS, FAILING_ROWS
from vpoc_ml.config import QualityThresholds
from vpoc_ml.quality.causes import find_causes, lookback_of
from vpoc_ml.quality.checks import KEPT, NONE, Check, ContractFacts, GateInput, MarketFacts, Measurement
from vpoc_ml.quality.failing_rows import AROUND, Bars, failing_rows
from vpoc_ml.quality.gates import validate_bars, validate_features

OPEN = datetime(2026, 5, 26, 22, 0, tzinfo=UTC)
CODE = "ESM26"


def bars_of(sessions=4, minutes=100):
    """Return ``sessions`` of ``minutes`` bars each."""
    times = [OPEN + timedelta(days=day, minutes=at) for day in range(sessions) for at in range(minutes)]
    days = [(OPEN + timedelta(days=day + 1)).date() for day in range(sessions) for _ in range(minutes)]
    frame = pl.DataFrame({"ts": times, "session": days}).with_row_index("row")
    prices = {name: pl.lit(6000.0) for name in ("open", "high", "low", "close")}
    return frame.with_columns(contract=pl.lit(CODE), volume=1, **prices).select(*FAILING_BARS).cast(FAILING_BARS)


def rows_of(bars, failing):
    """Return failing rows of (column, check, severity) -> rows of ``bars``."""
    parts = [
        bars[rows]
        .select("ts", "session")
        .with_columns(column=pl.lit(column), check=pl.lit(check), severity=pl.lit(how))
        for (column, check, how), rows in failing.items()
    ]
    made = pl.concat(parts).with_columns(contract=pl.lit(CODE), value=pl.lit(None, pl.Float64))
    return made.select(*FAILING_ROWS).cast(FAILING_ROWS)


def causes_of(failing, counts=None, **options):
    bars = bars_of()
    return find_causes(rows_of(bars, failing), Bars({CODE: bars}), counts or {}, options.get("quote")), bars


def test_lookbacks_are_those_of_the_registry():
    assert lookback_of("mom_15m") == ("bars", 15)
    assert lookback_of("close_loc") == ("bars", 0)
    assert lookback_of("yz_20d") == ("sessions", 21)
    assert lookback_of("close") == ("bars", 5)


def test_one_bar_explains_the_features_that_read_it():
    quoted = []

    def quote(contract, timestamps):
        quoted.append((contract, timestamps))
        return ["ES 06-26.txt, line 151: '...'"]

    (cause,), bars = causes_of(
        {
            ("close_change_pct", "outside", "critical"): [150, 151],  # reads one bar back
            ("mom_15m", "outside", "critical"): [150, 165],
            ("rv_30", "soft", "warning"): list(range(150, 181)),
            ("har_d", "soft", "warning"): list(range(200, 300)),  # session 3 reads session 2
            ("mom_60m", "outside", "info"): [10],
        },
        quote=quote,
    )
    assert cause.ts == bars["ts"][150].isoformat()
    assert (cause.critical, cause.warning) == (2, 2)
    assert cause.source == ("ES 06-26.txt, line 151: '...'",)
    assert quoted == [(CODE, [bars["ts"][150]])]


def test_two_bars_explain_their_own_rows_and_far_rows_stay_apart():
    causes, bars = causes_of(
        {
            ("close_change_pct", "outside", "critical"): [50, 51, 350],
            ("mom_15m", "outside", "critical"): [50, 65],
        }
    )
    assert [(each.ts, each.critical) for each in causes] == [
        (bars["ts"][50].isoformat(), 2),
        (bars["ts"][350].isoformat(), 1),
    ]


def test_no_bar_explains_a_column_that_fails_everywhere():
    everywhere = {("mom_15m", "late", "critical"): list(range(400))}
    assert causes_of(everywhere)[0] == ()
    many = {("close", "print", "critical"): [10, 60, 110, 160, 210]}
    assert causes_of(many)[0] == ()


def test_kept_rows_of_a_long_lookback_stand_for_all_of_them():
    kept = {("yz_20d", "soft", "warning"): [100, 101], ("close_change_pct", "outside", "critical"): [50]}
    found = {count: causes_of(kept, {(CODE, "yz_20d", "soft"): count})[0] for count in (300, 3000)}
    assert [(each.critical, each.warning) for each in found[300]] == [(1, 1)]
    assert [(each.critical, each.warning) for each in found[3000]] == [(1, 0)]


def test_a_bar_explains_its_session_and_a_session_explains_no_bar():
    bars = bars_of()
    day = rows_of(bars, {("vix", "implied", "critical"): [150]}).with_columns(ts=pl.lit(None, FAILING_ROWS["ts"]))
    alone = find_causes(day, Bars({CODE: bars}), {}, None)
    both = pl.concat([day, rows_of(bars, {("close", "far", "critical"): [150]})])
    (cause,) = find_causes(both, Bars({CODE: bars}), {}, None)
    assert alone == ()
    assert cause.critical == 2


def test_only_failed_checks_keep_rows_and_no_more_than_the_bound(monkeypatch):
    monkeypatch.setattr("vpoc_ml.quality.failing_rows.ALL_KEPT", 3)
    found = bars_of().select("ts", value=pl.lit(1.0))
    measured = [
        Measurement(CODE, "close", "far", 2, 400, found=found[:2]),
        Measurement(CODE, "open", "jump", 2, 400, found=found[:2]),
        Measurement(CODE, "low", "far", 1, 400, (OPEN,), (7.0,)),
    ]
    checks = [Check("far", "close", "near"), Check("jump", "open", "near"), Check("far", "low", "near", None, NONE)]
    given = GateInput("bars", (CODE,), checks, measured)
    rows = failing_rows(given, {(CODE, "low", "far"): "warning", (CODE, "open", "jump"): "critical"})
    assert rows.schema == pl.Schema(FAILING_ROWS)
    assert rows.select("column", "severity", "value").rows() == [
        ("low", "warning", 7.0),
        ("open", "critical", 1.0),
        ("open", "critical", 1.0),
    ]
    more = failing_rows(given, dict.fromkeys([(CODE, "close", "far"), (CODE, "open", "jump")], "critical"))
    assert more.height == 3


@pytest.mark.slow
def test_a_gate_keeps_rows_bars_and_cause_and_a_passed_rerun_removes_them(world):
    at = 40
    bad = world.bars.with_columns(
        pl.when(pl.int_range(pl.len()) == at).then(pl.col(name) * 10).otherwise(pl.col(name)).alias(name)
        for name in ("open", "high", "low", "close")
    )
    path = world.file("bars", bad)

    def gate():
        facts = {"ESH25": ContractFacts(path, world.calendar)}
        return validate_bars(facts, MarketFacts(0.25), run="night", reports_dir=world.reports, now=world.now)

    verdict = gate()
    (cause,) = verdict.causes
    assert cause.ts == bad["ts"][at].isoformat()
    assert cause.critical == verdict.critical
    assert f"Root cause: the bar {cause.ts} of ESH25 explains {cause.critical} critical" in verdict.message()
    stored = {
        table: world.reports / layout.gate_table(table, "bars", "night")
        for table in (layout.FAILING_ROWS, layout.FAILING_BARS)
    }
    rows, around = (pl.read_parquet(file) for file in stored.values())
    assert rows.filter(column="close", check="print")["ts"].to_list() == [bad["ts"][at]]
    assert set(range(at - AROUND, at + AROUND + 1)) <= set(around["row"])
    assert around.height < 30
    world.file("bars", world.bars)
    assert gate().causes == ()
    assert not any(file.exists() for file in stored.values())


@pytest.mark.slow
def test_a_column_without_values_keeps_the_first_rows_of_each_check(world):
    broken = world.features.with_columns(rsi=pl.lit(float("nan"), pl.Float32))
    contracts, bars = {"ESH25": world.file("features", broken)}, {"ESH25": world.file("bars", world.bars)}
    options = {"run": "night", "reports_dir": world.reports, "now": world.now, "registry": world.registry}
    verdict = validate_features(contracts, bars=bars, **options)
    rows = pl.read_parquet(world.reports / layout.gate_table(layout.FAILING_ROWS, "features", "night"))
    late = next(each for each in verdict.failures if (each.column, each.check) == ("rsi", "late"))
    assert rows.filter(column="rsi", check="late").height == min(late.count, KEPT)
    assert verdict.causes == ()
    assert not (world.reports / layout.gate_table(layout.FAILING_BARS, "features", "night")).exists()


@pytest.mark.slow
def test_a_bad_bar_is_found_beside_a_column_without_values(world):
    at = 150
    broken = world.features.with_columns(
        rsi=pl.lit(float("nan"), pl.Float32),
        mom=pl.when(pl.int_range(pl.len()) == at).then(float("inf")).otherwise("mom").cast(pl.Float32),
    )
    contracts, bars = {"ESH25": world.file("features", broken)}, {"ESH25": world.file("bars", world.bars)}
    options = {"run": "night", "reports_dir": world.reports, "now": world.now, "registry": world.registry}
    verdict = validate_features(contracts, bars=bars, **options)
    assert {"rsi", "mom"} <= {each.column for each in verdict.failures}
    assert [cause.ts for cause in verdict.causes] == [broken["ts"][at].isoformat()]
    assert {column for column, _ in verdict.causes[0].checks} == {"mom"}


@pytest.mark.slow
def test_usual_range_and_median_name_rows_too(world):
    rising = pl.when(pl.int_range(pl.len()) < 150).then(pl.lit(5000.0, pl.Float32)).otherwise(pl.col("mom"))
    broken = world.features.with_columns(rising.alias("mom"))
    contracts, bars = {"ESH25": world.file("features", broken)}, {"ESH25": world.file("bars", world.bars)}
    config = QualityThresholds(outlier_warn=0.05)
    options = {"run": "night", "reports_dir": world.reports, "now": world.now, "registry": world.registry}
    verdict = validate_features(contracts, bars=bars, config=config, **options)
    rows = pl.read_parquet(world.reports / layout.gate_table(layout.FAILING_ROWS, "features", "night"))
    for check in ("soft", "beyond"):
        failure = next(each for each in verdict.failures if (each.column, each.check) == ("mom", check))
        assert rows.filter(column="mom", check=check).height == failure.count >= 150


def test_the_gate_on_the_training_set_keeps_the_bars_around_a_bad_row(world, validated):
    bad = world.training.with_columns(
        rsi=pl.when(pl.int_range(pl.len()) == 30).then(float("nan")).otherwise("rsi").cast(pl.Float32)
    )
    validated("training_set", bad, name="night", bars={"ESH25": world.file("bars", world.bars)})
    rows, around = (
        pl.read_parquet(world.reports / layout.gate_table(table, "training-set", "night"))
        for table in (layout.FAILING_ROWS, layout.FAILING_BARS)
    )
    at = world.bars["ts"].index_of(bad["ts"][30])
    assert bad["ts"][30] in rows.filter(column="rsi")["ts"]
    assert set(range(at - AROUND, at + AROUND + 1)) <= set(around["row"])
