"""Stages that decide about a candidate: first the promotion rule, then a person if the settings require approval.

``decision.json`` in the run's folder holds the newest decision. A decision is valid for the champion that the
candidate was compared with. If the champion has changed since, the rule decides again.

``approval_text`` is the evidence that a person reads before approving a promotion, as Markdown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.decision import Approval, Check, Decision, DecisionState, Override
from vpoc_ml.artifacts.metrics import Interval, Metrics, read_metrics
from vpoc_ml.artifacts.stage_results import (
    DecisionResult,
    EvaluateResult,
    GateResult,
    LiveResult,
    ReproduceResult,
    TrainResult,
)
from vpoc_ml.errors import ApprovalError, ArtifactError, InputError, MissingInputError, TrainingUnstableError
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.models.bundle import read_model_card
from vpoc_ml.pipeline.champion_stages import current_champion, model_store
from vpoc_ml.pipeline.fold_stages import labelled_sessions, preset_key
from vpoc_ml.pipeline.model_stages import evaluate
from vpoc_ml.pipeline.preset_selection import selection
from vpoc_ml.pipeline.report_stage import write_evaluation_report
from vpoc_ml.pipeline.reproduction import reproduce
from vpoc_ml.pipeline.run import Run, read_artifact, stage
from vpoc_ml.pipeline.stages import GATE, GATES, is_after
from vpoc_ml.registry import ledger, promotion
from vpoc_ml.registry.promotion import Evidence
from vpoc_ml.registry.store import WEIGHTS, Champion, ModelStore
from vpoc_ml.reports.nights import record_night

GAINS = (
    ("direction_accuracy_gain", "accuracy, points", 100, ".2f"),
    ("rank_ic_gain", "rank IC", 1, ".4f"),
    ("huber_gain", "Huber loss, lower by", 1, ".6f"),
)


@stage
def decide(run: Run, now: datetime) -> DecisionResult:
    """Register the candidate and apply the promotion rule; nothing is promoted yet.

    A candidate that meets every other condition is trained a second time, see ``promotion.rerun``. A refusal and all
    its reasons go to the ledger. A candidate that waits for approval has ``evidence``, Markdown for
    the person who approves. A run of a past night is compared with the champion of that time, is not trained a second
    time, and changes neither ledger nor registry.
    """
    if run.as_of is not None:
        champion = current_champion(run)
        metrics = _metrics(run, champion)
        entries = model_store(run.lake, run.model_key).entries()
        tried = [*ledger.presets_tried(entries, run.model_key, now), _preset(run, metrics)]
        verdict = _verdict(run, metrics, champion, tried)
        state = DecisionState.ACCEPTED if verdict.promote else DecisionState.REFUSED
        return write_decision(run, _decision(run, verdict, metrics, champion, state, now).replaced(simulated=True))
    store = model_store(run.lake, run.model_key)
    store.recover(now)
    decision = _decided(run, store, now)
    if decision.state != DecisionState.WAITING:
        return decision
    _publish(run, now)
    return decision.replaced(evidence=approval_text(run.name, decision, read_metrics(run.folder)))


@stage
def promote(run: Run, now: datetime) -> DecisionResult:
    """Promote the candidate if it was accepted and needs no approval; else return the stored decision."""
    decision = _stored(run)
    if run.as_of is not None:
        return decision
    return settled(run, model_store(run.lake, run.model_key), decision, now)


@stage
def promote_by_hand(
    run: Run, now: datetime, reason: str, name: str | None = None, override: bool = False
) -> DecisionResult:
    """Decide again about a candidate and promote it if the rule accepts it, or if a person overrides the rule.

    If the candidate is the champion already, nothing changes and ``note`` says so. A refusal by the rule goes to the
    ledger also if it is overridden.

    Args:
        run: the run of the candidate.
        now: when, timezone-aware.
        reason: for ledger and report.
        name: who requests it; required for an override.
        override: promote the candidate also if the rule refuses it. Failed gates cannot be overridden, and a required
            approval is still required of a candidate that the rule accepts.

    Raises:
        InputError: the reason is empty, an override has no name, or the run is of a past night.
    """
    name = (name or "").strip()
    if not reason.strip():
        raise InputError("Expected a reason for the promotion; was empty. Give one with --reason.")
    if override and not name:
        raise InputError("Expected the name of the person who overrides the rule; was empty. Give it with --as.")
    if run.as_of is not None:
        raise InputError(
            f"Expected a live run; run {run.name} is as of {run.as_of.isoformat()}, which is a simulation."
            " Promote a run of tonight."
        )
    store = model_store(run.lake, run.model_key)
    store.recover(now)
    decision = _decided(run, store, now, f"Requested by hand{f' by {name}' if name else ''}: {reason}")
    if decision.note is not None:
        return decision
    if override and decision.state == DecisionState.REFUSED:
        decision = _overridden(run, decision, name, reason.strip(), now)
    decision = settled(run, store, decision, now)
    _publish(run, now)
    return decision


@stage
def approve(run: Run, now: datetime, name: str, note: str = "", answered: datetime | None = None) -> DecisionResult:
    """Promote a candidate that waits for approval.

    If the champion has changed since the decision, the rule decides again, and a candidate that it accepts again
    waits for an approval of the new evidence.

    Args:
        run: the run of the candidate.
        now: when, timezone-aware.
        name: who approves.
        note: remark; goes to ledger and report.
        answered: when the person answered, timezone-aware; ``now`` when None.

    Raises:
        ApprovalError: the candidate does not wait for approval.
        InputError: the name is empty.
    """
    answer = _answer(run, "approved", name, note, answered or now)
    store = model_store(run.lake, run.model_key)
    decision = settled(run, store, answer.replaced(state=DecisionState.ACCEPTED), now)
    _publish(run, now)
    return decision


@stage
def reject(run: Run, now: datetime, name: str, note: str = "", answered: datetime | None = None) -> DecisionResult:
    """Reject a candidate that waits for approval; arguments and errors as for ``approve``."""
    store = model_store(run.lake, run.model_key)
    with _not_promoted(run, store, now):
        answer = _answer(run, "rejected", name, note, answered or now)
        store.reject(answer.candidate, answer.remarks, now, name)
        decision = write_decision(run, answer.replaced(state=DecisionState.REJECTED))
    _publish(run, now)
    return decision


@stage
def expire(run: Run, now: datetime) -> DecisionResult:
    """Record that nobody answered in time for a candidate that waits for approval.

    Raises:
        ApprovalError: the candidate does not wait for approval.
    """
    text = f"Nobody approved or rejected it until {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
    approval = Approval(answer="timeout", name=None, time=now.isoformat(), note="", text=text)
    store = model_store(run.lake, run.model_key)
    with _not_promoted(run, store, now):
        answer = _waiting(run).replaced(approval=approval)
        store.expire(answer.candidate, answer.remarks, now)
        decision = write_decision(run, answer.replaced(state=DecisionState.EXPIRED))
    _publish(run, now)
    return decision


def _publish(run: Run, now: datetime) -> None:
    """Write the report again, and the run's line in the table of all nights, after its decision has changed."""
    write_evaluation_report(run)
    record_night(run.lake, run.name, now)


