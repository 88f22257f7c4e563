"""The code part of a build key: which code and which libraries compute an artifact.

``code_digest(function)`` covers the import closure of the function's module within ``vpoc_ml``: that module, every
module it imports at its top or inside a function, and so on. Imports are read from the syntax tree; nothing is
imported. A module counts by its syntax tree without docstrings, so comments, docstrings and formatting never change a
digest. A TOML file next to a module counts by its values if the module names it. Libraries that compute values count
by their installed version.

Two modules never count. ``vpoc_ml.config``: settings enter a build key by their values. ``vpoc_ml.errors``: a
function that raises writes no artifact.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import os
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from vpoc_ml.errors import StorageError
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.hashing import hash_file, written_just_now
from vpoc_ml.lake.mirror import cache_folder
from vpoc_ml.lake.storage import file_version_token

logger = logging.getLogger(__name__)

PACKAGE = "vpoc_ml"
EXCLUDED = ("vpoc_ml.config", "vpoc_ml.errors")
LIBRARIES = {
    "arch": "arch",
    "databento": "databento",
    "databento_dbn": "databento-dbn",
    "exchange_calendars": "exchange_calendars",
    "lightgbm": "lightgbm",
    "numba": "numba",
    "numpy": "numpy",
    "optuna": "optuna",
    "pandas": "pandas",
    "pandas_market_calendars": "pandas-market-calendars",
    "polars": "polars",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "statsmodels": "statsmodels",
    "torch": "torch",
}
"""Distribution of each imported library whose version can change a computed value."""


@dataclass(frozen=True)
class Closure:
    """What a digest covers: SHA-256 by module name, SHA-256 by TOML file, names of distributions."""

    modules: dict[str, str]
    data_files: dict[str, str]
    libraries: tuple[str, ...]


@lru_cache
def code_digest(*producers: Callable[..., Any] | str) -> str:
    """Return 16 hex digits over the code and the library versions that compute an artifact.

    Args:
        producers: functions that compute the artifact, or dotted names of their modules where importing them is
            expensive.

    Raises:
        ValueError: a name is no module of ``vpoc_ml``, or a module imports one whose name is only known at run time.
    """
    closure = _closure(producers)
    content = json.dumps([closure.modules, closure.data_files, library_versions(*producers)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def library_versions(*producers: Callable[..., Any] | str) -> dict[str, str]:
    """Return the installed version of each library that computes what ``code_digest`` covers, by distribution."""
    return {name: library_version(name) for name in _closure(producers).libraries}


@cache
def library_version(distribution: str) -> str:
    """Return the installed version of a library; "absent" of an optional one that is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"


def _closure(producers: Iterable[Callable[..., Any] | str]) -> Closure:
    return INSTALLED.closure(*(each if isinstance(each, str) else each.__module__ for each in producers))


@dataclass(frozen=True)
class _Module:
    digest: str
    imports: tuple[str, ...]
    libraries: tuple[str, ...]
    data_files: dict[str, str]


class SourceTree:
    """The modules of the package ``vpoc_ml`` below the folder ``root``. Each file is read once."""

    def __init__(self, root: Path) -> None:
        self._root, self._modules = root, dict[str, _Module]()

    def closure(self, *modules: str) -> Closure:
        """Return what the code of these modules, dotted names, depends on.

        Raises:
            ValueError: as ``code_digest``.
        """
        parsed = parsed_files(cache_folder())
        unread, found = list(modules), dict[str, _Module]()
        while unread:
            name = unread.pop()
            if name not in found and not any(f"{name}.".startswith(f"{each}.") for each in EXCLUDED):
                found[name] = self._module(name, parsed)
                unread += found[name].imports
        parsed.store()
        return Closure(
            {name: module.digest for name, module in found.items()},
            {text: digest for module in found.values() for text, digest in module.data_files.items()},
            tuple(sorted({each for module in found.values() for each in module.libraries})),
        )

    def _module(self, name: str, parsed: ParsedFiles) -> _Module:
        if name not in self._modules:
            file = self._file(name)
            if file is None:
                raise ValueError(f"expected a module of {PACKAGE}, found {name}")
            facts = parsed.facts(file, name)
            data_files = {f"{name} {text}": file.parent / text for text in facts["toml"]}
            self._modules[name] = _Module(
                facts["digest"],
                tuple(module for each in [name, *facts["imports"]] for module in self._run_by_import(each)),
                tuple(LIBRARIES[top] for each in facts["imports"] if (top := each.partition(".")[0]) in LIBRARIES),
                {text: _toml_digest(path) for text, path in data_files.items() if path.is_file()},
            )
        return self._modules[name]

    def _run_by_import(self, imported: str) -> list[str]:
        """Return the modules of ``vpoc_ml`` that run when a dotted name is imported, packages included.

        The name may end in an attribute of a module, or in "*", which stands for every module of a package.
        """
        if not imported.startswith(f"{PACKAGE}."):
            return []
        names, found = [imported], []
        if imported.endswith(".*"):
            folder = self._root / imported.removesuffix(".*").replace(".", "/")
            names = [f"{imported[:-1]}{file.stem}" for file in folder.glob("*.py") if file.stem != "__init__"]
        for name in names:
            while name != PACKAGE:
                if self._file(name):
                    found.append(name)
                name = name.rpartition(".")[0]
        return found

    def _file(self, module: str) -> Path | None:
        """Return the source file of a module of ``vpoc_ml``; None when there is none."""
        path = self._root / module.replace(".", "/")
        candidates = (path.with_name(f"{path.name}.py"), path / "__init__.py")
        return next((each for each in candidates if each.is_file()), None)


