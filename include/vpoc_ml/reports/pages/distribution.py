"""The distribution of a column: by contract against a reference night, night by night, train against validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from vpoc_ml.analysis.distribution import psi
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.gate_report import ALL
from vpoc_ml.artifacts.own_features import OwnFeatureText, OwnFeatureTexts
from vpoc_ml.artifacts.schemas import COLUMN_PROFILE, DISTRIBUTIONS, Schema
from vpoc_ml.features.registry import known_features
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.nights import CHICAGO
from vpoc_ml.quality.history import scan_tables
from vpoc_ml.reports.gate_results import NIGHTS, GateNight, gate_nights
from vpoc_ml.reports.inline_svg import Chart, line_chart
from vpoc_ml.reports.pages.gates import find_night
from vpoc_ml.reports.site import NoSuchPageError, Query, Site

PROFILED = ("features", "bars", "sessions", "training-set")
"""Gates whose column profiles the page looks at, the first one that has the column."""
TRAINING_SET = "training-set"
STAGES = {"raw": "before scaling", "scaled": "after scaler and guard"}
PROFILES: Schema = {"run": pl.String(), "gate": pl.String(), **COLUMN_PROFILE}


class DistributionQuery(Query):
    """A column on a night; "" for contract is the newest one, for reference the night before."""

    run: str
    column: str = "close"
    contract: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class ProfiledContract:
    """Profile of a contract on the night, and on the reference night; None where it has none."""

    contract: str
    now: dict[str, Any]
    before: dict[str, Any] | None

    @property
    def shift(self) -> float | None:
        """Difference of the medians in MAD of the reference night; None where it is undefined."""
        if self.before is None or self.before["median"] is None or self.now["median"] is None or not self.before["mad"]:
            return None
        return float((self.now["median"] - self.before["median"]) / self.before["mad"])


@dataclass(frozen=True, slots=True)
class SplitComparison:
    """Train against validation before or after scaling: picture, population stability index, missing values."""

    title: str
    chart: Chart
    psi: float
    reference_psi: float | None
    missing: dict[str, int]


def own_feature(site: Site, run: str, name: str) -> OwnFeatureText | None:
    """Return the text of a run's own feature; None where the run has no feature of this name."""
    stored = site.lake.read_json(layout.run_file(run, layout.OWN_FEATURES))
    texts = OwnFeatureTexts.model_validate(stored).features if stored else ()
    return next((each for each in texts if each.name == name), None)


def distribution_page(site: Site, query: DistributionQuery) -> str:
    """Return the distribution of a column.

    Raises:
        NoSuchPageError: there is no such night, or no gate profiled the column on it.
    """
    nights = gate_nights(site.lake)
    night = find_night(site, nights, query.run)
    at = nights.index(night)
    gate, now = _profiled(site, night, query.column)
    earlier = next((each for each in nights[at + 1 :] if gate in each.gates), None)
    reference = find_night(site, nights, query.reference) if query.reference else earlier
    before = read_profiles(site.lake, gate, [reference], query.column) if reference else now.clear()
    known = {row["contract"]: row for row in before.iter_rows(named=True)}
    rows = {row["contract"]: row for row in now.iter_rows(named=True)}
    codes = [*sorted((code for code in rows if code != ALL), key=parse_contract), *([ALL] if ALL in rows else [])]
    contract = query.contract if query.contract in rows else codes[-1]
    recent = [each for each in nights[at:] if gate in each.gates][:NIGHTS]
    return site.render(
        "distribution.html",
        night=night,
        nights=nights[: 5 * NIGHTS],
        gate=gate,
        column=query.column,
        feature=known_features().get(query.column) or own_feature(site, night.run, query.column),
        contract=contract,
        reference=reference,
        profiles=[ProfiledContract(code, rows[code], known.get(code)) for code in codes],
        trend=median_trend(read_profiles(site.lake, gate, recent, query.column), recent, gate, contract),
        splits=split_comparisons(site.lake, night, reference, query.column),
    )


def read_profiles(lake: Lake, gate: str, nights: Sequence[GateNight], column: str) -> pl.DataFrame:
    """Return the profiles of a column on these nights: run, gate, and ``schemas.COLUMN_PROFILE``."""
    keys = [f"{layout.REPORTS}/{layout.gate_table(layout.PROFILES, gate, night.run)}" for night in nights]
    stored = scan_tables(list(lake.read_many(keys).values()), PROFILES)
    return stored.filter(pl.col("column") == column).collect()


