"""The training process: same bytes however often it is killed, errors by name, never left behind."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vpoc_ml.artifacts.studies import TrialScore
from vpoc_ml.artifacts.training_progress import ProgressRecord
from vpoc_ml.config.overrides import read_config
from vpoc_ml.errors import (
    ArtifactError,
    CheckpointError,
    ConfigError,
    DeviceError,
    FallbackExhaustedError,
    GpuBusyError,
    InputError,
    InvalidValueError,
    InvalidValuesError,
    MachineError,
    MissingInputError,
    NoFiniteValidationLossError,
    NoLabelledRowsError,
    StorageError,
    TooManyRollbacksError,
    TrainingKilledError,
    TrainingProcessError,
    TrainingStoppedError,
    TrainingUnstableError,
    UnreadableFileError,
    VpocError,
)
from vpoc_ml.training.__main__ import main as train_process
from vpoc_ml.training.launch import job
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.launch.search import TRIES, Search
from vpoc_ml.training.launch.search_space import parse_space
from vpoc_ml.training.launch.subprocess import PARENT_VARIABLE, launch, process_error
from vpoc_ml.training.loop.stop import StopRequest

pytestmark = pytest.mark.slow

ENDLESS = {"training__epochs": 10_000, "training__patience": 1000, "training__batch_size": 64}
STEPWISE = {"training__monitor_steps": 10, "machine__checkpoint_seconds": 0, "training__patience": 1000}


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
    assert expected.engine == "fused", "the engine with most hidden state: the others share its checkpoint"
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
    result = launch(killed)
    assert 0 < result.resumed_from_step < result.steps == expected.steps
    assert weights(killed) == weights(whole)
    assert result.best_validation_loss == expected.best_validation_loss
    without_seconds = [
        [line.partition('"seconds"')[0] for line in (run / "progress.jsonl").read_text().splitlines()]
        for run in (killed, whole)
    ]
    assert without_seconds[0] == without_seconds[1], "every step is in progress.jsonl exactly once"
    assert not list((killed / "checkpoints").glob(".*.tmp"))


CALLER = """
import sys, threading
from pathlib import Path
from vpoc_ml.errors import TrainingStoppedError
from vpoc_ml.training.launch.subprocess import launch

def say(record):
    sys.stdout.write(f"{record.kind} {record.step}\\n")
    sys.stdout.flush()

try:
    launch(Path(sys.argv[1]), on_progress=say)
except TrainingStoppedError as error:
    sys.stdout.write(f"stopped: {error}\\n")
"""


def test_sigterm_stops_after_a_checkpoint_and_the_next_process_gives_the_same_bytes(tiny, make_run):
    """As a restarted worker does it: the task passes SIGTERM on, the training stops in order, the retry resumes."""
    settings = STEPWISE | {"training__epochs": 20, "training__batch_size": 64, "machine__checkpoint_seconds": 3600}
    whole, stopped = make_run(tiny, "whole", **settings), make_run(tiny, "stopped", **settings)
    expected = train_run(whole)
    caller = subprocess.Popen([sys.executable, "-c", CALLER, str(stopped)], stdout=subprocess.PIPE, text=True)
    last = 0
    for line in caller.stdout:
        kind, _, step = line.partition(" ")
        if kind == "window":
            if not last:
                caller.send_signal(signal.SIGTERM)
            last = int(step)
    assert caller.wait() == 0
    caller.stdout.close()
    assert line.startswith("stopped: ")
    assert "SIGTERM has stopped it" in line
    checkpoint = max((stopped / "checkpoints").glob("step-*.ckpt"))
    assert 0 < last < expected.steps, "stopped within the training"
    assert checkpoint.name == f"step-{last:012d}.ckpt", "the last window's work is stored"
    result = launch(stopped)
    assert result.resumed_from_step == last
    assert weights(stopped) == weights(whole)


def test_sigterm_outside_the_training_loop_stops_at_once():
    outside, within = StopRequest(), StopRequest()
    with pytest.raises(TrainingStoppedError):
        outside(signal.SIGTERM, None)
    with pytest.raises(TrainingStoppedError), within.until_granted():  # at the latest when the loop has ended
        within(signal.SIGTERM, None)


def test_launch_returns_the_result_and_forwards_progress(tiny, make_run):
    run = make_run(tiny, training__epochs=2)
    records: list[ProgressRecord] = []
    result = launch(run, on_progress=records.append)
    assert result.epochs == 2
    assert [record.epoch for record in records if record.kind == "epoch"] == [1, 2]


def test_errors_of_the_process_keep_their_class_and_text(tiny, make_run, tmp_path):
    unstable = make_run(
        tiny,
        "unstable",
        training__learning_rate=10.0,
        training__batch_size=64,
        training__monitor_steps=5,
        training__max_rollbacks=0,
        machine__fallback=False,
        training__epochs=5,
    )
    with pytest.raises(TooManyRollbacksError, match="at most 0 rollbacks") as raised:
        launch(unstable)
    assert (raised.value.limit, raised.value.rate_factor) == (0, 0.5)
    with pytest.raises(InputError, match=r"config\.json"):
        launch(tmp_path / "nowhere")


FAULT_AFTER_A_CHECKPOINT = """
import torch
from vpoc_ml.training.loop import epochs

