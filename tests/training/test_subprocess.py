"""The training process: same bytes however often it is killed, errors by name, never left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vpoc_ml.errors import (
    CheckpointError,
    ConfigError,
    DeviceError,
    GpuBusyError,
    InputError,
    MachineError,
    TrainingUnstableError,
)
from vpoc_ml.training.launch import subprocess as launching
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.launch.subprocess import launch

ENDLESS = {"training__epochs": 10_000, "training__patience": 1000, "training__batch_size": 64}
STEPWISE = {"training__monitor_steps": 10, "training__checkpoint_seconds": 0, "training__patience": 1000}


def children(parent: int) -> list[int]:
    """Processes whose parent is ``parent``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process ends, or is only waiting to be collected, within some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def weights(run: Path) -> list[bytes]:
    return [(run / f"{name}.safetensors").read_bytes() for name in ("best_model", "final_model")]


def start(run: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "vpoc_ml.training", str(run)], stdout=subprocess.PIPE, text=True)


def test_killed_at_random_moments_and_resumed_gives_the_same_bytes(tiny, make_run, tmp_path, monkeypatch):
    settings = {"preset": "top5", "training__epochs": 4, "training__ema_decay": 0.9, **STEPWISE}
    whole = make_run(tiny, "whole", **settings)
    expected = train_run(whole)
    assert expected["engine"] == "fused", "the engine with most hidden state: the others share its checkpoint"
    killed = make_run(tiny, "killed", **settings)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))  # the first process compiles, the others load
    rng = random.Random(time.time_ns())  # another moment in every run of the test
    for _ in range(3):
        process = start(killed)
        for _ in range(rng.randint(1, 15)):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.wait()
        process.stdout.close()
    assert not (killed / "training_result.json").exists(), "the job was too short to be killed"
    lines: list[dict] = []
    result = launch(killed, on_progress=lines.append)
    assert 0 < result["resumed_from_step"] < result["steps"] == expected["steps"]
    assert weights(killed) == weights(whole)
    assert result["best_validation_loss"] == expected["best_validation_loss"]
    without_seconds = [
        [line.partition('"seconds"')[0] for line in (run / "progress.jsonl").read_text().splitlines()]
        for run in (killed, whole)
    ]
    assert without_seconds[0] == without_seconds[1], "every step is in progress.jsonl exactly once"
    assert not list((killed / "checkpoints").glob(".*.tmp"))


def test_launch_returns_the_result_and_forwards_progress(tiny, make_run):
    run = make_run(tiny, training__epochs=2)
    lines: list[dict] = []
    result = launch(run, on_progress=lines.append)
    assert result["epochs"] == 2
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [1, 2]


def test_errors_of_the_process_keep_their_class_and_text(tiny, make_run, tmp_path):
    unstable = make_run(
        tiny,
        "unstable",
        training__learning_rate=10.0,
        training__batch_size=64,
        training__monitor_steps=5,
        training__max_rollbacks=0,
        training__ladder=False,
        training__epochs=5,
    )
    with pytest.raises(TrainingUnstableError, match="at most 0 rollbacks"):
        launch(unstable)
    with pytest.raises(InputError, match=r"config\.json"):
        launch(tmp_path / "nowhere")


def test_exit_codes_and_stderr_of_the_process(tmp_path):
    command = [sys.executable, "-m", "vpoc_ml.training"]
    missing = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert missing.returncode == 5
    assert missing.stderr.startswith("MissingInputError: ")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_errors_are_mapped_by_name_code_and_signal():
    def error(code, name=None):
        return launching._error(code, name and {"error": name, "message": "why"}, "last lines")

    assert type(error(5, "CheckpointError")) is CheckpointError
    assert type(error(5, "ArtifactError")) is InputError
    assert type(error(2, "InvalidValueError")) is ConfigError
    assert type(error(4, "TrainingUnstableError")) is TrainingUnstableError
    assert type(error(1, "CardBusyError")) is GpuBusyError
    assert type(error(1, "MachineError")) is MachineError
    assert type(error(2, "DeviceError")) is DeviceError, "of the machine, not of a trial's settings"
    assert str(error(2, "DeviceError")) == "why"
    assert type(error(-9)) is MachineError, "a killed process may be tried again"
    assert "SIGKILL" in str(error(-9))
    assert "last lines" in str(error(1))


def test_process_and_group_are_killed_when_the_caller_raises(tiny, make_run):
    before, seen = set(children(os.getpid())), []

    def interrupt(line: dict) -> None:
        seen.extend(pid for pid in children(os.getpid()) if pid not in before)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(make_run(tiny, **ENDLESS), on_progress=interrupt)
    assert seen
    assert all(gone(pid) for pid in seen)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_process_dies_with_a_caller_that_is_killed(ending, tiny, make_run):
    run = make_run(tiny, **ENDLESS)
    code = (
        "import sys, threading\nfrom pathlib import Path\nfrom vpoc_ml.training.launch.subprocess import launch\n"
        "say = lambda line: (sys.stdout.write('x\\n'), sys.stdout.flush())\n"
        "worker = threading.Thread(target=launch, args=(Path(sys.argv[1]),), kwargs={'on_progress': say})\n"
        "worker.start()\nworker.join()\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True)
    assert caller.stdout.readline() == "x\n"
    (trainer,) = children(caller.pid)
    assert os.getpgid(trainer) == trainer, "the process leads a group of its own"
    caller.send_signal(ending)
    caller.wait()
    caller.stdout.close()
    assert gone(trainer)
