"""Names of runs and their folders. Standard library only: DAG files import it."""

from __future__ import annotations

import hashlib
import re

LONGEST = 200  # characters of a folder's name before its hash; file systems allow 255 bytes
_HASHED = re.compile(r"--[0-9a-f]{8}$")


def run_name(text: str) -> str:
    """Return ``text`` as the name of a run and its folder: anything but letters, digits and ``_.-`` becomes ``-``."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text).lstrip(".") or "run"


def run_folder(dag_id: str, run_id: str) -> str:
    """Return the name, and folder, of the run that Airflow calls ``run_id`` in the DAG ``dag_id``.

    ``vpoc_nightly--may`` for the id ``may``. An id that cannot be a folder's name as it is, such as
    ``scheduled__2026-05-14T22:30:00+00:00``, gets a hash at its end, so that two ids never share a folder.
    """
    text = f"{dag_id}--{run_id}"
    name = run_name(text)
    if name == text and len(name) <= LONGEST and not _HASHED.search(name):
        return name
    return hashed_name(name, text)


def hashed_name(name: str, text: str) -> str:
    """Return ``name``, cut to a folder's length, with a hash of ``text``: the name of nothing but ``text``."""
    return f"{name[:LONGEST]}--{hashlib.sha256(text.encode()).hexdigest()[:8]}"
