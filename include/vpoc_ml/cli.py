"""``vpoc-ml``: every stage without Airflow. The DAGs call the same functions of ``vpoc_ml.pipeline``."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vpoc_ml import config as configuration
from vpoc_ml.errors import GateFailedError, VpocError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Futures bars -> gates -> volume profiles -> features -> model -> promotion, one command a stage.",
)
report = typer.Typer(no_args_is_help=True, help="Reports on what a run has left.")
app.add_typer(report, name="report")
progress = Console(stderr=True)

LakeOption = Annotated[str, typer.Option("--lake", envvar="VPOC_ML_LAKE", help="The lake: a folder or s3://bucket/es.")]
RunOption = Annotated[str, typer.Option("--run", help="Name of the run.")]
RecipeOption = Annotated[str, typer.Option("--recipe", help="Named recipe: nightly, smoke, top5.")]
OverrideOption = Annotated[list[str], typer.Option("-o", "--override", help="Setting to change: key=value.")]
RawOption = Annotated[Path | None, typer.Option("--raw", help="Folder of vendor files; default LAKE/raw.")]
VixOption = Annotated[Path | None, typer.Option("--vix", help="VIX file; default: one in the raw folder.")]
ContractOption = Annotated[list[str], typer.Option("--contract", help="Contract to use; repeatable; default all.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON line on stdout.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; goes to the ledger.")]


@app.command()
def synth(
    out: Annotated[Path, typer.Option("--out", help="Folder to write the vendor files into.")] = Path("synthetic"),
    contracts: Annotated[int, typer.Option(help="Number of quarterly contracts; 40 are ten years.")] = 12,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 7,
    mode: Annotated[str, typer.Option(help="signal: a weak planted signal; martingale: none.")] = "signal",
    faults: Annotated[str, typer.Option(help="Data faults to plant: all, or kinds separated by commas.")] = "",
    lead: Annotated[int, typer.Option(help="Sessions of a file before its contract becomes front; 190: a year.")] = 22,
) -> None:
    """Write a synthetic ES and VIX market as vendor files, with the truth beside it."""
    from vpoc_ml.ingest.synthetic import write_market
    from vpoc_ml.ingest.synthetic_faults import KINDS

    kinds = KINDS if faults == "all" else [kind.strip() for kind in faults.split(",") if kind.strip()]
    made = write_market(out, contracts=contracts, seed=seed, mode=mode, faults=kinds, lead=lead)  # type: ignore[arg-type]
    for path in [*made.files.values(), made.vix, made.truth, *([made.faults] if made.faults else [])]:
        typer.echo(path)


@app.command()
def config(recipe: RecipeOption = "nightly", override: OverrideOption = []) -> None:  # noqa: B006 - typer copies it
    """Print every setting of a recipe with its help."""
    resolved = configuration.resolve(recipe, dict(map(configuration.parse_override, override)))
    fields = configuration.form_fields()
    for section, settings in resolved.model_dump(mode="json").items():
        if isinstance(settings, dict):
            for name, value in settings.items():
                text = fields[f"{section}.{name}"]["description"].split(" Empty: ")[0]
                typer.echo(f"{section}.{name}={json.dumps(value):<24} # {text}")
    typer.echo(f"# hash {resolved.digest()}")


def _stage_command(last: str, help_text: str) -> None:
    """Register the command that runs every stage up to ``last``."""

    @app.command(last if last != "score" else "run", help=help_text)
    def command(
        lake: LakeOption = "data",
        run: RunOption = "manual",
        recipe: RecipeOption = "nightly",
        override: OverrideOption = [],  # noqa: B006 - typer copies it
        raw: RawOption = None,
        vix: VixOption = None,
        contract: ContractOption = [],  # noqa: B006
        as_json: JsonOption = False,
    ) -> None:
        from vpoc_ml import pipeline

        overrides: dict[str, Any] = dict(map(configuration.parse_override, override))
        if contract:
            overrides["data.contracts"] = contract
        now = datetime.now(UTC)
        pipeline.start_run(lake, run, recipe, overrides, str(raw) if raw else None, str(vix) if vix else None, now=now)
        pipeline.run_until(lake, run, last, now, on_stage=_show_stage, on_progress=_show_progress)
        if last == "score":
            pipeline.publish_reports(lake, run, now)
        _show_summary(pipeline.summarize(lake, run), as_json)


for _last, _help in {
    "ingest": "Vendor files -> bars, quarantine.",
    "gate-bars": "... -> gate: bars.",
    "profile": "... -> sessions, developing levels.",
    "features": "... -> features.",
    "gate-features": "... -> gate: features.",
    "gate-leakage": "... -> gate: nothing looks ahead.",
    "training-set": "... -> training set.",
    "gate-training-set": "... -> gate: training set.",
    "train": "... -> a trained model in the run's folder.",
    "evaluate": "... -> metrics.json and report.html.",
    "score": "Everything in order: ingest to promotion and scoring.",
}.items():
    _stage_command(_last, _help)


@app.command()
def leakage(
    recipe: RecipeOption = "nightly",
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    as_json: JsonOption = False,
) -> None:
    """Prove on synthetic markets that no feature, label or fitted number knows the future; exit code 3 if one does."""
    from vpoc_ml import pipeline

    proof = pipeline.prove_code(configuration.resolve(recipe, dict(map(configuration.parse_override, override))))
    if as_json:
        typer.echo(json.dumps(proof.to_json()))
    else:
        from vpoc_ml.pipeline.table import render_proof

        render_proof(Console(), proof.to_json())
    if not proof.passed:
        raise typer.Exit(GateFailedError.exit_code)


@app.command()
def promote(
    run: Annotated[str, typer.Argument(help="Evaluated run.")],
    reason: ReasonOption,
    lake: LakeOption = "data",
    as_json: JsonOption = False,
) -> None:
    """Promote a run's model if the promotion rule allows it; the rule is not overruled by hand."""
    from vpoc_ml import pipeline

    _emit(pipeline.promote(lake, run, datetime.now(UTC), f"hand: {reason}"), as_json)


