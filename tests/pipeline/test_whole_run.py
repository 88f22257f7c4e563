"""The whole path without Airflow: promoted where there is skill, refused where there is none, nothing lost."""

import json
import re
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from vpoc_ml import pipeline
from vpoc_ml.artifacts.lineage import Lineage
from vpoc_ml.artifacts.schemas import PREDICTIONS
from vpoc_ml.artifacts.sources import DeliveredFile
from vpoc_ml.cli import app
from vpoc_ml.errors import GateFailedError
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.models.bundle import load_model
from vpoc_ml.pipeline.champion_stages import model_store
from vpoc_ml.pipeline.run import open_run
from vpoc_ml.pipeline.stages import GATES, STAGES
from vpoc_ml.scoring.open_session import Bar
from vpoc_ml.scoring.predictions import predictions_of
from vpoc_ml.synthetic.generate import write_market

from .conftest import KEY, LEARNS, NOW

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
VOLUME_PROFILE = Path(__file__).resolve().parents[2] / "docs" / "concepts" / "volume-profile.md"
ARTIFACTS = {
    "best_model.safetensors",
    "best_model.json",
    "final_model.safetensors",
    "training_config.json",
    "feature_statistics.json",
    "metrics.json",
    "training_log.txt",
    "report.html",
    "monitoring_reference.json",
}


@pytest.fixture(scope="module")
def written():
    """The keys that each stage of the run ``first`` wrote, by the stage's name."""
    return {}


@pytest.fixture(scope="module")
def promoted(market, tmp_path_factory, written):
    """A lake in which one run on a market with a signal went from file to champion."""
    lake = str(tmp_path_factory.mktemp("lake"))
    storage, before = Lake(lake).storage, {}

    def note_keys(result):
        now = storage.version_tokens("")
        written.setdefault(result.stage, set()).update(key for key in now if before.get(key) != now[key])
        before.update(now)

    run_all(lake, "first", market, on_stage=note_keys)
    return lake


def run_all(lake, name, raw, overrides=None, on_stage=lambda result: None):
    pipeline.start_run(lake, name, "smoke", LEARNS | (overrides or {}), str(raw), None, NOW)
    pipeline.run_until(lake, name, STAGES[-1].name, NOW, on_stage=on_stage)
    pipeline.publish_reports(lake, name, NOW)
    return pipeline.summarize(lake, name)


def test_signal_is_promoted_with_every_artifact(promoted):
    summary = pipeline.summarize(promoted, "first")
    assert summary.decision.promote, summary.decision.reasons
    assert {path.name for path in (Lake(promoted).root / "runs" / "first").iterdir()} >= ARTIFACTS
    assert set(summary.reports) == {"evaluation", "gates", "data docs"}
    assert [gate.gate for gate in summary.gates if gate.passed] == list(GATES)
    monitoring = summary.gates[-1]
    assert (monitoring.version, len(monitoring.sessions)) == (1, 5)
    assert set(summary.metrics.models) == {"candidate", "constant", "majority", "last_sign", "ridge"}
    champion = model_store(Lake(promoted), KEY).champion()
    assert champion.run == "first"


@pytest.mark.parametrize(
    "stage",
    [stage for stage in STAGES if stage.name not in ("train-fold", "track-record")],
    ids=lambda stage: stage.name,
)
def test_the_table_of_stages_names_what_each_stage_writes(promoted, written, stage):
    patterns = [re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(each))) for each in stage.produces]
    keys = written[stage.name]
    absent = [pattern.pattern for pattern in patterns if not any(map(pattern.fullmatch, keys))]
    assert absent == [], "the table names what the stage did not write"
    tables = [key for key in keys if key.endswith(".parquet") and f"{key.removesuffix('.parquet')}.json" in keys]
    unnamed = [key for key in tables if not any(pattern.fullmatch(key) for pattern in patterns)]
    assert unnamed == [], "the stage wrote tables that the table of stages does not name"


def stored_scores(lake):
    (key,) = Lake(lake).keys("predictions")
    return key, Lake(lake).read_frame(key)


