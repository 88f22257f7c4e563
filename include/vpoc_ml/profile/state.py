"""A session's profile between two chunks of bars: all that the developing levels need to go on.

VPOC, value area and everything they are repaired from follow from the profile, so nothing else is kept and nothing
can contradict it.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.atomic import write_bytes
from vpoc_ml.profile.kernels import Ints

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class ProfileState:
    """The profile of one session up to and including the bar that starts at ``ts``.

    ``units`` has the volume in 1/720720 contract on each tick from the session's low, ``low`` in ticks, to its high.
    ``spread`` is the setting it was made with.
    """

    contract: str
    session: date
    ts: datetime
    spread: str
    low: int
    units: Ints

    def save(self, path: Path) -> None:
        """Write the state to ``path`` as npz, at once or not at all."""
        content = io.BytesIO()
        np.savez(
            content,
            names=np.array([self.contract, self.session.isoformat(), self.spread]),
            numbers=np.array([(self.ts - _EPOCH) // timedelta(microseconds=1), self.low], np.int64),
            units=self.units,
        )
        write_bytes(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> ProfileState:
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: the file is absent or not such a state.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                contract, session, spread = stored["names"].tolist()
                stamp, low = stored["numbers"].tolist()
                ts = _EPOCH + timedelta(microseconds=stamp)
                return cls(contract, date.fromisoformat(session), ts, spread, low, stored["units"])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ArtifactError(path, "a saved profile state", f"{type(error).__name__}: {error}") from error


def refuse_foreign(state: ProfileState, bars: pl.DataFrame, spread: str) -> None:
    """Raise ``ArtifactError`` unless ``bars``, at least one, go on where ``state`` stopped."""
    contract, ts, session = bars.select("contract", "ts", "session").row(0)
    if (contract, spread) != (state.contract, state.spread):
        raise ArtifactError("profile state", f"{contract} with spread {spread}", f"{state.contract}, {state.spread}")
    if ts <= state.ts or session < state.session:
        raise ArtifactError("bars", f"the bars after {state.ts.isoformat()}", f"a first bar at {ts.isoformat()}")
