"""``vpoc-ml``: every stage without Airflow. The DAGs call the same functions of ``vpoc_ml.pipeline``."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vpoc_ml import config as configuration
from vpoc_ml import environment
from vpoc_ml.cli import output as output
from vpoc_ml.compat import legacy_flags
from vpoc_ml.config.settings import ANY_AGE
from vpoc_ml.errors import ConfigError, GateFailedError, InputError, VpocError
from vpoc_ml.pipeline.stages import STAGES

MANUAL = "manual"
"""Run of the commands that start one, where none is named."""

HISTORY = {"quality.max_age_sessions": ANY_AGE}
"""Settings of the commands that neither promote nor score: they build history from bars of any age."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Futures bars to volume profiles, features, a model and its promotion: one command per stage.",
)
report = typer.Typer(no_args_is_help=True, help="Reports on a run.")
app.add_typer(report, name="report")
registered = typer.Typer(help="The registered models.")
app.add_typer(registered, name="models")

LakeOption = Annotated[
    str, typer.Option("--lake", envvar=environment.LAKE, help="The lake: a folder or s3://bucket/es.")
]
RunArgument = Annotated[str | None, typer.Argument(metavar="RUN", help="Name of the run.", show_default=False)]
RunOption = Annotated[str | None, typer.Option("--run", help="Name of the run; the same as RUN.", show_default=False)]
PresetOption = Annotated[
    str, typer.Option("--preset", help="Named preset: nightly, smoke, top5, conservative, medium, ambitious, ensemble.")
]
OverrideOption = Annotated[list[str], typer.Option("-o", "--override", help="Setting to change: key=value.")]
RawOption = Annotated[
    Path | None,
    typer.Option(
        "--raw",
        metavar="FOLDER",
        help="Folder of vendor files. Default: LAKE/raw; if that is empty, the folder that the newest run named.",
        show_default=False,
    ),
]
VixOption = Annotated[
    Path | None,
    typer.Option(
        "--vix",
        metavar="FILE",
        help="VIX file. Default: the file that the newest run with this folder named, else the one in the folder.",
        show_default=False,
    ),
]
LikeOption = Annotated[
    str | None,
    typer.Option(
        "--like",
        metavar="RUN",
        help="Earlier run whose settings and input are used. Default: the newest run that scored.",
        show_default=False,
    ),
]
NewRawOption = Annotated[
    Path | None,
    typer.Option(
        "--raw", metavar="FOLDER", help="Folder of vendor files. Default: that of the earlier run.", show_default=False
    ),
]
NewVixOption = Annotated[
    Path | None,
    typer.Option("--vix", metavar="FILE", help="VIX file. Default: that of the earlier run.", show_default=False),
]
SessionOption = Annotated[
    datetime | None,
    typer.Option("--session", formats=["%Y-%m-%d"], help="Past session: run as of 17:30 Chicago of that day."),
]
ContractOption = Annotated[list[str], typer.Option("--contract", help="Contract to use; repeatable; default all.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON line on stdout.")]
VaryOption = Annotated[
    list[str], typer.Option("--vary", help="What to vary: key=low..high, key=low..high log, or key=a|b; repeatable.")
]
KeyOption = Annotated[
    str | None, typer.Option("--key", help="Instrument, horizon and target, such as ES-1m-rank; default: the only one.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Reason; goes to the ledger.")]
NameOption = Annotated[str | None, typer.Option("--as", help="Your name; goes to the ledger.", show_default=False)]


