"""Where plugins are found, what a broken one says, what its digest covers, and that a run's processes agree."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from vpoc_ml import pipeline
from vpoc_ml.cli import app
from vpoc_ml.errors import InvalidValueError, PluginError
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.doctor import check_plugins
from vpoc_ml.pipeline.run import open_run
from vpoc_ml.plugins.digest import plugin_digest
from vpoc_ml.plugins.load import activate
from vpoc_ml.plugins.registered import current, of_kind
from vpoc_ml.training.launch.subprocess import load_plugins

NOW = datetime(2024, 7, 1, tzinfo=UTC)
HEAD = "from vpoc_ml.plugins import OwnFeature\n"
FEATURE = 'OwnFeature(name="{0}", family="mine", formula="C", window="1 m", compute=lambda x: x.close)'
PLUGIN = f"{HEAD}FEATURES = [{FEATURE.format('one')}]\n"


def names():
    return [each.name for each in of_kind("features")]


def test_a_lake_without_plugins_has_none(tmp_path):
    activate(tmp_path)
    assert current().fingerprint == ""


def test_plugins_of_a_lake_and_of_a_package_are_active_together(write, package):
    package("features", PLUGIN.replace("one", "two"))
    activate(write(PLUGIN))
    assert names() == ["two", "one"]


def test_a_list_and_a_single_object_are_entry_points(package, tmp_path):
    package("features", f"{HEAD}SINGLE = {FEATURE.format('single')}\n", "SINGLE")
    activate(tmp_path)
    assert names() == ["single"]


def test_another_lake_has_its_own_plugins_and_a_changed_file_is_read_again(write, tmp_path):
    lake = write(PLUGIN)
    activate(lake)
    activate(tmp_path / "other")
    assert names() == []
    activate(lake)
    assert names() == ["one"]
    write(PLUGIN.replace("one", "uno"))
    activate(lake)
    assert names() == ["uno"]


def test_no_code_of_a_local_lake_runs_where_it_is_switched_off(write, monkeypatch):
    monkeypatch.setenv("VPOC_LAKE_PLUGINS", "0")
    activate(write(PLUGIN))
    assert names() == []


def test_a_lake_in_an_object_store_runs_code_only_if_it_is_enabled(bucket, monkeypatch):
    Lake(bucket).write_text("plugins.py", PLUGIN)
    activate(bucket)
    assert names() == []
    monkeypatch.setenv("VPOC_LAKE_PLUGINS", "1")
    activate(bucket)
    assert names() == ["one"]
    assert of_kind("features")[0].origin == f"{bucket}/plugins.py, FEATURES"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import talib_of_nobody\n", "ModuleNotFoundError in line 1: No module named 'talib_of_nobody'"),
        ("a = 1\nb = (\n", "SyntaxError in line 2"),
        (f"{HEAD}\n\ndef f():\n    raise KeyError('k')\n\nf()\n", "KeyError in line 5"),
        (PLUGIN.replace("[", "").replace("]", ""), "expected a list; found OwnFeature"),
        ("FEATURES = [1]\n", "expected objects of OwnFeature; found 1"),
        ("READERS = [object()]\n", "expected a reader; found <object .* without name, expected, recognises"),
        (PLUGIN.replace('"one"', '"One"'), "ValueError in line 2: a name of lower-case letters"),
        (PLUGIN.replace('window="1 m"', "hard=(1, 0)"), "TypeError in line 2"),
        (PLUGIN.replace('window="1 m"', 'window="1 m", hard=(1, 0)'), "with low < high"),
        (PLUGIN.replace("lambda x: x.close", "3"), "a function as compute; was 3"),
        ("import importlib\nn = 'x'\nFEATURES = [1]\nimportlib.import_module(n)\n", "ModuleNotFoundError"),
        (f"{PLUGIN}FEATURES *= 2\n", "expected a name of its own in features; found one"),
    ],
)
def test_a_broken_plugin_says_where_what_was_expected_and_what_to_do(write, text, message):
    lake = write(text)
    with pytest.raises(PluginError, match=message) as caught:
        activate(lake)
    assert str(caught.value).startswith(f"{lake}/plugins.py")
    assert caught.value.exit_code == 2
    assert caught.value.remedy


def test_a_broken_package_names_the_entry_point(package, tmp_path):
    package("features", "import talib_of_nobody\n")
    with pytest.raises(PluginError, match=r"entry point mine of group vpoc_ml\.features \(own_features.*talib"):
        activate(tmp_path)


def test_a_name_that_two_plugins_have_is_refused(write, package):
    package("features", PLUGIN)
    with pytest.raises(PluginError, match=r"plugins\.py, FEATURES: expected a name of its own .*entry point mine"):
        activate(write(PLUGIN))


SOURCE = f"""{HEAD}from vpoc_ml.plugins import OwnCheck
from vpoc_ml.features.series import ratio
import polars as pl
WINDOW = 20

