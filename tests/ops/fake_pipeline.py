"""A pipeline without work: every function of ``vpoc_ml.pipeline`` as the DAG calls it, recording its calls.

Lets the wiring be tested alone, and pins the names and arguments the DAG relies on.
"""

from __future__ import annotations

import json
import operator
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.evaluation.example_metrics import example_metrics

import vpoc_ml.pipeline as pipeline
from vpoc_ml import config
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.run_summary import RunSummary
from vpoc_ml.artifacts.studies import TrialRecord
from vpoc_ml.artifacts.training_progress import EpochRecord, OnProgress
from vpoc_ml.errors import GateFailedError, MissingInputError, TrainingUnstableError
from vpoc_ml.pipeline import stages

CONTRACTS = ["ESH25", "ESM25"]
FOLDS = ["ESH25", "ESM25"]
Result = dict[str, Any]
FAILURES: dict[str, tuple[str, Exception]] = {
    "gate": ("gate_features", GateFailedError("DATA GATE FAILED  features: 3 critical", {"passed": False})),
    "training": ("train", TrainingUnstableError("unstable with every fallback preset")),
    "input": ("plan_contracts", MissingInputError("/nowhere", "a folder of contract files", "Check the path.")),
    "program": ("evaluate", TypeError("a mistake in the program")),
}
STAGES = ("start_run", *(stage.function_name for stage in stages.STAGES), "publish_reports", "summarize")
"""Functions that a nightly run calls."""


class FakeResult(dict[str, Any]):
    """A result of a stage: its JSON, which ``to_json`` returns."""

    def to_json(self) -> Result:
        return dict(self)


