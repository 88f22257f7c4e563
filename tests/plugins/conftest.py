"""Plugins of a test: a lake's ``plugins.py`` and entry points, forgotten afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from vpoc_ml.plugins import load
from vpoc_ml.plugins.registered import Active, set_active


@pytest.fixture(autouse=True)
def no_plugins() -> Iterator[None]:
    """No plugin is active before and after a test."""
    set_active(Active())
    load.of_packages.cache_clear()
    yield
    set_active(Active())
    load.of_packages.cache_clear()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write ``plugins.py`` of the lake ``tmp_path/lake``; return the lake."""

    def write_text(text: str) -> Path:
        lake = tmp_path / "lake"
        lake.mkdir(exist_ok=True)
        (lake / "plugins.py").write_text(text)
        return lake

    return write_text


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Install a package of one module with an entry point: ``package("features", source)`` returns its file."""

    def install(kind: str, source: str, attribute: str | None = None) -> Path:
        site = tmp_path / "site"
        name = f"own_{kind}_{uuid.uuid4().hex}"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        value = f"{name}:{attribute or kind.upper()}"
        (info / "entry_points.txt").write_text(f"[vpoc_ml.{kind}]\nmine = {value}\n")
        file = site / f"{name}.py"
        file.write_text(source)
        monkeypatch.syspath_prepend(str(site))
        assert value in {each.value for each in metadata.entry_points(group=f"vpoc_ml.{kind}")}
        return file

    return install
