"""The code part of a build key: what changes the digest of an artifact, and what does not."""

import ast
import re
import shutil
from importlib import metadata
from pathlib import Path

import pytest

import vpoc_ml
from vpoc_ml.lake import code_digest as module
from vpoc_ml.lake.code_digest import ParsedFiles, SourceTree, code_digest, library_version, library_versions
from vpoc_ml.training.launch.run_inputs import PRODUCER as TRAINING_PRODUCER

PACKAGE = Path(vpoc_ml.__file__).parent
BARS = ("vpoc_ml.ingest.bars", "vpoc_ml.ingest.detect_append")
FEATURES = ("vpoc_ml.features.build",)
TRAINING = (TRAINING_PRODUCER,)
PREDICTIONS = ("vpoc_ml.scoring.batch", "vpoc_ml.models.bundle")
PRODUCERS = (BARS, FEATURES, TRAINING, PREDICTIONS)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package and a cache of its parsed files."""
    root = tmp_path_factory.mktemp("sources")
    shutil.copytree(PACKAGE, root / "vpoc_ml", ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture
def closure(copy, monkeypatch):
    """Return the closure of some modules of the copy."""
    monkeypatch.setenv("VPOC_CACHE", str(copy / "cache"))
    return lambda producers: SourceTree(copy).closure(*producers)


@pytest.fixture
def changed(copy, closure):
    """Return the closure of some modules of the copy after a change of the text of one file."""

    def change(producers, path, edit):
        file = copy / path
        text = file.read_text()
        assert edit(text) != text
        file.write_text(edit(text))
        try:
            return closure(producers)
        finally:
            file.write_text(text)

    return change


def append(line):
    return lambda text: f"{text}\n{line}\n"


@pytest.mark.parametrize(
    "path",
    [
        "vpoc_ml/models/guard.py",
        "vpoc_ml/models/mlp.py",
        "vpoc_ml/dataset/scalers.py",
        "vpoc_ml/dataset/targets/scaled.py",
        "vpoc_ml/scoring/batch.py",
    ],
)
def test_predictions_become_stale_when_code_of_the_model_changes(closure, changed, path):
    assert changed(PREDICTIONS, path, append("ADDED = 1")) != closure(PREDICTIONS)


@pytest.mark.parametrize(
    "path",
    [
        "vpoc_ml/models/guard.py",
        "vpoc_ml/dataset/scalers.py",
        "vpoc_ml/training/loop/adamw_step.py",
    ],
)
def test_a_model_becomes_stale_when_code_that_trains_it_changes(closure, changed, path):
    assert changed(TRAINING, path, append("ADDED = 1")) != closure(TRAINING)


@pytest.mark.parametrize(
    "path",
    [
        "vpoc_ml/profile/kernels.py",
        "vpoc_ml/market/instruments.py",
        "vpoc_ml/features/extras/garch.py",
    ],
)
def test_features_become_stale_when_a_module_below_them_changes(closure, changed, path):
    assert changed(FEATURES, path, append("ADDED = 1")) != closure(FEATURES)


@pytest.mark.parametrize("producers", PRODUCERS)
@pytest.mark.parametrize(
    "path",
    [
        "vpoc_ml/synthetic/generate.py",
        "vpoc_ml/training/hardware/known_issues.py",
        "vpoc_ml/ingest/clean.py",
        "vpoc_ml/models/guard.py",
    ],
)
def test_a_comment_changes_no_digest(closure, changed, producers, path):
    assert changed(producers, path, append("# a comment")) == closure(producers)


@pytest.mark.parametrize("path", ["vpoc_ml/synthetic/generate.py", "vpoc_ml/training/hardware/known_issues.py"])
def test_code_that_an_artifact_does_not_use_changes_no_digest(closure, changed, path):
    for producers in PRODUCERS:
        assert changed(producers, path, append("ADDED = 1")) == closure(producers)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: re.sub(r'"""[^"]*"""', '"""Another docstring."""', text),
        lambda text: ast.unparse(ast.parse(text)),
        lambda text: text.replace("\n\n", "\n\n\n"),
    ],
    ids=["docstrings", "formatting", "blank lines"],
)
def test_docstrings_and_formatting_change_no_digest(closure, changed, edit):
    assert changed(BARS, "vpoc_ml/ingest/clean.py", edit) == closure(BARS)


@pytest.mark.parametrize(
    "path",
    [
        "vpoc_ml/errors.py",
        "vpoc_ml/config/settings.py",
    ],
)
def test_error_texts_and_declared_settings_change_no_digest(closure, changed, path):
    for producers in PRODUCERS:
        assert changed(producers, path, append("ADDED = 1")) == closure(producers)


def test_a_value_of_a_data_file_counts_and_its_comments_do_not(closure, changed):
    current = closure(BARS)
    assert changed(BARS, "vpoc_ml/market/instruments.toml", append("# a comment")) == current
    assert changed(BARS, "vpoc_ml/market/instruments.toml", append("[ADDED]\nname = 'x'")) != current