class FakePipeline:
    """Records calls as ``(stage, args, kwargs)``; ``fail`` names one entry of ``FAILURES``."""

    def __init__(self, fail: str | None = None, contracts: list[str] | None = None) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.contracts = CONTRACTS if contracts is None else contracts
        self.state = "refused"
        failure: tuple[str | None, Exception | None] = FAILURES[fail] if fail else (None, None)
        self.fail_at, self.error = failure

    def stages(self) -> list[str]:
        return [stage for stage, _, _ in self.calls]

    def function(self, stage: str) -> Callable[..., JsonArtifact | FakeResult]:
        def run(lake: str, run: str, *args: Any, **kwargs: Any) -> JsonArtifact | FakeResult:
            self.calls.append((stage, args, kwargs))
            if stage == self.fail_at and self.error:
                raise self.error
            result = getattr(self, stage, lambda *_, **__: {"stage": stage})(Path(lake), run, *args, **kwargs)
            return result if isinstance(result, JsonArtifact) else FakeResult(result)

        run.__name__ = stage
        return run

    def start_run(
        self,
        lake: Path,
        run: str,
        preset: str,
        overrides: dict[str, Any],
        raw: str | None,
        vix: str | None,
        now: datetime,
        as_of: datetime | None = None,
    ) -> Result:
        resolved = config.resolve(preset, overrides)
        folder = lake / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(resolved.to_json())
        return {
            "run": run,
            "config_hash": resolved.digest(),
            "preset": preset,
            "config": json.loads(resolved.to_json()),
            "config_uri": str(folder / "config.json"),
        }

    def plan_contracts(self, lake: Path, run: str) -> Result:
        return {"contracts": self.contracts, "unreadable": [{"name": "notes.txt", "reason": "no bars"}]}

    def features_contract(self, lake: Path, run: str, contract: str) -> Result:
        return {"rows_in": 100, "rows_out": 100, "skipped": False, "reason": "new"}

    def features_successor(self, lake: Path, run: str, contract: str) -> Result:
        return {"successor": "ESM25", "rebuilt": ["ESM25"], "skipped": False}

    def build_training_set(self, lake: Path, run: str, contracts: list[str]) -> Result:
        for name in (layout.TRAINING_SET, layout.FEATURE_STATISTICS):
            (lake / "runs" / run / name).write_text("rows")
        return {"rows_in": 100, "rows_out": 100, "skipped": False, "reason": "new"}

    def plan_folds(self, lake: Path, run: str) -> Result:
        return {"folds": FOLDS}

    def train(self, lake: Path, run: str, *, on_progress: OnProgress) -> Result:
        checkpoints = lake / "runs" / run / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        (checkpoints / "step-000000000001.ckpt").touch()
        on_progress(EpochRecord(epoch=1, train_loss=0.02, validation_loss=0.03, best=True))
        return {"epochs": 1}

    def search(
        self,
        lake: Path,
        run: str,
        trials: int,
        vary: Sequence[str],
        seed: int,
        *,
        on_trial: Callable[[TrialRecord], None],
    ) -> Result:
        on_trial(TrialRecord(trial="fake", status="scored", value=0.0123, number=0, params={}, overrides=tuple(vary)))
        return {"finished": trials, "best": ["training.learning_rate=0.003"]}

    def decide(self, lake: Path, run: str, now: datetime) -> Result:
        reasons = ["rank IC's lower bound -0.01 is not above 0"]
        return {"state": self.state, "key": "ES-1m-rank", "reasons": reasons, "evidence": "| better | by 1 |"}

    promote = decide

    def publish_reports(self, lake: Path, run: str, now: datetime) -> Result:
        report = lake / "runs" / run / "report.html"
        report.write_text("<h1>report</h1>")
        return {"report": str(report)}

    def summarize(self, lake: Path, run: str) -> RunSummary:
        interval = {"value": 0.51, "low": 0.49, "high": 0.53}
        content = {
            "run": run,
            "preset": "nightly",
            "config_hash": "0" * 16,
            "data": None,
            "notes": (),
            "lost": (),
            "stages": [
                {
                    "stage": "ingest",
                    "contract": "ESH25",
                    "rows_in": 12345,
                    "rows_out": 12340,
                    "quarantined": 5,
                    "skipped": False,
                    "seconds": 0.1,
                    "error": None,
                    "reason": None,
                }
            ],
            "gates": [
                {
                    "gate": "bars",
                    "run": run,
                    "contracts": ["ESH25"],
                    "checks": 20,
                    "failures": [],
                    "report": "gates.html",
                    "data_docs": "bars.html",
                }
            ],
            "metrics": example_metrics(
                models={"candidate": {"direction_accuracy": interval, "rank_ic": None}},
                versus={"ridge": {"direction_accuracy_gain": interval}},
                backtest={"net": -512345.0, "net_per_session": None, "round_turn_cost": 2.5},
            ),
            "decision": {"promote": False, "reasons": ["rank IC's lower bound [low] -0.01 is not above 0"]},
            "reports": {"report": str(lake / "runs" / run / "report.html")},
            "unreadable": [{"name": "notes.txt", "reason": "no bars"}],
        }
        return RunSummary.model_validate(content)


def install(fake: FakePipeline, setitem: Callable[..., None] = operator.setitem) -> FakePipeline:
    """Put the fake's functions in place of the pipeline's, which load on demand; ``setitem`` may be a monkeypatch's."""
    for stage in pipeline.__all__:
        setitem(vars(pipeline), stage, fake.function(stage))
    return fake


def validate_quickly(setattribute: Callable[..., None]) -> None:
    """Validate params without checking their schemas anew each time: half of a fake run's time."""
    import jsonschema

    def validate(instance: Any, schema: Any, cls: Any = None, *arguments: Any, **options: Any) -> None:
        (cls or jsonschema.Draft202012Validator)(schema, *arguments, **options).validate(instance)

    setattribute(jsonschema, "validate", validate)


def wait_briefly(setattribute: Callable[..., None]) -> None:
    """Wait a twentieth of the time: ``dag.test`` waits a second for each level of tasks below a failed one."""
    sleep = time.sleep
    setattribute(time, "sleep", lambda seconds: sleep(seconds / 20))
