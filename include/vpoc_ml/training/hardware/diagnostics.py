"""The result of one check of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "problem"]


@dataclass(frozen=True)
class Diagnostic:
    """What was checked, what was found and what to do.

    A ``problem`` prevents training, a ``warning`` costs speed or safety, ``note`` and ``ok`` require nothing.
    """

    subject: str
    level: Level
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.found}. {self.remedy}".rstrip()
