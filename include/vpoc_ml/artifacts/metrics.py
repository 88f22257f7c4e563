"""``metrics.json`` of a run: how the candidate, the baselines and the champion perform on the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from vpoc_ml.artifacts.json_artifact import JsonArtifact


def _finite_or_none(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


FiniteOrNone = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A number; None where it is NaN or infinite, which strict JSON cannot hold."""


@dataclass(frozen=True)
class Interval:
    """A value on all rows and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelMetrics(_Section):
    """Metrics of one model. None where a metric is undefined, such as the rank IC of a constant prediction."""

    direction_accuracy: Interval | None = None
    rank_ic: Interval | None = None
    huber: Interval | None = None
    mae: Interval | None = None


class Gains(_Section):
    """Gains of the candidate over another model on the same rows and resamples. Above zero the candidate is better."""

    direction_accuracy_gain: Interval | None = None
    rank_ic_gain: Interval | None = None
    huber_gain: Interval | None = None


class Comparison(_Section):
    """Session scores of the candidate minus those of a rival, or of a model without skill. Above 0 it is better.

    Attributes:
        measure: what a score is: ``rank IC``, ``Huber loss`` or ``direction accuracy``.
        sessions: sessions with a score.
        mean: mean score in units of the measure.
        statistic: of Diebold and Mariano; None without variance.
        p_value: of that test, two-sided, for a single look at the data.
        log_evidence: natural logarithm of the e-process against "not better". Valid on every night: it ever reaches
            log(1 / alpha) with a probability of at most alpha if the candidate is not better.
        low: lower bound of the mean score, in standard deviations of a session; valid on every night, 97.5 %.
        high: its upper bound.
    """

    measure: str
    sessions: int
    mean: FiniteOrNone
    statistic: FiniteOrNone
    p_value: FiniteOrNone
    log_evidence: float
    low: float
    high: float


class SessionResult(_Section):
    """Backtest result of one session, in dollars. ``session`` is an ISO date."""

    session: str
    gross: float
    net: float
    trades: int


class SessionGain(_Section):
    """A gain cumulated up to the end of a session. ``session`` is an ISO date."""

    session: str
    gain: float


class StressResult(_Section):
    """Backtest result at twice the costs, in dollars."""

    round_turn_cost: float
    net: float
    sharpe: Interval | None


class BacktestMetrics(_Section):
    """Backtest of the candidate with one contract, in dollars.

    Attributes:
        point_value: dollars per point.
        round_turn_cost: costs of opening and closing a position.
        trades: number of round turns.
        gross: result before costs.
        costs: sum of the costs.
        net: result after costs.
        net_per_session: mean net result per session.
        sharpe: annualised Sharpe ratio of the daily net results.
        sharpe_gross: the same before costs.
        max_drawdown: largest fall of the cumulated net result from a maximum.
        hit_rate: share of trades with a gross gain; None without trades.
        break_even_cost: cost of a round turn at which the net result is zero; None without trades.
        stress: result at twice the costs.
        daily: result of each session.
    """

    point_value: float
    round_turn_cost: float
    trades: int
    gross: float
    costs: float
    net: float
    net_per_session: Interval | None
    sharpe: Interval | None
    sharpe_gross: Interval | None
    max_drawdown: float
    hit_rate: float | None
    break_even_cost: float | None
    stress: StressResult
    daily: tuple[SessionResult, ...]


HoldingRule = Literal["none", "horizon", "reversal", "decay"]
"""When a position is left: when the label's horizon has passed since the last signal (``horizon``), when the expected
move exceeds the band on the other side (``reversal``), or when it falls below a share of the band (``decay``)."""

PolicyVerdict = Literal["tradeable", "predictive, not tradeable", "no evidence"]


class Policy(_Section):
    """When a forecast is traded. Moves are in ticks.

    Attributes:
        slope: expected ticks per unit of (score - zero rank), shrunk; 0: no forecast.
        slope_error: standard error of the unshrunk slope over sessions.
        band: expected move above which a position is opened; None: the policy does not trade.
        rule: when a position is left.
        keep: share of the band below which rule ``decay`` leaves.
        hold_minutes: how long rule ``horizon`` holds.
        score: mean net ticks a session minus two standard errors on the rows of the choice.
        sessions: sessions of the choice.
    """

    slope: float
    slope_error: float
    band: float | None
    rule: HoldingRule
    keep: float = 0.0
    hold_minutes: int = 1
    score: float = 0.0
    sessions: int


class CostResult(_Section):
    """Result of a policy at a multiple of the costs, in dollars; Sharpe ratio annualised from sessions."""

    multiple: float
    round_turn_cost: float
    net: float
    net_per_session: Interval | None
    sharpe: Interval | None
    max_drawdown: float


class RegimeResult(_Section):
    """Result of a policy in one regime, in dollars; ``net_per_session`` is per session of the evaluation."""

    kind: str
    name: str
    rows: int
    round_turns: float
    gross: float
    net: float
    net_per_session: Interval | None


class PolicyMetrics(_Section):
    """A policy with one contract, measured on rows after those it was chosen on; results in dollars.

    Attributes:
        policy: the policy.
        verdict: what the intervals allow to say.
        round_turns: positions opened and closed; a change of side counts as one.
        gross: result before costs.
        gross_per_session: mean result a session before costs.
        costs: results at 1, 2 and 3 times the costs.
        break_even_cost: cost of a round turn at which the net result is zero; None without trades.
        break_even_ticks: the same in ticks.
        turnover: round turns a session.
        exposure: share of the minutes with a position.
        regimes: results by volatility, trading hours, hour and contract.
        daily: result of each session at the full cost; ``trades`` are its round turns.
    """

    policy: Policy
    verdict: PolicyVerdict
    round_turns: int
    gross: float
    gross_per_session: Interval | None
    costs: tuple[CostResult, ...]
    break_even_cost: Interval | None
    break_even_ticks: float | None
    turnover: float
    exposure: float
    regimes: tuple[RegimeResult, ...]
    daily: tuple[SessionResult, ...]


class ValidationMetrics(_Section):
    """Metrics of one search trial on validation rows; ``net`` in dollars."""

    rank_ic: Interval | None
    direction_accuracy: Interval | None
    huber: Interval | None
    net: float
    sharpe: Interval | None


class CalibrationBin(_Section):
    """One bin of the prediction: rows, mean prediction, mean realised rank, and share of rises among moved rows."""

    rows: int
    prediction: FiniteOrNone
    realised: float
    up_share: float | None


class LabelSkill(_Section):
    """Skill of one model against the executable return and against the close-to-close return of the same rows.

    Attributes:
        executable: rank IC from the next open to the exit; None for a model without ranks.
        close: rank IC from the close of the decision bar to the same exit.
        bounce_share: 1 - executable / close, the share of the close-to-close rank IC that no order can reach. Most of
            it is bid-ask bounce. None unless the close-to-close rank IC is above 0.
    """

    executable: Interval | None = None
    close: Interval | None = None
    bounce_share: float | None = None


class DelaySkill(_Section):
    """Rank IC by model when the position is opened ``minutes`` later, with the holding time unchanged, on ``rows``."""

    minutes: int
    rows: int
    rank_ic: dict[str, float | None]


class Residuals(_Section):
    """Errors of the candidate on rows that it was not trained on: rank of the return minus prediction.

    Attributes:
        rows: rows they are of.
        tails: probabilities of an error below ``low`` and, as likely, above ``high``; ascending.
        low, high: order statistics of the errors, one for each tail: at least 1 - 2 x tail of new errors lie between
            them if they are exchangeable with these.
    """

    rows: int
    tails: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Metrics(JsonArtifact):
    """Metrics of a run on its test rows.

    Attributes:
        rows: evaluated rows; all have a label.
        sessions: sessions they belong to.
        first: timestamp of the first row, ISO 8601, UTC (``from`` in the file).
        last: timestamp of the last row (``to`` in the file).
        zero_return_share: share of rows with a return of zero.
        block: what the bootstrap resamples.
        huber_delta: delta of the Huber loss, in rank units.
        bootstrap_samples: number of resamples.
        confidence: level of all intervals.
        models: metrics by model: ``candidate``, each baseline, and ``champion`` if it was scored.
        versus: gains of the candidate over each other model.
        backtest: backtest of the candidate.
        calibration: deciles of the candidate's prediction.
        champion_unscored: the reason if there is a champion that was not scored.
        train_rows: labelled training rows.
        validation_rows: labelled validation rows.
        label: where the label begins, ``next_open`` or ``close``; files of the previous release: ``close``.
        label_skill: skill by model against both returns; empty in files of the previous release.
        entry_delays: skill by delay of the entry; empty in files of the previous release.
        policy: position policy of the candidate; None in files of the previous release, or with too few sessions.
        folds: folds of the track record that the metrics were computed on; 0: one split of the sessions.
        preset_key: identity of settings and code that the folds share; None for one split.
        champion_sessions: sessions on which candidate and champion were compared; None where they are all of them.
        residuals: errors of the candidate, from which intervals of its predictions follow; None in files of the
            previous release.
        evidence: session scores against a model without skill (``skill``), each baseline and the champion; empty in
            files of earlier versions.
    """

    rows: int
    sessions: int
    first: str = Field(alias="from")
    last: str = Field(alias="to")
    zero_return_share: float
    block: str
    huber_delta: float
    bootstrap_samples: int
    confidence: float
    models: dict[str, ModelMetrics]
    versus: dict[str, Gains]
    backtest: BacktestMetrics
    calibration: tuple[CalibrationBin, ...]
    champion_unscored: str | None
    train_rows: int
    validation_rows: int
    label: str = "close"
    label_skill: dict[str, LabelSkill] = Field(default_factory=dict)
    entry_delays: tuple[DelaySkill, ...] = ()
    policy: PolicyMetrics | None = None
    folds: int = 0
    preset_key: str | None = None
    champion_sessions: int | None = None
    residuals: Residuals | None = None
    evidence: dict[str, Comparison] = Field(default_factory=dict)

    @property
    def candidate(self) -> ModelMetrics:
        """Metrics of the candidate."""
        return self.models["candidate"]


def read_metrics(run_dir: Path) -> Metrics:
    """Read ``metrics.json`` of a run.

    Raises:
        MissingInputError: the run has not been evaluated.
        ArtifactError: the file holds something else.
    """
    return Metrics.read(run_dir / "metrics.json", what="the metrics of the run", remedy="Evaluate the run first.")
