"""The plan of a run: its contracts, the sources of their bars, and the files that it leaves out."""

from __future__ import annotations

from pydantic import Field

from vpoc_ml.artifacts.sources import Source, UnreadableFile
from vpoc_ml.artifacts.stage_results import StageResult


class Plan(StageResult):
    """Result of the stage ``plan``.

    Attributes:
        contracts: codes of the contracts to build, in order of expiry.
        sources: the delivered sources of each contract.
        unreadable: files that no reader knows or that are damaged.
        notes: one sentence for each file or contract that is left out.
        raw: folder of the vendor files.
        vix: the VIX file; None in a run without the VIX.
        covariates: the file of each further index, by its column among the bars.
    """

    contracts: tuple[str, ...]
    sources: dict[str, tuple[Source, ...]]
    unreadable: tuple[UnreadableFile, ...] = ()
    notes: tuple[str, ...] = ()
    raw: str
    vix: str | None
    covariates: dict[str, str] = Field(default_factory=dict)
