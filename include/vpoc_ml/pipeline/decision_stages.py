"""Stages that decide about a candidate: first the rule, then a person where the settings ask for one.

``decision.json`` in the run's folder holds the newest decision and its state (``registry.decision.State``). A decision
holds against the champion it was made against: where another one took office since, it is made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from vpoc_ml.artifacts.metrics import Metrics, read_metrics
from vpoc_ml.errors import ApprovalError, ArtifactError, InputError
from vpoc_ml.pipeline.approval_text import approval_text
from vpoc_ml.pipeline.champion_stages import model_store, reigning
from vpoc_ml.pipeline.model_stages import evaluate
from vpoc_ml.pipeline.report_stage import write_evaluation_report
from vpoc_ml.pipeline.run import Result, Run, stage
from vpoc_ml.pipeline.stages import GATES
from vpoc_ml.registry import ledger as book
from vpoc_ml.registry import promotion
from vpoc_ml.registry.decision import DecisionState, remarks_of, state_of
from vpoc_ml.registry.promotion import Evidence
from vpoc_ml.registry.store import Champion, ModelStore


@stage
def decide(run: Run, now: datetime) -> Result:
    """Register the candidate and apply the promotion rule; nothing is promoted yet.

    A refusal and all its reasons go to the ledger. A candidate that waits for a person has ``evidence``, Markdown for
    whoever approves it. A past night is decided against the champion of then and leaves ledger and registry alone.
    """
    if run.as_of is not None:
        return _simulated(run, now)
    store = model_store(run.lake, run.model_key)
    store.recover(now)
    decision = _decided(run, store, now)
    if decision["state"] != DecisionState.WAITING:
        return decision
    write_evaluation_report(run)
    return decision | {"evidence": approval_text(run.name, decision, _metrics(run))}


@stage
def promote(run: Run, now: datetime) -> Result:
    """Promote the candidate if it was accepted and needs no approval; else return the decision as it stands."""
    decision = _stored(run)
    if run.as_of is not None:
        return decision
    return _settled(run, model_store(run.lake, run.model_key), decision, now)


@stage
def promote_by_hand(run: Run, now: datetime, reason: str) -> Result:
    """Decide anew about a candidate and promote it if the rule allows it; the rule is not overruled.

    The run of the reigning champion stays as it is, which ``note`` says.

    Raises:
        InputError: the reason is empty, or the run is of a past night.
    """
    if not reason.strip():
        raise InputError("Expected a reason for the promotion; was empty. Say why with --reason.")
    if run.as_of is not None:
        raise InputError(
            f"Expected a live run; run {run.name} is as of {run.as_of.isoformat()}, which is a simulation."
            " Promote a run of tonight."
        )
    store = model_store(run.lake, run.model_key)
    store.recover(now)
    decision = _decided(run, store, now, f"Requested by hand: {reason}")
    if "note" in decision:
        return decision
    return _published(run, _settled(run, store, decision, now))


@stage
def approve(run: Run, now: datetime, name: str, note: str = "", answered: datetime | None = None) -> Result:
    """Promote a candidate that waits for approval.

    If another champion took office since the decision, the rule decides again, and a candidate that it accepts again
    waits for an approval of the new evidence.

    Args:
        run: the run of the candidate.
        now: when, timezone-aware.
        name: who approves.
        note: why; goes to ledger and report.
        answered: when the person answered, timezone-aware; ``now`` when None.

    Raises:
        ApprovalError: the candidate does not wait for approval.
        InputError: the name is empty.
    """
    answer = _answer(run, "approved", name, note, answered or now)
    store = model_store(run.lake, run.model_key)
    return _published(run, _settled(run, store, answer | {"state": DecisionState.ACCEPTED}, now))


@stage
def reject(run: Run, now: datetime, name: str, note: str = "", answered: datetime | None = None) -> Result:
    """Reject a candidate that waits for approval; arguments and errors as for ``approve``."""
    store = model_store(run.lake, run.model_key)
    with _out_of_office(run, store, now):
        answer = _answer(run, "rejected", name, note, answered or now)
        store.reject(answer["version"], remarks_of(answer), now)
        decision = _write(run, answer | {"state": DecisionState.REJECTED})
    return _published(run, decision)


@stage
def expire(run: Run, now: datetime) -> Result:
    """Record that nobody answered in time for a candidate that waits for approval.

    Raises:
        ApprovalError: the candidate does not wait for approval.
    """
    text = f"Nobody approved or rejected it until {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
    approval = {"answer": "timeout", "name": None, "time": now.isoformat(), "note": "", "text": text}
    store = model_store(run.lake, run.model_key)
    with _out_of_office(run, store, now):
        answer = _waiting(run) | {"approval": approval}
        store.expire(answer["version"], remarks_of(answer), now)
        decision = _write(run, answer | {"state": DecisionState.EXPIRED})
    return _published(run, decision)


@contextmanager
def _out_of_office(run: Run, store: ModelStore, now: datetime) -> Iterator[None]:
    """Hold the registry while a waiting candidate is turned down; refuse where a killed approval has promoted it."""
    with store.locked():
        store.recover(now)
        champion = store.champion()
        if champion is not None and champion.version == _waiting(run)["version"]:
            raise ApprovalError(run.name, "the champion: its approval was interrupted; approve it again to complete it")
        yield


def _decided(run: Run, store: ModelStore, now: datetime, remark: str | None = None) -> Result:
    """Apply the rule, record the decision and, if it is a refusal, put it into the ledger."""
    champion = store.champion()
    verdict, metrics = _verdict(run, champion)
    version = store.log_run(
        run.folder,
        metrics=_headline(metrics),
        params=_flat(json.loads(run.config.to_json())),
        tags={"fingerprint": run.result("train")["fingerprint"], "config_hash": run.config.digest()},
    )
    if champion is not None and champion.version == version:
        return _in_office(run, store, version)
    asks = run.config.promotion.require_approval
    accepted = DecisionState.WAITING if asks else DecisionState.ACCEPTED
    state = accepted if verdict.promote else DecisionState.REFUSED
    decision = _decision(run, verdict, metrics, champion, state, now) | {"version": version, "remark": remark}
    if state == DecisionState.REFUSED:
        store.refuse(version, [*verdict.reasons, *remarks_of(decision)], now)
    return _write(run, decision)


def _simulated(run: Run, now: datetime) -> Result:
    champion = reigning(run)
    verdict, metrics = _verdict(run, champion)
    state = DecisionState.ACCEPTED if verdict.promote else DecisionState.REFUSED
    return _write(run, _decision(run, verdict, metrics, champion, state, now) | {"simulated": True})


def _verdict(run: Run, champion: Champion | None) -> tuple[promotion.PromotionDecision, Metrics]:
    """Return the rule's decision and the metrics; a run that was compared with another champion is evaluated again."""
    against = champion.version if champion else None
    if run.result("evaluate")["champion"] != against:
        evaluate(str(run.lake.root), run.name)
    metrics = _metrics(run)
    evidence = Evidence.of(
        metrics,
        fingerprint=run.result("train")["fingerprint"],
        champion_fingerprint=champion.fingerprint if champion else None,
        gate_failures=[gate for gate in GATES if not run.result(f"gate-{gate}")["passed"]],
    )
    return promotion.decide(evidence, run.config.promotion), metrics


