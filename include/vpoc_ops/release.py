"""``python -m vpoc_ops.release``: check that the tree can be released and tag it. It never pushes.

Exit codes: 0 the tag was made, 2 something is missing; every problem is listed with what to do.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from vpoc_ml.environment import PROJECT


def main(project: Path = PROJECT) -> int:
    """Tag ``project`` as its version and return the exit code."""
    version = str(tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"])
    problems = list(_problems(project, version))
    for problem in problems:
        sys.stdout.write(f"not released: {problem}\n")
    if problems:
        return 2
    _git(project, "tag", "--annotate", f"v{version}", "--message", f"vpoc-ml {version}")
    sys.stdout.write(f"Tagged v{version}. To publish it: git push origin v{version}\n")
    return 0


def _problems(project: Path, version: str) -> Iterator[str]:
    """Yield what keeps the tree from being released."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        yield f"expected a version such as 1.2.3 in pyproject.toml; found {version}"
    stated = re.search(r'^__version__ = "(.*)"', (project / "include/vpoc_ml/__init__.py").read_text(), re.MULTILINE)
    if stated is None or stated[1] != version:
        found = stated[1] if stated else "none"
        yield f"expected __version__ {version} in include/vpoc_ml/__init__.py, as in pyproject.toml; found {found}"
    notes = re.split(r"^## ", (project / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    if not notes or notes[0].split("\n", 1)[0].strip() != version:
        first = notes[0].split("\n", 1)[0].strip() if notes else "none"
        yield f"expected '## {version}' as the first section of CHANGELOG.md; found {first!r}. Rename 'Unreleased'"
    elif not notes[0].split("\n", 1)[1].strip():
        yield f"the section {version} of CHANGELOG.md is empty. Write what changed"
    if changed := _git(project, "status", "--porcelain"):
        yield f"{len(changed.splitlines())} changed files, such as {changed.splitlines()[0][3:]}. Commit or remove them"
    if _git(project, "tag", "--list", f"v{version}"):
        yield f"there is a tag v{version} already. Raise the version in pyproject.toml and include/vpoc_ml/__init__.py"


def _git(project: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=project, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.rstrip("\n")


if __name__ == "__main__":
    sys.exit(main())
