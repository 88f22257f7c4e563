"""A run is named as RUN or with --run, in every command that takes one."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from vpoc_ml import cli, pipeline
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.run_summary import RunSummary
from vpoc_ml.artifacts.stage_results import DecisionResult, RecalledInputs, SeedsResult, StageResult
from vpoc_ml.errors import ArtifactError

SEEDS = {
    "stage": "seeds",
    "seeds": [1, 2],
    "validation_losses": {"1": 0.0201, "2": 0.0199},
    "spread": 0.0001,
    "best": "2",
    "correlations": {"1": 0.05, "2": 0.06},
    "mean_correlation": 0.07,
    "models": {"1": "seeds/1/best_model.json", "2": "seeds/2/best_model.json"},
}
NEED_A_RUN = {
    "seeds": ["--seed", "1"],
    "search": [],
    "promote": ["--reason", "r"],
    "approve": ["--as", "n"],
    "reject": ["--as", "n", "--note", "w"],
    "summary": [],
}
START_A_RUN = ["ingest", "gate-bars", "profile", "features", "gate-sessions", "gate-features", "gate-leakage"]
START_A_RUN += ["training-set", "gate-training-set", "train", "evaluate", "gate-candidate", "run"]


@pytest.fixture
def named(monkeypatch):
    """The runs that commands name to the pipeline."""
    names: list[str] = []
    decision = DecisionResult(
        state="promoted",
        promote=True,
        reasons=(),
        version=1,
        champion_before=None,
        remark=None,
        approval=None,
    )

    summary = RunSummary(
        run="night",
        preset="demo",
        config_hash="0",
        stages=(),
        gates=(),
        data=None,
        metrics=None,
        decision=None,
        unreadable=(),
        notes=(),
        lost=(),
        reports={},
    )

    def stand_in(result):
        return lambda lake, run, *args, **kwargs: names.append(run) or result

    for name in (
        "search",
        "analyze_features",
        "start_run",
        "run_until",
        "publish_reports",
        "score",
        "gate_predictions",
    ):
        monkeypatch.setattr(pipeline, name, stand_in(JsonArtifact()), raising=False)
    nothing = RecalledInputs(raw=None, vix=None, notes=())
    monkeypatch.setattr(pipeline, "recall_inputs", lambda *_: nothing, raising=False)
    for name in ("promote_by_hand", "approve", "reject"):
        monkeypatch.setattr(pipeline, name, stand_in(decision), raising=False)
    monkeypatch.setattr(pipeline, "summarize", stand_in(summary), raising=False)
    monkeypatch.setattr(pipeline, "train_seeds", stand_in(SeedsResult.model_validate(SEEDS)), raising=False)
    monkeypatch.setattr(pipeline, "evaluate", stand_in(StageResult(stage="evaluate")), raising=False)
    return names


@pytest.mark.parametrize("form", [["night"], ["--run", "night"], ["night", "--run", "night"]])
@pytest.mark.parametrize("command", [*NEED_A_RUN, *START_A_RUN])
def test_both_forms_name_the_run(named, command, form):
    answer = CliRunner().invoke(cli.app, [command, *form, *NEED_A_RUN.get(command, []), "--json"])
    assert answer.exit_code == 0, answer.output
    assert set(named) == {"night"}


@pytest.mark.parametrize("form", [["night"], ["--run", "night"]])
def test_report_takes_both_forms(named, form):
    assert CliRunner().invoke(cli.app, ["report", "features", *form]).exit_code == 0
    assert named == ["night"]


@pytest.mark.parametrize("command", ["ingest", "gate-bars", "features", "train", "evaluate", "run"])
def test_only_the_whole_run_checks_the_age_of_its_bars(monkeypatch, named, command):
    given = []
    monkeypatch.setattr(
        pipeline, "start_run", lambda *args, **_: given.append(args[3]) or JsonArtifact(), raising=False
    )
    assert CliRunner().invoke(cli.app, [command, "night", "--json"]).exit_code == 0
    assert given == [{} if command == "run" else {"quality.max_age_sessions": 10_000}]
    answer = CliRunner().invoke(cli.app, [command, "night", "-o", "quality.max_age_sessions=3", "--json"])
    assert (answer.exit_code, given[1]) == (0, {"quality.max_age_sessions": 3})


def test_a_run_may_come_before_the_flags_of_the_legacy_trainer(named):
    answer = CliRunner().invoke(cli.app, ["train", "night", "--hidden_dims", "16", "8", "--epochs", "3"])
    assert answer.exit_code == 0
    assert set(named) == {"night"}


@pytest.mark.parametrize("command", NEED_A_RUN)
def test_missing_and_contradicting_names_are_configuration_errors(named, command, monkeypatch, capsys):
    for arguments, words in ((["a", "--run", "b"], "Expected one run; was RUN 'a'"), ([], "Give it as RUN")):
        monkeypatch.setattr("sys.argv", ["vpoc-ml", command, *arguments, *NEED_A_RUN[command]])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert not named


def test_seeds_are_a_table_and_json_on_request(named):
    table = CliRunner().invoke(cli.app, ["seeds", "night", "--seed", "1", "--seed", "2"]).stdout
    assert "{" not in table
    for shown in ("*2", "0.019900", "0.0600", "rank correlation of the mean prediction 0.0700", "seeds/1/best_model"):
        assert shown in table
    as_json = CliRunner().invoke(cli.app, ["seeds", "night", "--seed", "1", "--json"]).stdout
    assert json.loads(as_json) == SEEDS


def test_summary_of_a_run_that_was_never_started_is_an_error(tmp_path):
    with pytest.raises(ArtifactError, match="nope: expected a started run"):
        pipeline.summarize(str(tmp_path), "nope")


def test_an_approved_champion_scores_and_its_predictions_are_validated(monkeypatch):
    called = []
    for name in ("approve", "score", "gate_predictions"):
        answer = SimpleNamespace(state="promoted")
        monkeypatch.setattr(
            pipeline, name, lambda *_, name=name, answer=answer: called.append(name) or answer, raising=False
        )
    monkeypatch.setattr(cli.output, "show_decision", lambda *_: None)
    assert CliRunner().invoke(cli.app, ["approve", "night", "--as", "anna"]).exit_code == 0
    assert called == ["approve", "score", "gate_predictions"]
