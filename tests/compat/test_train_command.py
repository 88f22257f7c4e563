"""``vpoc-ml train`` with the earlier trainer's flags: one merged file in, a folder with a model out."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from vpoc_ml import cli
from vpoc_ml.artifacts.layout import run_name
from vpoc_ml.cli import app
from vpoc_ml.compat import train_command
from vpoc_ml.errors import ConfigError, ContractCodeError, InvalidValueError, MissingInputError
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.models.bundle import load_model
from vpoc_ml.pipeline import stages
from vpoc_ml.pipeline.stages import STAGES

pytestmark = pytest.mark.slow

COMMAND = """train --data DATA/MERGED/merged_es_vix_test.csv --output_dir TRAINING_ROBUST --epochs 3 --batch_size 16
    --learning_rate 1e-4 --hidden_dims 16 8 --dropout_rate 0.1 --verbose"""
SESSIONS = 18


@pytest.fixture(scope="module")
def merged(market, tmp_path_factory):
    """The earlier system's merged file of some weeks, in the folders its commands name."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "DATA/MERGED").mkdir(parents=True)
    lines = next(market.glob("ES*.txt")).read_text().splitlines()[55_000 : 55_000 + SESSIONS * 1380]
    vix = next(path for path in market.glob("*.csv") if "vix" in path.name.lower())
    closes: dict[date, float] = dict(read_vix(vix).select("date", "close").rows())
    rows, close = ["timestamp,open,high,low,close,volume,VIX,contract,session"], 15.0
    for line in lines:
        timestamp, *values = line.split(";")
        at = datetime.strptime(timestamp, "%Y%m%d %H%M%S")  # noqa: DTZ007 - as that system wrote it
        close = closes.get(at.date(), close)
        session = "RTH" if "09:30" <= f"{at:%H:%M}" < "16:00" else "ETH"
        rows.append(f"{at},{','.join(values)},{close},ES 03-23,{session}")
    (folder / "DATA/MERGED/merged_es_vix_test.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def command(merged, monkeypatch):
    """Run a command line in the folder of the merged file, without the gates: they have tests of their own."""
    monkeypatch.chdir(merged)
    monkeypatch.setattr(stages, "STAGES", tuple(stage for stage in STAGES if not stage.is_gate))

    def run(line: str):
        result = CliRunner().invoke(app, shlex.split(line))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_published_command_runs_as_it_stands(command, merged):
    result = command(COMMAND)
    assert result.exit_code == 0
    folder = merged / "TRAINING_ROBUST"
    assert {"best_model.json", "best_model.safetensors", "final_model.json", "training_config.json"} <= {
        path.name for path in folder.iterdir()
    }
    trained = json.loads((folder / "training_result.json").read_text())
    assert (trained["epochs"], trained["parameters"]) == (3, 299)
    config = json.loads((folder / "config.json").read_text())
    assert config["preset"] == "top5"
    assert config["training"]["patience"] == 15
    assert load_model(folder / "best_model.json").features[0] == "close_change_pct"
    assert "step" in result.stderr, "--verbose shows the windows"
    assert "Held-out metrics" in result.stdout
    assert "report.html" in result.stdout
    assert f"Next: vpoc-ml promote {train_command.run_of(folder)} --lake" in result.stderr


def test_chunk_size_changes_memory_and_no_byte_of_the_training_set(command, merged):
    """A training set that is the same to the byte trains the same model; see the training's own tests."""
    raw, vix = train_command.deliver(merged / "DATA/MERGED/merged_es_vix_test.csv", None, merged / "input")
    places = f"--raw {raw} --vix {vix} --preset top5"
    found = set()
    for rows in (0, 700, 15_000):
        assert command(f"training-set {places} --lake lake-{rows} -o machine.chunk_rows={rows}").exit_code == 0
        features = pl.read_parquet(merged / f"lake-{rows}/features/ES/ESH23.parquet")
        training_set = (merged / f"lake-{rows}/runs/manual/training_set.parquet").read_bytes()
        found.add((tuple(features.hash_rows()), hashlib.sha256(training_set).hexdigest()))
    assert len(found) == 1

    assert command(f"training-set {places} --lake lake-0 --run part -o data.fraction=0.9").exit_code == 0
    sessions = sorted(pl.read_parquet(merged / "lake-0/features/ES/ESH23.parquet")["session"].unique())
    part = pl.read_parquet(merged / "lake-0/runs/part/training_set.parquet")
    assert part["session"].max() == sessions[math.ceil(0.9 * len(sessions)) - 1]


def test_merged_file_as_parquet_gives_the_bars_of_the_csv(command, merged):
    file = merged / "DATA/MERGED/merged_es_vix_test.csv"
    frame = pl.read_csv(file, try_parse_dates=True)
    frame.write_parquet(merged / "merged.parquet")
    frame.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC")).write_parquet(merged / "aware.parquet")
    bars = set()
    for data in (file, merged / "merged.parquet", merged / "aware.parquet"):
        raw, vix = train_command.deliver(data, None, merged / f"input-{data.stem}")
        assert command(f"ingest --raw {raw} --vix {vix} --lake lake-{data.stem}").exit_code == 0
        bars.add(tuple(pl.read_parquet(merged / f"lake-{data.stem}/bars/ES/ESH23.parquet").hash_rows()))
    assert len(bars) == 1


def test_contract_of_a_file_that_names_none_is_the_one_that_is_given(command, merged, tmp_path):
    file = merged / "DATA/MERGED/merged_es_vix_test.csv"
    _header, *rows = file.read_text().splitlines()
    split = [row.replace(" ", ",", 1).rsplit(",", 2)[0] for row in rows]
    data = tmp_path / "prices.csv"
    data.write_text("\n".join(["Date,Time,Open,High,Low,Close,Volume,VIX", *split]) + "\n")
    with pytest.raises(ContractCodeError, match=r"prices\.csv.*no column contract either; name it with --contract"):
        train_command.deliver(data, None, tmp_path / "out")
    raw, vix = train_command.deliver(data, None, tmp_path / "out", contracts=["ES 03-23"])
    assert [path.name for path in raw.iterdir()] == ["ESH23 prices.csv"]
    of_column = train_command.deliver(file, None, tmp_path / "out")
    bars = set()
    for name, (folder, closes) in {"split": (raw, vix), "whole": of_column}.items():
        assert command(f"ingest --raw {folder} --vix {closes} --lake {tmp_path / name}").exit_code == 0
        bars.add(tuple(pl.read_parquet(tmp_path / name / "bars/ES/ESH23.parquet").hash_rows()))
    assert len(bars) == 1


def test_data_may_be_a_folder_and_a_vix_file_beside_is_preferred(merged, tmp_path, market):
    assert train_command.deliver(market, None, tmp_path) == (market, None)
    named = tmp_path / "vix.csv"
    file = merged / "DATA/MERGED/merged_es_vix_test.csv"
    assert train_command.deliver(file, named, tmp_path / "a")[1] == named
    raw, vix = train_command.deliver(file, None, tmp_path / "b")
    assert [path.name for path in raw.iterdir()] == [file.name]
    assert vix == raw.parent / "vix.csv"
    assert raw.is_relative_to(tmp_path / "b" / ".vpoc-input")
    beside = tmp_path / "c" / "VIX_History.csv"
    beside.parent.mkdir()
    beside.write_text("DATE,OPEN,HIGH,LOW,CLOSE\n01/06/2023,1,1,1,21.1\n")
    (beside.parent / "merged.csv").write_bytes(file.read_bytes())
    assert train_command.deliver(beside.parent / "merged.csv", None, tmp_path / "d")[1] == beside
    with pytest.raises(MissingInputError, match="Correct --data"):
        train_command.deliver(tmp_path / "absent.csv", None, tmp_path)


@pytest.mark.parametrize("data", ["input/data/es.csv", "es.csv"])
def test_output_may_be_the_folder_of_the_data_and_no_file_there_is_lost(merged, tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    mine = {name: name.encode() for name in ("input/data/older.csv", "input/vix.csv", "data/notes.txt")}
    mine[data] = (merged / "DATA/MERGED/merged_es_vix_test.csv").read_bytes()
    for name, content in mine.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for _ in range(2):
        raw, vix = train_command.deliver(Path(data), None, Path())
        assert {name: (tmp_path / name).read_bytes() for name in mine} == mine
        assert [path.read_bytes() for path in raw.iterdir()] == [mine[data]]
        assert vix.is_file()


def test_each_data_file_has_a_folder_of_its_own(merged, tmp_path):
    content = (merged / "DATA/MERGED/merged_es_vix_test.csv").read_bytes()
    for name in ("a/es.csv", "b/es.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
    raws = {train_command.deliver(tmp_path / name, None, tmp_path / "out")[0] for name in ("a/es.csv", "b/es.csv")}
    assert sorted(path.readlink() for raw in raws for path in raw.iterdir()) == [
        tmp_path / "a/es.csv",
        tmp_path / "b/es.csv",
    ]


def test_data_in_the_private_folder_and_a_file_in_the_place_of_the_link_are_refused(merged, tmp_path):
    file = merged / "DATA/MERGED/merged_es_vix_test.csv"
    raw, _ = train_command.deliver(file, None, tmp_path)
    link = raw / file.name
    for data in (link, raw):
        with pytest.raises(InvalidValueError, match=r"--data to be a folder or file outside .*\.vpoc-input"):
            train_command.deliver(data, None, tmp_path)
    link.unlink()
    link.write_text("mine")
    with pytest.raises(ConfigError, match="Move it away"):
        train_command.deliver(file, None, tmp_path)
    assert link.read_text() == "mine"


@pytest.mark.parametrize(
    ("lake", "place"),
    [("s3://bucket/es", "cache"), ("file://{}/lake", "lake/runs/manual"), ("lake", "lake/runs/manual")],
)
def test_without_an_output_the_link_lies_in_a_proper_local_folder(merged, tmp_path, monkeypatch, lake, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VPOC_CACHE", str(tmp_path / "cache"))
    requested = []
    monkeypatch.setattr(cli, "train_and_evaluate", lambda *arguments, as_json: requested.append(arguments))
    line = ["train", "--data", str(merged / "DATA/MERGED/merged_es_vix_test.csv"), "--lake", lake.format(tmp_path)]
    assert CliRunner().invoke(app, line).exit_code == 0
    start = requested[0][2]
    raw, vix = Path(start.raw), Path(start.vix)
    assert raw.absolute().is_relative_to(tmp_path / place)
    assert [path.name for path in raw.iterdir()] == ["merged_es_vix_test.csv"]
    assert vix.is_file()
    assert [path.name for path in tmp_path.iterdir()] == [place.partition("/")[0]], "no folder called s3: or file:"


def test_run_is_named_after_the_output_folder(tmp_path, monkeypatch):
    folder = tmp_path / "TRAINING" / "STABLE 28"
    name = train_command.run_of(folder)
    assert re.fullmatch("TRAINING-STABLE-28--[0-9a-f]{8}", name)
    assert train_command.run_of(None) == "manual"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert train_command.run_of(Path("TRAINING/STABLE 28")) == name, "the same folder, from where one stands"
    (tmp_path / "link").symlink_to(folder)
    assert train_command.run_of(tmp_path / "link") == name
    assert len(train_command.run_of(tmp_path / ("x" * 300))) < 255


def test_different_output_folders_are_different_runs(tmp_path):
    parts = (
        "A/TRAINING/STABLE 28",
        "B/TRAINING/STABLE 28",
        "A/TRAINING/STABLE-28",
        "A/TRAINING/STABLE:28",
        "A/TRAINING",
    )
    parts += ("A/TRAINING-STABLE/28", "TRAINING/STÄBLE", "TRAINING/STÖBLE", "TRAINING/..TABLE", "TRAINING/--TABLE")
    names = [train_command.run_of(tmp_path / each) for each in parts]
    assert len(set(names)) == len(names)
    assert [run_name(name) for name in names] == names, "each is the name of a folder"