@app.command()
def synth(
    out: Annotated[Path, typer.Option("--out", help="Folder to write the vendor files into.")] = Path("synthetic"),
    contracts: Annotated[int, typer.Option(help="Number of quarterly contracts; 40 are ten years.")] = 12,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 7,
    mode: Annotated[
        str,
        typer.Option(
            help="What is planted. signal: weak, not linear; linear: weak, one minute; overlap: over hours;"
            " drifting: linear, its sign changes; martingale: nothing."
        ),
    ] = "signal",
    faults: Annotated[str, typer.Option(help="Data faults to plant: all, or kinds separated by commas.")] = "",
    lead: Annotated[int, typer.Option(help="Sessions of a file before its contract becomes front; 190: a year.")] = 22,
    switch: Annotated[int, typer.Option(help="Session from which on the sign of mode drifting is reversed.")] = 252,
    bounce: Annotated[
        float, typer.Option(help="Bid-ask bounce: probability that a print is on the other side of the spread.")
    ] = 0.0,
) -> None:
    """Write a synthetic ES and VIX market as vendor files, with the truth beside it."""
    from vpoc_ml.synthetic.generate import write_market
    from vpoc_ml.synthetic.planted_faults import FAULT_KINDS

    kinds = FAULT_KINDS if faults == "all" else [kind.strip() for kind in faults.split(",") if kind.strip()]
    options: dict[str, Any] = {"mode": mode, "faults": kinds, "lead": lead, "switch": switch, "bounce": bounce}
    made = write_market(out, contracts=contracts, seed=seed, **options)
    for path in [*made.files.values(), made.vix, made.truth, *([made.faults] if made.faults else [])]:
        typer.echo(path)


@app.command()
def config(preset: PresetOption = "nightly", override: OverrideOption = []) -> None:  # noqa: B006 - typer copies it
    """Print every setting of a preset with its help."""
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

    @app.command(name, help=help_text)
    def command(
        named: RunArgument = None,
        lake: LakeOption = "data",
        run: RunOption = None,
        preset: PresetOption = "nightly",
        override: OverrideOption = [],  # noqa: B006 - typer copies it
        raw: RawOption = None,
        vix: VixOption = None,
        contract: ContractOption = [],  # noqa: B006
        session: SessionOption = None,
        as_json: JsonOption = False,
    ) -> None:
        overrides = _overrides(override, contract)
        _run_stages(
            last, lake, _run_of(named, run, MANUAL), preset, overrides, raw, vix, session=session, as_json=as_json
        )


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


def _run_stages(
    last: str,
    lake: str,
    run: str,
    preset: str,
    overrides: dict[str, Any],
    raw: Path | None,
    vix: Path | None,
    *,
    session: datetime | None = None,
    as_json: bool,
) -> None:
    """Start a run, take it up to ``last`` and show its summary."""
    from vpoc_ml import pipeline

    now = datetime.now(UTC)
    _run_until(last, lake, run, preset, overrides, raw, vix, now, session)
    if last == STAGES[-1].name:
        pipeline.publish_reports(lake, run, now)
    output.show_summary(pipeline.summarize(lake, run), as_json)


def _run_until(
    last: str,
    lake: str,
    run: str,
    preset: str,
    overrides: dict[str, Any],
    raw: Path | None,
    vix: Path | None,
    now: datetime,
    session: datetime | None = None,
) -> None:
    """Start a run at ``now``, or as of the night of ``session``, and take it up to ``last``."""
    from vpoc_ml import pipeline
    from vpoc_ml.market.instruments import instrument
    from vpoc_ml.market.nights import past_night

    if last != STAGES[-1].name:
        overrides = HISTORY | overrides
    as_of = None
    if session is not None:
        calendar = instrument(configuration.resolve(preset, overrides).data.instrument).calendar
        as_of = past_night(calendar, session.date(), now)
    inputs = pipeline.recall_inputs(lake, *(str(path.absolute()) if path else None for path in (raw, vix)))
    output.show_notes(inputs.notes)
    pipeline.start_run(lake, run, preset, overrides, inputs.raw, inputs.vix, now=now, as_of=as_of)
    pipeline.run_until(lake, run, last, now, on_stage=output.show_stage, on_progress=output.show_progress)


