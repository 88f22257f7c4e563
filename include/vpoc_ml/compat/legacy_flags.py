"""The legacy trainer's command line as settings of a run.

``argparse`` reads these flags, because ``--hidden_dims 16 8`` takes any number of values: an option of Typer does not.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from vpoc_ml.errors import ConfigError, InvalidValueError

PRESET = "top5"
PATIENCE = 15
NO_CLIP = 1000.0
NUMBERS: dict[str, tuple[type, str]] = {
    "epochs": (int, "training.epochs"),
    "batch_size": (int, "training.batch_size"),
    "learning_rate": (float, "training.learning_rate"),
    "dropout_rate": (float, "model.dropout"),
    "weight_decay": (float, "training.weight_decay"),
    "warmup_steps": (int, "training.warmup_steps"),
    "gradient_clip_value": (float, "training.gradient_clip"),
    "early_stopping_patience": (int, "training.patience"),
    "gradient_accumulation_steps": (int, "training.accumulation"),
    "data_fraction": (float, "data.fraction"),
    "chunk_size": (int, "machine.chunk_rows"),
}
SWITCHES: dict[str, tuple[str, Any]] = {
    "use_mixed_precision": ("training.precision", "bf16"),
    "adaptive_loss": ("training.loss", "adaptive_huber"),
    "skip_gpu_cleanup": ("machine.vram_limit_gib", 0.0),
}
HELP = (
    "The flags of the legacy trainer are accepted too, on top of preset top5: --data (a folder, or one CSV or"
    f" Parquet file), --output_dir, --hidden_dims 16 8 or --hidden_layers 16,8, {', '.join(f'--{n}' for n in NUMBERS)},"
    f" {', '.join(f'--{n}' for n in SWITCHES)}, --verbose."
)


@dataclass(frozen=True)
class LegacyArguments:
    """The arguments of a legacy command line. ``settings``: overrides by dotted key."""

    data: Path | None
    output: Path | None
    settings: dict[str, Any]
    verbose: bool


def next_steps(lake: str, run: str, raw: Path | None, vix: Path | None) -> str:
    """Return what to do after a training: read the result, make the model champion, or run every stage."""
    places = "".join(f" {flag} {shlex.quote(str(path))}" for flag, path in (("--raw", raw), ("--vix", vix)) if path)
    lake = shlex.quote(lake)
    return (
        "The held-out metrics are those of sessions that neither training nor its early stopping has seen; the report"
        " compares them with baselines and shows the result after costs.\n"
        f"Next: vpoc-ml promote {run} --lake {lake} --reason TEXT makes the model champion if the promotion rule"
        f" allows it.\n      vpoc-ml run --lake {lake}{places} goes through every stage, from gates to scoring."
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"Expected flags that `vpoc-ml train --help` lists; {message}. Correct the command line.")


def parse(arguments: Sequence[str]) -> LegacyArguments | None:
    """Read the flags of the legacy trainer; None when there are none.

    Patience is 15 unless given, as it was there; ``gradient_clip_value`` 0 means no clipping.

    Raises:
        ConfigError: an unknown flag or a value of another type.
        InvalidValueError: widths that are no positive whole numbers.
    """
    if not arguments:
        return None
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output_dir", "--output", type=Path)
    widths = parser.add_mutually_exclusive_group()
    widths.add_argument("--hidden_dims", nargs="+")
    widths.add_argument("--hidden_layers", nargs=1, dest="hidden_dims")
    for flag, (kind, _) in NUMBERS.items():
        parser.add_argument(f"--{flag}", type=kind)
    for flag in (*SWITCHES, "verbose"):
        parser.add_argument(f"--{flag}", action="store_true")
    values = vars(parser.parse_args(list(arguments)))
    settings = {key: values[flag] for flag, (_, key) in NUMBERS.items() if values[flag] is not None}
    settings |= {key: value for flag, (key, value) in SWITCHES.items() if values[flag]}
    if settings.get("training.gradient_clip") == 0:
        settings["training.gradient_clip"] = NO_CLIP
    if texts := values["hidden_dims"]:
        parts = [part for text in texts for part in text.replace(",", " ").split()]
        if not parts or not all(part.isdigit() and int(part) > 0 for part in parts):
            raise InvalidValueError("--hidden_dims", " ".join(texts), "widths such as 16 8")
        settings["model.hidden_dims"] = tuple(map(int, parts))
    return LegacyArguments(
        values["data"], values["output_dir"], {"training.patience": PATIENCE, **settings}, values["verbose"]
    )
