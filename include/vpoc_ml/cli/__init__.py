"""``vpoc-ml``: every stage without Airflow. The DAGs call the same functions of ``vpoc_ml.pipeline``."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from inspect import getdoc
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vpoc_ml import __version__, environment
from vpoc_ml import config as configuration
from vpoc_ml.cli import groups
from vpoc_ml.cli import output as output
from vpoc_ml.cli.options import (
    LAKE,
    ContractOption,
    JobsOption,
    JsonOption,
    KeyOption,
    LakeOption,
    LikeOption,
    NameOption,
    NewRawOption,
    NewVixOption,
    OverrideOption,
    PresetOption,
    RawOption,
    ReasonOption,
    RunArgument,
    RunOption,
    SessionOption,
    SignedOption,
    VaryOption,
    VixOption,
    contracts,
)
from vpoc_ml.compat import legacy_flags
from vpoc_ml.config.settings import ANY_AGE
from vpoc_ml.errors import ArtifactError, ConfigError, GateFailedError, InputError, VpocError
from vpoc_ml.pipeline.stages import STAGES

MANUAL = "manual"
"""Run of the commands that start one, where none is named."""

HISTORY = {"quality.max_age_sessions": ANY_AGE}
"""Settings of the commands that neither promote nor score: they build history from bars of any age."""

app = typer.Typer(
    cls=groups.Grouped,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Retrain futures models from the contract files of your vendor, without Airflow.\n\n"
    "A run reads the files into bars, computes volume profiles and features, validates every step, trains a model,"
    " evaluates it walk-forward, and promotes it only if the evidence supports that. All artifacts of all runs are in"
    " one folder, the lake. A command never repeats what is up to date. Every command explains itself with --help.",
    epilog=groups.examples_text(groups.FIRST_STEPS, "First steps, on a synthetic market"),
)
report = typer.Typer(no_args_is_help=True, help="Write reports on a session, a run or its features.")
app.add_typer(report, name="report", **groups.shown("report"))
registered = typer.Typer()
app.add_typer(registered, name="models", **groups.shown("models"))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vpoc-ml {__version__}")
        raise typer.Exit


@app.callback()
def everything(
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command(**groups.shown("synth"))
def synth(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder to write the vendor files into.")] = Path(
        "synthetic"
    ),
    contracts: Annotated[
        int, typer.Option(metavar="COUNT", help="Number of quarterly contracts; 40 are ten years.")
    ] = 12,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Same seed, same bytes.")] = 7,
    mode: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            help="What is planted. signal: weak, not linear; linear: weak, one minute; overlap: over hours;"
            " drifting: linear, its sign changes; martingale: nothing.",
        ),
    ] = "signal",
    faults: Annotated[
        str, typer.Option(metavar="KINDS", help="Data faults to plant: all, or kinds separated by commas.")
    ] = "",
    lead: Annotated[
        int, typer.Option(metavar="COUNT", help="Sessions of a file before its contract becomes front; 190: a year.")
    ] = 22,
    switch: Annotated[
        int, typer.Option(metavar="COUNT", help="Session from which on the sign of mode drifting is reversed.")
    ] = 252,
    bounce: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Bid-ask bounce: probability that a print is on the other side of the spread."
        ),
    ] = 0.0,
) -> None:
    """Write a synthetic ES and VIX market as vendor files.

    What was planted, the truth, is written beside them. The files are read like those of a vendor.
    """
    from vpoc_ml.synthetic.generate import write_market
    from vpoc_ml.synthetic.planted_faults import FAULT_KINDS

    kinds = FAULT_KINDS if faults == "all" else [kind.strip() for kind in faults.split(",") if kind.strip()]
    options: dict[str, Any] = {"mode": mode, "faults": kinds, "lead": lead, "switch": switch, "bounce": bounce}
    made = write_market(out, contracts=contracts, seed=seed, **options)
    for path in [*made.files.values(), made.vix, made.truth, *([made.faults] if made.faults else [])]:
        typer.echo(path)


@app.command(**groups.shown("config"))
def config(preset: PresetOption = "nightly", override: OverrideOption = []) -> None:  # noqa: B006 - typer copies it
    """Print every setting with its value and its meaning.

    A line can be copied behind ``-o``. The hash at the end identifies the configuration.
    """
    resolved = configuration.resolve(preset, dict(map(configuration.parse_override, override)))
    fields = configuration.form_fields()
    for section, settings in resolved.model_dump(mode="json").items():
        if isinstance(settings, dict):
            for name, value in settings.items():
                text = fields[f"{section}.{name}"]["description"].split(" Empty: ")[0]
                typer.echo(f"{section}.{name}={json.dumps(value):<24} # {text}")
    typer.echo(f"# hash {resolved.digest()}")


def _stage_command(name: str, last: str, help_text: str) -> None:
    """Register the command ``name``, which runs every stage up to ``last``."""

    @app.command(name, help=help_text, **groups.shown(name))
    def command(
        named: RunArgument = None,
        lake: LakeOption = LAKE,
        run: RunOption = None,
        preset: PresetOption = "nightly",
        override: OverrideOption = [],  # noqa: B006 - typer copies it
        raw: RawOption = None,
        vix: VixOption = None,
        contract: ContractOption = [],  # noqa: B006
        session: SessionOption = None,
        jobs: JobsOption = 1,
        as_json: JsonOption = False,
    ) -> None:
        start = Start(preset, _overrides(override, contract), raw, vix, session, jobs)
        _run_stages(last, lake, _run_of(named, run, MANUAL), start, as_json=as_json)


def _run_of(argument: str | None, option: str | None, default: str | None = None) -> str:
    """Return the run that a command line names, as RUN or with ``--run``.

    Raises:
        ConfigError: it names none and there is no default, or two.
    """
    if argument and option and argument != option:
        raise ConfigError(f"Expected one run; was RUN {argument!r} and --run {option!r}. Name it once.")
    found = argument or option or default
    if found is None:
        raise ConfigError("Expected the name of a run; was none. Give it as RUN or with --run.")
    return found


def _overrides(override: list[str], contract: list[str]) -> dict[str, Any]:
    overrides: dict[str, Any] = dict(map(configuration.parse_override, override))
    return overrides | ({"data.contracts": contract} if contract else {})


@dataclass(frozen=True)
class Start:
    """What a command line says about the run that it starts.

    Attributes:
        preset, overrides: the settings.
        raw, vix: folder of vendor files and VIX file, as far as they are named.
        session: past session; None for a live run.
        jobs: contracts or folds at the same time.
    """

    preset: str
    overrides: dict[str, Any]
    raw: Path | None = None
    vix: Path | None = None
    session: datetime | None = None
    jobs: int = 1


def _run_stages(last: str, lake: str, run: str, start: Start, *, as_json: bool) -> None:
    """Start a run, take it up to ``last`` and show its summary."""
    from vpoc_ml import pipeline

    now = datetime.now(UTC)
    _run_until(last, lake, run, start, now)
    if last == STAGES[-1].name:
        pipeline.publish_reports(lake, run, now)
    output.show_summary(pipeline.summarize(lake, run), as_json)


def _run_until(last: str, lake: str, run: str, start: Start, now: datetime) -> None:
    """Start a run at ``now``, or as of the night of its session, and take it up to ``last``."""
    from vpoc_ml import pipeline
    from vpoc_ml.market.instruments import instrument
    from vpoc_ml.market.nights import past_night

    overrides = start.overrides if last == STAGES[-1].name else HISTORY | start.overrides
    as_of = None
    if start.session is not None:
        calendar = instrument(configuration.resolve(start.preset, overrides).data.instrument).calendar
        as_of = past_night(calendar, start.session.date(), now)
    inputs = pipeline.recall_inputs(lake, *(str(path.absolute()) if path else None for path in (start.raw, start.vix)))
    output.show_notes(inputs.notes)
    pipeline.start_run(lake, run, start.preset, overrides, inputs.raw, inputs.vix, now=now, as_of=as_of)
    pipeline.run_until(
        lake, run, last, now, jobs=start.jobs, on_stage=output.show_stage, on_progress=output.show_progress
    )


for _stage in STAGES:
    if _stage.command is not None:
        _stage_command(_stage.command, _stage.name, _stage.help)


@app.command(
    help="Train the model of a run, after every stage before it.\n\nRUN is the first word; without it the run is called"
    f" manual, or after --output_dir.\n\n{legacy_flags.HELP}",
    options_metavar="[RUN] [OPTIONS]",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    **groups.shown("train"),
)
def train(
    context: typer.Context,
    lake: LakeOption = LAKE,
    run: RunOption = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="The preset that the run starts from. Default: nightly."),
    ] = None,
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    raw: RawOption = None,
    vix: VixOption = None,
    contract: ContractOption = [],  # noqa: B006
    jobs: JobsOption = 1,
    as_json: JsonOption = False,
) -> None:
    from vpoc_ml.compat import train_command

    # no typer argument: it would take values of legacy flags, such as 16 8
    leads = bool(context.args) and not context.args[0].startswith("-")
    named, flags = (context.args[0], context.args[1:]) if leads else (None, context.args)
    legacy = legacy_flags.parse(flags)
    run = _run_of(named, run, train_command.run_of(legacy.output if legacy else None))
    if legacy is None:
        start = Start(preset or "nightly", _overrides(override, contract), raw, vix, jobs=jobs)
        _run_stages("train", lake, run, start, as_json=as_json)
        return
    if legacy.verbose:
        output.log_to_stderr()
    preset, own = preset or legacy_flags.PRESET, legacy.settings | _overrides(override, contract)
    overrides = {"evaluation.fold": "off"} | own  # the legacy trainer fits one model on one split
    if legacy.data:
        settings, folder = configuration.resolve(preset, overrides), train_command.output_of(lake, run, legacy.output)
        raw, vix = train_command.deliver(legacy.data, vix, folder, settings.ingest, settings.data.contracts)
    train_and_evaluate(lake, run, Start(preset, overrides, raw, vix, jobs=jobs), legacy.output, as_json=as_json)


def train_and_evaluate(lake: str, run: str, start: Start, output_folder: Path | None, *, as_json: bool) -> None:
    """Train, hand the model over, show what it is worth on held-out sessions, and say what comes next."""
    from vpoc_ml import pipeline
    from vpoc_ml.compat import train_command

    _run_until("train", lake, run, start, datetime.now(UTC))
    if output_folder:
        train_command.hand_over(lake, run, output_folder)
    output.show_stage(pipeline.evaluate(lake, run))
    output.show_summary(pipeline.summarize(lake, run), as_json)
    output.progress.print(
        legacy_flags.next_steps(lake, run, start.raw, start.vix), highlight=False, markup=False, soft_wrap=True
    )


@app.command(**groups.shown("seeds"))
def seeds(
    seed: Annotated[list[int], typer.Option("--seed", metavar="NUMBER", help="training.seed of one net; repeatable.")],
    named: RunArgument = None,
    run: RunOption = None,
    processes: Annotated[
        int, typer.Option("--processes", metavar="COUNT", help="Networks trained at the same time, one per GPU.")
    ] = 1,
    lake: LakeOption = LAKE,
    as_json: JsonOption = False,
) -> None:
    """Train the network of a run once per seed, and compare.

    The table has the validation loss of each seed, and the rank correlation of each and of their mean prediction. With
    --processes, each network has a GPU of its own.
    """
    from vpoc_ml import pipeline

    run = _run_of(named, run)
    result = pipeline.train_seeds(lake, run, seed, processes, on_progress=output.show_record)
    output.show_seeds(result, as_json)


@app.command(**groups.shown("search"))
def search(
    named: RunArgument = None,
    run: RunOption = None,
    trials: Annotated[
        int, typer.Option("--trials", metavar="COUNT", help="Trials in all, those of previous calls included.")
    ] = 30,
    vary: VaryOption = [],  # noqa: B006 - typer copies it
    seed: Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Seed of the suggestions.")] = 0,
    lake: LakeOption = LAKE,
    as_json: JsonOption = False,
) -> None:
    """Search better settings of model and training.

    Trials train on the training set of the run and are compared on its validation rows only. A search can be continued:
    trials of previous calls count.
    """
    from vpoc_ml import pipeline

    run = _run_of(named, run)
    output.emit(pipeline.search(lake, run, trials, vary, seed, on_trial=output.show_trial), as_json)


@app.command(**groups.shown("doctor"))
def doctor(
    lake: LakeOption = LAKE,
    preset: PresetOption = "nightly",
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    as_json: JsonOption = False,
    cluster: Annotated[
        bool, typer.Option("--cluster", metavar="", help="Also the settings of a cluster (docs/cluster.md).")
    ] = False,
) -> None:
    """Diagnose this machine and the lake.

    Python, torch, ROCm, GPUs and their known issues, disk, lake and services are checked; each problem comes with what
    to do. The exit code is 2 if there is a problem.
    """
    from vpoc_ml.pipeline import doctor as physician
    from vpoc_ml.training.hardware.known_issues import Diagnostic

    config = configuration.resolve(preset, dict(map(configuration.parse_override, override)))
    diagnostics = physician.examine(lake, config.machine)
    if cluster:
        command = [sys.executable, "-m", "vpoc_ops.cluster_doctor"]
        found = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        diagnostics += [Diagnostic(**each) for each in json.loads(found)]
    if as_json:
        typer.echo(json.dumps(physician.as_json(diagnostics)))
    else:
        output.show_diagnostics(diagnostics)
    if physician.stops(diagnostics):
        raise typer.Exit(2)


@app.command(**groups.shown("migrate"))
def migrate(
    lake: Annotated[
        str, typer.Argument(envvar=environment.LAKE, metavar="LAKE", help="The lake: a folder or s3://bucket/es.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Convert a lake of the previous release.

    Its records get the names of this release; nothing is rebuilt. No run may be active.
    """
    from vpoc_ml import pipeline

    report = pipeline.migrate(lake)
    if as_json:
        output.emit(report, as_json)
    else:
        typer.echo(f"rewritten: {len(report.rewritten)}\ndamaged: {'; '.join(report.damaged) or 'none'}")


