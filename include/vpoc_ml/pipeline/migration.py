"""Brings a lake of the previous release to the names of this one: manifests, configurations, the registry.

This release reads the old names too; the next one does not. Nothing is computed anew. Each file is replaced by one
atomic write and a file with the new names is left alone, so a migration that was killed is completed by the next one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from fnmatch import fnmatch

from vpoc_ml import environment
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.config.overrides import load_stored
from vpoc_ml.errors import MissingInputError, UnreadableFileError
from vpoc_ml.lake.atomic import json_bytes
from vpoc_ml.lake.manifest import CHECKSUM, checked, with_checksum
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.champion_stages import registry_of
from vpoc_ml.registry.registry import registry_folder

FOREIGN = ("raw", "registry", "reports", "logs", "input")
"""Folders of a lake whose JSON files are not the lake's own records."""
MANIFEST = {"key", "sha256", "schema_version"}
"""Fields by which a manifest is recognised."""
RENAMED_FIELDS: Mapping[str, Mapping[str, str]] = {
    "leakage/proof.json": {"recipe": "build_key"},
    "runs/*/summary.json": {"recipe": "preset"},
}
"""Old and new name of the fields of other records, by the pattern of their keys."""
LOCKS = ("vix", "roll", "leakage")
"""Folders whose artifacts have one writer's lock, called like the folder; elsewhere it is called like the file."""
log = logging.getLogger(__name__)


class Migration(JsonArtifact):
    """What a migration changed: the keys of rewritten files, and of damaged files that it left as they were."""

    rewritten: tuple[str, ...]
    damaged: tuple[str, ...]
    registry: str | None
    """Location of the registry that was checked and, if necessary, migrated; None: there is none."""


def migrate(lake: str) -> Migration:
    """Give the records of a lake the names of this release. Only one migration should run, and no other run.

    Raises:
        MissingInputError: there is no lake.
        RegistryError: the registry is damaged or its old form cannot be migrated.
    """
    opened = Lake(lake)
    keys = [key for key in opened.names("", ".json") if key.partition("/")[0] not in FOREIGN]
    if not keys:
        raise MissingInputError(lake, "a lake with artifacts", "Name the lake's folder or URL.")
    rewritten, damaged = [], []
    for key in keys:
        try:
            if _migrate_file(opened, key):
                rewritten.append(key)
        except (ValueError, RecursionError, UnreadableFileError) as error:
            log.warning("%s is damaged and stays as it is: %s", opened.location(key), error)
            damaged.append(key)
    registry = None
    if not opened.remote or environment.read(environment.REGISTRY) is not None:
        folder = registry_folder(opened)
        if (folder / layout.LEDGER).is_file():
            registry_of(opened).entries()  # the first use migrates it
            registry = str(folder)
    return Migration(rewritten=tuple(rewritten), damaged=tuple(damaged), registry=registry)


def _migrate_file(lake: Lake, key: str) -> bool:
    """Rewrite one file if it has old names; return whether it had."""
    if _current(lake, key) is None:
        return False
    folder, name = key.split("/")[-2], key.rpartition("/")[2].removesuffix(".json")
    lock = folder if folder in LOCKS else name
    with nullcontext() if key.startswith("runs/") else lake.writing(lock):
        current = _current(lake, key)  # again: a writer may have replaced the file
        if current is not None:
            lake.storage.write(key, current)
    return current is not None


def _current(lake: Lake, key: str) -> bytes | None:
    """Return the content of a file in the names of this release; None when it has no old names or does not exist.

    Raises:
        ValueError: it is no JSON, or its checksum is wrong.
        UnreadableFileError: it is the configuration of a run and holds an unknown setting or value.
    """
    stored = lake.storage.read(key)
    document = None if stored is None else json.loads(stored)
    if stored is None or not isinstance(document, dict):
        return None
    if fnmatch(key, "runs/*/config.json"):
        current = load_stored(stored, lake.location(key)).to_json()
        return None if json.loads(current) == document else f"{current}\n".encode()
    names = dict(next((fields for pattern, fields in RENAMED_FIELDS.items() if fnmatch(key, pattern)), {}))
    if document.keys() >= MANIFEST:
        names["stamp"] = "version_token"
    if not document.keys() & names.keys():
        return None
    content = {names.get(name, name): value for name, value in checked(stored).items()}
    return with_checksum(content) if CHECKSUM in document else json_bytes(content)
