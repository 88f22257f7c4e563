"""Fixtures every test may use."""

from __future__ import annotations

import os
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