def _overridden(run: Run, decision: DecisionResult, name: str, reason: str, now: datetime) -> DecisionResult:
    """Return a refused candidate as accepted by a person; with a failed gate it stays refused."""
    if _failed_gates(run):
        remark = f"{decision.remark}. The refusal stays: a failed gate cannot be overridden"
        return write_decision(run, decision.replaced(remark=remark))
    at = f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    text = f"{promotion.AGAINST_THE_RULE} by {name} at {at}: {reason}"
    person = Override(name=name, time=now.isoformat(), reason=reason, text=text)
    return write_decision(run, decision.replaced(state=DecisionState.ACCEPTED, remark=None, override=person))


def _failed_gates(run: Run) -> list[str]:
    before = [gate for gate in GATES if not is_after(GATE + gate, "decide")]
    return [gate for gate in before if not run.result(GATE + gate, GateResult).passed]


@contextmanager
def _not_promoted(run: Run, store: ModelStore, now: datetime) -> Iterator[None]:
    """Lock the registry while a waiting candidate is turned down; fail if a killed approval has promoted it."""
    with store.locked():
        store.recover(now)
        champion = store.champion()
        if champion is not None and champion.version == _waiting(run).version:
            raise ApprovalError(run.name, "the champion: its approval was interrupted; approve it again to complete it")
        yield


