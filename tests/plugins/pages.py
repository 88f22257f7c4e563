"""Code of the how-to pages, which the tests run as a user would."""

from __future__ import annotations

import re
from pathlib import Path

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"


def code_of(page: str, number: int = 0, language: str = "python") -> str:
    """Return a code block of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", (HOW_TO / page).read_text(), re.MULTILINE | re.DOTALL)[number]
