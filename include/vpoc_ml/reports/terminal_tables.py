"""Tables that commands print to the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from textwrap import fill
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vpoc_ml.artifacts.decision import DecisionState
from vpoc_ml.artifacts.leakage_proof import LeakageProof
from vpoc_ml.artifacts.lineage import Lineage, ModelRecord
from vpoc_ml.artifacts.model_card import ModelSummary
from vpoc_ml.artifacts.run_summary import DataAge, RunSummary
from vpoc_ml.artifacts.stage_results import DecisionResult, SeedsResult
from vpoc_ml.registry.promotion import title_of, tone_of
from vpoc_ml.reports.run_state import FailureRecord
from vpoc_ml.reports.sentences import after_costs, scores_sentence

if TYPE_CHECKING:
    from vpoc_ml.reports.session_chart import SessionData

_TEXT = (
    "stage",
    "contract",
    "gate",
    "check",
    "name",
    "reason",
    "model",
    "baseline",
    "settings",
    "code",
    "train",
    "validation",
    "test",
    "time",
    "action",
    "actor",
)
PARTS = {"": "session", "rth_": "RTH", "overnight_": "overnight"}
"""Prefix of the columns of each part of a session, and its name."""
PRICES = ("open", "high", "low", "close", "vpoc", "vah", "val")
VOLUMES = ("volume", "va_volume", "bars")
_METRICS = ("direction_accuracy", "rank_ic", "huber", "mae")
_DIGITS = {"huber": 5, "huber_gain": 6}


def render(console: Console, summary: RunSummary, *, paths: bool = True) -> None:
    """Print the sections of a run's summary that are not empty.

    These are stages, gates, unreadable files, notes, losses and steps at rolls, rows lost to warm-ups, scores, age of
    the bars, metrics, decision and, with ``paths``, reports.
    """
    content: Mapping[str, Any] = summary.to_json()
    tables = (
        ("Stages", ("stage", "contract", "rows_in", "rows_out", "quarantined", "seconds", "reason"), "stages"),
        ("Gates", ("gate", "passed", "critical", "warning", "checks"), "gates"),
        ("Unreadable files", ("name", "reason"), "unreadable"),
    )
    for title, columns, key in tables:
        if rows := content[key]:
            _print_table(console, title, columns, ([_cell(row.get(name)) for name in columns] for row in rows))
    texts = (
        ("Set apart", summary.notes),
        ("Lost at rolls", summary.lost),
        ("Steps at rolls that were not measured", summary.steps),
        ("Lost to warm-ups", summary.lost_rows),
        ("Scores", (scores_sentence(summary.scores),) if summary.scores else ()),
    )
    for title, notes in texts:
        if notes:
            console.print(f"\n[bold]{title}[/]")
            for note in notes:
                _print_text(console, f"  - {note}")
    if summary.data:
        console.print(f"Newest bar: {age_text(summary.data)}", highlight=False)
    metrics = summary.metrics
    _print_metrics(console, content["metrics"] or {})
    if summary.decision:
        decision = DecisionResult.model_validate(summary.decision.to_json())
        costs = after_costs(metrics.backtest, metrics.candidate.rank_ic) if metrics else None
        render_decision(console, decision, costs)
        if decision.state == DecisionState.WAITING:
            answer = f"vpoc-ml approve {summary.run} --as NAME, or vpoc-ml reject {summary.run} --as NAME --note WHY"
            _print_text(console, f"Answer with {answer}")
    for name, path in summary.reports.items() if paths else ():
        console.print(f"[bold]{name:<10}[/] {path}", soft_wrap=True, highlight=False)


def _print_metrics(console: Console, metrics: Mapping[str, Any]) -> None:
    """Print the metrics of every model and the gains of the candidate, as far as there are any."""
    versus = metrics.get("versus") or {}
    gains = list(dict.fromkeys(key for values in versus.values() for key in values))
    for title, column, names, models in (
        ("Held-out metrics [low, high]", "model", _METRICS, metrics.get("models")),
        ("Candidate minus baseline, same rows [low, high]", "baseline", gains, versus),
    ):
        if models:
            rows = ([name, *(_interval(values.get(key), key) for key in names)] for name, values in models.items())
            _print_table(console, title, (column, *names), rows)


def age_text(age: DataAge) -> str:
    """Return the newest bar's timestamp and how many sessions it lies before the run's clock."""
    count = age.age_sessions
    newest = f"{datetime.fromisoformat(age.newest_bar):%Y-%m-%d %H:%M} UTC"
    return f"{newest}, {count or 'no'} session{'s' if count != 1 else ''} before the run's clock"


def render_proof(console: Console, proof: LeakageProof) -> None:
    """Print the comparisons of a leakage proof, its violations, and the largest t of its placebo."""
    broken = [one.check for one in proof.violations]
    rows = ([check, _cell(count), _cell(broken.count(check))] for check, count in proof.comparisons.items())
    _print_table(console, "Look-ahead", ("check", "comparisons", "violations"), rows)
    for one in proof.violations:
        _print_text(console, f"  - {one.line()}")
    most = proof.largest_t
    largest = f"largest |t| {most.t:.2f} ({most.feature}), limit {proof.limit_t:g}"
    console.print(f"Placebo, {len(proof.features)} features: {largest}", highlight=False)
    console.print("[bold green]PASSED[/]" if proof.passed else "[bold red]FAILED[/]")


def render_seeds(console: Console, result: SeedsResult) -> None:
    """Print one row per seed, the best marked ``*``, the spread of the losses, and the correlation of the mean."""

    def shown(correlation: float | None) -> str:
        return "-" if correlation is None else f"{correlation:.4f}"

    rows = []
    for seed, loss in result.validation_losses.items():
        mark = "*" if seed == result.best else ""
        rows.append([f"{mark}{seed}", f"{loss:.6f}", shown(result.correlations[seed])])
    _print_table(console, "Seeds, validation rows", ("seed", "validation loss", "rank correlation"), rows)
    mean = shown(result.mean_correlation)
    console.print(f"rank correlation of the mean prediction {mean}", highlight=False)
    console.print(f"standard deviation of the validation losses {result.spread:.2g}", highlight=False)
    for seed, path in result.models.items():
        console.print(f"model {seed:<9} {path}", soft_wrap=True, highlight=False, markup=False)


def render_models(console: Console, models: Sequence[ModelSummary]) -> None:
    """Print a table for each key, newest version first; it fits 80 columns. ``*`` marks the champion."""
    for key in dict.fromkeys(model.key for model in models):
        table = Table(header_style="bold", pad_edge=False, box=SIMPLE_HEAD, width=min(console.width, 120))
        for name in ("version", "registered", "rank IC", "accuracy", "net, $"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("run, newest decision and its first reason", ratio=1, overflow="fold")
        for model in reversed([each for each in models if each.key == key]):
            metrics, decision = model.metrics, model.decision
            shown = [
                format(metrics[name], form) if name in metrics else "-"
                for name, form in (("rank_ic", ".4f"), ("direction_accuracy", ".4f"), ("net", ",.0f"))
            ]
            lines = [escape(model.run)]
            if decision is not None:
                lines.append(f"{decision.action} {decision.time[:10]}")
                lines += [escape(reason) for reason in decision.reasons[:1]]
                if (more := len(decision.reasons) - 1) > 0:
                    lines.append(f"(and {more} more)")
            version = f"{'*' if model.champion else ''}{model.version}"
            table.add_row(version, model.registered[:10], *shown, "\n".join(lines))
        console.print(f"\n[bold]{escape(key)}[/]")
        console.print(table)


def render_model(console: Console, record: ModelRecord) -> None:
    """Print a registered version: model card, files, artifacts, folds, gates, evaluation, libraries, ledger."""
    summary, described, lineage = record.summary, record.description, record.lineage
    champion = ", the champion" if summary.champion else ""
    console.print(f"\n[bold]Version {summary.version} of {escape(summary.key)}{champion}[/]", highlight=False)
    parts = ", ".join(f"{part.name} {part.weight:.3f}" for part in described.parts or ()) or described.model.kind
    facts = [
        f"run {summary.run}, registered {summary.registered}",
        f"fingerprint {summary.fingerprint}, weights {described.weights_sha256}",
        f"{len(described.features)} features, {described.parameters:,} parameters, parts: {parts}",
        *(
            f"{name}: {e.first} to {e.last}, {e.sessions} sessions"
            for name, e in described.splits.items()
            if e.sessions
        ),
    ]
    _print_lines(console, "Model card", facts)
    if lineage is None:
        _print_lines(console, "Lineage", ["none: the version was registered by an earlier release"])
    else:
        _print_lineage(console, lineage)
    for entry in record.ledger:
        title = f"Ledger entry {entry.seq}: {entry.action}, {entry.time[:19]} UTC, {entry.actor or 'no actor stated'}"
        _print_lines(console, escape(title), [f"- {reason}" for reason in entry.reasons])


def _print_lineage(console: Console, lineage: Lineage) -> None:
    """Print what a model was made from; hashes are shortened to 16 digits."""
    files = [f"{each.path}  {_cell(each.size)} bytes  {each.sha256[:16]}" for each in lineage.files]
    _print_lines(console, "Delivered files", files)
    per_contract = [each for found in lineage.contracts.values() for each in found]
    built = [*lineage.indices, lineage.roll, *per_contract, lineage.training_set]
    lines = [f"{e.key}  {e.rows:,} rows  {e.sha256[:16]}  settings {e.config}  code {e.code}" for e in built]
    _print_lines(console, "Artifacts and their build keys", lines)
    folds = [
        f"{fold.name}  {fold.key}  trained {fold.train.first} to {fold.validation.last}"
        f"  test {fold.test.first} to {fold.test.last}, {fold.test.sessions} sessions"
        for fold in lineage.folds
    ]
    _print_lines(console, "Folds", folds or ["none: one split"])
    gates = ([each.gate, "passed" if each.passed else "failed", _cell(each.checks)] for each in lineage.gates)
    _print_table(console, "Gates", ("gate", "verdict", "checks"), gates)
    ic = "not measurable"
    if (found := lineage.rank_ic) is not None:
        ic = f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"
    facts = [
        f"trained in run {lineage.trained_in}; preset {lineage.preset}, settings {lineage.config_hash}",
        f"{lineage.sessions} evaluated sessions, rank IC {ic}, net ${lineage.net:,.0f}",
        ", ".join(f"{name} {version}" for name, version in lineage.libraries.items()),
    ]
    _print_lines(console, "Training, evaluation, libraries", facts)


def _print_text(console: Console, text: str) -> None:
    """Print a sentence: in one line to a file or pipe, on a terminal between words, further lines indented."""
    if console.is_terminal:
        indent = " " * (len(text) - len(text.lstrip(" -")))
        text = fill(text, console.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def render_session(console: Console, session: SessionData) -> None:
    """Print what the page of a session shows: levels of its parts, volume nodes, naked VPOCs before it."""
    console.print(
        f"\n[bold]{session.contract}, session {session.session}[/], {session.bars.height:,} bars", highlight=False
    )
    levels = session.levels
    for title, names in (("Prices in points", PRICES), ("Contracts", VOLUMES)):
        rows = ([part, *(_level(levels[f"{prefix}{name}"], name) for name in names)] for prefix, part in PARTS.items())
        _print_table(console, title, ("name", *names), rows)
    ranges = {"initial balance": ("ib_low", "ib_high"), "opening range": ("or_low", "or_high")}
    shown = (f"{name} {' to '.join(_level(levels[each], each) for each in ends)}" for name, ends in ranges.items())
    console.print("; ".join(shown), highlight=False)
    nodes = session.nodes.select("kind", "price", "volume").rows()
    if nodes:
        rows = ([kind.upper(), _level(price, "price"), _level(volume, "volume")] for kind, price, volume in nodes)
        _print_table(console, "Volume nodes", ("name", "price", "volume"), rows)
    naked = session.naked.select("session", "vpoc", "age").rows()
    if naked:
        rows = ([str(day), _level(vpoc, "vpoc"), str(age)] for day, vpoc, age in reversed(naked))
        columns = ("session", "vpoc", "sessions since")
        _print_table(console, "Naked VPOCs before the session", columns, rows)


def _level(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if name in VOLUMES else f"{value:,.2f}"


def render_failures(console: Console, failed: Sequence[FailureRecord]) -> None:
    """Print the failures that a run records: stage, message, what to do."""
    for failure in failed:
        title = escape(f"{failure.stage} {failure.label}".rstrip())
        console.print(f"\n[bold red]FAILED[/] {title}", highlight=False)
        console.print(f"{failure.error}: {failure.message}", soft_wrap=True, highlight=False, markup=False)
        _print_text(console, failure.advice)


def _print_lines(console: Console, title: str, lines: Iterable[str]) -> None:
    console.print(f"\n[bold]{title}[/]")
    for line in lines:
        console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)


def render_decision(console: Console, decision: DecisionResult, result: str | None = None) -> None:
    """Print the state of a candidate, the remarks on the decision, the rule's reasons, and the next step.

    The first line ends with ``result``, the sentence about the result after costs, if it is given.
    """
    colour = {"good": "bold green", "bad": "bold yellow", "": "bold cyan"}[tone_of(decision)]
    costs = f"; {escape(result)}" if result else ""
    key = f" ({decision.key})" if decision.key is not None else ""
    console.print(f"Promotion{key}: [{colour}]{title_of(decision).upper()}[/]{costs}", highlight=False, soft_wrap=True)
    for text in (decision.note, *decision.remarks, *(f"  - {reason}" for reason in decision.reasons)):
        if text:
            _print_text(console, text)


def _print_table(console: Console, title: str, columns: Iterable[str], rows: Iterable[list[str]]) -> None:
    """Print a table; the columns move together where they would not fit the console."""
    table = Table(header_style="bold", pad_edge=False, box=SIMPLE_HEAD)
    for name in columns:
        table.add_column(name.replace("_", " "), justify="left" if name in _TEXT else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    if console.measure(table, options=console.options.update(width=1000)).maximum > console.width:
        table.padding, table.show_edge = 0, False
        for column in table.columns:
            column.header = str(column.header).replace(" ", "\n")
    console.print(f"\n[bold]{escape(title)}[/]")
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _interval(value: Any, metric: str) -> str:
    if not isinstance(value, Mapping) or value.get("value") is None:
        return "-"
    digits = _DIGITS.get(metric, 4)
    shown = [value.get(part) for part in ("value", "low", "high")]
    point, low, high = ("" if number is None else f"{number:.{digits}f}" for number in shown)
    return f"{point}\n\\[{low}, {high}]" if low and high else point
