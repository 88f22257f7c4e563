"""The gate against look-ahead in a lake: its proof is kept by build key, its sample is of the stored features."""

from __future__ import annotations

import json
import shutil

import polars as pl
import pytest

from vpoc_ml import config, pipeline
from vpoc_ml.artifacts.leakage_proof import LeakageProof, Skill, Violation
from vpoc_ml.errors import GateFailedError
from vpoc_ml.features.registry import FEATURE_NAMES
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.leakage.prove import CHECK_DESCRIPTIONS, config_for_proof
from vpoc_ml.pipeline import gate_stages
from vpoc_ml.pipeline.run import open_run

from .nights import H, M

pytestmark = pytest.mark.slow

ARTIFACT = "leakage/proof.json"
NEWEST = "ESM23"


def proof_of(**fields) -> LeakageProof:
    given = {"features": FEATURE_NAMES, "comparisons": dict.fromkeys(CHECK_DESCRIPTIONS, 7), "violations": ()}
    return LeakageProof(**(given | {"limit_t": 4.0} | fields))


SOUND = proof_of(skills={"rv_30": Skill(1.5, -2.5)})
LEAK = Violation("placebo", "rv_30", None, None, "|t| below 4", "t = 9.0", "Look for a value of the whole session.")
BROKEN = proof_of(violations=(LEAK,), skills={"rv_30": Skill(9.0, 0.0)})


class Prover:
    """Stands for the seconds of the real proof, which ``tests/leakage`` makes; counts how often it was asked."""

    def __init__(self) -> None:
        self.proof, self.requested = SOUND, 0

    def __call__(self, config) -> LeakageProof:
        self.requested += 1
        return self.proof


@pytest.fixture
def prover(monkeypatch, tmp_path) -> Prover:
    """A machine that has proved nothing yet."""
    monkeypatch.setenv("VPOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gate_stages, "KNOWN", {})
    prover = Prover()
    monkeypatch.setattr(gate_stages, "prove_code", prover)
    return prover


@pytest.fixture
def place(built, tmp_path):
    """A lake of two contracts after the data stages."""
    return shutil.copytree(built(H, M), tmp_path / "place")


def gate(place):
    return pipeline.gate_leakage(str(place / "lake"), "night", ["ESH23", NEWEST])


def test_gate_passes_and_leaves_proof_verdict_and_page(place, prover):
    result = gate(place)
    assert result.passed
    assert result.contracts == (NEWEST,)
    assert result.checks == len(CHECK_DESCRIPTIONS) + 3
    assert result.proof == "new"
    assert result.largest_t == {"feature": "rv_30", "t": 2.5}
    lake = Lake(place / "lake")
    assert lake.read_json(ARTIFACT)["build_key"]["features"] == ", ".join(FEATURE_NAMES)
    assert lake.read_json("runs/night/stages/gate-leakage.json")["passed"]
    page = (place / "lake" / "reports" / "runs" / "night" / "gates.html").read_text()
    assert 'id="leakage"' in page
    assert gate(place).proof == "unchanged"
    assert [one.gate for one in pipeline.summarize(str(place / "lake"), "night").gates] == ["leakage"]


def test_a_proof_is_made_once_for_a_build_key_on_a_machine(place, prover):
    lake, reason = Lake(place / "lake"), lambda: gate_stages.stored_proof(open_run(str(place / "lake"), "night"))[1]
    assert reason() == "new"
    assert reason() is None
    lake.storage.delete(ARTIFACT)
    assert reason() == "new"
    gate_stages.KNOWN.clear()
    lake.storage.delete(ARTIFACT)
    assert reason() == "new"  # in another process of the same machine
    assert prover.requested == 1


def test_changed_code_or_a_failed_proof_is_proved_again_and_says_why(place, prover):
    lake, reason = Lake(place / "lake"), lambda: gate_stages.stored_proof(open_run(str(place / "lake"), "night"))[1]
    reason()
    stored = lake.read_checksummed_json(ARTIFACT)
    lake.write_checksummed_json(
        ARTIFACT, stored | {"build_key": stored["build_key"] | {"code": "other", "libraries": "numpy 1"}}
    )
    assert reason() == "changed: code, libraries"
    lake.write_checksummed_json(ARTIFACT, BROKEN.to_json() | {"build_key": stored["build_key"]})
    assert reason() == "the stored proof failed"
    assert prover.requested == 1
    (file,) = (place.parent / "cache" / "proofs").glob("*.json")
    file.write_text("{")
    gate_stages.KNOWN.clear()
    lake.storage.delete(ARTIFACT)
    assert reason() == "new"
    assert prover.requested == 2


def test_a_violated_check_of_the_code_fails_the_run_and_is_not_cached(place, prover):
    prover.proof = BROKEN
    with pytest.raises(GateFailedError, match="rv_30: expected") as caught:
        gate(place)
    assert caught.value.exit_code == 3
    (failure,) = caught.value.verdict["failures"]
    assert (failure["check"], failure["severity"], failure["count"]) == ("proof_placebo", "critical", 1)
    prover.proof = SOUND
    assert gate(place).passed
    assert prover.requested == 2


def test_check_that_was_never_tested_is_broken(place, prover):
    prover.proof = SOUND.model_copy(update={"comparisons": SOUND.comparisons | {"rolls": 0}})
    with pytest.raises(GateFailedError, match="nothing was compared"):
        gate(place)


def test_stored_features_that_know_the_next_bar_fail_the_run(place, prover):
    lake = Lake(place / "lake")
    key = f"features/ES/{NEWEST}.parquet"
    frame, manifest = lake.load(key)
    build_key = BuildKey(manifest.inputs, manifest.config, manifest.code)
    lake.write_frame(key, frame.with_columns(pl.col("mom_15m").shift(-1)), build_key, manifest.details)
    with pytest.raises(GateFailedError) as caught:
        gate(place)
    failures = caught.value.verdict["failures"]
    assert {failure["check"] for failure in failures} == {"prefix", "future_perturbation", "chunks"}
    assert {failure["contract"] for failure in failures} == {NEWEST}
    assert all(failure["first"] and "mom_15m" in failure["note"] for failure in failures)


def test_proof_takes_the_run_s_settings_as_far_as_its_markets_hold(prover):
    requested = config.resolve(
        "nightly", {"dataset.min_sessions": 400, "dataset.horizon": "5m", "dataset.target": "binary"}
    )
    sized = config_for_proof(requested)
    assert (sized.dataset.min_sessions, str(sized.dataset.horizon), sized.dataset.target.kind) == (10, "5m", "binary")
    assert sized.profile == requested.profile


def test_command_prints_the_proof_and_its_exit_code_is_the_gate_s(prover):
    from typer.testing import CliRunner

    from vpoc_ml.cli import app

    good = CliRunner().invoke(app, ["leakage"])
    assert good.exit_code == 0
    assert "PASSED" in good.stdout
    prover.proof = BROKEN
    bad = CliRunner().invoke(app, ["leakage", "--json"])
    assert bad.exit_code == GateFailedError.exit_code
    assert json.loads(bad.stdout)["violations"][0]["feature"] == "rv_30"
    assert "rv_30" in CliRunner().invoke(app, ["leakage"]).stdout
