"""Sentences of the reports that follow from the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vpoc_ml.artifacts.metrics import BacktestMetrics, Interval, Metrics, PolicyMetrics
from vpoc_ml.artifacts.stage_results import LiveRecord, ScoreResult
from vpoc_ml.artifacts.track_record import TrackRecord
from vpoc_ml.artifacts.training_progress import ProgressRecord, split_records
from vpoc_ml.registry.promotion import odds
from vpoc_ml.reports.schedule import WaitingTraining

NEAR = 0.005
"""Share of the constant's loss within which a loss counts as near it."""
CONTAINS_ZERO = "interval contains zero: no evidence of skill"

FADED = math.log(250)
"""Log of the e-detector from which on a signal counts as fading; a false alarm comes once in 250 sessions or less."""


def waits_for(waiting: WaitingTraining) -> str:
    """Return what a training waits for."""
    if not waiting.queued:
        return f"a slot of pool {waiting.pool}"
    if "KubernetesExecutor" in waiting.executor:
        return "its pod to start"
    return f"a worker of queue {waiting.queue}"


def waiting_advice(waiting: WaitingTraining) -> str:
    """Return what is known of the reason for which a training waits, and what to do about it."""
    pool, queue = waiting.pool, waiting.queue
    if not waiting.queued:
        if waiting.slots is None:
            return (
                f"There is no pool {pool}. `airflow pools set {pool} 1 trainings` makes it, with one slot for each GPU."
            )
        free, slots = waiting.slots
        if not free:
            return "No slot of the pool is free: it starts when another training ends."
        return f"{free:g} of {slots:g} slots of the pool are free: check that the scheduler is alive."
    if "KubernetesExecutor" in waiting.executor:
        return "`kubectl get pods` and `kubectl describe pod` show what its pod lacks, such as a free GPU."
    if "CeleryExecutor" not in waiting.executor:
        return f"The executor {waiting.executor} has not started it: check that the scheduler is alive."
    check = "`docker compose ps worker-rocm`, or `kubectl get pods`, shows its state."
    if waiting.worker is None:
        return f"It is not known whether a worker of this queue is alive: nobody answered in time. {check}"
    if not waiting.worker:
        return f"No living worker serves queue {queue}. Start one, such as `docker compose up -d worker-rocm`. {check}"
    return f"A worker of queue {queue} is alive: it is busy with other tasks, or takes this one in a moment."


def after_costs(backtest: BacktestMetrics, rank_ic: Interval | None) -> str:
    """Return whether the candidate predicts, whether its trades pay their costs, and the net result in dollars.

    "Predictive": the interval of the rank IC lies above zero. "Tradeable": that of the net result a session does.
    """
    predictive = rank_ic is not None and rank_ic.low > 0
    session = backtest.net_per_session
    if session is not None and session.low > 0:
        words = "predictive and tradeable" if predictive else "profitable, skill not shown"
    elif backtest.net > 0:
        words = f"{'predictive' if predictive else 'skill not shown'}, profit within chance"
    else:
        words = "predictive, not tradeable" if predictive else "neither predictive nor tradeable"
    return f"{words}: net {money(backtest.net)} at ${backtest.round_turn_cost:,.2f} a round turn"


def scores_sentence(result: ScoreResult) -> str:
    """Return how many bars the champion has scored, on how many it abstained, and what its intervals held."""
    if result.version is None:
        return result.note or "nothing was scored"
    text = f"version {result.version} has no bar to score yet: none is newer than its training data"
    if result.rows_out:
        text = (
            f"version {result.version} has scored {result.rows_out:,} bars, {result.added:,} of them new;"
            f" {100 * result.abstained / result.rows_out:.2f} % have no direction, because they are unlike the training"
            " rows"
        )
    coverage = result.coverage
    if result.stated_coverage is None or coverage is None:
        return f"{text}; no interval has met a known return yet"
    track = f", {coverage.track_sessions} of them in its track record" if coverage.track_sessions else ""
    return (
        f"{text}; intervals for {100 * result.stated_coverage:g} % held {100 * coverage.share:.1f} % of"
        f" {coverage.rows:,} returns in {coverage.sessions} sessions{track}"
    )


def policy_sentence(policy: PolicyMetrics) -> str:
    """Return the verdict on the position policy and the numbers it rests on."""
    verdict = f"{policy.verdict[0].upper()}{policy.verdict[1:]}"
    if policy.policy.band is None:
        return (
            f"{verdict}: on the rows of the choice no band and holding rule earned its costs beyond noise, so the"
            " policy does not trade."
        )
    session = policy.costs[0].net_per_session
    bounds = f" [{money(session.low)}, {money(session.high)}]" if session else ""
    net = f"{money(session.value)}{bounds}" if session else money(policy.costs[0].net)
    return (
        f"{verdict}: the position policy earns {net} a session net of ${policy.costs[0].round_turn_cost:,.2f} a round"
        f" turn, and {money(policy.costs[1].net)} in all at twice the costs."
    )


