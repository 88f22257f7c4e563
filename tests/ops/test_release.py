"""A release is tagged only from a clean tree whose versions and changelog agree; nothing is pushed."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

import vpoc_ml
from vpoc_ml.environment import PROJECT
from vpoc_ops.release import main


@pytest.fixture
def project(tmp_path):
    """A committed project of version 1.2.3 that can be released, with a remote."""
    files = {
        "pyproject.toml": '[project]\nname = "x"\nversion = "1.2.3"\n',
        "include/vpoc_ml/__init__.py": '__version__ = "1.2.3"\n',
        "CHANGELOG.md": "# Changelog\n\n## 1.2.3\n\n- A change.\n\n## 1.2.2\n\n- Another.\n",
    }
    git(tmp_path, "init", "--quiet", "--bare", "remote.git")
    tree = tmp_path / "tree"
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    git(tree, "init", "--quiet")
    for key in ("user.name", "user.email"):
        git(tree, "config", key, "somebody@example.org")
    git(tree, "remote", "add", "origin", str(tmp_path / "remote.git"))
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "First")
    return tree


def git(folder, *words):
    folder.mkdir(exist_ok=True)
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_a_clean_tree_is_tagged_once_and_not_pushed(project, capsys):
    assert main(project) == 0
    assert "git push origin v1.2.3" in capsys.readouterr().out
    assert git(project, "tag", "--list") == "v1.2.3\n"
    assert git(project.parent / "remote.git", "tag", "--list") == ""
    assert main(project) == 2
    assert "there is a tag v1.2.3 already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("pyproject.toml", "1.2.3", "1.2.4", "expected __version__ 1.2.4"),
        ("pyproject.toml", "1.2.3", "1.2.3rc1", "expected a version such as 1.2.3"),
        ("CHANGELOG.md", "## 1.2.3", "## Unreleased", "found 'Unreleased'"),
        ("CHANGELOG.md", "- A change.", "", "is empty"),
    ],
)
def test_what_does_not_agree_is_named_and_nothing_is_tagged(project, capsys, name, old, new, problem):
    text = (project / name).read_text()
    (project / name).write_text(text.replace(old, new, 1))
    git(project, "commit", "--quiet", "--all", "--message", "Change")
    assert main(project) == 2
    assert problem in capsys.readouterr().out
    assert git(project, "tag", "--list") == ""


def test_a_changed_file_is_named(project, capsys):
    (project / "new.txt").touch()
    assert main(project) == 2
    assert "1 changed files, such as new.txt" in capsys.readouterr().out


def test_this_project_states_one_version_everywhere():
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert vpoc_ml.__version__ == version
    assert re.search(rf"^## {re.escape(version)}$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