def median_trend(profiles: pl.DataFrame, nights: Sequence[GateNight], gate: str, contract: str) -> Chart:
    """Return the median of a contract night by night, with a band of one MAD on both sides."""
    rows = {row["run"]: row for row in profiles.filter(pl.col("contract") == contract).iter_rows(named=True)}
    shown = [night for night in reversed(nights) if night.run in rows]
    labels = [f"{night.gates[gate].astimezone(CHICAGO):%Y-%m-%d}" for night in shown]
    found = [(rows[night.run]["median"], rows[night.run]["mad"]) for night in shown]
    low = [None if median is None else median - mad for median, mad in found]
    high = [None if median is None else median + mad for median, mad in found]
    title = f"{contract}: median by night, with a band of one MAD"
    return line_chart(title, labels, {"median": [median for median, _ in found]}, band=("median and MAD", low, high))


def split_comparisons(lake: Lake, night: GateNight, reference: GateNight | None, column: str) -> list[SplitComparison]:
    """Return train against validation, before and after scaling; none where the run kept no distributions."""
    stored = {each.run: _distributions(lake, each, column) for each in (night, reference) if each}
    found = []
    for stage, words in STAGES.items():
        train, validation = (_row(stored[night.run], stage, split) for split in ("train", "validation"))
        if train is None or validation is None:
            continue
        edges = np.linspace(train["low"], train["high"], len(train["counts"]) + 1)
        own, other = (np.asarray(row["counts"]) for row in (train, validation))
        lines = {"train": _shares(own), "validation": _shares(other)}
        past = _row(stored[reference.run], stage, "train") if reference else None
        if past is not None:
            lines["train of the reference night"] = _shares(rebinned(past, edges))
        labels = [f"{middle:.4g}" for middle in (edges[:-1] + edges[1:]) / 2]
        legend = "train (line), validation (dashes)" + (", train of the reference night (dots)" if past else "")
        found.append(
            SplitComparison(
                words,
                line_chart(f"Share of rows by value, %, {words}: {legend}", labels, lines),
                psi(own, other),
                None if past is None else psi(own, rebinned(past, edges)),
                {"train": train["missing"], "validation": validation["missing"]},
            )
        )
    return found


def rebinned(row: dict[str, Any], edges: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the counts of a histogram in other bins, (k,): evenly spread in each bin, those outside in the outer ones.

    Args:
        row: low, high and counts of the histogram.
        edges: Edges of the new bins, (k + 1,).
    """
    counts = np.asarray(row["counts"], dtype=np.float64)
    below = np.concatenate([[0.0], np.cumsum(counts)])
    cumulative = np.interp(edges, np.linspace(row["low"], row["high"], counts.size + 1), below)
    cumulative[0], cumulative[-1] = 0.0, below[-1]
    return np.diff(cumulative)


def _profiled(site: Site, night: GateNight, column: str) -> tuple[str, pl.DataFrame]:
    for gate in PROFILED:
        if gate in night.gates and (rows := read_profiles(site.lake, gate, [night], column)).height:
            return gate, rows
    raise NoSuchPageError(f"Expected a column that a gate of {night.run} profiled; found {column}.")


def _distributions(lake: Lake, night: GateNight, column: str) -> list[dict[str, Any]]:
    key = f"{layout.REPORTS}/{layout.gate_table(layout.DISTRIBUTIONS, TRAINING_SET, night.run)}"
    stored = scan_tables(list(lake.read_many([key]).values()), DISTRIBUTIONS)
    return stored.filter(pl.col("column") == column).collect().rows(named=True)


def _row(rows: Sequence[dict[str, Any]], stage: str, split: str) -> dict[str, Any] | None:
    found = (row for row in rows if (row["stage"], row["split"]) == (stage, split) and row["counts"] is not None)
    return next(found, None)


def _shares(counts: np.ndarray[Any, np.dtype[Any]]) -> list[float | None]:
    return (100 * counts / max(counts.sum(), 1)).tolist()  # type: ignore[no-any-return]
