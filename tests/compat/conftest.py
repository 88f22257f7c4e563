"""The synthetic contract that the legacy command reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpoc_ml.synthetic.generate import write_market


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one contract, ESH23, and a VIX file. Read only."""
    folder = tmp_path_factory.mktemp("market")
    write_market(folder, contracts=1, seed=7, mode="signal")
    return folder
