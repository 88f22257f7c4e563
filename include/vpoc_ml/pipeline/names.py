"""Names of the stages in their order, of the gates, and of runs. Standard library only: DAG files import it."""

from __future__ import annotations

import re

STAGES = (
    "plan",
    "ingest",
    "gate-bars",
    "rolls",
    "profile",
    "features",
    "gate-features",
    "gate-leakage",
    "training-set",
    "gate-training-set",
    "train",
    "evaluate",
    "decide",
    "promote",
    "score",
)

GATES = tuple(name.removeprefix("gate-") for name in STAGES if name.startswith("gate-"))


def run_name(text: str) -> str:
    """Return ``text`` as the name of a run and its folder: anything but letters, digits and ``_.-`` becomes ``-``."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text).lstrip(".") or "run"
