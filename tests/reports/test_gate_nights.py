"""The pages of the gates show a night, a gate, a check, two nights; since when, and with which limits."""

import io
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.gate_report import Cause, Failure, Verdict
from vpoc_ml.artifacts.leakage_proof import LeakageCheckResult
from vpoc_ml.artifacts.schemas import FAILING_BARS, FAILING_ROWS
from vpoc_ml.config import DatasetConfig, QualityConfig, QualityThresholds
from vpoc_ml.features.registry import REGISTRY
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.store import Lake
from vpoc_ml.quality import history
from vpoc_ml.quality.checks import NONE, Check, GateInput, Limit, MarketFacts, Measurement
from vpoc_ml.quality.owner_texts import has_text
from vpoc_ml.quality.rules import (
    bars_gate,
    candidate_gate,
    features_gate,
    leakage_gate,
    monitoring_gate,
    predictions_gate,
    sessions_gate,
    training_set_gate,
)
from vpoc_ml.reports.gate_results import gate_nights
from vpoc_ml.reports.pages.failing_rows import RowsQuery, failing_rows_download, row_blocks
from vpoc_ml.reports.pages.gate import CheckQuery, GateQuery, check_page, gate_page, limits_of
from vpoc_ml.reports.pages.gates import (
    CompareQuery,
    GatesQuery,
    compare_page,
    differences,
    gates_page,
    history_of,
    since_of,
)
from vpoc_ml.reports.site import NoSuchPageError, Site

START = datetime(2026, 5, 4, 22, 30, tzinfo=UTC)
CODES = ("ESH26", "ESM26")
CHECKS = (
    Check("print", "close", "no bar far from its neighbours", Limit(count=2, share=0.01), warn_if=NONE),
    Check("null", "vix", "a known VIX", Limit(share=0.2), warn_if=NONE),
)
Counts = dict[tuple[str, str], int]


def store_night(root, number, counts: Counts, gate="bars", changed=(), kept=None, causes=()):
    """Store a gate of night ``number`` with these defects by (contract, column), as a gate does."""
    now, run = START + timedelta(days=number), f"night-{number:02}"
    failures, measured = [], []
    for check in CHECKS:
        for code in CODES:
            count = counts.get((code, check.column), 0)
            measured.append(Measurement(code, check.column, check.name, count, 1000))
            broken = [rule.severity for rule in check.rules(CODES) if rule.limit.breached(count, count / 1000)]
            if broken:
                key = {"contract": code, "column": check.column, "check": check.name, "severity": broken[0]}
                first = {"first": ("2026-05-04T14:59:00+00:00",), "values": ("7",), "expected": check.expected}
                failures.append(Failure(**key, count=count, rows=1000, share=count / 1000, **first))
    verdict = Verdict(
        gate=gate, run=run, contracts=CODES, checks=4, failures=tuple(failures), report="", changed_thresholds=changed
    )
    verdict = verdict.model_copy(update={"causes": causes})
    failed = {(each.contract, each.column, each.check): each.severity for each in failures}
    history.store(root / "reports", verdict, GateInput(gate, CODES, CHECKS, measured), failed, kept or {}, now=now)
    write_json(root / "reports" / "runs" / run / f"{gate}.json", verdict.to_json())
    return verdict


@pytest.fixture
def site(tmp_path):
    return Site(Lake(tmp_path), START + timedelta(days=9), base="/air")


def test_since_is_the_first_night_of_the_current_run_of_failures(site, tmp_path):
    for number, close in enumerate((1, 0, 1, 5)):
        store_night(tmp_path, number, {("ESM26", "close"): close, ("ESH26", "vix"): 1})
    nights = gate_nights(site.lake)
    found = history_of(site, "bars", nights, nights[0])
    close, vix = found.since["ESM26", "close", "print"], found.since["ESH26", "vix", "null"]
    assert (close.run, close.nights, close.open) == ("night-02", 2, False)
    assert (vix.run, vix.nights, vix.open) == ("night-00", 4, True)
    assert set(found.since) == {("ESM26", "close", "print"), ("ESH26", "vix", "null")}