write, written = epochs.write_checkpoint, []

def failing(folder, checkpoint):
    write(folder, checkpoint)
    written.append(checkpoint.step)
    if len(written) == 2:
        raise {fault}

epochs.write_checkpoint = failing
"""
FAULT_OF_LARGE_NETS = """
import torch
from vpoc_ml.config.overrides import read_config
from vpoc_ml.training.launch import job

train = job.train_run

def failing(run_dir, **options):
    if read_config(run_dir).model.hidden_dims == (16,):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return train(run_dir, **options)

job.train_run = failing
"""


def injected(folder: Path, code: str) -> dict[str, str]:
    """Variables by which a process started with them runs ``code`` before its own."""
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(folder)}


def test_a_training_that_runs_out_of_memory_may_be_tried_again_and_resumes(tiny, make_run, tmp_path, caplog):
    settings = STEPWISE | {"training__epochs": 2, "training__batch_size": 64}
    whole, broken = make_run(tiny, "whole", **settings), make_run(tiny, "broken", **settings)
    train_run(whole)
    fault = 'torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")'
    caplog.set_level("INFO")
    with pytest.raises(MachineError, match=r"out of memory .*allocate 2\.00 GiB.*lower training\.batch_size") as raised:
        launch(broken, environment=injected(tmp_path, FAULT_AFTER_A_CHECKPOINT.format(fault=fault)))
    assert type(raised.value) is MachineError
    assert "in failing" in caplog.text, "the traceback says where"
    result = launch(broken)
    assert 0 < result.resumed_from_step < result.steps
    assert weights(broken) == weights(whole)


def test_a_fault_of_the_program_is_no_fault_of_the_machine(tiny, make_run, tmp_path):
    code = FAULT_AFTER_A_CHECKPOINT.format(fault='RuntimeError("shapes cannot be multiplied")')
    with pytest.raises(TrainingProcessError, match=r"code 1: Traceback(.|\n)*shapes cannot be multiplied"):
        launch(make_run(tiny, training__batch_size=64, **STEPWISE), environment=injected(tmp_path, code))


def test_a_search_goes_on_after_settings_that_always_run_out_of_memory(tiny, make_run, tmp_path):
    run = make_run(tiny, training__epochs=1, model__hidden_dims=(16,))
    environment, trained = injected(tmp_path, FAULT_OF_LARGE_NETS), []

    def train(folder: Path) -> None:
        trained.append(folder.name)
        launch(folder, environment=environment)

    space = parse_space(("model.hidden_dims=8|16",), read_config(run))
    search = Search(run, space, 1, train, lambda folder, config: TrialScore(value=1.0))
    for _ in range(TRIES - 1):
        with pytest.raises(MachineError, match="out of memory"):
            search.run(6)
    found = search.run(6)
    large = [each.status for each in found.records if each.overrides == ("model.hidden_dims=16",)]
    assert large == ["impossible"] * found.impossible
    assert (found.finished, found.records[0].status) == (6, "impossible")
    assert "lower training.batch_size" in found.records[0].error
    assert found.best.overrides == ("model.hidden_dims=8",)
    assert len(trained) == TRIES + 1, "what ran out of memory so often is not trained again"


def test_exit_codes_and_stderr_of_the_process(tmp_path):
    command = [sys.executable, "-m", "vpoc_ml.training"]
    missing = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert missing.returncode == 5
    assert missing.stderr.startswith("MissingInputError: ")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_a_process_without_an_error_record_is_described_by_its_exit_code():
    killed, ended = process_error(-9, None, "last lines"), process_error(1, None, "last lines")
    assert type(killed) is TrainingKilledError, "a killed process may be tried again"
    assert isinstance(killed, MachineError)
    assert (killed.signal_name, killed.last_lines) == ("SIGKILL", "last lines")
    assert type(ended) is TrainingProcessError
    assert (ended.code, ended.last_lines) == (1, "last lines")
    assert "code 1: last lines" in str(ended)


RAISED_BY_TRAINING = (
    MissingInputError("/run/config.json", "the configuration of a run", "Start the run first."),
    UnreadableFileError("/run/config.json", "JSON", "text", line=3, remedy="Restore the file."),
    InvalidValueError("model.hidden_dims", (16, 8), "one width"),
    InvalidValuesError([InvalidValueError("a.b", None, "a number"), InvalidValueError("c.d", [1.5], "text")]),
    ArtifactError("/run/feature_statistics.json", "features", "KeyError('median')"),
    NoLabelledRowsError("validation"),
    DeviceError("machine.device is rocm", "torch sees no GPU", "Install the wheel."),
    GpuBusyError(1, 6 * 1024**3, 1.5),
    TooManyRollbacksError(8, "step 90: loss 3 is above 1.5 x the usual 1", 2.0**-9),
    NoFiniteValidationLossError(12),
    FallbackExhaustedError([("nightly", "unstable"), ("medium", "unstable too")]),
    CheckpointError("/run/checkpoints/step-000000000120.ckpt", "SHA-256 ab", "cd", "Delete the file."),
    StorageError(Path("/run/best_model.json"), "room for the file", "no space left on the disk", "Free space."),
    TrainingKilledError("SIGABRT", "HSA_STATUS_ERROR"),
    TrainingStoppedError(),
    TrainingProcessError(134, "Aborted"),
    MachineError("the machine failed"),
    ConfigError("unusable"),
    InputError("unreadable"),
    TrainingUnstableError("unstable"),
    VpocError("another"),
)


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (torch.OutOfMemoryError("HIP out of memory. Tried to allocate 2.00 GiB"), MachineError),
        (torch.AcceleratorError("HIP error: unspecified launch failure"), MachineError),
        (OSError(errno.EIO, "Input/output error"), StorageError),
        (OSError(errno.ENOSPC, "No space left on device"), StorageError),
    ],
    ids=["memory", "gpu", "disk", "full disk"],
)
def test_a_fault_of_the_machine_crosses_the_process_as_one(error, reported, tmp_path, monkeypatch, capsys):
    def fail(run_dir, **options):
        raise error

    monkeypatch.setattr(job, "train_run", fail)
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)
    code = train_process([str(tmp_path)])
    written = capsys.readouterr()
    rebuilt = process_error(code, json.loads(written.out), written.err)
    assert (type(rebuilt), code) == (reported, 1)
    assert "Traceback" in written.err
    assert written.err.endswith(f"{reported.__name__}: {rebuilt}\n")


@pytest.mark.parametrize("error", RAISED_BY_TRAINING, ids=lambda error: type(error).__name__)
def test_an_error_keeps_class_fields_and_text_across_the_process(error, tmp_path, monkeypatch, capsys):
    def fail(run_dir, **options):
        raise error

    monkeypatch.setattr(job, "train_run", fail)
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)
    code = train_process([str(tmp_path)])
    record = json.loads(capsys.readouterr().out)
    assert record["kind"] == "error"
    rebuilt = process_error(code, record, "")
    assert type(rebuilt) is type(error)
    assert (str(rebuilt), rebuilt.exit_code) == (str(error), code)
    assert rebuilt.to_record() == error.to_record(), "the same fields"


def test_an_error_can_be_pickled_and_copied():
    error = copy.deepcopy(pickle.loads(pickle.dumps(GpuBusyError(1, 6 * 1024**3, limit=1.5))))
    assert type(error) is GpuBusyError
    assert (error.gpu, error.used, error.limit) == (1, 6 * 1024**3, 1.5)


def test_process_and_group_are_killed_when_the_caller_raises(tiny, make_run):
    before, seen = set(children(os.getpid())), []

    def interrupt(record: ProgressRecord) -> None:
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