def test_scores_have_intervals_that_hold_what_they_state_and_few_rows_abstain(promoted):
    summary, (_, frame) = pipeline.summarize(promoted, "first"), stored_scores(promoted)
    assert frame.schema == pl.Schema(PREDICTIONS)
    scores = summary.scores
    assert (scores.rows_out, scores.added, scores.abstained) == (frame.height, frame.height, frame["abstained"].sum())
    assert scores.rows_in == frame.height + scores.quarantined
    assert scores.abstained < 0.02 * frame.height
    assert scores.coverage.rows > 5000
    assert abs(scores.coverage.share - 0.9) < 0.03
    assert (frame["low"] <= frame["prediction"]).all()
    assert (frame["low_ticks"] < frame["high_ticks"]).all()
    report = (Lake(promoted).root / "runs" / "first" / "report.html").read_text()
    assert "intervals for 90 % held" in report


def test_a_stored_score_stays_and_bars_without_one_are_added(promoted, tmp_path):
    lake = str(shutil.copytree(promoted, tmp_path / "lake"))
    key, frame = stored_scores(lake)
    before = Lake(lake).require_manifest(key)
    assert pipeline.score(lake, "first", NOW).skipped
    kept = frame[:-7].with_columns(prediction=pl.lit(0.123))
    older = BuildKey({**before.inputs, "features": "of an earlier night"}, before.config, before.code)
    Lake(lake).write_frame(key, kept, older, before.details)
    result = pipeline.score(lake, "first", NOW)
    assert (result.skipped, result.added, result.reason) == (False, 7, "inputs changed: features")
    assert stored_scores(lake)[1].equals(pl.concat([kept, frame[-7:]]))
    Lake(lake).write_frame(key, kept, BuildKey(before.inputs, before.config, "other code"), before.details)
    assert pipeline.score(lake, "first", NOW).added == frame.height
    assert stored_scores(lake)[1].equals(frame)


def test_score_needs_no_arguments_and_predictions_are_exported(promoted, tmp_path, monkeypatch):
    lake = str(shutil.copytree(promoted, tmp_path / "lake"))
    key, frame = stored_scores(lake)
    before = Lake(lake).require_manifest(key)
    older = BuildKey({**before.inputs, "features": "of an earlier night"}, before.config, before.code)
    Lake(lake).write_frame(key, frame[:-7], older, before.details)
    monkeypatch.setenv("VPOC_LAKE", lake)
    done = CliRunner().invoke(app, ["score", "--json"], catch_exceptions=False)
    result = json.loads(done.stdout)
    assert (done.exit_code, result["added"], result["rows_out"]) == (0, 7, frame.height)
    assert open_run(lake, "score").config == open_run(lake, "first").config
    csv = tmp_path / "scores.csv"
    assert CliRunner().invoke(app, ["predictions", "--csv", str(csv)], catch_exceptions=False).exit_code == 0
    exported = pl.read_csv(csv, schema_overrides={"direction": pl.Int8}, try_parse_dates=True)
    assert exported.columns == frame.columns
    assert exported["ts"].dt.replace_time_zone(None).to_list() == frame["ts"].dt.replace_time_zone(None).to_list()
    assert exported["prediction"].equals(frame["prediction"])
    refused = CliRunner().invoke(app, ["score", "-o", "quality.max_age_sessions=3"])
    assert isinstance(refused.exception, GateFailedError)
    assert "deliver newer bars" in str(refused.exception)


def test_bars_scored_one_by_one_have_the_stored_scores(promoted, tmp_path):
    lake = str(shutil.copytree(promoted, tmp_path / "lake"))
    _, frame = stored_scores(lake)
    bars, manifest = Lake(lake).load("bars/ES/ESH23.parquet")
    build_key = BuildKey(manifest.inputs, manifest.config, manifest.code)
    Lake(lake).write_frame("bars/ES/ESH23.parquet", bars[:-40], build_key, manifest.details)
    scorer = pipeline.live_scorer(lake)
    found = [scorer.update(Bar(*row)) for row in bars[-40:].select(Bar._fields).iter_rows()]
    assert found == list(predictions_of(frame[-40:]))