def helper(x):
    return ratio(x.close, x.close, 0.0) * WINDOW

def compute(x):
    '''Docstring.'''
    return helper(x)

def defects(table):
    return table.filter(pl.col("volume") > 9)

FEATURES = [compute]
CHECKS = [defects]
"""


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("WINDOW = 20", "WINDOW = 21", {"FEATURES"}),
        ("return ratio(", "return -ratio(", {"FEATURES"}),
        ("return helper(x)", "return 2 * helper(x)", {"FEATURES"}),
        ("> 9", "> 10", {"CHECKS"}),
        ("'''Docstring.'''", "'''Another.'''", set()),
        ("WINDOW = 20", "WINDOW = 20  # bars", set()),
        ("def defects", "\n\ndef defects", set()),
        ("CHECKS = [defects]", "CHECKS = [defects]\nprint", {"FEATURES", "CHECKS"}),
    ],
)
def test_a_digest_covers_what_the_list_depends_on_and_nothing_else(old, new, changed):
    def digests(source):
        return {name: plugin_digest(source.encode(), "made", name) for name in ("FEATURES", "CHECKS")}

    before, after = digests(SOURCE), digests(SOURCE.replace(old, new))
    assert {name for name in before if before[name] != after[name]} == changed


def test_a_digest_covers_the_other_modules_of_its_package_and_libraries(tmp_path, monkeypatch):
    monkeypatch.setenv("VPOC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "own_pkg"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "helpers.py").write_text("VALUE = 1\n")
    (folder / "unused.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = b"from .helpers import VALUE\nimport yaml\nFEATURES = [VALUE, yaml]\n"
    before = plugin_digest(source, "own_pkg.main", "FEATURES")
    (folder / "unused.py").write_text("VALUE = 22\n")
    assert plugin_digest(source, "own_pkg.main", "FEATURES") == before
    (folder / "helpers.py").write_text("VALUE = 22\n")
    changed = plugin_digest(source, "own_pkg.main", "FEATURES")
    assert changed != before
    from vpoc_ml.plugins import digest

    monkeypatch.setattr(digest.metadata, "version", lambda name: "99")
    digest.version_of.cache_clear()
    assert plugin_digest(source, "own_pkg.main", "FEATURES") != changed
    digest.version_of.cache_clear()


def test_a_later_task_with_other_plugins_is_refused(write):
    lake = write(PLUGIN)
    pipeline.start_run(str(lake), "night", "smoke", None, str(lake), None, NOW)
    assert open_run(str(lake), "night").inputs["plugins"] == current().fingerprint != ""
    write(PLUGIN.replace("x.close", "x.open"))
    with pytest.raises(PluginError, match=r"run night: expected the plugins of its first task .*: features one"):
        pipeline.plan_contracts(str(lake), "night")
    assert Lake(lake).read_json("runs/night/stages/plan.json")["error_type"] == "PluginError"


def test_a_training_process_loads_the_same_plugins_or_refuses(write, monkeypatch):
    lake = write(PLUGIN)
    expected = activate(lake).fingerprint
    activate(lake.parent)
    monkeypatch.setenv("VPOC_TRAINING_LAKE", str(lake))
    monkeypatch.setenv("VPOC_TRAINING_PLUGINS", expected)
    load_plugins()
    assert names() == ["one"]
    write(PLUGIN.replace("x.close", "x.open"))
    with pytest.raises(PluginError, match="the plugins of the process that trains"):
        load_plugins()


def test_the_doctor_lists_plugins_and_explains_a_broken_one(write):
    found = check_plugins(str(write(PLUGIN)))
    assert (found.level, found.found) == ("ok", current().fingerprint)
    broken = check_plugins(str(write("import talib_of_nobody\n")))
    assert broken.level == "problem"
    assert "plugins.py: found ModuleNotFoundError in line 1" in broken.found
    assert broken.remedy.startswith("Correct it")


def test_the_command_leakage_refuses_an_unknown_family(write):
    lake = write(PLUGIN)
    done = CliRunner().invoke(app, ["leakage", "--lake", str(lake), "-o", "features.own=yours"])
    assert isinstance(done.exception, InvalidValueError)
    assert "families of own features (mine;" in str(done.exception)
