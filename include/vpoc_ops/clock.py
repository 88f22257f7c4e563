"""When the exchange's day is over, for the nightly run and for the contracts. Standard library only."""

from __future__ import annotations

from datetime import time
from zoneinfo import ZoneInfo

CHICAGO = ZoneInfo("America/Chicago")
CLOSE_OF_DAY = time(17, 30)
"""When a session's files are complete, America/Chicago: 90 minutes after its close."""
