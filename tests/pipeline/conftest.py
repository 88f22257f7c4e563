"""A small synthetic delivery: one contract's vendor file and a VIX file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from vpoc_ml import pipeline
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.synthetic.generate import write_market

BEGIN, ROWS = 60_000, 12 * 1380  # while the contract is the front one: it trades nearly every minute
NOW = datetime(2023, 3, 17, 22, 30, tzinfo=UTC)
KEY = ModelKey("ES", "1m", "rank")
LEARNS = {
    "training.epochs": 24,
    "model.hidden_dims": "32,32",
    "dataset.train_share": 0.5,
    "dataset.validation_share": 0.1,
}
"""What the smoke preset needs to find the planted signal of one contract among all features, and to show it."""


@pytest.fixture(scope="module", autouse=True)
def training_in_this_process() -> Iterator[None]:
    """Train without a process of its own, which takes longer to start than to train.

    ``killed_run``, and the tests of the command line and of training, have real ones.
    """
    from vpoc_ml.training.launch import subprocess
    from vpoc_ml.training.launch.job import train_run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "launch", train_run)
        yield


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one contract, ESH23, and a VIX file. Read only: tests that change it use ``delivery``."""
    folder = tmp_path_factory.mktemp("market")
    write_market(folder, contracts=1, seed=7, mode="signal")
    return folder


@pytest.fixture
def delivery(market: Path, tmp_path: Path) -> Path:
    """Twelve days of the market as a folder of its own, small enough to build in a moment."""
    folder = tmp_path / "delivery"
    folder.mkdir()
    for source in market.iterdir():
        if source.is_file():
            shutil.copy(source, folder)
    prices = next(folder.glob("ES*.txt"))
    lines = prices.read_bytes().splitlines(keepends=True)
    prices.write_bytes(b"".join(lines[BEGIN : BEGIN + ROWS]))
    return folder


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """Root of an empty lake."""
    return str(tmp_path / "lake")


@pytest.fixture
def start(lake: str, delivery: Path) -> Callable[..., str]:
    """Start a run on the delivery: ``start("night", overrides={...})`` returns its name."""

    def begin(
        name: str = "night",
        preset: str = "smoke",
        overrides: Mapping[str, Any] | None = None,
        raw: Path | None = None,
        vix: Path | None = None,
    ) -> str:
        pipeline.start_run(lake, name, preset, overrides, str(raw or delivery), str(vix) if vix else None, NOW)
        return name

    return begin


@pytest.fixture(scope="session")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three contracts that overlap at their rolls, and the VIX. Read only."""
    from .nights import write_vendor

    folder = tmp_path_factory.mktemp("vendor")
    write_vendor(folder)
    return folder


@pytest.fixture(scope="session")
def built(vendor: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the folder of ``raw`` and ``lake`` after one night with the named files; built once. Read only."""
    from .nights import deliver, night

    known: dict[tuple[str, ...], Path] = {}

    def build(*names: str) -> Path:
        if names not in known:
            place = known[names] = tmp_path_factory.mktemp("place")
            deliver(vendor, place / "raw", *names)
            night(place)
        return known[names]

    return build