def test_only_thresholds_of_gates_and_of_the_promotion_rule_are_computed_in_settings():
    """Settings count by their stored values alone. Verdicts and decisions are never reused: their thresholds may be."""
    tree = ast.parse((PACKAGE / "config" / "settings.py").read_text())
    properties = [
        f"{node.name}.{each.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for each in node.body
        if isinstance(each, ast.FunctionDef) and "property" in ast.unparse(ast.Module(each.decorator_list, []))
    ]
    assert properties == ["QualityThresholds.changed", "QualityConfig.thresholds", "PromotionConfig.thresholds"]


@pytest.fixture
def fresh_versions():
    """Forget the digests and versions that this process has read, before and after a test."""

    def clear():
        code_digest.cache_clear()
        library_version.cache_clear()

    clear()
    yield
    clear()


@pytest.mark.parametrize(
    ("producers", "library"),
    [
        (TRAINING, "torch"),
        (TRAINING, "numpy"),
        (FEATURES, "numba"),
        (FEATURES, "arch"),
        (BARS, "polars"),
        (PREDICTIONS, "torch"),
    ],
)
def test_another_library_version_changes_the_digest(fresh_versions, monkeypatch, producers, library):
    before, installed = code_digest(*producers), metadata.version
    code_digest.cache_clear()
    library_version.cache_clear()
    monkeypatch.setattr(metadata, "version", lambda name: "99.0" if name == library else installed(name))
    assert library_versions(*producers)[library] == "99.0"
    assert code_digest(*producers) != before


def test_a_library_that_computes_nothing_for_an_artifact_does_not_count():
    assert "torch" not in library_versions(*BARS)
    assert "lightgbm" not in library_versions(*FEATURES)


def test_every_named_producer_is_a_module():
    from vpoc_ml.pipeline import gate_stages
    from vpoc_ml.training.launch import search

    for producers in (gate_stages.PROVEN, search.CODE, TRAINING):
        assert len(code_digest(*producers)) == 16


def test_a_function_stands_for_its_module():
    from vpoc_ml.ingest.bars import build_bars

    assert code_digest(build_bars) == code_digest("vpoc_ml.ingest.bars")


def test_every_executed_import_is_followed(tmp_path):
    package = tmp_path / "vpoc_ml"
    (package / "plug").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "main.py": """
from __future__ import annotations
from typing import TYPE_CHECKING
from importlib import import_module
from vpoc_ml import sibling as other
if TYPE_CHECKING:
    import vpoc_ml.annotation
else:
    import vpoc_ml.otherwise
def compute(name):
    from vpoc_ml.plug.first import value
    from .relative import value
    import_module("vpoc_ml.by_name")
    return import_module(f"vpoc_ml.plug.{name}")
""",
        "sibling.py": "import scipy.stats\n",
        **dict.fromkeys(("annotation.py", "otherwise.py", "relative.py", "by_name.py", "unused.py"), "value = 1\n"),
        **dict.fromkeys(("plug/__init__.py", "plug/first.py", "plug/second.py"), "value = 2\n"),
    }
    for name, text in files.items():
        (package / name).write_text(text)
    found = SourceTree(tmp_path).closure("vpoc_ml.main")
    assert sorted(name.removeprefix("vpoc_ml.") for name in found.modules) == [
        "by_name", "main", "otherwise", "plug", "plug.first", "plug.second", "relative", "sibling",
    ]  # fmt: skip
    assert found.libraries == ("scipy",)


def test_an_import_that_is_only_known_at_run_time_is_rejected(tmp_path):
    package = tmp_path / "vpoc_ml"
    package.mkdir()
    (package / "main.py").write_text("from importlib import import_module\nload = lambda name: import_module(name)\n")
    with pytest.raises(ValueError, match=r"found import_module\(name\)"):
        SourceTree(tmp_path).closure("vpoc_ml.main")
    with pytest.raises(ValueError, match=r"found vpoc_ml\.absent"):
        SourceTree(tmp_path).closure("vpoc_ml.absent")


def test_an_unwritable_cache_only_costs_time(monkeypatch, tmp_path, caplog):
    sources = tmp_path / "sources"
    (sources / "vpoc_ml").mkdir(parents=True)
    (sources / "vpoc_ml" / "main.py").write_text("value = 1\n")
    (tmp_path / "cache").write_text("a file where the cache folder belongs")
    monkeypatch.setattr(module, "written_just_now", lambda found: False)
    monkeypatch.setenv("VPOC_CACHE", str(tmp_path / "cache"))
    assert set(SourceTree(sources).closure("vpoc_ml.main").modules) == {"vpoc_ml.main"}
    assert "cannot be kept" in caplog.text


def test_a_parsed_file_is_kept_until_it_changes(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "written_just_now", lambda found: False)
    file = tmp_path / "main.py"
    file.write_text("value = 1\n")
    first = ParsedFiles(tmp_path / "parsed.json")
    facts = first.facts(file, "vpoc_ml.main")
    first.store()
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda text: pytest.fail("parsed again"))
    assert ParsedFiles(tmp_path / "parsed.json").facts(file, "vpoc_ml.main") == facts
    monkeypatch.setattr(ast, "parse", parse)
    file.write_text("value = 22\n")
    assert ParsedFiles(tmp_path / "parsed.json").facts(file, "vpoc_ml.main")["digest"] != facts["digest"]