def test_old_vix_and_features_that_lag_the_bars_are_refused_with_what_to_do(promoted, tmp_path):
    lake = str(shutil.copytree(promoted, tmp_path / "lake"))
    vix, features = "vix/VIX.parquet", "features/ES/ESH23.parquet"

    def shorten(key, column, end):
        frame, manifest = Lake(lake).load(key)
        build_key = BuildKey(manifest.inputs, manifest.config, manifest.code)
        Lake(lake).write_frame(key, frame.filter(pl.col(column) < end), build_key)

    shorten(features, "ts", datetime(2023, 3, 17, 13, 25, tzinfo=UTC))
    result = pipeline.score(lake, "first", NOW)
    assert (result.refused, result.rows_out, result.version) == (True, 0, None)
    assert result.reason == (
        "not scored: the features of ESH23 end at 2023-03-17T13:24:00+00:00 and its bars end at"
        " 2023-03-17T13:29:00+00:00, scoring.max_feature_lag_minutes is 0; run vpoc-ml features or raise the setting"
    )
    shorten(vix, "date", date(2023, 3, 14))  # bars of 17 March lack the closes of the 14th, 15th and 16th
    assert pipeline.score(lake, "first", NOW).note == (
        "not scored: 3 sessions lie between the last VIX close, of 2023-03-13, and the newest bar's session,"
        " scoring.max_vix_age_sessions is 2; deliver a newer VIX file or raise the setting"
    )


def test_a_run_without_features_of_the_champion_scores_nothing_and_names_them(promoted, market, tmp_path):
    lake = str(shutil.copytree(promoted, tmp_path / "lake"))
    pipeline.start_run(lake, "without", "smoke", LEARNS | {"data.vix": "none"}, str(market), None, NOW)
    pipeline.run_until(lake, "without", "features", NOW)
    result = pipeline.score(lake, "without", NOW)
    assert (result.refused, result.rows_out) == (True, 0)
    assert result.reason.startswith(
        "not scored: the champion needs vix_lag1, vix_chg_5d, vrp, which this run does not compute; set data.vix,"
    )


def test_the_notebook_example_of_the_documentation_runs(promoted):
    (program,) = re.findall(r"```python\n(.*?)```", VOLUME_PROFILE.read_text(), re.DOTALL)
    names: dict = {}
    exec(program.replace('Lake("data/demo")', f"Lake({promoted!r})"), names)
    assert names["naked"].columns == ["session", "vpoc", "age"]
    assert names["week"].columns[-4:] == ["vpoc", "vah", "val", "va_volume"]
    assert {"low_tail", "high_tail", "single_print"} >= set(names["tails"]["kind"]) > set()
    assert set(names["nodes"]["kind"]) == {"hvn", "lvn"}
    assert min(names[name].height for name in ("naked", "week")) > 0


def test_summary_conserves_rows(promoted):
    rows = {(row.stage, row.contract): row for row in pipeline.summarize(promoted, "first").stages}
    ingest = rows["ingest", "ESH23"]
    assert ingest.rows_in == ingest.rows_out + ingest.quarantined
    assert rows["profile", "ESH23"].rows_in == ingest.rows_out
    assert rows["features", "ESH23"].rows_out == ingest.rows_out


def test_same_night_again_reuses_the_model_and_keeps_the_champion(promoted, market):
    summary = run_all(promoted, "second", market)
    stages = {(row.stage, row.contract): row.skipped for row in summary.stages}
    assert stages["train", None]
    assert stages["ingest", "ESH23"]
    assert not summary.decision.promote
    assert any("champion" in reason for reason in summary.decision.reasons)
    assert model_store(Lake(promoted), KEY).champion().run == "first"


def test_an_ensemble_passes_evaluation_and_registry_with_its_groups_and_trees(promoted, market):
    settings = {"training.epochs": 2, "model.members": 2, "model.hidden_dims": "16", "promotion.champion_margin": 1.0}
    settings |= {"evaluation.fold": "off"}
    pipeline.start_run(promoted, "groups", "ensemble", settings, str(market), None, NOW)
    pipeline.run_until(promoted, "groups", "promote", NOW)
    store = model_store(Lake(promoted), KEY)
    version = next(model.version for model in store.list_models() if model.run == "groups")
    stored = load_model(store.get(version).folder / "best_model.json")
    assert [part.name for part in stored.model_card.parts] == ["price", "volume", "volatility", "lightgbm"]
    run = Lake(promoted).root / "runs" / "groups"
    evaluated = pl.read_parquet(run / "training_set.parquet").filter(split="test", weight=1).sort("ts", "contract")
    reported = pl.read_parquet(run / "predictions.parquet")["candidate"].to_numpy()
    assert np.array_equal(stored.predict(evaluated.select(stored.features).to_numpy()), reported)


