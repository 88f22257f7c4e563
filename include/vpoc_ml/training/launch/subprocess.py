"""Run a training job as a process of its own, follow it, and never leave it behind.

A training process ends when the process that started it disappears. The kernel's parent-death signal is bound to the
*thread* that started the child, and threads of a task runner end early. So the child polls whether another process has
become its parent.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vpoc_ml import environment as names
from vpoc_ml.artifacts.training_files import TRAINING_RESULT
from vpoc_ml.artifacts.training_progress import OnProgress, parse_progress
from vpoc_ml.artifacts.training_result import TrainingResult
from vpoc_ml.errors import PluginError, TrainingKilledError, TrainingProcessError, VpocError, error_from_record
from vpoc_ml.plugins.load import activate
from vpoc_ml.plugins.registered import current

PARENT_VARIABLE = names.TRAINING_PARENT
POLL_SECONDS = 0.25


def die_with_parent(parent: int) -> None:
    """Kill this process group as soon as the process ``parent`` is no longer its parent.

    For a process that leads its own group only, so that no other process is killed.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watchdog", daemon=True).start()


STDERR_LINES = 40
log = logging.getLogger(__name__)


def launch(
    run_dir: Path,
    *,
    on_progress: OnProgress = lambda record: None,
    environment: Mapping[str, str] | None = None,
) -> TrainingResult:
    """Train ``run_dir`` in a child process with its own process group; return its result.

    A fault in a GPU driver kills the child, not the caller. The checkpoint in the run folder lets the next call
    resume. The group is killed when an exception leaves this function; the child kills its group itself when the
    calling process disappears. Called in the main thread, SIGTERM to the calling process is passed on to the child,
    which stops after a checkpoint.

    Args:
        run_dir: folder of the run, see ``job.train_run``.
        on_progress: receives every window and epoch record.
        environment: variables that the child has in addition to those of this process.

    Raises:
        VpocError: the error that the job raised: same class, same fields.
        MachineError: too little memory, or a GPU or a file system that failed: try again, it resumes.
        TrainingStoppedError: SIGTERM stopped the training: try again, it resumes.
        TrainingKilledError: a signal ended the process, as a GPU fault does: try again, it resumes.
        TrainingProcessError: the process ended otherwise without reporting an error: the program is wrong.
    """
    # _AIRFLOW__AS_LIBRARY keeps airflow, if anything imports it, from opening its database in the child
    variables = {"_AIRFLOW__AS_LIBRARY": "1", PARENT_VARIABLE: str(os.getpid()), **_plugin_variables()}
    process = subprocess.Popen(
        [sys.executable, "-m", "vpoc_ml.training", str(run_dir)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **(environment or {}), **variables},
        start_new_session=True,
    )
    last_lines: deque[str] = deque(maxlen=STDERR_LINES)
    assert process.stdout is not None
    assert process.stderr is not None
    drain = threading.Thread(target=last_lines.extend, args=(process.stderr,), daemon=True)
    drain.start()
    try:
        with _passing_on_sigterm(process):
            failure = _follow(process.stdout, on_progress)
            code = process.wait()
        drain.join(timeout=5)
    finally:
        _kill_group(process)
    if code != 0:
        ended = "".join(last_lines).strip()
        if failure is not None:  # its message is the error's text only, stderr has the traceback
            log.info("training process: %s", ended)
        raise process_error(code, failure, ended)
    return TrainingResult.read(
        run_dir / TRAINING_RESULT, what="the result of the training", remedy="Train the run again."
    )


def _plugin_variables() -> dict[str, str]:
    """Return the variables by which the child loads the plugins of this process."""
    active = current()
    return {names.TRAINING_LAKE: active.lake, names.TRAINING_PLUGINS: active.fingerprint} if active.lake else {}


def load_plugins() -> None:
    """Load the plugins of the process that started this one.

    Raises:
        PluginError: a plugin cannot be used, or has changed since.
    """
    lake = names.read(names.TRAINING_LAKE)
    if lake is None:
        return
    expected, found = names.read(names.TRAINING_PLUGINS) or "", activate(lake).fingerprint
    if found != expected:
        remedy = "Finish a run before you edit a plugin, or start it again."
        raise PluginError(lake, f"the plugins of the process that trains ({expected})", found or "none", remedy)


@contextmanager
def _passing_on_sigterm(process: subprocess.Popen[str]) -> Iterator[None]:
    """Send SIGTERM on to the child. Airflow's own handler, for one, would let a training go on until SIGKILL."""
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers in the main thread only
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_signal: process.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def process_error(code: int, failure: Mapping[str, Any] | None, last_lines: str) -> VpocError:
    """Return the error of a training process that ended with ``code``.

    Args:
        code: exit code; below 0 the number of the signal that ended the process.
        failure: record of the error that the process reported, None if it reported none.
        last_lines: the end of the process's stderr.
    """
    if failure is not None:
        return error_from_record(failure)
    if code < 0:
        return TrainingKilledError(signal.Signals(-code).name, last_lines)
    return TrainingProcessError(code, last_lines)


def _follow(lines: Iterable[str], on_progress: OnProgress) -> dict[str, Any] | None:
    """Forward progress until the child closes its output; return its error record, None if it wrote none."""
    failure = None
    for text in lines:
        try:
            record = json.loads(text)
        except ValueError:
            log.info("training process: %s", text.rstrip())
            continue
        if record.get("kind") == "error":
            failure = record
        else:
            on_progress(parse_progress(record))
    return failure


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kill the child and every process that it started, and collect it."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
