"""Find the plugins of this process: those of installed packages, and those in ``plugins.py`` of a lake.

A plugin runs with the rights of the process that loads it. Entry points always count: someone installed their package.
``plugins.py`` of a local lake counts too, because who may write there may also change the product's data. An object
store often has other writers than the workers, so its ``plugins.py`` runs only if ``VPOC_LAKE_PLUGINS`` is ``1``.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from vpoc_ml import environment
from vpoc_ml.artifacts import layout
from vpoc_ml.errors import PluginError
from vpoc_ml.lake.storage import LocalStorage, open_storage
from vpoc_ml.plugins import registered
from vpoc_ml.plugins.declared import OwnCheck, OwnFeature, OwnLearner
from vpoc_ml.plugins.digest import plugin_digest
from vpoc_ml.plugins.registered import LISTS, Active, Kind, Plugin

MODULE = "vpoc_lake_plugins"
"""Name of the module that ``plugins.py`` of a lake becomes."""
READER = ("name", "expected", "recognises", "contents", "batches", "note")
CLASSES: dict[Kind, type] = {"features": OwnFeature, "checks": OwnCheck, "models": OwnLearner}
log = logging.getLogger(__name__)


def activate(lake: str | Path) -> Active:
    """Make the plugins of installed packages and of a lake the active ones of this process; return them.

    ``plugins.py`` is read at every call and run again only if its content has changed.

    Raises:
        PluginError: a plugin cannot be loaded, is no list of the right objects, or two of them share a name.
    """
    storage = open_storage(lake)
    source = storage.read(layout.PLUGINS) if _is_enabled(isinstance(storage, LocalStorage)) else None
    own = () if source is None else _of_lake(source, storage.location(layout.PLUGINS))
    plugins = (*of_packages(), *own)
    found = Active(str(storage.root), plugins)
    if found != registered.current():
        _refuse_same_names(plugins)
        registered.set_active(found)
    return found


def _is_enabled(local: bool) -> bool:
    setting = environment.read(environment.LAKE_PLUGINS)
    return setting == "1" or (local and setting != "0")


@cache
def of_packages() -> tuple[Plugin, ...]:
    """Return the plugins of installed packages, in the order of the entry points' names."""
    found: list[Plugin] = []
    for kind in LISTS:
        for entry in sorted(metadata.entry_points(group=f"vpoc_ml.{kind}"), key=lambda each: each.name):
            origin = f"entry point {entry.name} of group vpoc_ml.{kind} ({entry.value})"
            try:
                value, spec = entry.load(), find_spec(entry.module)
                source = Path(spec.origin).read_bytes() if spec and spec.origin else b""
            except Exception as error:
                raise _broken(origin, error) from error
            listed = value if isinstance(value, (list, tuple)) else [value]
            found += _plugins(kind, listed, origin, (source, entry.module, entry.attr.partition(".")[0]))
    return tuple(found)


@cache
def _of_lake(source: bytes, origin: str) -> tuple[Plugin, ...]:
    """Run ``plugins.py`` and return its plugins."""
    module = ModuleType(MODULE)
    module.__file__ = origin
    sys.modules[MODULE] = module  # dataclasses and pickle look a module up by its name
    try:
        exec(compile(source, origin, "exec"), module.__dict__)  # noqa: S102 - see the docstring of this module
    except Exception as error:
        raise _broken(origin, error) from error
    found: list[Plugin] = []
    for kind, name in LISTS.items():
        found += _plugins(kind, getattr(module, name, ()), f"{origin}, {name}", (source, MODULE, name))
    if not found:
        log.warning("%s has none of the lists %s", origin, ", ".join(LISTS.values()))
    return tuple(found)


def _plugins(kind: Kind, values: Any, origin: str, code: tuple[bytes, str, str]) -> Iterator[Plugin]:
    """Yield the plugins of one list; ``code`` is the source, the module and the name of the list."""
    if not isinstance(values, (list, tuple)):
        raise PluginError(origin, "a list", type(values).__name__, f"Write {LISTS[kind]} = [...].")
    if not values:
        return
    try:
        digest = plugin_digest(*code)
    except (ValueError, SyntaxError, ImportError) as error:
        raise _broken(origin, error) from error
    for value in values:
        wanted = CLASSES.get(kind)
        if wanted is not None and not isinstance(value, wanted):
            remedy = f"Make it of vpoc_ml.plugins.{wanted.__name__}."
            raise PluginError(origin, f"objects of {wanted.__name__}", repr(value), remedy)
        lacking = [each for each in READER if wanted is None and not hasattr(value, each)]
        if lacking:
            remedy = "See vpoc_ml.ingest.parsing.reader.Reader; derive it from ingest.parsing.delimited.TextReader."
            raise PluginError(origin, "a reader", f"{value!r} without {', '.join(lacking)}", remedy)
        yield Plugin(kind, value.name, value, origin, digest)


def _broken(origin: str, error: Exception) -> PluginError:
    """Return the error of a plugin that raised one; it names the line of the plugin's own file."""
    trace, line = error.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == origin:
            line = f" in line {trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename == origin:
        line = f" in line {error.lineno}"
    found = f"{type(error).__name__}{line}: {error}"
    return PluginError(origin, "a plugin that can be imported", found, "Correct it, or remove it, and run again.")


def _refuse_same_names(plugins: tuple[Plugin, ...]) -> None:
    counts = Counter((each.kind, each.name) for each in plugins)
    for (kind, name), count in counts.items():
        if count > 1:
            origins = [each.origin for each in plugins if (each.kind, each.name) == (kind, name)]
            raise PluginError(origins[-1], f"a name of its own in {kind}", f"{name}, as in {origins[0]}", "Rename one.")
