"""Fixtures every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real market data; absent data is a failure where it is required, else a skip."""
    folder = Path(os.environ.get("VPOC_ML_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"real market data not found at {folder}; set VPOC_ML_REAL_DATA to its folder"
        if os.environ.get("VPOC_ML_REQUIRE_REAL") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An Airflow of its own in a temporary folder; its variables are set before anything imports airflow."""
    from vpoc_ops import env

    home = tmp_path_factory.mktemp("airflow")
    before = dict(os.environ)
    env.apply(env.airflow_env(home, home / "lake"))
    from airflow.utils.db import initdb

    initdb()
    yield home
    os.environ.clear()
    os.environ.update(before)
