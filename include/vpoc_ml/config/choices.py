"""Settings that choose a kind and state that kind's own parameters in one value, such as ``multiclass(classes=5)``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator

_FORM = re.compile(r"\s*(?P<kind>\w+)\s*(?:\((?P<parameters>.*)\))?\s*", re.DOTALL)
_HORIZON = re.compile(r"(?P<count>[0-9]{1,6})(?P<unit>[ms]?)")
SESSION_MINUTES = 1380
"""Minutes of a session of 23 hours."""
LONGEST_HORIZON = {"minutes": SESSION_MINUTES - 1, "sessions": 20}
"""Largest count of a horizon by kind. The last bar of a session begins this many minutes after the first one."""


class Choice(BaseModel):
    """A kind with its parameters. Text form: ``kind`` or ``kind(name=value)``; a list has spaces between its values.

    Two choices are equal if kind and the kind's own parameters are: parameters of other kinds do not count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    PARAMETERS: ClassVar[Mapping[str, str]] = {}
    """Kind -> name of its one parameter; a kind that is absent has none."""

    kind: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = _FORM.fullmatch(value)
        if found is None:
            raise ValueError(f"a kind such as {cls.examples()[-1]}")
        kind, text = found["kind"], (found["parameters"] or "").strip()
        if not text:
            return {"kind": kind}
        name, separator, stated = text.partition("=")
        own = cls.PARAMETERS.get(kind)
        if own is None or (separator and name.strip() != own):
            raise ValueError(f"{kind}({own}=...)" if own else f"{kind} without parameters")
        values = (stated if separator else text).split()
        return {"kind": kind, own: values[0] if len(values) == 1 else values}

    @model_serializer
    def __str__(self) -> str:
        """Return the text form; it states the parameter also if it has its default value, which may change one day."""
        own = self.PARAMETERS.get(self.kind)
        value = getattr(self, own) if own else None
        listed = " ".join(map(str, value)) if isinstance(value, tuple) else value
        return f"{self.kind}({own}={listed})" if own else self.kind

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @classmethod
    def examples(cls) -> list[str]:
        """Return the text form of every kind, with its parameter."""
        kinds = cls.model_fields["kind"].annotation.__args__  # type: ignore[union-attr]
        return [str(cls(kind=kind)) for kind in kinds]


class Horizon(BaseModel):
    """How long a label runs. Text form: ``15m`` minutes, ``close`` (to the session's close), ``5s`` sessions.

    A number without a unit counts minutes. ``count`` is 0 for ``close``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["minutes", "close", "sessions"] = "minutes"
    count: int = Field(1, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            return value
        text = str(value).strip()
        if text == "close":
            return {"kind": "close", "count": 0}
        found = _HORIZON.fullmatch(text)
        kind = "sessions" if found is not None and found["unit"] == "s" else "minutes"
        if found is None or not 1 <= int(found["count"]) <= LONGEST_HORIZON[kind]:
            raise ValueError(
                f"1m to {LONGEST_HORIZON['minutes']}m (minutes), close (the session's close)"
                f" or 1s to {LONGEST_HORIZON['sessions']}s (sessions)"
            )
        return {"kind": kind, "count": int(found["count"])}

    @model_serializer
    def __str__(self) -> str:
        return "close" if self.kind == "close" else f"{self.count}{self.kind[0]}"

    @property
    def minutes(self) -> int:
        """Minutes of trading that the label covers at most."""
        return self.count if self.kind == "minutes" else SESSION_MINUTES * max(self.count, 1)

    @property
    def later_sessions(self) -> int:
        """Sessions from the decision's to the one in which the label ends; 0 within a session."""
        return self.count if self.kind == "sessions" else 0

    @classmethod
    def of(cls, text: str | int) -> Self:
        """Return the horizon with this text form.

        Raises:
            ValidationError: the text is of another form.
        """
        return cls.model_validate(text)


class Target(Choice):
    """What the network is trained on. Every kind is scored and compared in rank units."""

    PARAMETERS: ClassVar[Mapping[str, str]] = {"vol_scaled": "bars", "multiclass": "classes", "quantiles": "levels"}

    kind: Literal["rank", "rank_gauss", "return", "vol_scaled", "binary", "multiclass", "quantiles"] = "rank"
    classes: int = Field(3, ge=2, le=20, description="Classes of multiclass, cut at training quantiles.")
    levels: tuple[float, ...] = Field((0.1, 0.25, 0.5, 0.75, 0.9), description="Levels of quantiles.")
    bars: int = Field(30, ge=2, le=SESSION_MINUTES, description="Last bars from which vol_scaled takes the volatility.")

    @field_validator("levels", mode="before")
    @classmethod
    def _split(cls, levels: Any) -> Any:
        return re.split(r"[,\s]+", levels.strip()) if isinstance(levels, str) else levels

    @field_validator("levels")
    @classmethod
    def _symmetric(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        rising = all(0 < low < high < 1 for low, high in itertools.pairwise(levels)) and len(levels) > 1
        if not rising or any(abs(low + high - 1) > 1e-9 for low, high in zip(levels, levels[::-1], strict=True)):
            raise ValueError("two or more levels that rise within (0, 1) and lie symmetrically about 0.5")
        return levels


class Encoding(Choice):
    """How features enter the network; piecewise_linear: as their progress through bins of training quantiles."""

    PARAMETERS: ClassVar[Mapping[str, str]] = {"piecewise_linear": "bins"}

    kind: Literal["none", "piecewise_linear"] = "none"
    bins: int = Field(24, ge=2, le=256, description="Bins of piecewise_linear.")