def test_since_reads_older_nights_only_where_a_check_failed_on_all_recent_ones(site, tmp_path, monkeypatch):
    monkeypatch.setattr("vpoc_ml.reports.pages.gates.FEW_NIGHTS", 2)
    for number, close in enumerate((0, 1, 1, 1, 1)):
        store_night(tmp_path, number, {("ESM26", "close"): close, ("ESH26", "vix"): number // 4})
    nights = gate_nights(site.lake)
    found = since_of(site, "bars", nights, nights[0])
    assert (found["ESM26", "close", "print"].run, found["ESM26", "close", "print"].nights) == ("night-01", 4)
    assert found["ESH26", "vix", "null"].nights == 1
    page = check_page(site, CheckQuery(run="night-04", gate="bars", column="close", check="print"))
    assert "(4 nights)" in page


def test_a_night_shows_verdicts_failures_and_the_map(site, tmp_path):
    store_night(tmp_path, 0, {})
    store_night(tmp_path, 1, {("ESM26", "close"): 5, ("ESH26", "vix"): 1})
    page = gates_page(site, GatesQuery())
    assert '<span class="cell bad">failed</span>' in page
    assert "ESM26: 1 critical" in page
    assert "ESH26: 1 warning" in page
    assert "/air/gates/night-01/bars/check?contract=ESM26&amp;column=close&amp;check=print" in page
    assert ">2026-05-05</time> <small>(1 night)" in page
    link = '<a href="/air/gates/night-01/bars/check?contract=ESM26&amp;column=close&amp;check=print"'
    assert f'<th scope="row">close</th><td>passed</td><td>{link}>critical</a></td>' in page
    assert f'{link} tabindex="-1" aria-label="close, 2026-05-05: critical"><title>' in page
    older = gates_page(site, GatesQuery(night="night-00"))
    assert "All checks of this night hold." in older
    assert "Every check held on all of them." in older


def test_a_gate_shows_its_failures_its_limits_and_changed_thresholds(site, tmp_path):
    store_night(tmp_path, 0, {("ESM26", "close"): 5, ("ESH26", "vix"): 1}, changed=("vix_missing_fail=0.5",))
    page = gate_page(site, GateQuery(run="night-00", gate="bars"))
    assert "more than 2 or more than 1 %" in page
    assert "<code>vix_missing_fail=0.5</code>" in page
    assert "A single bar is far from the bars before and after it" in page
    assert 'title="2026-05-04 14:59:00 UTC">2026-05-04 09:59 CDT</time> = 7' in page
    assert (
        "a known VIX"
        not in gate_page(site, GateQuery(run="night-00", gate="bars", contract="ESM26")).split("<h2>All checks</h2>")[0]
    )


def test_a_check_shows_the_contract_that_failed_worst_and_its_trend(site, tmp_path):
    for number, close in enumerate((0, 1, 5)):
        store_night(tmp_path, number, {("ESM26", "close"): close, ("ESH26", "close"): 1})
    page = check_page(site, CheckQuery(run="night-02", gate="bars", column="close", check="print"))
    assert '<span class="cell bad">critical</span> in ESM26' in page
    assert "fails above 1 %" in page
    assert '<th scope="row">2026-05-06</th><td>0.500</td><td>0.100</td>' in page
    with pytest.raises(NoSuchPageError, match="a check of gate bars"):
        check_page(site, CheckQuery(run="night-02", gate="bars", column="close", check="absent"))


def test_two_nights_differ_in_the_checks_that_changed(site, tmp_path):
    before = store_night(tmp_path, 0, {("ESM26", "close"): 1, ("ESH26", "vix"): 1})
    now = store_night(tmp_path, 1, {("ESM26", "close"): 5, ("ESH26", "vix"): 1})
    store_night(tmp_path, 1, {}, gate="features")
    (only,) = differences([now], [before])
    assert only.key == ("ESM26", "close", "print")
    assert (only.now.severity, only.before.severity) == ("critical", "warning")
    page = compare_page(site, CompareQuery())
    assert "Gate features ran on the night only" in page
    assert page.count("<code>close</code>") == 1


def test_results_of_an_earlier_version_have_no_limits_on_counts_and_are_shown(site, tmp_path):
    store_night(tmp_path, 0, {("ESM26", "close"): 5})
    file = tmp_path / "reports" / "history.parquet" / "bars__night-00.parquet"
    stored = pl.read_parquet(file).drop("expected", "unit", "warn_count", "error_count")
    stored.write_parquet(file)
    assert "more than 1 %" in gate_page(site, GateQuery(run="night-00", gate="bars"))
    assert limits_of(dict.fromkeys(("warn_count", "warn_share", "error_count", "error_share"))) == {
        "warning": "-",
        "critical": "-",
    }


def test_a_lake_without_gates_and_an_unknown_night_say_so(site, tmp_path):
    assert "No gate has run in this lake yet" in gates_page(site, GatesQuery())
    store_night(tmp_path, 0, {})
    for query in (GatesQuery(night="absent"), GatesQuery(night="../x"), GatesQuery(gate="absent")):
        with pytest.raises(NoSuchPageError):
            gates_page(site, query)
    with pytest.raises(NoSuchPageError, match="one of the gates bars"):
        gate_page(site, GateQuery(run="night-00", gate="absent"))


def test_a_store_shows_the_same_page(bucket, tmp_path):
    store_night(tmp_path, 0, {("ESM26", "close"): 5})
    folder, store = Lake(tmp_path), Lake(f"{bucket}/gates")
    for key in folder.names(""):
        store.storage.write(key, folder.storage.read(key))
    pages = [gate_page(Site(lake, START), GateQuery(run="night-00", gate="bars")) for lake in (folder, store)]
    assert pages[0].replace(str(tmp_path), "") == pages[1].replace(f"{bucket}/gates", "")


def test_every_check_has_a_text_for_its_owner():
    proof = [LeakageCheckResult(check="prefix", expected="the same", comparisons=1, broken=())]
    checks = {
        "bars": bars_gate.checks(QualityConfig(), MarketFacts(0.25, covariates=("skew",))),
        "features": [*features_gate.checks(REGISTRY, QualityThresholds()), features_gate.roll_check()],
        "training-set": [
            *training_set_gate.checks(list(REGISTRY), DatasetConfig(), QualityThresholds()),
            training_set_gate.loss_check(),
        ],
        "sessions": sessions_gate.checks(QualityThresholds()),
        "candidate": candidate_gate.CHECKS,
        "predictions": predictions_gate.CHECKS,
        "leakage": leakage_gate.checks(proof, proof),
        "monitoring": [Check(name, "*", "") for name in monitoring_gate.SEVERITIES],
    }
    absent = {(gate, each.name) for gate, found in checks.items() for each in found if not has_text(gate, each.name)}
    assert not absent


def test_a_check_shows_its_rows_with_five_bars_around_and_offers_all_of_them(site, tmp_path):
    times = [START + timedelta(minutes=at) for at in range(100)]
    close = [6000.0] * 100
    close[30] = 60_000.0
    bars = pl.DataFrame({"ts": times, "close": close}).with_row_index("row")
    blank = [pl.lit(6000.0).alias(name) for name in ("open", "high", "low")]
    bars = bars.with_columns(*blank, contract=pl.lit("ESM26"), session=pl.lit(START.date()), volume=1)
    rows = bars[[30]].select("ts", "session", "contract", column=pl.lit("close"), check=pl.lit("print"), value="close")
    kept = {
        layout.FAILING_ROWS: rows.with_columns(severity=pl.lit("critical")).select(*FAILING_ROWS).cast(FAILING_ROWS),
        layout.FAILING_BARS: bars[20:60].select(*FAILING_BARS).cast(FAILING_BARS),
    }
    cause = Cause(
        contract="ESM26",
        ts=times[30].isoformat(),
        critical=9,
        warning=5,
        checks=(("close", "print"),),
        source=("a.txt, line 31: '<60000>'",),
    )
    store_night(tmp_path, 0, {("ESM26", "close"): 5}, kept=kept, causes=(cause,))
    page = check_page(site, CheckQuery(run="night-00", gate="bars", column="close", check="print"))
    assert page.count("<mark>60,000.00</mark>") == 1
    assert page.count('<th scope="row"><time') == 11
    assert "1 kept of 5" in page
    for gates in (gates_page(site, GatesQuery()), gate_page(site, GateQuery(run="night-00", gate="bars"))):
        assert "explains 9 critical and 5 warning failures of gate bars in ESM26" in gates
        assert "a.txt, line 31: &#39;&lt;60000&gt;&#39;" in gates
        assert 'class="failing"' in gates
    offer = "All failing rows that the gate kept"
    assert offer in gate_page(site, GateQuery(run="night-00", gate="bars"))
    assert offer not in gate_page(site, GateQuery(run="night-00", gate="bars", contract="ESH26"))
    download = failing_rows_download(site, RowsQuery(run="night-00", gate="bars", contract="ESM26", format="parquet"))
    assert download.name == "night-00-bars-ESM26.parquet"
    assert pl.read_parquet(io.BytesIO(download.content))["value"].to_list() == [60_000.0]
    with pytest.raises(NoSuchPageError, match="failing rows of gate bars"):
        failing_rows_download(site, RowsQuery(run="night-00", gate="bars", column="low"))
    for run, gate in (("../night-00", "bars"), ("night-00", "../x"), ("absent", "bars")):
        with pytest.raises(NoSuchPageError, match="a gate of a run"):
            failing_rows_download(site, RowsQuery(run=run, gate=gate))


def test_a_gate_that_kept_no_rows_offers_none(site, tmp_path):
    store_night(tmp_path, 0, {("ESM26", "close"): 5})
    page = gate_page(site, GateQuery(run="night-00", gate="bars"))
    assert "critical" in page
    assert "All failing rows that the gate kept" not in page


def test_rows_far_apart_are_blocks_of_their_own():
    bars = pl.DataFrame({"row": range(60), "ts": [START + timedelta(minutes=at) for at in range(60)]})
    blocks = row_blocks(bars, {bars["ts"][at]: None for at in (1, 11, 40)})
    assert [(block[0]["row"], block[-1]["row"]) for block in blocks] == [(0, 16), (35, 45)]
    assert [bar["row"] for block in blocks for bar in block if bar["failing"]] == [1, 11, 40]
