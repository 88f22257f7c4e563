"""Events of the stages that run in this process. Standard library only: DAG files import it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from vpoc_ml.artifacts.training_progress import ProgressRecord

Kind = Literal["started", "finished", "skipped", "failed", "progress"]


@dataclass(frozen=True)
class StageEvent:
    """Something that happened in a stage.

    Attributes:
        kind: what happened.
        stage: name of the stage's function.
        label: contract of a mapped task; "" for a stage that runs once.
        seconds: how long the stage ran; 0 while it runs.
        progress: one record of the training, for ``progress``; None for the other kinds.
    """

    kind: Kind
    stage: str
    label: str = ""
    seconds: float = 0.0
    progress: ProgressRecord | None = None


observers: list[Callable[[StageEvent], None]] = []
"""Functions that ``notify`` calls, in this process."""


def notify(event: StageEvent) -> None:
    """Call every observer with ``event``."""
    for observer in observers:
        observer(event)