def test_failed_gate_stops_the_run_and_leaves_the_champion(promoted, market, tmp_path):
    before = model_store(Lake(promoted), KEY).champion()
    shutil.copytree(market, raw := tmp_path / "raw")
    prices = next(raw.glob("ES*.txt"))
    lines = prices.read_bytes().splitlines(keepends=True)
    prices.write_bytes(b"".join(line for number, line in enumerate(lines) if number % 3))  # every third minute is lost
    with pytest.raises(GateFailedError, match="ESH23") as caught:
        run_all(promoted, "third", raw)
    verdict = caught.value.verdict
    assert (verdict["gate"], verdict["passed"]) == ("bars", False)
    assert [failure["check"] for failure in verdict["failures"] if failure["severity"] == "critical"] == ["minutes"]
    pipeline.publish_reports(promoted, "third", NOW)
    summary = pipeline.summarize(promoted, "third")
    assert summary.reports.keys() >= {"gates", "data docs"}
    assert summary.to_json()["gates"][0]["critical"] >= 1
    assert not (Lake(promoted).root / "runs" / "third" / "training_set.parquet").exists()
    assert model_store(Lake(promoted), KEY).champion() == before


def test_martingale_is_refused_and_nothing_is_scored(tmp_path):
    raw, lake = tmp_path / "raw", str(tmp_path / "lake")
    write_market(raw, contracts=1, seed=7, mode="martingale")
    summary = run_all(lake, "night", raw)
    assert not summary.decision.promote
    assert any("rank IC" in reason for reason in summary.decision.reasons)
    assert model_store(Lake(lake), KEY).champion() is None
    ledger = [json.loads(line) for line in (Lake(lake).root / "registry" / "ledger.jsonl").read_text().splitlines()]
    assert [entry["action"] for entry in ledger] == ["candidate", "refuse"]


def test_rollback_needs_an_earlier_champion(promoted):
    from vpoc_ml.errors import InputError, RegistryError

    with pytest.raises(RegistryError):
        pipeline.rollback(promoted, "bad fills", NOW)
    with pytest.raises(InputError, match="reason"):
        pipeline.rollback(promoted, " ", NOW)


def test_verification_of_a_sound_lake_finds_no_problem_and_changes_nothing(promoted):
    before = Lake(promoted).storage.version_tokens("")
    found, store = pipeline.verify(promoted), model_store(Lake(promoted), KEY)
    assert found.problems == ()
    assert (found.versions, found.champions) == (len(store.list_models()), 1)
    assert found.entries == len(store.entries())
    assert found.artifacts == len(Lake(promoted).keys("")) - len(Lake(promoted).keys("registry"))
    assert before == Lake(promoted).storage.version_tokens("")


def test_the_record_of_a_version_leads_back_to_the_delivered_files(promoted, market):
    pipeline.start_run(promoted, "rebuilt", "smoke", LEARNS, str(market), None, NOW)
    pipeline.run_until(promoted, "rebuilt", "features", NOW)  # another test has built bars of a damaged delivery
    record = pipeline.model_record(promoted, 1)
    lineage, lake = record.lineage, Lake(promoted)
    assert {Path(file.path) for file in lineage.files} == {path for path in market.iterdir() if path.is_file()}
    assert all(file.sha256 == hash_file(Path(file.path)) for file in lineage.files)
    assert all(file.size == Path(file.path).stat().st_size for file in lineage.files)
    built = [*lineage.indices, lineage.roll, *lineage.contracts["ESH23"]]
    assert [each.key.partition("/")[0] for each in built] == [
        "vix",
        "roll",
        "bars",
        "sessions",
        "developing",
        "features",
    ]
    for each in built:
        manifest = lake.require_manifest(each.key)
        assert (each.sha256, each.inputs, each.code) == (manifest.sha256, manifest.inputs, manifest.code), each.key
    assert lineage.training_set.inputs["features/ESH23"] == built[-1].sha256
    assert lineage.weights_sha256 == record.description.weights_sha256
    before_training = list(GATES)[: list(GATES).index("training-set") + 1]
    assert [gate.gate for gate in lineage.gates if gate.passed] == before_training
    assert lineage.libraries["polars"] == pl.__version__
    assert record.ledger[0].action == "candidate"
    assert record.decision.version == 1
    shown = CliRunner().invoke(app, ["models", "show", "1", "--lake", promoted]).stdout
    for text in (lineage.files[0].path, lineage.roll.sha256[:16], lineage.fingerprint, "Ledger entry 1: candidate"):
        assert text in shown