@app.command()
def rollback(reason: ReasonOption, lake: LakeOption = "data", as_json: JsonOption = False) -> None:
    """Restore the previous champion."""
    from vpoc_ml import pipeline

    _emit(pipeline.rollback(lake, reason, datetime.now(UTC)), as_json)


@app.command()
def models(lake: LakeOption = "data", as_json: JsonOption = False) -> None:
    """List the registered models and today's champion."""
    from vpoc_ml import pipeline

    for model in pipeline.models(lake):
        _emit(model, as_json)


@app.command()
def summary(
    run: Annotated[str, typer.Argument(help="Name of the run.")], lake: LakeOption = "data", as_json: JsonOption = False
) -> None:
    """Print the table a run ends with."""
    from vpoc_ml import pipeline

    _show_summary(pipeline.summarize(lake, run), as_json)


@report.command("features")
def report_features(lake: LakeOption = "data", run: RunOption = "manual", as_json: JsonOption = False) -> None:
    """Analyse a run's features on its training and validation rows: feature-analysis.html, .json."""
    from vpoc_ml import pipeline

    _emit(pipeline.analyze_features(lake, run), as_json)


def _emit(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
        return
    for name, value in result.items():
        typer.echo(f"{name}: {'; '.join(map(str, value)) if isinstance(value, list) else value}")


def _show_summary(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
        return
    from vpoc_ml.pipeline.table import render

    render(Console(), result)


def _show_stage(result: dict[str, Any]) -> None:
    what = f"{result['stage']} {result.get('contract', '')}".strip()
    rows = f"{result['rows_in']:,} -> {result['rows_out']:,} rows" if "rows_out" in result else ""
    why = result.get("why")
    worked = f"{result.get('seconds', 0):.1f} s{f'  {why}' if why else ''}"
    state = "unchanged" if result.get("skipped") else worked
    progress.print(f"  {what:<28} {rows:<28} {state}", highlight=False)


def _show_progress(record: dict[str, Any]) -> None:
    if record.get("kind") == "epoch":
        progress.print(
            f"    epoch {record['epoch']}: validation loss {record['validation_loss']:.6f}"
            f" (constant {record['validation_constant']:.6f})",
            highlight=False,
        )


def main() -> None:
    """Run the command line; a typed error becomes its message on stderr and its exit code."""
    try:
        app()
    except VpocError as error:
        progress.print(f"{type(error).__name__}: {error}", style="red", highlight=False, markup=False)
        sys.exit(error.exit_code)
