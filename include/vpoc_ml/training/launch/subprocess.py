"""Start a training job as a process of its own, follow it, and never leave it behind."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vpoc_ml.errors import (
    CheckpointError,
    ConfigError,
    DeviceError,
    GpuBusyError,
    InputError,
    MachineError,
    StorageError,
    TrainingUnstableError,
    VpocError,
)
from vpoc_ml.lake.atomic import read_json
from vpoc_ml.training.launch.watchdog import PARENT_VARIABLE

STDERR_LINES = 40
BY_EXIT_CODE: dict[int, type[VpocError]] = {2: ConfigError, 4: TrainingUnstableError, 5: InputError}
BY_NAME: dict[str, type[VpocError]] = {
    kind.__name__: kind for kind in (CheckpointError, GpuBusyError, StorageError, MachineError, DeviceError)
}
log = logging.getLogger(__name__)


def launch(run_dir: Path, *, on_progress: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Train ``run_dir`` in a child process with its own process group; return ``training_result.json``.

    A fault in a GPU driver kills the child, not the caller; the run folder's checkpoint lets the next
    call go on. The group is killed when this function is left by any exception; the child kills its
    group itself when the calling process disappears, however that happens.

    Args:
        run_dir: folder of the run, see ``job.train_run``.
        on_progress: receives every window and epoch line.

    Raises:
        TrainingUnstableError, CheckpointError, InputError, ConfigError: as the job raised them.
        MachineError: the process was killed, as a GPU fault does it, or a card is busy: try again, it resumes.
        VpocError: the process died otherwise; the message has its last lines.
    """
    # The variable keeps airflow, should anything import it, from opening its database in the child
    environment = {**os.environ, "_AIRFLOW__AS_LIBRARY": "1", PARENT_VARIABLE: str(os.getpid())}
    process = subprocess.Popen(
        [sys.executable, "-m", "vpoc_ml.training", str(run_dir)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    errors: deque[str] = deque(maxlen=STDERR_LINES)
    assert process.stdout is not None
    assert process.stderr is not None
    drain = threading.Thread(target=errors.extend, args=(process.stderr,), daemon=True)
    drain.start()
    try:
        failure = _follow(process.stdout, on_progress or (lambda line: None))
        code = process.wait()
        drain.join(timeout=5)
    finally:
        _kill_group(process)
    if code != 0:
        raise _error(code, failure, "".join(errors).strip())
    result: dict[str, Any] = read_json(run_dir / "training_result.json")
    return result


def _follow(lines: Iterable[str], on_progress: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
    """Pass progress on until the child closes its output; return its error line, if it wrote one."""
    failure = None
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            log.info("training process: %s", text.rstrip())
            continue
        if line.get("kind") == "error":
            failure = line
        else:
            on_progress(line)
    return failure


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kill the child and whatever it started, and collect it."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def error_of(failure: dict[str, Any], code: int) -> VpocError:
    """Return the error that a training process told: its class by name, else by exit code."""
    kind = BY_NAME.get(failure["error"]) or BY_EXIT_CODE.get(code, VpocError)
    error = kind.__new__(kind)  # the message is whole: what it was made of stayed in the other process
    error.args = (failure["message"],)
    return error


def _error(code: int, failure: dict[str, Any] | None, errors: str) -> VpocError:
    """Return the error the child reported, or one that says how it died."""
    if failure is not None:
        return error_of(failure, code)
    if code < 0:
        name = signal.Signals(-code).name
        return MachineError(
            f"Expected the training process to finish; it was ended by {name}"
            f" (SIGKILL is often a lack of memory, SIGABRT a GPU fault). Start it again: it resumes. {errors}".rstrip()
        )
    return VpocError(f"Expected the training process to finish; it ended with code {code}: {errors or 'no message'}")