def _decided(run: Run, store: ModelStore, now: datetime, remark: str | None = None) -> DecisionResult:
    """Apply the rule, record the decision and, if it is a refusal, put it into the ledger."""
    champion = store.champion()
    metrics = _metrics(run, champion)
    preset = _preset(run, metrics)
    estimates = {name: interval.value for name, interval in metrics.candidate if interval is not None}
    settings = json.loads(run.config.to_json())
    params = {"preset": settings.pop("preset")}
    params |= {f"{section}.{name}": str(value) for section in settings for name, value in settings[section].items()}
    version = store.log_run(
        run.folder,
        metrics=estimates | {"net": metrics.backtest.net},
        params=params,
        tags={"fingerprint": run.result("train", TrainResult).fingerprint, "config_hash": run.config.digest()},
    )
    if champion is not None and champion.version == version:
        return _promoted_before(run, store, version)
    rank_ic = metrics.candidate.rank_ic
    shown = "not measurable" if rank_ic is None else f"{rank_ic.value:.4f} [{rank_ic.low:.4f}, {rank_ic.high:.4f}]"
    about = f"Run {run.name}, preset {run.config.preset}: {metrics.sessions} sessions, rank IC {shown}."
    tried = store.consider(version, preset, [about], now)
    verdict = _verdict(run, metrics, champion, list(tried))
    accepted = DecisionState.WAITING if run.config.promotion.require_approval else DecisionState.ACCEPTED
    state = accepted if verdict.promote else DecisionState.REFUSED
    decision = _decision(run, verdict, metrics, champion, state, now).replaced(
        version=version, remark=remark, selection=selection(store, tried, preset)
    )
    if state == DecisionState.REFUSED:
        store.refuse(version, [*verdict.reasons, *decision.remarks], now)
    return write_decision(run, decision)


def _metrics(run: Run, champion: Champion | None) -> Metrics:
    """Return the run's metrics; a run that was compared with another champion is evaluated again."""
    against = champion.version if champion else None
    if run.result("evaluate", EvaluateResult).champion != against:
        evaluate(str(run.lake.root), run.name)
    return read_metrics(run.folder)


def _preset(run: Run, metrics: Metrics) -> str:
    """Return the identity of the run's settings and code; a run without folds has none in its metrics."""
    return metrics.preset_key or preset_key(run.config)


def _verdict(
    run: Run, metrics: Metrics, champion: Champion | None, tried: Sequence[str]
) -> promotion.PromotionDecision:
    """Return the rule's decision; ``tried`` are the presets in the order of their first trial, the run's among them."""
    preset = _preset(run, metrics)
    live = run.result("live-record", LiveResult).records if run.has_result("live-record") else ()
    evidence = Evidence.of(
        metrics,
        fingerprint=run.result("train", TrainResult).fingerprint,
        presets=tried.index(preset) + 1,
        champion_fingerprint=champion.fingerprint if champion else None,
        champion_preset_key=read_metrics(champion.folder).preset_key if champion else None,
        champion_age=champion_age(run, champion) if champion else None,
        live=next((record for record in live if record.preset == preset), None),
        gate_failures=_failed_gates(run),
    )
    rules = run.config.promotion
    if run.as_of is not None:
        rules = rules.model_copy(update={"rerun": "never"})
    verdict = promotion.decide(evidence, rules)
    if not verdict.needs_rerun:
        return verdict
    try:
        evidence = replace(evidence, rerun=_second_training(run))
    except (ArtifactError, MissingInputError, TrainingUnstableError) as error:
        evidence = replace(evidence, rerun_failed=str(error))
    return promotion.decide(evidence, rules)


def _second_training(run: Run) -> ReproduceResult:
    """Return how a second training compares with the candidate; the one of an earlier decision if it was equal."""
    weights = hash_file(run.folder / WEIGHTS)
    if run.has_result("reproduce"):
        known = run.result("reproduce", ReproduceResult)
        if known.equal and known.registered_weights == weights:
            return known
    return reproduce(str(run.lake.root), run.name)


def champion_age(run: Run, champion: Champion) -> int:
    """Return the number of the run's sessions after the end of the champion's training data."""
    learned = read_model_card(champion.folder / layout.BEST_MODEL_CARD).learned_until().date()
    return sum(day.session > learned for day in labelled_sessions(run).sessions)


def _decision(
    run: Run,
    verdict: promotion.PromotionDecision,
    metrics: Metrics,
    champion: Champion | None,
    state: DecisionState,
    now: datetime,
) -> DecisionResult:
    return DecisionResult(
        key=str(run.model_key),
        state=state,
        promote=verdict.promote,
        reasons=verdict.reasons,
        checks=tuple(Check(name=each.name, passed=each.passed, text=each.text) for each in verdict.checks),
        net=metrics.backtest.net,
        version=None,
        champion_before=champion.version if champion else None,
        decided_at=now.isoformat(),
        remark=None,
        approval=None,
    )


