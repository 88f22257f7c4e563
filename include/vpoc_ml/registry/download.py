"""Local copies of the files of registered models."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from vpoc_ml.errors import ArtifactError


def local_copy(source: str, target: Path, *, check: Callable[[Path], None]) -> Path:
    """Copy the artifact folder ``source`` to ``target`` and return ``target``.

    An existing copy that passes ``check`` is reused. A new copy is written beside ``target``, checked and renamed, so
    ``target`` is always complete.

    Raises:
        ArtifactError: ``source`` does not exist, or its files do not pass ``check``.
    """
    if target.is_dir():
        try:
            check(target)
        except ArtifactError:
            shutil.rmtree(target)  # damaged: download it again
        else:
            return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary) / "model"
        download(source, folder)
        check(folder)
        if not target.is_dir():  # another process may have created it
            folder.rename(target)
    return target


def download(source: str, folder: Path) -> None:
    """Copy the artifact file or folder ``source`` into the new folder ``folder``.

    Raises:
        ArtifactError: ``source`` does not exist.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    folder.mkdir()
    try:
        download_artifacts(artifact_uri=source, dst_path=str(folder))
    except (MlflowException, OSError) as error:
        raise ArtifactError(source, "the files of a registered model", str(error)) from error
    nested = folder / source.rstrip("/").rsplit("/", 1)[-1]
    if nested.is_dir():
        for path in nested.iterdir():
            path.rename(folder / path.name)
        nested.rmdir()
