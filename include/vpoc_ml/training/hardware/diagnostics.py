"""A finding: one thing looked at, how it stands, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "problem"]


@dataclass(frozen=True)
class Diagnostic:
    """``problem`` stops training; ``warning`` costs speed or safety; ``note`` and ``ok`` need nothing."""

    subject: str
    level: Level
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.found}. {self.remedy}".rstrip()