def _promoted_before(run: Run, store: ModelStore, version: int) -> DecisionResult:
    """Return the decision that promoted ``version``; one that was lost or overwritten is restored from the ledger."""
    key = str(run.model_key)
    note = f"Version {version} of run {run.name} is the champion of {key} already: nothing was changed."
    stored = read_artifact(run.lake, layout.run_file(run.name, layout.DECISION), DecisionResult, "a decision")
    if stored is not None and stored.state == DecisionState.PROMOTED:
        return stored.replaced(key=stored.key or key, note=note)
    entries = [entry for entry in store.entries() if (entry.action, entry.version) == (ledger.PROMOTE, version)]
    if stored is None:
        stored = DecisionResult(
            key=key,
            state=DecisionState.PROMOTED,
            promote=True,
            reasons=(),
            version=version,
            champion_before=None,
            remark=None,
            approval=None,
        )
    restored = stored.replaced(
        key=stored.key or key,
        state=DecisionState.PROMOTED,
        promote=stored.override is None,
        reasons=tuple(entries[-1].reasons),
        version=version,
    )
    return write_decision(run, restored).replaced(note=note)


def settled(run: Run, store: ModelStore, decision: DecisionResult, now: datetime) -> DecisionResult:
    """Promote an accepted candidate, once: a retry after a kill completes the promotion."""
    while decision.state == DecisionState.ACCEPTED:
        with store.locked():
            store.recover(now)
            champion = store.champion()
            current = champion.version if champion else None
            if (known := _stored(run).state) not in (DecisionState.WAITING, DecisionState.ACCEPTED):
                raise ApprovalError(run.name, known)  # another process has answered since
            if current in (decision.champion_before, decision.version):
                reasons = [*decision.remarks, *decision.reasons]
                store.promote(decision.candidate, reasons, now, decision.person or ledger.RULE)
                return write_decision(run, decision.replaced(state=DecisionState.PROMOTED))
        before = decision.champion_before
        against = "no champion" if before is None else f"version {before}"
        changed = f"Decided again: the decision before was made against {against}."
        decision = _decided(run, store, now, ". ".join([*decision.remarks, changed]))
    return decision


def _answer(run: Run, answer: str, name: str, note: str, when: datetime) -> DecisionResult:
    """Return the waiting decision with a person's answer."""
    if not name.strip():
        raise InputError("Expected the name of the person who answers; was empty. Give it with --as.")
    at = f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    text = f"{answer.capitalize()} by {name} at {at}{f': {note.strip()}' if note.strip() else ''}"
    approval = Approval(answer=answer, name=name, time=when.isoformat(), note=note.strip(), text=text)
    return _waiting(run).replaced(approval=approval)


def _waiting(run: Run) -> DecisionResult:
    decision = _stored(run)
    if decision.state != DecisionState.WAITING:
        raise ApprovalError(run.name, decision.state)
    return decision


def _stored(run: Run) -> DecisionResult:
    decision = read_artifact(run.lake, layout.run_file(run.name, layout.DECISION), DecisionResult, "a decision")
    if decision is None:
        raise ArtifactError(run.uri(layout.DECISION), "the decision about the candidate", "none")
    return decision


def write_decision(run: Run, decision: DecisionResult) -> DecisionResult:
    """Store the decision without the fields that only its stage's result has."""
    content = Decision.model_validate(decision.to_json()).to_json()
    run.lake.write_json(layout.run_file(run.name, layout.DECISION), content)
    return decision


def approval_text(run: str, decision: Decision, metrics: Metrics) -> str:
    """Return the decision box: what would change, result after costs, gains with intervals, and the rule's reasons."""

    def dollars(value: float) -> str:
        return f"{value:,.2f} dollars"

    def cell(value: Interval | None, factor: float, form: str) -> str:
        if value is None:
            return "n/a"
        point, low, high = (format(factor * part, form) for part in (value.value, value.low, value.high))
        return f"{point} [{low}, {high}]"

    before = decision.champion_before
    instead = "there is no champion yet" if before is None else f"in place of version {before}"
    test = metrics.backtest
    period = f"{metrics.sessions} test sessions from {metrics.first[:10]} to {metrics.last[:10]}"
    costs = f"before costs {dollars(test.gross)}, {test.trades:,} round turns, {period}"
    rows = []
    for rival, gains in sorted(metrics.versus.items(), key=lambda item: item[0] != "champion"):
        cells = (cell(getattr(gains, name), factor, form) for name, _, factor, form in GAINS)
        rows.append(f"| {rival} | {' | '.join(cells)} |")
    confidence = f"{100 * metrics.confidence:g} %"
    return "\n".join(
        [
            f"Promote version {decision.version} (run `{run}`) to champion of **{decision.key}**; {instead}.",
            "",
            f"Result after costs: **{dollars(test.net)}** ({costs}).",
            "",
            f"| candidate against | {' | '.join(title for _, title, _, _ in GAINS)} |",
            f"|---|{'---|' * len(GAINS)}",
            *rows,
            "",
            f"Differences on the same rows with {confidence} intervals; above zero the candidate is better.",
            "",
            "The promotion rule accepts the candidate:",
            "",
            *(f"* {reason}" for reason in decision.reasons),
        ]
    )
