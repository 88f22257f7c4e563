"""The Makefile's virtual environment: installed once for each content of the two locks."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path):
    """A folder with the Makefile and installed locks."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").write_text("airflow==3\n")
    (tmp_path / "requirements-dev.txt").write_text("pytest==9\n")
    digest = hashlib.sha256(b"airflow==3\npytest==9\n").hexdigest()[:16]
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / f".installed-{digest}").touch()
    return tmp_path


def commands(project: Path, *words: str) -> str:
    """Return what `make venv`, or `make` with other words, would do."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key != "MFLAGS"}
    done = subprocess.run(
        ["make", "-n", *(words or ["venv"])], cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def test_a_newer_lock_of_the_same_content_is_not_installed_again(project):
    later = time.time() + 3600
    os.utime(project / "requirements.txt", (later, later))
    assert "pip install" not in commands(project)


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_a_change_of_either_lock_installs_both(project, lock):
    (project / lock).write_text("another==4\n")
    assert "-r requirements.txt -r requirements-dev.txt" in commands(project)


def test_a_missing_environment_is_installed(project):
    shutil.rmtree(project / ".venv")
    assert "pip install" in commands(project)


def test_an_installation_says_one_line_per_step_and_echoes_no_command(project):
    makefile = (project / "Makefile").read_text()
    lines = makefile[makefile.index("$(INSTALLED):") : makefile.index("venv: ")].splitlines()[1:]
    steps = [line for line in lines if line.startswith("\t")]
    assert all(line.startswith("\t@") for line in steps)
    assert re.findall(r'"\[(\d)/4\] ', makefile) == ["1", "2", "3", "4"]


def test_recipe_is_accepted_as_the_former_name_of_preset(project):
    assert "--preset nightly" in commands(project, "demo")
    former = commands(project, "demo", "RECIPE=smoke")
    assert "--preset smoke" in former
    assert "RECIPE= is now called PRESET=" in former
