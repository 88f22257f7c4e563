"""Conventions that no linter knows: the vocabulary, what tests may import, what may cross packages."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = ("include", "dags", "plugins", "tests", "benchmarks")
PRODUCT = ("include", "dags", "plugins")

RETIRED = {
    "asked": "required, requested or given",
    "card": "GPU",
    "cards": "GPUs",
    "climb": "fall back",
    "grown": "appended",
    "judge": "validate",
    "judged": "validated",
    "judgement": "result",
    "ladder": "fallback presets",
    "listing": "file contents",
    "office": "registry",
    "promise": "check result",
    "promises": "check results",
    "recipe": "preset or build key",
    "recipes": "presets",
    "rung": "fallback preset",
    "rungs": "fallback presets",
    "stamp": "timestamp, label side or version token",
    "stamps": "timestamps",
    "tallies": "measurements",
    "tally": "measurement",
    "tells": "reports",
    "told": "report, message or result",
    "twin": "variant or pair",
    "twins": "variants or pairs",
    "whoami": "owner",
}
"""Word that identifiers no longer use -> word to use."""

ALLOWED = ("model_card", "ModelCard", "MODEL_CARD", "ExpectTallyWithinLimit")
"""The field's own terms that hold such a word, and a class whose name is in stored Data Docs."""

FORMER_NAMES = re.compile(r"former|earlier_release|previous_release")
"""Tests of what the previous release stored may name it."""

RETIRED_PROSE = re.compile(
    r"\b(recipes?|tall(?:y|ies)|rungs?|ladder|twins|whoami|judge[sd]?|judgements?|GPU cards?|graphics cards?"
    r"|is told|was told|are told|tells? (?:the|that|which|whether|what)|asked for by|in this life)\b",
    re.IGNORECASE,
)
"""Wording that documents and docstrings no longer use."""


READS_FORMER_NAMES = {"renamed.py", "migration.py", "training_result.py"}
"""Modules that read what the previous release wrote, in its own words."""


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def words(name: str) -> list[str]:
    """Split an identifier at underscores and capitals."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string


@pytest.mark.parametrize("folder", CODE)
def test_identifiers_use_no_retired_word(folder):
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name} (use {RETIRED[word]})"
        for path in sources(folder)
        for line, name in identifiers(path)
        if not any(term in name for term in ALLOWED) and not FORMER_NAMES.search(name)
        for word in words(name)
        if word in RETIRED
    ]
    assert not found, "\n".join(found)


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_texts_use_no_retired_wording():
    texts = [(path, line, text) for path in sources(*PRODUCT) for line, text in docstrings(path)]
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    texts += [(path, line, text) for path in documents for line, text in enumerate(path.read_text().splitlines(), 1)]
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match.group(0)}"
        for path, line, text in texts
        if path.name not in READS_FORMER_NAMES
        for match in RETIRED_PROSE.finditer(text)
    ]
    assert not found, "\n".join(found)


def test_tests_import_no_private_name_of_the_product():
    hook = "_decode_partition_date"  # Airflow's own name for what a timetable must offer
    found = []
    for path in sources("tests"):
        tree = ast.parse(path.read_text())
        modules = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vpoc_"):
                found += [f"{path.name}:{node.lineno}: {each.name}" for each in node.names if each.name.startswith("_")]
                modules |= {each.asname or each.name for each in node.names if each.name.islower()}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                private = node.attr.startswith("_") and not node.attr.startswith("__") and node.attr != hook
                found += [f"{path.name}:{node.lineno}: {node.value.id}.{node.attr}"] if private else []
    assert not found, "\n".join(found)


UNTYPED = re.compile(r"\b(?:dict|Mapping)\[str, (?:Any|object)\]")
UNTYPED_BY_NATURE = {
    "config": "settings that people type, before they are validated",
    "errors.py": "fields of any error, as JSON",
}
"""Part of vpoc_ml whose functions take or return any JSON -> reason."""


def signatures(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Yield line, name and annotation of every parameter, result and field that another package can see."""

    def visit(body: list[ast.stmt], owner: str) -> Iterator[tuple[int, str, str]]:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from visit(node.body, f"{node.name}.")
            elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                annotations = [each.annotation for each in arguments] + [node.returns]
                for annotation in filter(None, annotations):
                    yield node.lineno, owner + node.name, ast.unparse(annotation)
            elif owner and isinstance(node, ast.AnnAssign):
                yield node.lineno, owner + ast.unparse(node.target), ast.unparse(node.annotation)

    return visit(tree.body, "")


def imported_elsewhere(package: Path) -> dict[str, set[str]]:
    """Return module -> names that modules of other packages of vpoc_ml import from it."""
    used: dict[str, set[str]] = {}
    for path in sources("include"):
        if package in path.parents:
            continue
        for module, name in imported_names(path):
            used.setdefault(module, set()).add(name)
    return used


@cache
def imported_names(path: Path) -> tuple[tuple[str, str], ...]:
    """Return module and name of every ``from module import name`` in a file."""
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return tuple((node.module, each.name) for node in imports if node.module for each in node.names)


def untyped_across_packages() -> list[str]:
    found = []
    for package in sorted((ROOT / "include" / "vpoc_ml").iterdir()):
        if package.name in UNTYPED_BY_NATURE or not package.is_dir():
            continue
        used = imported_elsewhere(package)
        for path in sorted(package.rglob("*.py")):
            module = ".".join(path.relative_to(ROOT / "include").with_suffix("").parts).removesuffix(".__init__")
            names = used.get(module, set())
            for line, name, annotation in signatures(ast.parse(path.read_text())):
                if name.split(".")[0] in names and UNTYPED.search(annotation):
                    found.append(f"{path.relative_to(ROOT)}:{line}: {name}: {annotation}")
    return found


def test_no_untyped_mapping_crosses_a_package():
    found = untyped_across_packages()
    assert not found, "\n".join(found)