INSTALLED = SourceTree(Path(__file__).resolve().parents[2])


class ParsedFiles:
    """What was read from each source file, kept in the JSON file ``path`` while a file's version token is the same."""

    def __init__(self, path: Path) -> None:
        self._path, self._changed = path, False
        try:
            self._known: dict[str, Any] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            self._known = {}

    def facts(self, file: Path, module: str) -> dict[str, Any]:
        """Return ``digest``, ``imports`` and ``toml`` of the source file of a module."""
        version_token = file_version_token(file)
        known: dict[str, Any] = self._known.get(str(file), {})
        if known.get("version_token") != version_token:
            known = {"version_token": version_token, **_facts(file, module)}
            if not written_just_now(os.stat(file)):
                self._known[str(file)], self._changed = known, True
        return known

    def store(self) -> None:
        """Write what is new; where that fails, other processes parse the files again."""
        if self._changed:
            try:
                write_json(self._path, self._known)
            except (OSError, StorageError) as error:
                logger.warning("the digests of the source files cannot be kept for other processes: %s", error)
            self._changed = False


@cache
def parsed_files(folder: Path) -> ParsedFiles:
    """Return the facts kept in a cache folder for this version of Python and of this module."""
    reader = f"{sys.version_info.major}.{sys.version_info.minor}-{hash_file(Path(__file__))[:16]}"
    return ParsedFiles(folder / "code" / f"{reader}.json")


def _facts(file: Path, name: str) -> dict[str, Any]:
    """Return what a source file says by itself: its digest, the names it imports, the TOML files it names."""
    tree = ast.parse(file.read_bytes())
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    imports, toml = set[str](), set[str]()
    for node in executed(tree):
        imports.update(imported_names(node, package))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".toml"):
            toml.add(node.value)
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return {"digest": digest, "imports": sorted(imports), "toml": sorted(toml)}


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree except those below ``if TYPE_CHECKING``; remove docstrings from the tree meanwhile."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            stack += node.orelse
            continue
        yield node
        if isinstance(body := getattr(node, "body", None), list):
            for statement in list(body):
                match statement:
                    case ast.Expr(value=ast.Constant(value=str())):  # of a module, class, function or attribute
                        body.remove(statement)
        stack += ast.iter_child_nodes(node)


def imported_names(node: ast.AST, package: str) -> list[str]:
    """Return the dotted names that a node imports; those that ``from`` names may be modules or attributes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), package)
        return [f"{base}.{alias.name}" for alias in node.names]
    if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")):
        return []
    match node.args[0]:
        case ast.Constant(value=str(name)):
            return [name]
        case ast.JoinedStr(values=[ast.Constant(value=str(prefix)), ast.FormattedValue()]) if prefix.endswith("."):
            return [f"{prefix}*"]
    raise ValueError(f"expected import_module('name') or import_module(f'package.{{name}}'), found {ast.unparse(node)}")


def _toml_digest(path: Path) -> str:
    """Return the SHA-256 of the values in a TOML file; comments and formatting do not count."""
    values = tomllib.loads(path.read_text())
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