def test_a_night_that_builds_nothing_has_the_same_lineage(promoted, market):
    first = pipeline.model_record(promoted, 1).lineage
    run_all(promoted, "again", market)
    again = Lineage.read(Path(promoted, "runs", "again", "lineage.json"), what="", remedy="")
    assert (again.run, again.trained_in) == ("again", "first")
    assert again.model_copy(update={"run": "first"}) == first
    written_before = Path(promoted, "runs", "first", "lineage.json").stat().st_mtime_ns
    pipeline.evaluate(promoted, "first")
    assert Path(promoted, "runs", "first", "lineage.json").stat().st_mtime_ns == written_before


@pytest.mark.parametrize(
    ("content", "sound"), [(b"one\ntwo\nthree\n", True), (b"one\nTwo\n", False), (b"one\n", False)]
)
def test_a_delivered_file_may_grow_but_not_change(promoted, tmp_path, monkeypatch, content, sound):
    path = tmp_path / "prices.txt"
    path.write_bytes(b"one\ntwo\n")
    delivered = DeliveredFile(path=str(path), size=8, sha256=hash_file(path))
    lineage = pipeline.model_record(promoted, 1).lineage.model_copy(update={"files": (delivered,)})
    monkeypatch.setattr("vpoc_ml.pipeline.verification.stored_lineage", lambda folder: lineage)
    path.write_bytes(content)
    assert [problem.place for problem in pipeline.verify(promoted).problems] == ([] if sound else [str(path)])


DAMAGE = {
    "features/ES/*.parquet": (lambda data: data[:-1] + b"!", "expected content"),
    "sessions/ES/*.parquet": (None, "expected the file that its manifest describes; found none"),
    "bars/ES/*.json": (lambda data: data.replace(b'"rows": ', b'"rows": 1'), "expected an intact manifest"),
    "leakage/proof.json": (lambda data: data[:-5], "expected JSON"),
    "registry/artifacts/*/artifacts/model/best_model.safetensors": (None, ": expected content"),
    "registry/artifacts/*/artifacts/model/metrics.json": (lambda data: data + b" ", ": expected content"),
    "registry/ledger.jsonl": (lambda data: data.replace(b"ES-1m", b"NQ-1m", 1), "The ledger was changed"),
    "registry/artifacts/*/artifacts/model/lineage.json": (
        lambda data: data.replace(b'"sha256": "', b'"sha256": "0', 1),
        ": expected content",
    ),
    "runs/first/stages/plan.json": (None, "expected the record of its raw files"),
    "runs/first/stages/plan.json ": (lambda data: data.replace(b"ES 03-23", b"ES 99-99"), "expected a raw file"),
}
"""What is done to the first file of a pattern (None: it is deleted), and what the verification finds."""


@pytest.mark.parametrize("pattern", DAMAGE)
def test_verification_names_what_was_damaged(promoted, monkeypatch, pattern):
    monkeypatch.setattr("vpoc_ml.pipeline.verification.PAUSE_SECONDS", 0.0)
    damage, expected = DAMAGE[pattern]
    path = min(Path(promoted).glob(pattern.strip()))
    sound = path.read_bytes()
    try:
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage(sound))
        assert path.exists() == (damage is not None)
        done = CliRunner().invoke(app, ["verify", "--lake", promoted])
    finally:
        path.write_bytes(sound)
    *problems, last = done.stdout.splitlines()
    assert done.exit_code == 1
    assert any(expected in line for line in problems), done.stdout
    assert last.startswith(f"{len(problems)} problem(s). Checked: ")
