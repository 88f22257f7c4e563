"""The report is self-contained, draws only valid conclusions, and escapes its inputs."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from tests.evaluation.example_metrics import example_metrics

from vpoc_ml.artifacts.gate_report import Failure, Verdict
from vpoc_ml.artifacts.metrics import Interval, Metrics
from vpoc_ml.artifacts.training_progress import read_progress
from vpoc_ml.config import resolve
from vpoc_ml.errors import MissingInputError
from vpoc_ml.evaluation.evaluate import evaluate_model
from vpoc_ml.market import instruments
from vpoc_ml.reports.run_report import DecisionSummary, ReportContext, write_report
from vpoc_ml.reports.sentences import CONTAINS_ZERO, skill_sentence, verdict_on

from .conftest import FakeModel, training_set, zero_rank

pytestmark = pytest.mark.slow

CONFIG = resolve("smoke")
LEVELS = {"vpoc": 5001.0, "vah": 5003.0, "val": 4999.5}
REFUSED = DecisionSummary("Refused", "bad", ["The rank IC is 0.0010 <script>alert(1)</script>."])
PROMOTED = DecisionSummary("Promoted", "good", ["Good."])


def session_bars() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    close = 5000 + np.cumsum(rng.integers(-2, 3, 400)) * 0.25
    start = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)
    return pl.DataFrame(
        {
            "ts": pl.Series([start + timedelta(minutes=m) for m in range(400)], dtype=pl.Datetime("us", "UTC")),
            "contract": "ESH25",
            "session": date(2025, 1, 6),
            "open": close,
            "high": close + 0.75,
            "low": close - 0.5,
            "close": close,
            "volume": rng.integers(10, 500, 400),
        }
    )


def progress_lines() -> str:
    windows = [
        {"kind": "window", "step": s, "loss": 0.021 - s * 1e-6, "grad_norm_max": 2 / s, "grad_norm_mean": 1 / s}
        for s in range(10, 500, 10)
    ]
    epochs = [
        {"kind": "epoch", "step": s, "train_loss": 0.0208, "validation_loss": 0.0203, "validation_constant": 0.0204}
        for s in (250, 500)
    ]
    return "".join(json.dumps(line) + "\n" for line in [*windows, *epochs])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A run that was evaluated and trained, without a report. Read only."""
    frame = training_set(strength=0.0)
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    folder.mkdir()
    frame.write_parquet(folder / "training_set.parquet")
    model, champion = (FakeModel(slope, zero_rank(frame)) for slope in (0.05, 0.02))
    evaluate_model(folder, CONFIG, model, champion=champion, instrument=instruments.instrument("ES"))
    (folder / "progress.jsonl").write_text(progress_lines())
    return folder


@pytest.fixture
def run(evaluated, tmp_path):
    return shutil.copytree(evaluated, tmp_path / "run")


@pytest.fixture(scope="module")
def plain(evaluated, tmp_path_factory):
    """The report of the run alone, without decision, gates and notes."""
    folder = shutil.copytree(evaluated, tmp_path_factory.mktemp("plain") / "run")
    return page(folder, instruments.instrument("ES"))


def page(folder, instrument, **extra) -> str:
    return write_report(folder, CONFIG, ReportContext(instrument, session_bars(), LEVELS, **extra)).read_text()


def test_report_is_self_contained(run, instrument):
    html = page(run, instrument, decision=REFUSED)
    assert not re.findall(r"https?:|<script|<link|@import|url\(", html)
    sources = re.findall(r'src="([^"]{0,26})', html)
    assert sources == ["data:image/svg+xml;base64,"] * 5
    assert html.count('alt="') == 5
    assert len(html) < 3_000_000


def test_report_shows_the_decision_and_escapes_it(run, instrument):
    html = page(run, instrument, decision=REFUSED, notes=["One note."], facts={"device": "cpu"})
    assert "Refused; " in html
    assert "&lt;script&gt;" in html
    assert "One note." in html
    assert "device <b>cpu</b>" in html
    assert "Promoted; " in page(run, instrument, decision=PROMOTED)
    assert "No decision yet" in page(run, instrument)


def test_report_states_when_there_is_no_evidence_of_skill(plain):
    assert CONTAINS_ZERO in plain
    assert "no evidence that the candidate is better" in plain


def test_report_shows_gates_and_every_setting(run, instrument):
    failure = Failure(contract="ESH25", column="x", check="a", severity="critical", share=0.1, expected="none")
    gate = Verdict(gate="bars", run="r", contracts=("ESH25",), checks=12, failures=(failure,), report="")
    html = page(run, instrument, gates=[gate])
    assert re.search(r"bars</th><td class=\"text bad-text\">failed", html)
    for section in ("training", "evaluation"):
        for name in CONFIG.model_dump()[section]:
            assert f">{name}</th>" in html


def test_empty_settings_are_shown_in_words(plain):
    shown = {name: re.search(rf">{name}</th><td>([^<]*)</td>", plain)[1] for name in ("extras", "groups", "mapping")}
    assert set(shown.values()) == {"none"}
    assert re.search(r">contracts</th><td>all</td>", plain)
    assert re.search(r">round_turn_cost</th><td>the instrument&#39;s own</td>", plain)


def test_decision_box_states_the_net_result_after_costs(run, instrument):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["backtest"] |= {"net": -512_345.4, "round_turn_cost": 29.5}
    metrics["backtest"]["net_per_session"] = {"value": -9.0, "low": -12.0, "high": -6.0}
    metrics["models"]["candidate"]["rank_ic"] = {"value": 0.05, "low": 0.03, "high": 0.07}
    (run / "metrics.json").write_text(json.dumps(metrics))
    html = page(run, instrument, decision=PROMOTED)
    line = "Promoted; predictive, not tradeable: net -$512,345 at $29.50 a round turn"
    assert f"<strong>{line}</strong>" in html


def test_report_has_colours_for_dark_mode(plain):
    assert "color-scheme: light dark" in plain
    assert "prefers-color-scheme: dark" in plain


def test_report_is_the_same_twice(run, instrument):
    assert page(run, instrument) == page(run, instrument)


def test_report_without_progress_and_session_says_so(run, instrument):
    (run / "progress.jsonl").unlink()
    html = write_report(run, CONFIG, ReportContext(instrument, pl.DataFrame(), {})).read_text()
    assert "no record of its training" in html
    assert "Volume profile" not in html


def test_an_incomplete_last_line_of_progress_is_left_out(run):
    complete = len(read_progress(run))
    with (run / "progress.jsonl").open("a") as file:
        file.write('{"kind": "win')
    assert len(read_progress(run)) == complete


def test_run_without_metrics_is_named(tmp_path, instrument):
    with pytest.raises(MissingInputError, match="metrics"):
        page(tmp_path, instrument)


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.1, 0.3, "better"), (-0.3, -0.1, "worse"), (0.0, 0.1, CONTAINS_ZERO)]
)
def test_words_follow_the_interval(low, high, words):
    assert verdict_on(Interval((low + high) / 2, low, high)) == words
    assert verdict_on(None) == "not measurable"


def test_skill_sentence_names_who_was_beaten():
    def metrics(*gains):
        versus = {
            name: {"direction_accuracy_gain": {"value": 0, "low": low, "high": 1}}
            for name, low in zip(("constant", "majority", "ridge"), gains, strict=True)
        }
        return Metrics.model_validate(example_metrics(versus=versus))

    assert skill_sentence(metrics(1, 1, 1)).endswith("better than constant, majority and ridge.")
    assert skill_sentence(metrics(1, 1, -1)).endswith("better than ridge; better than constant and majority.")
