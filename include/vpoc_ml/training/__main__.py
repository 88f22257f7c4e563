"""``python -m vpoc_ml.training RUN_DIR``: train one run folder as a process of its own.

Progress goes to stdout, one JSON object a line. An error is the last such object (``VpocError.to_record``); its text
goes to stderr and its class decides the exit code. A fault of the machine that another library raises is reported as
``MachineError``, so that the caller can try again; a fault of the program ends the process with its traceback. SIGTERM
stops the training after a checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from vpoc_ml.errors import VpocError
from vpoc_ml.training.launch.subprocess import PARENT_VARIABLE, die_with_parent, load_plugins

USAGE_EXIT = 2


def main(arguments: list[str]) -> int:
    """Train the run folder named by the only argument; return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m vpoc_ml.training RUN_DIR\n")
        return USAGE_EXIT
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None:
        die_with_parent(int(parent))
    from vpoc_ml.training.launch.job import train_run  # torch takes seconds: the watchdog must run before
    from vpoc_ml.training.launch.machine_faults import machine_fault
    from vpoc_ml.training.loop.stop import StopRequest

    run_dir, stop = Path(arguments[0]), StopRequest()
    try:
        signal.signal(signal.SIGTERM, stop)
        load_plugins()
        train_run(run_dir, on_progress=lambda record: _emit(record.to_json()), stop=stop)
    except VpocError as error:
        return _report(error)
    except Exception as error:
        fault = machine_fault(error, run_dir)
        if fault is None:
            raise
        traceback.print_exc()
        return _report(fault)
    return 0


def _report(error: VpocError) -> int:
    """Write an error to stdout and stderr; return its exit code."""
    _emit({"kind": "error", **error.to_record()})
    sys.stderr.write(f"{type(error).__name__}: {error}\n")
    return error.exit_code


def _emit(record: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