for _stage in STAGES:
    if _stage.command is not None:
        _stage_command(_stage.command, _stage.name, _stage.help)


@app.command(
    help=f"Run every stage up to training. RUN comes first; default: derived from --output_dir. {legacy_flags.HELP}",
    options_metavar="[RUN] [OPTIONS]",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def train(
    context: typer.Context,
    lake: LakeOption = "data",
    run: RunOption = None,
    preset: Annotated[str | None, typer.Option("--preset", help="Named preset; default nightly.")] = None,
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    raw: RawOption = None,
    vix: VixOption = None,
    contract: ContractOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    from vpoc_ml.compat import train_command

    # no typer argument: it would take values of legacy flags, such as 16 8
    leads = bool(context.args) and not context.args[0].startswith("-")
    named, flags = (context.args[0], context.args[1:]) if leads else (None, context.args)
    legacy = legacy_flags.parse(flags)
    run = _run_of(named, run, train_command.run_of(legacy.output if legacy else None))
    if legacy is None:
        _run_stages("train", lake, run, preset or "nightly", _overrides(override, contract), raw, vix, as_json=as_json)
        return
    if legacy.verbose:
        output.log_to_stderr()
    preset, own = preset or legacy_flags.PRESET, legacy.settings | _overrides(override, contract)
    overrides = {"evaluation.fold": "off"} | own  # the legacy trainer fits one model on one split
    if legacy.data:
        settings, folder = configuration.resolve(preset, overrides), train_command.output_of(lake, run, legacy.output)
        raw, vix = train_command.deliver(legacy.data, vix, folder, settings.ingest, settings.data.contracts)
    train_and_evaluate(lake, run, preset, overrides, raw, vix, legacy.output, as_json=as_json)


def train_and_evaluate(
    lake: str,
    run: str,
    preset: str,
    overrides: dict[str, Any],
    raw: Path | None,
    vix: Path | None,
    output_folder: Path | None,
    *,
    as_json: bool,
) -> None:
    """Train, hand the model over, show what it is worth on held-out sessions, and say what comes next."""
    from vpoc_ml import pipeline
    from vpoc_ml.compat import train_command

    _run_until("train", lake, run, preset, overrides, raw, vix, datetime.now(UTC))
    if output_folder:
        train_command.hand_over(lake, run, output_folder)
    output.show_stage(pipeline.evaluate(lake, run))
    output.show_summary(pipeline.summarize(lake, run), as_json)
    output.progress.print(legacy_flags.next_steps(lake, run, raw, vix), highlight=False, markup=False, soft_wrap=True)


@app.command()
def seeds(
    seed: Annotated[list[int], typer.Option("--seed", help="training.seed of one net; repeatable.")],
    named: RunArgument = None,
    run: RunOption = None,
    processes: Annotated[int, typer.Option("--processes", help="Networks trained at the same time, one per GPU.")] = 1,
    lake: LakeOption = "data",
    as_json: JsonOption = False,
) -> None:
    """Train the run's network once per seed, one process per GPU; report each seed and the mean prediction."""
    from vpoc_ml import pipeline

    run = _run_of(named, run)
    result = pipeline.train_seeds(lake, run, seed, processes, on_progress=output.show_record)
    output.show_seeds(result, as_json)


@app.command()
def search(
    named: RunArgument = None,
    run: RunOption = None,
    trials: Annotated[int, typer.Option("--trials", help="Trials in all, those of previous calls included.")] = 30,
    vary: VaryOption = [],  # noqa: B006 - typer copies it
    seed: Annotated[int, typer.Option("--seed", help="Seed of the suggestions.")] = 0,
    lake: LakeOption = "data",
    as_json: JsonOption = False,
) -> None:
    """Search settings of model and training on a run's training set; trials are compared on validation rows."""
    from vpoc_ml import pipeline

    run = _run_of(named, run)
    output.emit(pipeline.search(lake, run, trials, vary, seed, on_trial=output.show_trial), as_json)


@app.command()
def doctor(
    lake: LakeOption = "data",
    preset: PresetOption = "nightly",
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    as_json: JsonOption = False,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Also the settings of a cluster (docs/cluster.md).")
    ] = False,
) -> None:
    """Diagnose this machine: Python, torch, ROCm, GPUs and known issues, disk, lake, services; exit 2 on a problem."""
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


@app.command()
def migrate(
    lake: Annotated[str, typer.Argument(envvar=environment.LAKE, help="The lake: a folder or s3://bucket/es.")],
    as_json: JsonOption = False,
) -> None:
    """Give the records of a lake of the previous release the names of this one. Run it while no run is active."""
    from vpoc_ml import pipeline

    report = pipeline.migrate(lake)
    if as_json:
        output.emit(report, as_json)
    else:
        typer.echo(f"rewritten: {len(report.rewritten)}\ndamaged: {'; '.join(report.damaged) or 'none'}")


@app.command("alert-test")
def alert_test(as_json: JsonOption = False) -> None:
    """Send a test alert through every channel; exit code 1 if one fails, 2 if none is configured (docs/alerts.md)."""
    command = [sys.executable, "-m", "vpoc_ops.supervisor", "alert-test", *(["--json"] if as_json else [])]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
def verify(lake: LakeOption = "data", as_json: JsonOption = False) -> None:
    """Check ledger, registered versions, artifacts and folds against their hashes, and the lineage of champions."""
    from vpoc_ml import pipeline

    found = pipeline.verify(lake)
    output.show_verification(found, as_json)
    if found.problems:
        raise typer.Exit(1)


@app.command()
def retain(
    nights: Annotated[int, typer.Option("--nights", help="Newest nights whose runs keep all files; at least 7.")],
    lake: LakeOption = "data",
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it the files are only listed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete training sets of old runs and folds that no kept run uses; what a champion needs stays."""
    from vpoc_ml import pipeline

    output.emit(pipeline.retain(lake, nights, delete=delete), as_json)


@app.command()
def leakage(
    preset: PresetOption = "nightly",
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    lake: LakeOption = "data",
    as_json: JsonOption = False,
) -> None:
    """Check on synthetic markets that no feature, label or fitted number uses future data; exit code 3 if one does."""
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


@app.command()
def score(
    named: RunArgument = None,
    run: RunOption = None,
    like: LikeOption = None,
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    raw: NewRawOption = None,
    vix: NewVixOption = None,
    lake: LakeOption = "data",
    as_json: JsonOption = False,
) -> None:
    """Read new bars up to the features and score them with the champion; nothing is trained.

    Exit 5 if refused, 3 if a gate fails.
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


@app.command()
def monitor(
    named: RunArgument = None,
    run: RunOption = None,
    like: LikeOption = None,
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    raw: NewRawOption = None,
    vix: NewVixOption = None,
    lake: LakeOption = "data",
    as_json: JsonOption = False,
) -> None:
    """Read new bars up to the features, score them, and compare them with the champion's training rows. Exit 3 on an
    error; a warning exits 0."""
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


@app.command()
def predictions(
    csv: Annotated[Path | None, typer.Option("--csv", help="CSV file to write; default: stdout.")] = None,
    version: Annotated[int | None, typer.Option("--version", help="Version of the model; default: the newest.")] = None,
    contract: Annotated[str | None, typer.Option("--contract", help="Only this contract; default: all.")] = None,
    key: KeyOption = None,
    lake: LakeOption = "data",
) -> None:
    """Export the stored predictions of one model version as CSV."""
    from vpoc_ml.lake.atomic import write_text
    from vpoc_ml.scoring.predictions import predictions_csv, read_predictions

    frame = read_predictions(lake, key=key, version=version, contract=contract)
    if csv is None:
        typer.echo(predictions_csv(frame), nl=False)
        return
    write_text(csv, predictions_csv(frame))
    output.progress.print(f"{frame.height:,} predictions in {csv}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def promote(
    reason: ReasonOption,
    named: RunArgument = None,
    run: RunOption = None,
    name: NameOption = None,
    override: Annotated[
        bool, typer.Option("--override", help="Promote also if the rule refuses; needs --as; no failed gate.")
    ] = False,
    lake: LakeOption = "data",
    as_json: JsonOption = False,
) -> None:
    """Promote a run's model if the promotion rule accepts it or a person overrides the rule, else exit 1."""
    from vpoc_ml import pipeline

    run = _run_of(named, run)
    decision = pipeline.promote_by_hand(lake, run, datetime.now(UTC), reason, name=name, override=override)
    output.show_decision(decision, as_json)
    if decision.state not in ("promoted", "waiting"):
        raise typer.Exit(1)


@app.command()
def approve(
    name: Annotated[str, typer.Option("--as", help="Your name; goes to ledger and report.")],
    named: RunArgument = None,
    run: RunOption = None,
    note: Annotated[str, typer.Option("--note", help="Remark; goes to ledger and report.")] = "",
    lake: LakeOption = "data",
    as_json: JsonOption = False,
) -> None:
    """Approve a candidate that waits: it is promoted and scores the newest bars.

    Exit 1 if it is not promoted, 3 if the gate on its predictions fails.
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


@app.command()
def reject(
    name: Annotated[str, typer.Option("--as", help="Your name; goes to ledger and report.")],
    note: Annotated[str, typer.Option("--note", help="Remark; goes to ledger and report.")],
    named: RunArgument = None,
    run: RunOption = None,
    lake: LakeOption = "data",
    as_json: JsonOption = False,
) -> None:
    """Reject a candidate that waits for approval; the champion stays."""
    from vpoc_ml import pipeline

    run = _run_of(named, run)
    output.show_decision(pipeline.reject(lake, run, datetime.now(UTC), name, note), as_json)


@app.command()
def rollback(
    reason: ReasonOption,
    name: NameOption = None,
    lake: LakeOption = "data",
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore the previous champion."""
    from vpoc_ml import pipeline

    output.emit(pipeline.rollback(lake, reason, datetime.now(UTC), key, name=name), as_json)


@app.command()
def reproduce(
    version: Annotated[int, typer.Argument(help="Number of a registered version; see vpoc-ml models.")],
    lake: LakeOption = "data",
    as_json: JsonOption = False,
) -> None:
    """Train a registered model again from the lake and compare every bit; exit 1 if they differ."""
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
def models(
    context: typer.Context, lake: LakeOption = "data", key: KeyOption = None, as_json: JsonOption = False
) -> None:
    """List the registered models by key, with each key's champion, and the newest decision about each model."""
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
    version: Annotated[int, typer.Argument(help="Number of a registered version; see vpoc-ml models.")],
    lake: LakeOption = "data",
    as_json: JsonOption = False,
) -> None:
    """Print the record of a registered version: model card, lineage back to the delivered files, decision, ledger."""
    from vpoc_ml import pipeline

    output.show_model(pipeline.model_record(lake, version), as_json)


@app.command()
def summary(
    named: RunArgument = None, run: RunOption = None, lake: LakeOption = "data", as_json: JsonOption = False
) -> None:
    """Print the summary of a run."""
    from vpoc_ml import pipeline

    output.show_summary(pipeline.summarize(lake, _run_of(named, run)), as_json)


@report.command("features")
def report_features(
    named: RunArgument = None, run: RunOption = None, lake: LakeOption = "data", as_json: JsonOption = False
) -> None:
    """Analyse a run's features on its training and validation rows: feature-analysis.html, .json."""
    from vpoc_ml import pipeline

    output.emit(pipeline.analyze_features(lake, _run_of(named, run, MANUAL)), as_json)


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