def _decision(
    run: Run,
    verdict: promotion.PromotionDecision,
    metrics: Metrics,
    champion: Champion | None,
    state: DecisionState,
    now: datetime,
) -> Result:
    return {
        "key": str(run.model_key),
        "state": state,
        "simulated": False,
        **verdict.to_json(),
        "net": metrics.backtest.net,
        "version": None,
        "champion_before": champion.version if champion else None,
        "decided_at": now.isoformat(),
        "remark": None,
        "approval": None,
    }


def _in_office(run: Run, store: ModelStore, version: int) -> Result:
    """Return the decision that put ``version`` into office; one that was lost or overwritten is made of the ledger."""
    note = f"Version {version} of run {run.name} is the champion of {run.model_key} already: nothing was changed."
    stored = run.lake.read_json(_key(run))
    if stored is not None and state_of(stored) == DecisionState.PROMOTED:
        return {"key": str(run.model_key), **stored, "state": DecisionState.PROMOTED, "note": note}
    entries = [entry for entry in store.entries() if (entry.action, entry.version) == (book.PROMOTE, version)]
    known = {"key": str(run.model_key), "simulated": False, "checks": [], "champion_before": None, **(stored or {})}
    promoted = {
        "state": DecisionState.PROMOTED,
        "promote": True,
        "reasons": list(entries[-1].reasons),
        "version": version,
    }
    return {**_write(run, known | promoted), "note": note}


def _settled(run: Run, store: ModelStore, decision: Result, now: datetime) -> Result:
    """Promote an accepted candidate, once: a retry of what was killed halfway completes it."""
    while decision["state"] == DecisionState.ACCEPTED:
        with store.locked():
            store.recover(now)
            champion = store.champion()
            office = champion.version if champion else None
            if (known := _stored(run)["state"]) not in (DecisionState.WAITING, DecisionState.ACCEPTED):
                raise ApprovalError(run.name, known)  # somebody else has answered since
            if office in (decision["champion_before"], decision["version"]):
                store.promote(decision["version"], [*remarks_of(decision), *decision["reasons"]], now)
                return _write(run, decision | {"state": DecisionState.PROMOTED})
        changed = f"Decided again: the decision before was made against {_named(decision['champion_before'])}."
        decision = _decided(run, store, now, ". ".join([*remarks_of(decision), changed]))
    return decision


def _named(version: int | None) -> str:
    return "no champion" if version is None else f"version {version}"


def _answer(run: Run, answer: str, name: str, note: str, when: datetime) -> Result:
    if not name.strip():
        raise InputError("Expected the name of the person who answers; was empty. Say who with --as.")
    at = f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    text = f"{answer.capitalize()} by {name} at {at}{f': {note.strip()}' if note.strip() else ''}"
    approval = {"answer": answer, "name": name, "time": when.isoformat(), "note": note.strip(), "text": text}
    return _waiting(run) | {"approval": approval}


def _waiting(run: Run) -> Result:
    decision = _stored(run)
    if decision["state"] != DecisionState.WAITING:
        raise ApprovalError(run.name, decision["state"])
    return decision


def _stored(run: Run) -> Result:
    decision: Result | None = run.lake.read_json(_key(run))
    if decision is None:
        raise ArtifactError(run.uri("decision.json"), "the decision about the candidate", "none")
    return {**decision, "state": state_of(decision)}


def _write(run: Run, decision: Result) -> Result:
    run.lake.write_json(_key(run), decision)
    return decision


def _published(run: Run, decision: Result) -> Result:
    write_evaluation_report(run)
    return decision


def _key(run: Run) -> str:
    return f"{run.prefix}/decision.json"


def _metrics(run: Run) -> Metrics:
    return read_metrics(run.folder)


def _headline(metrics: Metrics) -> dict[str, float]:
    """Return the candidate's point estimates and the net result, for MLflow's charts."""
    values = {name: interval.value for name, interval in metrics.candidate if interval is not None}
    return {**values, "net": metrics.backtest.net}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