@app.command("alert-test", **groups.shown("alert-test"))
def alert_test(as_json: JsonOption = False) -> None:
    """Send a test alert through every channel.

    The exit code is 1 if a channel fails, 2 if none is configured (docs/alerts.md).
    """
    command = [sys.executable, "-m", "vpoc_ops.supervisor", "alert-test", *(["--json"] if as_json else [])]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command(**groups.shown("verify"))
def verify(lake: LakeOption = LAKE, as_json: JsonOption = False) -> None:
    """Check everything that is stored against its hash.

    Ledger, registered versions, artifacts, folds and the lineage of champions are checked. The exit code is 1 if
    something is damaged or missing; each line says what to do.
    """
    from vpoc_ml import pipeline

    found = pipeline.verify(lake)
    output.show_verification(found, as_json)
    if found.problems:
        raise typer.Exit(1)


@app.command(**groups.shown("retain"))
def retain(
    nights: Annotated[
        int, typer.Option("--nights", metavar="COUNT", help="Newest nights whose runs keep all files; at least 7.")
    ],
    lake: LakeOption = LAKE,
    delete: Annotated[
        bool, typer.Option("--delete", metavar="", help="Delete; without it the files are only listed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete what old runs no longer need.

    That is training sets, and folds that no kept run uses; what a champion needs stays. Without --delete the files are
    only listed.
    """
    from vpoc_ml import pipeline

    output.emit(pipeline.retain(lake, nights, delete=delete), as_json)


@app.command(**groups.shown("leakage"))
def leakage(
    preset: PresetOption = "nightly",
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    lake: LakeOption = "data",
    as_json: JsonOption = False,
) -> None:
    """Prove on synthetic markets that nothing uses future data.

    Features, labels and fitted numbers are computed on truncated, chunked and perturbed markets and compared. The exit
    code is 3 if one depends on later data.
    """
    from vpoc_ml import pipeline
    from vpoc_ml.pipeline.active_plugins import refuse_unknown_plugins, use_plugins

    config = configuration.resolve(preset, dict(map(configuration.parse_override, override)))
    use_plugins(lake)
    refuse_unknown_plugins(config)
    proof = pipeline.prove_code(config)
    if as_json:
        typer.echo(json.dumps(proof.to_json()))
    else:
        from vpoc_ml.reports.terminal_tables import render_proof

        render_proof(Console(), proof)
    if not proof.passed:
        raise typer.Exit(GateFailedError.exit_code)


@app.command(**groups.shown("score"))
def score(
    named: RunArgument = None,
    run: RunOption = None,
    like: LikeOption = None,
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    raw: NewRawOption = None,
    vix: NewVixOption = None,
    lake: LakeOption = LAKE,
    as_json: JsonOption = False,
) -> None:
    """Score new bars with the champion; nothing is trained.

    New files are read up to the features and validated. The exit code is 5 if scoring is refused, because data is stale
    or incomplete, and 3 if a gate fails.
    """
    from vpoc_ml import pipeline

    run, now = _run_of(named, run, "score"), datetime.now(UTC)
    overrides = dict(map(configuration.parse_override, override))
    places = {"raw": str(raw) if raw else None, "vix": str(vix) if vix else None}
    pipeline.start_scoring(lake, run, now, like=like, overrides=overrides, **places)
    pipeline.run_until(lake, run, "gate-features", now, on_stage=output.show_stage)
    result = pipeline.score(lake, run, now)
    output.show_scores(result, as_json)
    if result.refused:
        raise typer.Exit(InputError.exit_code)
    if result.version is None:
        raise typer.Exit(1)
    pipeline.gate_predictions(lake, run)


@app.command(**groups.shown("monitor"))
def monitor(
    named: RunArgument = None,
    run: RunOption = None,
    like: LikeOption = None,
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    raw: NewRawOption = None,
    vix: NewVixOption = None,
    lake: LakeOption = LAKE,
    as_json: JsonOption = False,
) -> None:
    """Compare the newest sessions with the champion's training rows.

    New files are read and scored first. The exit code is 3 on an error and 0 on a warning.
    """
    from vpoc_ml import pipeline

    run, now = _run_of(named, run, "monitor"), datetime.now(UTC)
    overrides = dict(map(configuration.parse_override, override))
    places = {"raw": str(raw) if raw else None, "vix": str(vix) if vix else None}
    pipeline.start_scoring(lake, run, now, like=like, overrides=overrides, **places)
    pipeline.run_until(lake, run, "gate-features", now, on_stage=output.show_stage)
    pipeline.score(lake, run, now)
    result = pipeline.gate_monitoring(lake, run)
    text = result.message() if result.note is None else f"{result.message()}\n{result.note}"
    typer.echo(json.dumps(result.to_json()) if as_json else text)


@app.command(**groups.shown("predictions"))
def predictions(
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="CSV file to write. Default: stdout.")
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", metavar="NUMBER", help="Version of the model. Default: the newest.")
    ] = None,
    contract: Annotated[
        str | None, typer.Option("--contract", metavar="CODE", help="Only this contract. Default: all.")
    ] = None,
    key: KeyOption = None,
    lake: LakeOption = LAKE,
) -> None:
    """Export stored predictions as CSV.

    One row per scored bar: time, contract, prediction, interval, and whether the model abstains.
    """
    from vpoc_ml.scoring.predictions import predictions_csv, read_predictions

    frame = read_predictions(lake, key=key, version=version, contract=contract)
    if csv is None:
        typer.echo(predictions_csv(frame), nl=False)
        return
    output.write(csv, predictions_csv(frame), f"{frame.height:,} predictions")


@app.command(**groups.shown("promote"))
def promote(
    reason: ReasonOption,
    named: RunArgument = None,
    run: RunOption = None,
    name: NameOption = None,
    override: Annotated[
        bool,
        typer.Option("--override", metavar="", help="Promote also if the rule refuses; needs --as; no failed gate."),
    ] = False,
    lake: LakeOption = LAKE,
    as_json: JsonOption = False,
) -> None:
    """Make the model of a run the champion if the rule accepts it.

    The promotion rule decides on the evidence of the run. With --override --as NAME a person decides against it, never
    after a failed gate. The exit code is 1 if the model is not promoted.
    """
    from vpoc_ml import pipeline

    run = _run_of(named, run)
    decision = pipeline.promote_by_hand(lake, run, datetime.now(UTC), reason, name=name, override=override)
    output.show_decision(decision, as_json)
    if decision.state not in ("promoted", "waiting"):
        raise typer.Exit(1)


@app.command(**groups.shown("approve"))
def approve(
    name: SignedOption,
    named: RunArgument = None,
    run: RunOption = None,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Remark; ledger and report keep it.")] = "",
    lake: LakeOption = LAKE,
    as_json: JsonOption = False,
) -> None:
    """Approve a candidate that waits for a person.

    The rule decides again; the new champion scores the newest bars. The exit code is 1 if it is not promoted, 3 if the
    gate on its predictions fails.
    """
    from vpoc_ml import pipeline

    run = _run_of(named, run)
    now = datetime.now(UTC)
    decision = pipeline.approve(lake, run, now, name, note)
    if decision.state == "promoted":
        pipeline.score(lake, run, now)
    output.show_decision(decision, as_json)
    if decision.state != "promoted":
        raise typer.Exit(1)
    pipeline.gate_predictions(lake, run)


@app.command(**groups.shown("reject"))
def reject(
    name: SignedOption,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Remark; ledger and report keep it.")],
    named: RunArgument = None,
    run: RunOption = None,
    lake: LakeOption = LAKE,
    as_json: JsonOption = False,
) -> None:
    """Reject a candidate that waits for a person; the champion stays."""
    from vpoc_ml import pipeline

    run = _run_of(named, run)
    output.show_decision(pipeline.reject(lake, run, datetime.now(UTC), name, note), as_json)


@app.command(**groups.shown("rollback"))
def rollback(
    reason: ReasonOption,
    name: NameOption = None,
    lake: LakeOption = LAKE,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the previous champion the champion again."""
    from vpoc_ml import pipeline

    output.emit(pipeline.rollback(lake, reason, datetime.now(UTC), key, name=name), as_json)


@app.command(**groups.shown("reproduce"))
def reproduce(
    version: Annotated[
        int, typer.Argument(metavar="VERSION", help="Number of a registered version; see vpoc-ml models.")
    ],
    lake: LakeOption = LAKE,
    as_json: JsonOption = False,
) -> None:
    """Train a registered model again and compare every bit.

    Everything is read from the lake. The exit code is 1 if the weights differ.
    """
    from vpoc_ml import pipeline

    found = pipeline.reproduce(lake, pipeline.run_of_version(lake, version))
    if as_json:
        typer.echo(json.dumps(found.to_json()))
    else:
        same = "the same to the bit" if found.equal else "different"
        typer.echo(f"Version {found.version}: the weights are {same}.")
        for text in (f"registered {found.registered_weights}", f"trained again {found.reproduced_weights}"):
            typer.echo(f"  {text}")
        if found.first_difference is not None:
            typer.echo(f"  first difference: {found.first_difference}")
        for difference in found.differences:
            typer.echo(f"  {difference}")
    if not found.equal:
        raise typer.Exit(1)


@registered.callback(invoke_without_command=True)
def models(context: typer.Context, lake: LakeOption = LAKE, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """List the registered models and the champions.

    Each has its metrics and the newest decision about it. ``models show VERSION`` prints all that is recorded.
    """
    if context.invoked_subcommand is not None:
        return
    from vpoc_ml import pipeline

    found = pipeline.models(lake, key)
    if as_json:
        for model in found:
            typer.echo(json.dumps(model.model_dump(mode="json")))
    else:
        output.show_models(found)


@registered.command("show")
def show_model(
    version: Annotated[
        int, typer.Argument(metavar="VERSION", help="Number of a registered version; see vpoc-ml models.")
    ],
    lake: LakeOption = LAKE,
    as_json: JsonOption = False,
) -> None:
    """Print all that is recorded of a registered version.

    Model card, lineage back to the delivered files, gates, evaluation, and its entries in the ledger.
    """
    from vpoc_ml import pipeline

    output.show_model(pipeline.model_record(lake, version), as_json)


@app.command(**groups.shown("summary"))
def summary(
    named: RunArgument = None, run: RunOption = None, lake: LakeOption = LAKE, as_json: JsonOption = False
) -> None:
    """Print what happened in a run: stages, gates, metrics, decision, reports.

    A failed run has a summary too.
    """
    from vpoc_ml import pipeline

    output.show_summary(pipeline.summarize(lake, _run_of(named, run)), as_json)


@report.command("session", epilog=groups.examples_text(groups.SESSION_REPORT))
def report_session(
    contract: Annotated[
        str | None,
        typer.Argument(
            metavar="CONTRACT",
            help="The contract, such as ESH25. Default: the newest of the lake.",
            show_default=False,
            autocompletion=contracts,
        ),
    ] = None,
    session: Annotated[
        datetime | None,
        typer.Argument(
            formats=["%Y-%m-%d"],
            metavar="SESSION",
            help="The exchange's trade date. Default: the newest of the contract.",
            show_default=False,
        ),
    ] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture of the page.")] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the bars with the levels developing at each.")
    ] = None,
    lake: LakeOption = LAKE,
    as_json: JsonOption = False,
) -> None:
    """Print a session: levels, volume nodes, naked VPOCs.

    It is what the page Sessions shows.
    """
    from vpoc_ml.lake.store import Lake
    from vpoc_ml.reports.session_chart import newest_session, plot_session

    found = newest_session(Lake(lake), contract, session.date() if session else None)
    output.show_session(found, as_json)
    if svg:
        output.write(svg, plot_session(lake, found.contract, found.session).svg, "picture")
    if csv:
        output.write(csv, found.table().write_csv(datetime_format="%Y-%m-%dT%H:%M:%SZ"), f"{found.bars.height:,} bars")


@report.command("run", epilog=groups.examples_text(groups.RUN_REPORT))
def report_run(
    named: RunArgument = None,
    run: RunOption = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write report.html, which needs no other file.")
    ] = None,
    lake: LakeOption = LAKE,
    as_json: JsonOption = False,
) -> None:
    """Print a run: failures and what to do, stages, gates, metrics, decision, reports.

    It is what the page of the run shows. Without RUN it is the run that was started last.
    """
    from vpoc_ml import pipeline
    from vpoc_ml.artifacts import layout
    from vpoc_ml.lake.store import Lake
    from vpoc_ml.reports.run_state import failures

    opened = Lake(lake)
    run = _run_of(named, run, "") or pipeline.newest_run(lake)
    output.show_summary(pipeline.summarize(lake, run), as_json)
    if not as_json:
        output.show_failures(failures(opened, run))
    if html:
        text = opened.read_text(layout.run_file(run, layout.REPORT))
        if text is None:
            raise ArtifactError(opened.location(layout.run_folder(run)), "a run with report.html", "one not evaluated")
        output.write(html, text, "report")


@report.command("features", epilog=groups.examples_text(groups.FEATURE_REPORT))
def report_features(
    named: RunArgument = None, run: RunOption = None, lake: LakeOption = LAKE, as_json: JsonOption = False
) -> None:
    """Analyse the features of a run on its training and validation rows.

    Writes feature-analysis.html and feature-analysis.json into the folder of the run.
    """
    from vpoc_ml import pipeline

    output.emit(pipeline.analyze_features(lake, _run_of(named, run, MANUAL)), as_json)


for _each in (*app.registered_commands, *report.registered_commands, *registered.registered_commands):
    _each.help = groups.unwrapped(_each.help or getdoc(_each.callback) or "")


def main() -> None:
    """Run the command line; a typed error becomes its message on stderr and its exit code."""
    try:
        try:
            environment.accept_former_names()
            app()
        finally:  # a bar that is left running hides the terminal's cursor and keeps stdout and stderr
            output.show_progress.stop()
    except VpocError as error:
        output.progress.print(f"{type(error).__name__}: {error}", style="red", highlight=False, markup=False)
        sys.exit(error.exit_code)
