"""The help of every command: group, sentences, examples that the parser accepts, and completion."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vpoc_ml import config as configuration
from vpoc_ml import environment
from vpoc_ml.artifacts import layout
from vpoc_ml.cli import app, groups
from vpoc_ml.config import PRESETS, setting_keys
from vpoc_ml.lake.store import Lake

PROGRAM = typer.main.get_command(app)
EXAMPLES = [(name, example) for name, (_, examples) in groups.EXAMPLES.items() for example in examples]


def help_of(*words):
    answer = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"})
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def commands():
    """Return the words that name each command, those of sub-commands too."""
    found = []
    for name, command in PROGRAM.commands.items():
        found += [(name, each) for each in getattr(command, "commands", {})] or [(name,)]
    return sorted(found)


def test_the_first_help_lists_every_command_once_under_the_title_of_its_group():
    text = help_of()
    titles = re.findall(r"^╭─ (.*?) ─+╮$", text, re.MULTILINE)
    order = [groups.NIGHT, groups.STAGES, groups.GATES, groups.MODELS, groups.STUDY, groups.CARE]
    assert titles == ["Options", *order]
    listed = re.findall(r"^│ ([a-z][\w-]*) ", text, re.MULTILINE)
    assert listed == list(groups.EXAMPLES)
    assert set(listed) == set(PROGRAM.commands)
    for example in groups.FIRST_STEPS:
        assert f"vpoc-ml {example}" in text


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_is_a_sentence_without_arrows_and_fits_80_columns(words):
    text, command = help_of(*words), PROGRAM
    for word in words:
        command = command.commands[word]
    assert all(part.strip().endswith((".", ":")) for part in command.help.split("\n\n"))
    assert "\n" not in command.help.replace("\n\n", ""), "lines break where the terminal ends"
    assert "->" not in text
    assert "<list[" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_examples_are_shown_and_parsed_and_their_settings_exist(name, example):
    words = shlex.split(example)
    assert f"vpoc-ml {example}" in " ".join(help_of(name).split()), "the example is cut or missing"
    assert words[0] == name
    command, rest = PROGRAM.commands[name], words[1:]
    if rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    parsed = command.make_context(name, rest).params
    overrides = parsed["override"] if isinstance(parsed.get("override"), list) else []
    configuration.resolve(parsed.get("preset") or "nightly", dict(map(configuration.parse_override, overrides)))


def completed(words, word, cwd=None):
    """Return what bash offers after ``vpoc-ml WORDS`` while ``word`` is being typed."""
    line = ["vpoc-ml", *words, word]
    others = {name: value for name, value in os.environ.items() if name != environment.LAKE}
    env = others | {
        "_VPOC_ML_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": str(len(line) - 1),
    }
    program = Path(sys.executable).parent / "vpoc-ml"
    done = subprocess.run([program], env=env, capture_output=True, text=True, check=True, cwd=cwd)
    return done.stdout.split()


def test_the_shell_completes_commands_options_presets_settings_and_runs(tmp_path):
    for name in ("monday", "tuesday"):
        Lake(tmp_path / "data").write_json(layout.run_file(name, layout.INPUTS), {})
    assert completed([], "gate-") == [name for name in groups.EXAMPLES if name.startswith("gate-")]
    assert "--preset" in completed(["run"], "--pre")
    assert completed(["run", "--preset"], "") == list(PRESETS)
    assert completed(["run", "-o"], "training.e") == [f"{k}=" for k in setting_keys() if k.startswith("training.e")]
    assert completed(["summary"], "m", cwd=tmp_path) == ["monday"]
    assert completed(["summary", "--lake", str(tmp_path / "data")], "") == ["monday", "tuesday"]


def test_the_version_is_that_of_the_project():
    stated = re.search(r'^version = "(.*)"', (Path(__file__).parents[2] / "pyproject.toml").read_text(), re.MULTILINE)
    assert CliRunner().invoke(app, ["--version"]).stdout == f"vpoc-ml {stated[1]}\n"
