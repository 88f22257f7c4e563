"""From the rule's verdict to the promotion: who is asked, what is recorded, what a retry and a rival change.

The runs are evaluated ones without their data: what a decision reads, and nothing else.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.evaluation.example_metrics import example_metrics

from vpoc_ml import config, pipeline
from vpoc_ml.artifacts.decision import Decision
from vpoc_ml.artifacts.stage_results import ReproduceResult
from vpoc_ml.errors import ApprovalError, ArtifactError, ConfigError, InputError, InvalidValueError, RegistryError
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.pipeline import decision_stages as decisions
from vpoc_ml.pipeline.stages import GATES
from vpoc_ml.registry.mlflow_store import MlflowStore
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.registry.promotion import title_of, tone_of
from vpoc_ml.registry.registry import Registry
from vpoc_ml.registry.store import REQUIRED, ModelStore

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)
ES = ModelKey("ES", "1m", "rank")
GOOD = {"value": 0.02, "low": 0.01, "high": 0.03}
BAD = {"value": 0.0, "low": -0.01, "high": 0.01}
ASK = {"promotion.require_approval": True}


@pytest.fixture(scope="module")
def empty_registry(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("registry") / "registry"
    Registry.local(folder).entries()
    return folder


@pytest.fixture
def lake(empty_registry: Path, tmp_path: Path) -> Path:
    shutil.copytree(empty_registry, tmp_path / "lake" / "registry")
    return tmp_path / "lake"


@pytest.fixture(autouse=True)
def reports(monkeypatch) -> list[str]:
    """Names of the runs whose report was written again."""
    written: list[str] = []
    monkeypatch.setattr(decisions, "write_evaluation_report", lambda run: written.append(run.name))
    return written


@pytest.fixture(autouse=True)
def fresh_champion(monkeypatch) -> None:
    """The champions of these tests are files without content; none of them is old."""
    monkeypatch.setattr(decisions, "champion_age", lambda run, champion: 1)


@pytest.fixture(autouse=True)
def evaluated_again(monkeypatch) -> list[str]:
    """Names of the runs that were compared with another champion again."""
    again: list[str] = []

    def evaluate(lake: str, name: str) -> None:
        again.append(name)
        compare(Path(lake), name, gain=GOOD)

    monkeypatch.setattr(decisions, "evaluate", evaluate)
    return again


ROWS = {"rows_in": 1, "rows_out": 1, "skipped": False}


def metrics(gain: dict, champion_gain: dict | None) -> dict:
    names = ("constant", "majority", "last_sign", "ridge", *(["champion"] if champion_gain else []))
    gains = {"direction_accuracy_gain": gain, "huber_gain": gain, "rank_ic_gain": gain}
    versus = dict.fromkeys(names, gains)
    if champion_gain:
        versus["champion"] = gains | {"direction_accuracy_gain": champion_gain}
    comparison = {"measure": "rank IC", "sessions": 12, "mean": 0.02, "statistic": 3.0, "p_value": 0.01}
    comparison |= {"log_evidence": 1000.0 * gain["low"], "low": 0.1, "high": 0.5}
    return example_metrics(
        models={"candidate": {"rank_ic": gain, "direction_accuracy": gain}},
        evidence=dict.fromkeys(("skill", *names), comparison),
        versus=versus,
        backtest={"net": -1234.5},
    )


def compare(lake: Path, name: str, gain: dict) -> None:
    """Leave what stage evaluate leaves, compared with the current champion."""
    folder = lake / "runs" / name
    key = ModelKey.of_stored((folder / "config.json").read_text())
    champion = ModelStore.local(lake / "registry", key).champion()
    (folder / "metrics.json").write_text(json.dumps(metrics(gain, gain if champion else None)))
    record = {"stage": "evaluate", "champion": champion and champion.version, **ROWS, "metrics": "", "report": ""}
    (folder / "stages" / "evaluate.json").write_text(json.dumps(record))


def evaluated(lake: Path, name: str, overrides: dict | None = None, gain: dict = GOOD, as_of=None) -> str:
    settings = config.resolve("smoke", overrides or {})
    pipeline.start_run(str(lake), name, "smoke", overrides, None, None, NOW + timedelta(days=9), as_of=as_of)
    folder = lake / "runs" / name
    (folder / "stages").mkdir()
    for file in REQUIRED:
        (folder / file).write_text(f"{name} {file}")
    (folder / "config.json").write_text(settings.to_json())
    verdict = {"run": name, "contracts": [], "checks": 1, "failures": [], "report": ""}
    records = {f"gate-{gate}": {"stage": f"gate-{gate}", "gate": gate, **verdict} for gate in GATES}
    records["train"] = {"stage": "train", "fingerprint": name, "trained_in": name, **ROWS}
    for stage, record in records.items():
        (folder / "stages" / f"{stage}.json").write_text(json.dumps(record))
    compare(lake, name, gain)
    return name


def night(lake: Path, name: str, overrides: dict | None = None, gain: dict = GOOD, now: datetime = NOW) -> dict:
    evaluated(lake, name, overrides, gain)
    pipeline.decide(str(lake), name, now)
    return pipeline.promote(str(lake), name, now)


def ledger(lake: Path) -> list[tuple[str, str | None, int | None]]:
    """The decisions, without the entries about candidates."""
    entries = Registry.local(lake / "registry").entries()
    return [(entry.action, entry.key, entry.version) for entry in entries if entry.action != "candidate"]


def stored(lake: Path, name: str) -> dict:
    return json.loads((lake / "runs" / name / "decision.json").read_text())


def champion(lake: Path, key: ModelKey = ES) -> str | None:
    found = ModelStore.local(lake / "registry", key).champion()
    return found and found.run


def test_accepted_candidate_is_promoted_and_a_refused_one_is_recorded(lake, reports):
    assert night(lake, "first").state == "promoted"
    refused = night(lake, "second", gain=BAD)
    assert (refused.state, refused.champion_before, refused.net) == ("refused", 1, -1234.5)
    assert ledger(lake) == [("promote", "ES-1m-rank", 1), ("refuse", "ES-1m-rank", 2)]
    assert champion(lake) == "first"
    assert reports == []


def test_every_candidate_is_recorded_once_with_its_preset_and_who_decided(lake):
    night(lake, "first")
    pipeline.decide(str(lake), "first", NOW)  # a retry
    night(lake, "second", {"training.epochs": 3}, gain=BAD)
    night(lake, "third", ASK)
    pipeline.reject(str(lake), "third", NOW, "bob", "too costly")
    entries = Registry.local(lake / "registry").entries()
    candidates = [entry for entry in entries if entry.action == "candidate"]
    assert [entry.version for entry in candidates] == [1, 2, 3]
    assert candidates[0].preset == candidates[2].preset != candidates[1].preset
    assert candidates[0].reasons == ("Run first, preset smoke: 12 sessions, rank IC 0.0200 [0.0100, 0.0300].",)
    decisions = [(entry.action, entry.actor) for entry in entries if entry.action != "candidate"]
    assert decisions == [("promote", "promotion rule"), ("refuse", "promotion rule"), ("reject", "bob")]


def test_a_second_preset_needs_more_evidence_than_the_first(lake):
    night(lake, "first", gain=BAD)
    night(lake, "second", {"training.epochs": 3}, gain=BAD)
    reasons = stored(lake, "second")["reasons"]
    assert any("12 to 1 is required for preset 2 of this key: not enough evidence." in reason for reason in reasons)


@pytest.mark.parametrize(
    "overrides", [{"data.instrument": "NQ"}, {"dataset.horizon": "15m"}, {"dataset.target": "rank_gauss"}]
)
def test_run_of_another_key_is_never_compared_with_or_promoted_over_this_champion(lake, overrides):
    night(lake, "first")
    other = night(lake, "other", overrides)
    assert (other.state, other.champion_before) == ("promoted", None)
    assert champion(lake) == "first"
    assert champion(lake, ModelKey.of(config.resolve("smoke", overrides))) == "other"


def test_candidate_waits_until_somebody_approves_it(lake, reports):
    waiting = night(lake, "first", ASK)
    assert waiting.state == stored(lake, "first")["state"] == "waiting"
    assert (champion(lake), ledger(lake), reports) == (None, [], ["first"])
    later = NOW + timedelta(hours=8)
    approved = pipeline.approve(str(lake), "first", later, "anna", "costs are covered")
    assert approved.state == "promoted"
    assert champion(lake) == "first"
    answer = stored(lake, "first")["approval"]
    text = "Approved by anna at 2026-03-03 07:30 UTC: costs are covered"
    expected = {"answer": "approved", "name": "anna", "time": later.isoformat(), "note": "costs are covered"}
    assert answer == expected | {"text": text}
    assert text in Registry.local(lake / "registry").entries()[-1].reasons
    assert reports == ["first", "first"]


def test_evidence_shows_the_costs_the_gains_with_intervals_and_the_reasons(lake):
    night(lake, "first")
    evaluated(lake, "second", ASK)
    lines = pipeline.decide(str(lake), "second", NOW).evidence.splitlines()
    assert lines[0].startswith("Promote version 2 (run `second`) to champion of **ES-1m-rank**; in place of version 1")
    assert "**-1,234.50 dollars**" in lines[2]
    assert lines[6] == "| champion | 2.00 [1.00, 3.00] | 0.0200 [0.0100, 0.0300] | 0.020000 [0.010000, 0.030000] |"
    assert [line.split(" | ")[0] for line in lines[7:11]] == ["| constant", "| majority", "| last_sign", "| ridge"]
    assert any(line.startswith("* The rank IC is 0.0200 [0.0100, 0.0300]") for line in lines)


def test_rejection_is_in_ledger_decision_and_report(lake, reports):
    night(lake, "first", ASK)
    rejected = pipeline.reject(str(lake), "first", NOW, "bob", "too costly")
    assert (rejected.state, title_of(rejected)) == ("rejected", "Rejected by a person")
    assert ledger(lake) == [("reject", "ES-1m-rank", 1)]
    assert Registry.local(lake / "registry").entries()[-1].reasons == (
        "Rejected by bob at 2026-03-02 23:30 UTC: too costly",
    )
    assert (champion(lake), reports) == (None, ["first", "first"])


def test_timeout_is_recorded_as_such(lake):
    night(lake, "first", ASK)
    assert pipeline.expire(str(lake), "first", NOW).state == "expired"
    assert stored(lake, "first")["approval"]["answer"] == "timeout"
    assert ledger(lake) == [("expire", "ES-1m-rank", 1)]


@pytest.mark.parametrize(("overrides", "gain"), [({}, GOOD), (ASK, BAD)])
def test_answer_for_a_candidate_that_does_not_wait_changes_nothing(lake, overrides, gain):
    state = night(lake, "first", overrides, gain).state
    before = (ledger(lake), stored(lake, "first"), champion(lake))
    for answer in (pipeline.approve, pipeline.reject):
        with pytest.raises(ApprovalError, match=f"that of run first is {state}"):
            answer(str(lake), "first", NOW, "anna", "go")
    assert before == (ledger(lake), stored(lake, "first"), champion(lake))


def test_answer_needs_a_name(lake):
    night(lake, "first", ASK)
    with pytest.raises(InputError, match="--as"):
        pipeline.approve(str(lake), "first", NOW, " ")
    assert stored(lake, "first")["state"] == "waiting"


def test_approval_against_a_champion_that_was_replaced_is_requested_again(lake, evaluated_again):
    night(lake, "first", ASK)
    night(lake, "rival")
    again = pipeline.approve(str(lake), "first", NOW, "anna", "go")
    assert (again.state, again.champion_before) == ("waiting", 2)
    assert evaluated_again == ["first"]
    assert again.remark.startswith("Approved by anna at 2026-03-02 23:30 UTC: go. Decided again")
    assert champion(lake) == "rival"
    assert pipeline.approve(str(lake), "first", NOW, "anna", "still").state == "promoted"
    assert champion(lake) == "first"


def test_candidate_that_no_longer_beats_the_new_champion_is_refused_whoever_approved_it(lake, monkeypatch):
    night(lake, "first", ASK)
    night(lake, "rival")
    monkeypatch.setattr(decisions, "evaluate", lambda lake, name: compare(Path(lake), name, gain=BAD))
    assert pipeline.approve(str(lake), "first", NOW, "anna", "go").state == "refused"
    assert champion(lake) == "rival"
    assert "Approved by anna" in Registry.local(lake / "registry").entries()[-1].reasons[-1]


def test_rival_promoted_between_decision_and_promotion_makes_the_rule_decide_again(lake, evaluated_again):
    evaluated(lake, "first")
    pipeline.decide(str(lake), "first", NOW)
    night(lake, "rival")
    promoted = pipeline.promote(str(lake), "first", NOW)
    assert (promoted.state, promoted.champion_before, evaluated_again) == ("promoted", 2, ["first"])


def test_promotion_killed_before_its_record_is_completed_by_the_retry(lake, monkeypatch):
    evaluated(lake, "first")
    pipeline.decide(str(lake), "first", NOW)
    with monkeypatch.context() as patch:
        patch.setattr(decisions, "write_decision", lambda run, decision: (_ for _ in ()).throw(SystemExit(137)))
        with pytest.raises(SystemExit):
            pipeline.promote(str(lake), "first", NOW)
    assert (champion(lake), stored(lake, "first")["state"]) == ("first", "accepted")
    assert pipeline.promote(str(lake), "first", NOW).state == stored(lake, "first")["state"] == "promoted"
    assert ledger(lake) == [("promote", "ES-1m-rank", 1)]


@pytest.mark.parametrize("turned_down", ["reject", "expire"])
def test_approval_killed_before_its_record_can_be_completed_but_not_turned_down(lake, monkeypatch, turned_down):
    night(lake, "first", ASK)
    with monkeypatch.context() as patch:
        patch.setattr(decisions, "write_decision", lambda run, decision: (_ for _ in ()).throw(SystemExit(137)))
        with pytest.raises(SystemExit):
            pipeline.approve(str(lake), "first", NOW, "anna")
    assert (champion(lake), stored(lake, "first")["state"]) == ("first", "waiting")
    by = {"name": "bo"} if turned_down == "reject" else {}
    with pytest.raises(ApprovalError, match="is the champion: its approval was interrupted"):
        getattr(pipeline, turned_down)(str(lake), "first", NOW, **by)
    assert ledger(lake) == [("promote", "ES-1m-rank", 1)]
    assert pipeline.approve(str(lake), "first", NOW, "anna").state == "promoted"
    assert ledger(lake) == [("promote", "ES-1m-rank", 1)]


def test_of_two_answers_at_once_the_second_changes_nothing(lake, monkeypatch):
    night(lake, "first", ASK)
    settled = decisions.settled

    def rejected_meanwhile(*args):
        pipeline.reject(str(lake), "first", NOW, "bo", "no")
        return settled(*args)

    monkeypatch.setattr(decisions, "settled", rejected_meanwhile)
    with pytest.raises(ApprovalError, match="is rejected"):
        pipeline.approve(str(lake), "first", NOW, "anna")
    assert (champion(lake), stored(lake, "first")["state"]) == (None, "rejected")
    assert ledger(lake) == [("reject", "ES-1m-rank", 1)]


def test_promoting_the_champions_own_run_by_hand_changes_nothing_and_says_so(lake, reports):
    night(lake, "first")
    before = ((lake / "runs" / "first" / "decision.json").read_bytes(), ledger(lake))
    result = pipeline.promote_by_hand(str(lake), "first", NOW, "again")
    assert (result.state, result.promote) == ("promoted", True)
    assert "is the champion of ES-1m-rank already: nothing was changed" in result.note
    assert before == ((lake / "runs" / "first" / "decision.json").read_bytes(), ledger(lake))
    assert reports == []


def test_decision_of_the_champion_that_was_overwritten_is_restored_from_the_ledger(lake):
    reasons = list(night(lake, "first").reasons)
    old = {"promote": False, "reasons": ["already champion"], "checks": [], "version": 1, "approved_by": "hand: x"}
    (lake / "runs" / "first" / "decision.json").write_text(json.dumps(old))
    restored = pipeline.decide(str(lake), "first", NOW)
    assert (restored.state, restored.promote, list(restored.reasons)) == ("promoted", True, reasons)
    assert stored(lake, "first")["state"] == "promoted"


def test_decision_of_the_champion_by_an_earlier_version_is_kept_and_has_a_state(lake):
    night(lake, "first")
    path = lake / "runs" / "first" / "decision.json"
    path.write_text(json.dumps({"promote": True, "reasons": ["good"], "checks": [], "version": 1}))
    before = path.read_bytes()
    for again in (pipeline.decide(str(lake), "first", NOW), pipeline.promote_by_hand(str(lake), "first", NOW, "x")):
        assert (again.state, again.key, again.reasons) == ("promoted", "ES-1m-rank", ("good",))
    assert path.read_bytes() == before


def test_refusal_of_a_promotion_by_hand_names_who_requested_in_the_ledger_and_approves_nothing(lake, reports):
    night(lake, "first")
    evaluated(lake, "second", gain=BAD)
    refused = pipeline.promote_by_hand(str(lake), "second", NOW, "I like it")
    assert (refused.state, refused.approval) == ("refused", None)
    assert Registry.local(lake / "registry").entries()[-1].reasons[-1] == "Requested by hand: I like it"
    assert reports == ["second"]
    with pytest.raises(InputError, match="--reason"):
        pipeline.promote_by_hand(str(lake), "second", NOW, "")


def test_refusal_is_overridden_by_a_named_person_with_a_reason_and_marked_everywhere(lake, reports):
    night(lake, "first")
    evaluated(lake, "second", gain=BAD)
    with pytest.raises(InputError, match="--as"):
        pipeline.promote_by_hand(str(lake), "second", NOW, "the feed was wrong", override=True)
    done = pipeline.promote_by_hand(str(lake), "second", NOW, "the feed was wrong", name="anna", override=True)
    text = "Promoted by hand, against the promotion rule, by anna at 2026-03-02 23:30 UTC: the feed was wrong"
    assert (done.state, done.promote, done.remarks) == ("promoted", False, [text])
    assert (title_of(done), tone_of(done)) == ("Promoted by hand, against the promotion rule", "bad")
    assert (champion(lake), stored(lake, "second")["override"]["name"], reports) == ("second", "anna", ["second"])
    refusal, promotion = Registry.local(lake / "registry").entries()[-2:]
    assert (refusal.action, refusal.actor, promotion.action, promotion.actor) == (
        "refuse",
        "promotion rule",
        "promote",
        "anna",
    )
    assert refusal.reasons[-1] == "Requested by hand by anna: the feed was wrong"
    assert promotion.reasons == (text, *done.reasons)


def test_an_accepted_candidate_needs_no_override(lake):
    evaluated(lake, "first")
    done = pipeline.promote_by_hand(str(lake), "first", NOW, "now", name="anna", override=True)
    assert (done.state, done.override, done.remarks) == ("promoted", None, ["Requested by hand by anna: now"])
    assert Registry.local(lake / "registry").entries()[-1].actor == "promotion rule"


def test_a_failed_gate_cannot_be_overridden(lake):
    night(lake, "first")
    evaluated(lake, "second")
    path = lake / "runs" / "second" / "stages" / f"gate-{GATES[0]}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checks": 0}))  # nothing was checked
    done = pipeline.promote_by_hand(str(lake), "second", NOW, "I know", name="anna", override=True)
    assert (done.state, done.override, champion(lake)) == ("refused", None, "first")
    assert done.remark == "Requested by hand by anna: I know. The refusal stays: a failed gate cannot be overridden"


def test_an_override_that_is_killed_after_the_ledger_entry_is_completed_once(lake, monkeypatch):
    night(lake, "first")
    evaluated(lake, "second", gain=BAD)

    def killed(self, key, version):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowStore, "move_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.promote_by_hand(str(lake), "second", NOW, "needed", name="anna", override=True)
    assert (champion(lake), stored(lake, "second")["state"]) == ("first", "accepted")
    done = pipeline.promote_by_hand(str(lake), "second", NOW, "needed", name="anna", override=True)
    assert (done.state, done.promote, done.override.name, champion(lake)) == ("promoted", False, "anna", "second")
    assert [action for action, _, _ in ledger(lake)].count("promote") == 2


def test_past_night_is_decided_against_the_champion_of_then_and_changes_nothing(lake, evaluated_again):
    for day, name in enumerate(("first", "second", "third")):
        night(lake, name, now=NOW + timedelta(days=day))
    before = (ledger(lake), champion(lake), Registry.local(lake / "registry").models())
    evaluated(lake, "may", as_of=NOW + timedelta(days=1, hours=1))
    decided = pipeline.decide(str(lake), "may", NOW + timedelta(days=9))
    assert evaluated_again == ["may"]  # this double compares with today's champion, not with the one of then
    assert (decided.simulated, decided.state, decided.champion_before) == (True, "accepted", 2)
    assert title_of(decided) == "Simulated: would be promoted"
    assert pipeline.promote(str(lake), "may", NOW).simulated is stored(lake, "may")["simulated"] is True
    with pytest.raises(InputError, match="simulation"):
        pipeline.promote_by_hand(str(lake), "may", NOW, "please")
    assert before == (ledger(lake), champion(lake), Registry.local(lake / "registry").models())


def test_rollback_names_the_champion_and_needs_its_key_where_there_are_several(lake):
    with pytest.raises(RegistryError, match="no decision yet"):
        pipeline.rollback(str(lake), "drift", NOW)
    night(lake, "first")
    night(lake, "second")
    with pytest.raises(RegistryError, match="Expected version 1 as the champion to roll back; found 2"):
        pipeline.rollback(str(lake), "drift", NOW, expected=1)
    assert pipeline.rollback(str(lake), "drift", NOW, name="anna", expected=2).to_json() == {
        "key": "ES-1m-rank",
        "champion": 1,
        "run": "first",
        "reason": "drift",
    }
    assert Registry.local(lake / "registry").entries()[-1].actor == "anna"
    night(lake, "other", {"data.instrument": "NQ"})
    assert pipeline.run_of_version(str(lake), 3, "NQ-1m-rank") == "other"
    with pytest.raises(InvalidValueError, match="NQ-1m-rank, the key of version 3"):
        pipeline.run_of_version(str(lake), 3, "ES-1m-rank")
    with pytest.raises(ConfigError, match=r"the ledger has ES-1m-rank, NQ-1m-rank\. Name it with --key"):
        pipeline.rollback(str(lake), "drift", NOW)
    with pytest.raises(InvalidValueError, match="CL-1m-rank"):
        pipeline.rollback(str(lake), "drift", NOW, "CL-1m-rank")
    with pytest.raises(RegistryError, match="Expected a previous champion"):
        pipeline.rollback(str(lake), "drift", NOW, "NQ-1m-rank")
    assert (champion(lake), champion(lake, ModelKey("NQ", "1m", "rank"))) == ("first", "other")


@pytest.mark.parametrize(("promote", "state"), [(True, "Promoted"), (False, "Refused")])
def test_decision_of_an_earlier_version_is_shown_by_the_verdict_of_its_rule(promote, state):
    assert title_of(Decision.model_validate({"promote": promote, "reasons": []})) == state


@pytest.fixture
def command(lake, monkeypatch):
    """Call ``vpoc-ml`` on the lake; scoring and its gate, which need bars, are only noted in ``scored``."""
    from typer.testing import CliRunner

    from vpoc_ml.cli import app

    scored: list[str] = []
    monkeypatch.setitem(vars(pipeline), "score", lambda lake, run, now: scored.append(run))
    monkeypatch.setitem(vars(pipeline), "gate_predictions", lambda lake, run: scored.append(f"gate of {run}"))

    def call(*arguments: str):
        done = CliRunner().invoke(app, [*arguments, "--lake", str(lake)])
        done.scored = list(scored)
        return done

    return call


def test_command_promote_exits_1_on_a_refusal_and_0_where_nothing_is_to_do(lake, command):
    night(lake, "first")
    evaluated(lake, "second", gain=BAD)
    refused = command("promote", "second", "--reason", "I like it")
    assert (refused.exit_code, "REFUSED" in refused.stdout) == (1, True)
    forced = command("promote", "second", "--reason", "I like it", "--override", "--as", "bob")
    assert (forced.exit_code, "AGAINST THE PROMOTION RULE" in forced.stdout) == (0, True)
    assert command("rollback", "--reason", "bad fills", "--as", "bob").exit_code == 0
    assert Registry.local(lake / "registry").entries()[-1].actor == "bob"
    again = command("promote", "first", "--reason", "again")
    assert (again.exit_code, "nothing was changed" in again.stdout) == (0, True)


def test_command_approve_promotes_and_scores_and_reject_does_not(lake, command):
    night(lake, "first", ASK)
    rejected = command("reject", "first", "--as", "bob", "--note", "too costly")
    assert (rejected.exit_code, "Rejected by bob" in rejected.stdout, rejected.scored) == (0, True, [])
    night(lake, "second", ASK)
    approved = command("approve", "second", "--as", "anna", "--json")
    assert (approved.exit_code, json.loads(approved.stdout)["state"], approved.scored) == (
        0,
        "promoted",
        ["second", "gate of second"],
    )
    assert command("approve", "second", "--as", "anna").exception.exit_code == 1


SECOND = ReproduceResult(
    **ROWS, version=1, equal=True, registered_weights="", reproduced_weights="", differences=(), first_difference=None
)
DIFFERENT = {"equal": False, "first_difference": "best_model.safetensors, ridge[0]: was 1.0, is 2.0"}


@pytest.fixture
def trained_again(monkeypatch) -> list[str]:
    """Names of the runs that were trained a second time; a name with "other" gives other bits, "gone" none at all."""
    names: list[str] = []

    def reproduce(lake: str, name: str) -> ReproduceResult:
        names.append(name)
        if "gone" in name:
            raise ArtifactError("bars/ES/ESH23.parquet", "the bars of the run", "newer ones")
        weights = hash_file(Path(lake, "runs", name, "best_model.safetensors"))
        found = SECOND.model_copy(update={"registered_weights": weights, **(DIFFERENT if "other" in name else {})})
        Path(lake, "runs", name, "stages", "reproduce.json").write_text(json.dumps(found.to_json()))
        return found

    monkeypatch.setattr(decisions, "reproduce", reproduce)
    return names


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("same", "promoted", "A second training gave the same bits"),
        ("other", "refused", "A second training gave other bits: best_model.safetensors, ridge[0]: was 1.0, is 2.0."),
        ("gone", "refused", "The candidate was not trained a second time: "),
    ],
)
def test_a_candidate_is_trained_a_second_time_before_its_promotion(lake, trained_again, name, state, reason):
    assert night(lake, name, {"promotion.rerun": "always"}).state == state
    assert trained_again == [name]
    assert reason in Registry.local(lake / "registry").entries()[-1].reasons[-1]
    assert stored(lake, name)["checks"][-1]["name"] == "rerun"
    pipeline.decide(str(lake), name, NOW)
    assert trained_again == [name] * (1 if name == "same" else 2), "equal bits are not compared again"


def test_promotion_of_an_accepted_candidate_trains_nothing(lake, trained_again, evaluated_again):
    """The task that promotes needs no GPU, even if the champion has changed since the decision."""
    night(lake, "first", ASK | {"promotion.rerun": "always"})
    night(lake, "rival")
    assert pipeline.approve(str(lake), "first", NOW, "anna").state == "waiting"
    assert pipeline.approve(str(lake), "first", NOW, "anna").state == "promoted"
    assert trained_again == ["first"], "by the decision"


def test_only_what_could_be_promoted_is_trained_a_second_time(lake, trained_again):
    always = {"promotion.rerun": "always"}
    assert night(lake, "weak", always, gain=BAD).state == "refused"
    assert night(lake, "never").state == "promoted"
    evaluated(lake, "past", always, as_of=NOW + timedelta(days=1, hours=1))
    assert pipeline.decide(str(lake), "past", NOW).state == "accepted"
    assert trained_again == []
