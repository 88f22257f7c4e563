"""The request to stop a training in order, as SIGTERM makes it: a checkpoint first, so that no work is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vpoc_ml.errors import TrainingStoppedError


class StopRequest:
    """Whether a stop was requested. An instance is a handler of signals.

    A request is granted at once by ``TrainingStoppedError``, which may arise at any place. Within ``until_granted`` it
    waits until the training calls ``grant``.
    """

    def __init__(self) -> None:
        self.requested = self._waits = False

    def __call__(self, *_signal: object) -> None:
        """Ask to stop."""
        self.requested = True
        if not self._waits:
            self.grant()

    def grant(self) -> None:
        """Do nothing, or if a stop was requested:

        Raises:
            TrainingStoppedError: always.
        """
        if self.requested:
            raise TrainingStoppedError

    @contextmanager
    def until_granted(self) -> Iterator[None]:
        """Let requests wait for ``grant``, at the latest until the block has ended."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        self.grant()
