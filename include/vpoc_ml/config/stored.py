"""The configuration that a run was started with, read back from its folder."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from vpoc_ml.config.settings import RunConfig
from vpoc_ml.errors import MissingInputError, UnreadableFileError

WHAT = "the configuration of a run"


def load_stored(stored: bytes, where: object) -> RunConfig:
    """Return the configuration that ``RunConfig.to_json`` wrote.

    Args:
        stored: content of a run's config.json.
        where: the path or URL of that file, for the error.

    Raises:
        UnreadableFileError: the content is damaged or holds what is no setting.
    """
    try:
        return RunConfig.model_validate_json(stored)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        found = f"{place}: {first['msg']}" if place else str(first["msg"])
        remedy = "Start the run again with its settings, or restore the file."
        raise UnreadableFileError(where, WHAT, found, remedy=remedy) from error


def read_config(run_dir: Path) -> RunConfig:
    """Return the configuration in the folder of a run.

    Raises:
        MissingInputError: there is no config.json.
        UnreadableFileError: it is damaged or holds what is no setting.
    """
    path = run_dir / "config.json"
    if not path.is_file():
        raise MissingInputError(path, WHAT, "Start the run first.")
    return load_stored(path.read_bytes(), path)