def policy_rule(policy: PolicyMetrics) -> str:
    """Return in words when the policy trades and when it leaves a position."""
    chosen = policy.policy
    if chosen.band is None:
        return "No trade."
    leave = {
        "horizon": f"after {chosen.hold_minutes} min without a new signal",
        "reversal": "when the expected move exceeds the band on the other side",
        "decay": f"when the expected move falls below {chosen.keep * chosen.band:.2f} ticks",
    }[chosen.rule]
    return f"Enter where the expected move exceeds {chosen.band:.2f} ticks; leave {leave} or at the end of the session."


def money(dollars: float) -> str:
    """Return whole dollars with their sign before the currency: -$512,345."""
    return f"{'-' if round(dollars) < 0 else ''}${abs(dollars):,.0f}"


def loss_sentence(progress: Sequence[ProgressRecord]) -> str:
    """Return how the best validation loss compares with the loss of the best constant, and what that means."""
    _, epochs = split_records(progress)
    finite = [epoch for epoch in epochs if epoch.validation_loss is not None]
    if not finite or not (constant := finite[-1].validation_constant):
        return "No epoch ended with a finite validation loss."
    share = min(epoch.validation_loss for epoch in finite if epoch.validation_loss is not None) / constant - 1
    distance = f"The best validation loss is {abs(share):.2%} {'below' if share < 0 else 'above'} the constant's"
    if share > NEAR:
        return f"{distance}: the net is worse than one number. Lower the learning rate or take a smaller net."
    if share < -NEAR:
        return f"{distance}."
    return (
        f"{distance}. A loss near the constant's is normal at this horizon: even a model with real skill lowers it by"
        " a fraction of a percent."
    )


def verdict_on(gain: Interval | None) -> str:
    """Return the conclusion that an interval of a gain allows: better, worse, or no evidence."""
    if gain is None:
        return "not measurable"
    if gain.low > 0:
        return "better"
    return "worse" if gain.high < 0 else CONTAINS_ZERO


def track_sentence(track: TrackRecord) -> str:
    """Return how long the track record is, in how many folds the candidate ranked well, and what is unknown."""
    ranked = [each.models["candidate"].rank_ic for each in track.folds if each.models]
    above = sum(ic is not None and ic.value > 0 for ic in ranked)
    folds = f"{len(track.folds)} fold{'s' if len(track.folds) != 1 else ''}"
    return (
        f"How sure are we: the track record has {track.sessions} sessions in {folds}; the rank IC was above zero in"
        f" {above} of {len(ranked)}. Sessions are the unit of evidence. Few folds of one market regime say little about"
        " another regime."
    )


def skill_sentence(metrics: Metrics) -> str:
    """Return one sentence on whether the candidate showed skill on the test rows."""
    beaten = [name for name, gains in metrics.versus.items() if verdict_on(gains.direction_accuracy_gain) == "better"]
    unbeaten = [name for name in metrics.versus if name not in beaten]
    rank = f"The rank IC is {verdict_text(metrics.candidate.rank_ic)}"
    if not unbeaten:
        return f"{rank}. In direction the candidate is better than {_listed(beaten)}."
    also = f"; better than {_listed(beaten)}" if beaten else ""
    return f"{rank}. In direction there is no evidence that the candidate is better than {_listed(unbeaten)}{also}."


def live_sentence(record: LiveRecord) -> str:
    """Return what the live record of a preset says, and what to do where its signal fades."""
    who = f"{'Champion' if record.champion else 'Challenger'} preset {record.preset[:8]} (version {record.version})"
    if record.rank_ic is None:
        return f"{who} has no live session with a rank IC yet."
    track = "" if record.track_rank_ic is None else f" ({record.track_rank_ic:.4f} on the track record)"
    text = (
        f"{who}: {record.sessions} live sessions since {record.since}, mean rank IC {record.rank_ic:.4f}{track};"
        f" evidence above zero {odds(record.log_for)}, below zero {odds(record.log_against)}"
    )
    if record.log_fading is None:
        return f"{text}."
    text = f"{text}, below half of the track record's {odds(record.log_fading)}."
    if record.log_fading < FADED:
        return text
    return (
        f"{text} The signal fades. Compare the features of the newest sessions with those of training, and stop trading"
        " or roll back until the next promotion."
    )


def bounce_sentence(metrics: Metrics) -> str:
    """Return one sentence on the share of the candidate's close-to-close skill that no order can reach."""
    skill = metrics.label_skill.get("candidate")
    if skill is None or skill.executable is None or skill.bounce_share is None:
        return "The candidate shows no close-to-close skill of which a share could be bid-ask bounce."
    if skill.bounce_share <= 0:
        return "None of the candidate's close-to-close rank IC is lost by an entry at the next open."
    return (
        f"{min(skill.bounce_share, 1.0):.0%} of the candidate's close-to-close rank IC is lost by an entry at the next"
        " open. Most of that share is bid-ask bounce, which no order can earn."
    )


def verdict_text(ic: Interval | None) -> str:
    """Return a rank IC with its interval and the conclusion that the interval allows."""
    if ic is None:
        return "not measurable: the predictions do not vary"
    words = {"better": "above zero", "worse": "below zero: the model is wrong more often than right"}
    verdict = verdict_on(ic)
    return f"{ic.value:.4f} [{ic.low:.4f}, {ic.high:.4f}], {words.get(verdict, verdict)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
