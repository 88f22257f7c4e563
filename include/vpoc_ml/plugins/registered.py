"""The plugins that are active in this process. ``load`` sets them; each layer reads those of its kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["features", "checks", "models", "readers"]
LISTS: dict[Kind, str] = {"features": "FEATURES", "checks": "CHECKS", "models": "MODELS", "readers": "READERS"}
"""Name of the list of each kind in ``plugins.py``."""


@dataclass(frozen=True)
class Plugin:
    """One object of a plugin.

    ``origin`` is its file or entry point, for messages. ``digest`` covers the code that it depends on, 16 hex digits.
    """

    kind: Kind
    name: str
    value: Any
    origin: str
    digest: str


@dataclass(frozen=True)
class Active:
    """The active plugins, and the lake whose ``plugins.py`` is among them; None before any lake was opened."""

    lake: str | None = None
    plugins: tuple[Plugin, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Kind, name and digest of every plugin; empty without plugins."""
        return "; ".join(sorted(f"{each.kind} {each.name} {each.digest}" for each in self.plugins))


_state = [Active()]


def set_active(active: Active) -> None:
    """Make these the plugins of this process."""
    _state[0] = active


def current() -> Active:
    """Return the active plugins of this process."""
    return _state[0]


def of_kind(kind: Kind) -> tuple[Plugin, ...]:
    """Return the active plugins of one kind, in the order in which they were found."""
    return tuple(each for each in _state[0].plugins if each.kind == kind)


def digests(kind: Kind, names: Iterable[str] | None = None) -> dict[str, str]:
    """Return the digests of the active plugins of a kind by "own NAME", for a build key; None: of all of them."""
    wanted = None if names is None else set(names)
    return {f"own {one.name}": one.digest for one in of_kind(kind) if wanted is None or one.name in wanted}
