"""The two locks: each is whole, the first runs without the second, both agree."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;]+)$", re.MULTILINE)
OPTIONAL = {"databento", "_typeshed"}  # an extra of the package; a module for type checkers only


def pins(name: str) -> dict[str, str]:
    """Canonical name and version of every line of a lock."""
    return {canonicalize_name(name): version for name, version in PIN.findall((ROOT / name).read_text())}


RUN, DEVELOP = pins("requirements.txt"), pins("requirements-dev.txt")


def lacking(lock: dict[str, str], python: str) -> list[str]:
    """What the packages of a lock require on a Python and the lock does not have."""
    environment = {"python_full_version": python, "extra": ""}
    return [
        f"{name} needs {text}"
        for name in lock
        for text in metadata.requires(name) or ()
        if (wanted := Requirement(text)).marker is None or wanted.marker.evaluate(environment)
        if lock.get(canonicalize_name(wanted.name)) is None
        or not wanted.specifier.contains(lock[canonicalize_name(wanted.name)], prereleases=True)
    ]


@pytest.mark.parametrize("python", ["3.11.2", "3.11.7"])
def test_what_runs_is_whole_without_what_develops(python):
    """3.11.2 is the Python of Debian 12, older than the one that compiled the lock."""
    assert not lacking(RUN, python)


def test_both_locks_together_are_whole():
    assert not lacking(RUN | DEVELOP, "3.11.2")


def test_a_package_in_both_locks_has_one_version():
    assert {name: version for name, version in DEVELOP.items() if RUN.get(name, version) != version} == {}


def test_the_code_imports_only_what_the_first_lock_installs():
    owners = metadata.packages_distributions()
    imported = {
        name.partition(".")[0]
        for folder in ("include", "dags", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and node.level == 0
            else []
        )
    }
    installed = {name for name in imported if {canonicalize_name(owner) for owner in owners.get(name, ())} & RUN.keys()}
    own = {path.stem for folder in ("include", "dags", "plugins") for path in (ROOT / folder).iterdir()}
    assert imported - installed - own - set(sys.stdlib_module_names) - OPTIONAL == set()
