"""Local copies of registered models, so that scoring reads plain files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from vpoc_ml.errors import ArtifactError


def local_copy(source: str, target: Path, *, check: Callable[[Path], None]) -> Path:
    """Copy the artifact folder ``source`` to ``target`` and return it; a copy that passes ``check`` is kept.

    The copy appears whole or not at all: it is made beside ``target``, checked and renamed.

    Raises:
        ArtifactError: ``source`` is gone, or what it holds does not pass ``check``.
    """
    if target.is_dir():
        try:
            check(target)
        except ArtifactError:
            shutil.rmtree(target)  # a damaged copy is made again from the store
        else:
            return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary) / "model"
        download(source, folder)
        check(folder)
        if not target.is_dir():  # another process may have been faster
            folder.rename(target)
    return target


def download(source: str, folder: Path) -> None:
    """Copy the artifact file or folder ``source`` into ``folder``, which is made.

    Raises:
        ArtifactError: ``source`` is gone.
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
