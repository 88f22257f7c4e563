"""Where ``vpoc-ml --help`` shows each command, and the examples in the help of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperGroup

NIGHT, STAGES, GATES, MODELS, STUDY, CARE = (
    "A night: from files to scores",
    "One stage at a time",
    "Gates",
    "Models and decisions",
    "Look closer",
    "Lake and machine",
)
"""Titles of the groups, in the order in which the help shows them."""

EXAMPLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "run": (
        NIGHT,
        (
            "run --raw /data/es --vix /data/vix.csv",
            "run tuesday --preset smoke -o dataset.horizon=15m",
            "run past --session 2026-05-14",
        ),
    ),
    "score": (NIGHT, ("score", "score noon --raw /data/new --json")),
    "monitor": (NIGHT, ("monitor", "monitor noon --lake s3://bucket/es")),
    "predictions": (NIGHT, ("predictions --csv scores.csv", "predictions --version 3 --contract ESH25")),
    "ingest": (STAGES, ("ingest --raw /data/es --vix /data/vix.csv", "ingest --contract ESH25 --contract ESM25")),
    "profile": (STAGES, ("profile", "profile --contract ESH25 -o profile.spread=close_only")),
    "features": (STAGES, ("features", "features --jobs 4 -o features.extras=har,garch")),
    "training-set": (STAGES, ("training-set study -o dataset.horizon=60m",)),
    "walk-forward": (STAGES, ("walk-forward study --preset smoke --jobs 2",)),
    "train": (
        STAGES,
        (
            "train study --preset conservative -o training.epochs=5",
            "train --data merged.csv --output_dir out --hidden_dims 16 8 --epochs 3",
        ),
    ),
    "evaluate": (STAGES, ("evaluate study", "evaluate study --json")),
    "gate-bars": (GATES, ("gate-bars", "gate-bars -o quality.overrides=outlier_warn=0.5")),
    "gate-sessions": (GATES, ("gate-sessions --contract ESH25",)),
    "gate-features": (GATES, ("gate-features", "gate-features --json")),
    "gate-leakage": (GATES, ("gate-leakage",)),
    "gate-training-set": (GATES, ("gate-training-set study",)),
    "gate-candidate": (GATES, ("gate-candidate study",)),
    "models": (MODELS, ("models", "models show 3")),
    "promote": (
        MODELS,
        (
            "promote study --reason 'new contracts'",
            "promote study --reason 'agreed on Monday' --as anna --override",
        ),
    ),
    "approve": (MODELS, ("approve night --as anna --note 'costs checked'",)),
    "reject": (MODELS, ("reject night --as anna --note 'too few sessions'",)),
    "rollback": (
        MODELS,
        ("rollback --reason 'live record below zero' --as anna", "rollback --key ES-15m-rank --reason test"),
    ),
    "reproduce": (MODELS, ("reproduce 3",)),
    "summary": (STUDY, ("summary night", "summary night --json")),
    "report": (STUDY, ("report session ESH25 2025-02-27", "report run", "report features study")),
    "seeds": (STUDY, ("seeds study --seed 1 --seed 2 --seed 3",)),
    "search": (STUDY, ("search study --trials 30 --vary 'training.learning_rate=1e-5..1e-3 log'",)),
    "leakage": (STUDY, ("leakage", "leakage -o features.extras=har")),
    "synth": (CARE, ("synth --out /tmp/es --contracts 3", "synth --out /tmp/none --mode martingale --faults all")),
    "config": (CARE, ("config", "config --preset top5 -o training.epochs=5")),
    "doctor": (CARE, ("doctor", "doctor --cluster --json")),
    "verify": (CARE, ("verify", "verify --lake s3://bucket/es --json")),
    "retain": (CARE, ("retain --nights 60", "retain --nights 60 --delete")),
    "migrate": (CARE, ("migrate /big/disk/lake",)),
    "alert-test": (CARE, ("alert-test",)),
}
"""Group and examples of each command, in the order in which the help shows them."""

SESSION_REPORT = ("report session", "report session ESH25 2025-02-27 --svg session.svg --csv bars.csv")
RUN_REPORT = ("report run", "report run night --html night.html", "report run night --json")
FEATURE_REPORT = ("report features study",)
FIRST_STEPS = (
    "synth --out /tmp/es --contracts 3",
    "run --lake /tmp/lake --raw /tmp/es --preset smoke",
    "models --lake /tmp/lake",
)


class Grouped(TyperGroup):
    """Lists the commands group by group."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of ``EXAMPLES``."""
        order = {name: position for position, name in enumerate(EXAMPLES)}
        return sorted(super().list_commands(ctx), key=lambda name: order[name])


def shown(name: str) -> dict[str, Any]:
    """Return what typer needs to show the command ``name`` in its group, with its examples.

    Raises:
        KeyError: the command has no row in ``EXAMPLES``.
    """
    group, examples = EXAMPLES[name]
    return {"rich_help_panel": group, "epilog": examples_text(examples)}


def unwrapped(text: str) -> str:
    """Return a docstring with one line per paragraph: the terminal, not the source, decides where lines end."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def examples_text(examples: Sequence[str], title: str = "Examples") -> str:
    """Return the end of a help text: one indented line per example, a code block where it is read as Markdown."""
    return f"\n{title}:\n\n" + "\n".join(f"    vpoc-ml {each}" for each in examples)
