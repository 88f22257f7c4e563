"""The results of the leakage checks, and the proof that a run stores as ``leakage/proof.json``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, computed_field

from vpoc_ml.artifacts.json_artifact import JsonArtifact


@dataclass(frozen=True)
class Violation:
    """The first row at which a feature, or the training set, fails a leakage check.

    ``ts`` is the start of the first offending bar in UTC, ``row`` its row among the checked ones. Both are None where
    the violation concerns a whole column. ``feature`` is ``*`` where it concerns the rows themselves.
    """

    check: str
    feature: str
    ts: datetime | None
    row: int | None
    expected: str
    found: str
    remedy: str

    def line(self) -> str:
        """Return the violation as one line of a message."""
        where = f" at {self.ts.isoformat()} (row {self.row})" if self.ts else ""
        return f"{self.check}: {self.feature}{where}: expected {self.expected}; found {self.found}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class LeakageCheckResult:
    """The result of one leakage check, as gate ``leakage`` validates it.

    Args:
        check: name of the check.
        expected: what it expects, as reports show it.
        comparisons: number of comparisons made; a check without any has failed.
        broken: the violations, one line each.
        first: timestamps of the first violations, start of bar, UTC.
    """

    check: str
    expected: str
    comparisons: int
    broken: tuple[str, ...] = ()
    first: tuple[datetime, ...] = ()


@dataclass(frozen=True)
class Skill:
    """The two t statistics of one feature in the placebo check; 0 where the feature does not vary."""

    signed: float
    absolute: float

    @property
    def largest(self) -> float:
        """The larger absolute t."""
        return max(abs(self.signed), abs(self.absolute))


class LargestT(BaseModel):
    """The feature with the largest absolute t of the placebo check."""

    model_config = ConfigDict(frozen=True)

    feature: str
    t: float


class LeakageProof(JsonArtifact):
    """The result of all leakage checks of a feature builder and a training set, on generated markets.

    ``comparisons`` counts, by check, how often a feature, or a row of the training set, was compared. It is 0 where a
    builder produces nothing to compare. ``build_key`` names the code, settings and libraries the proof is valid for.
    """

    build_key: dict[str, str] = Field(default_factory=dict)
    features: tuple[str, ...]
    comparisons: dict[str, int]
    violations: tuple[Violation, ...] = Field(validation_alias=AliasChoices("violations", "findings"))
    skills: dict[str, Skill] = Field(alias="t")
    limit_t: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether every check made comparisons and found no violation."""
        return not self.violations and all(self.comparisons.values())

    @computed_field  # type: ignore[prop-decorator]
    @property
    def largest_t(self) -> LargestT:
        """The feature with the largest absolute t, and that t."""
        name = max(self.skills, key=lambda each: self.skills[each].largest, default="")
        return LargestT(feature=name, t=self.skills[name].largest if name else 0.0)
