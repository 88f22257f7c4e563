"""The code part of a plugin in a build key: what a change of its source changes, and what not.

A plugin counts by the statements of its module that its list depends on, by the other modules of its package that
these import, by the modules of ``vpoc_ml`` that any of them imports, and by the versions of all other libraries. As in
``lake.code_digest``, comments, docstrings and formatting never count. A check beside a feature in one file leaves the
features up to date when it changes, unless they share a function.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from vpoc_ml.lake.code_digest import INSTALLED, PACKAGE, executed, imported_names, library_version, parsed_files
from vpoc_ml.lake.mirror import cache_folder


def plugin_digest(source: bytes, module: str, name: str) -> str:
    """Return 16 hex digits over the code that the list ``name`` of a module depends on.

    Args:
        source: content of the module's file.
        module: dotted name of the module; its other modules are found by it.
        name: the list, such as ``FEATURES``.

    Raises:
        SyntaxError: the source is no Python.
        ValueError: the code imports a module whose name is only known at run time.
    """
    statements, imported = statements_of(source, module, name)
    own, others = _own_modules(imported, module)
    product = sorted(each for each in others if each.startswith(f"{PACKAGE}."))
    closure = INSTALLED.closure(*_modules_of_product(product))
    libraries = {each.partition(".")[0] for each in others} - {PACKAGE, *sys.stdlib_module_names}
    versions = {top: version_of(top) for top in sorted(libraries)}
    versions |= {each: library_version(each) for each in closure.libraries}
    content = json.dumps([statements, own, closure.modules, closure.data_files, versions], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def statements_of(source: bytes, module: str, name: str) -> tuple[list[str], set[str]]:
    """Return the top-level statements that a name depends on, as syntax trees, and the dotted names they import.

    A statement that binds no name, such as a loop or a call, may have any effect and always counts.
    """
    statements = [part for statement in ast.parse(source).body for part in _one_name_each(statement)]
    nodes = [list(executed(statement)) for statement in statements]
    binds = [_bound(statement) for statement in statements]
    reads = [{each.id for each in own if isinstance(each, ast.Name)} for own in nodes]
    chosen: set[int] = set()
    wanted, unread = {name}, True
    while unread:
        new = {at for at, names in enumerate(binds) if at not in chosen and (not names or names & wanted)}
        chosen |= new
        wanted |= {each for at in new for each in reads[at]}
        unread = bool(new)
    kept = [at for at in sorted(chosen) if not _is_docstring(statements[at])]
    imported = {each for at in kept for node in nodes[at] for each in imported_names(node, module.rpartition(".")[0])}
    return [ast.dump(statements[at]) for at in kept], imported


def _one_name_each(statement: ast.stmt) -> list[ast.stmt]:
    """Return an import of several names as imports of one, so that each counts where it is used."""
    if isinstance(statement, ast.Import):
        return [ast.Import([alias]) for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        return [ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names]
    return [statement]


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement binds; none of one that may do anything else."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return {(each.asname or each.name).partition(".")[0] for each in names}
        case ast.Assign(targets=targets):
            return {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            return {each.id for each in ast.walk(target) if isinstance(each, ast.Name)}
    return set()


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _own_modules(imported: set[str], module: str) -> tuple[dict[str, str], set[str]]:
    """Return the digest of each imported module of the plugin's own package, and all names of others they import."""
    top, parsed = module.partition(".")[0], parsed_files(cache_folder())
    own, others, unread = dict[str, str](), set[str](), sorted(imported)
    while unread:
        name = unread.pop()
        if name.partition(".")[0] != top:
            others.add(name)
            continue
        file = _source_file(name) or _source_file(name.rpartition(".")[0])  # the name may end in an attribute
        if file is None or str(file[1]) in own:
            continue
        facts = parsed.facts(file[1], file[0])
        own[str(file[1])] = facts["digest"]
        unread += facts["imports"]
    return {Path(file).name + digest: digest for file, digest in own.items()}, others


def _source_file(module: str) -> tuple[str, Path] | None:
    """Return an installed module's name and source file; None if there is none."""
    try:
        spec = find_spec(module) if module else None
    except (ImportError, AttributeError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return module, Path(spec.origin)


def _modules_of_product(names: list[str]) -> list[str]:
    """Return the modules that dotted names stand for; a name may end in an attribute."""
    return [name if _source_file(name) else name.rpartition(".")[0] for name in names]


@cache
def version_of(top: str) -> str:
    """Return the installed version of what provides a top-level module."""
    found = metadata.packages_distributions().get(top, ())
    return ", ".join(f"{each} {metadata.version(each)}" for each in sorted(set(found))) or "absent"
