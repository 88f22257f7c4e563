"""``python -m vpoc_ml.training RUN_DIR``: train one run folder as a process of its own.

Progress goes to stdout, one JSON object a line; errors go to stderr and decide the exit code.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from vpoc_ml.errors import VpocError
from vpoc_ml.training.launch.watchdog import PARENT_VARIABLE, die_with_parent

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
    from vpoc_ml.training.launch.processes import processes_of, train_together

    run_dir = Path(arguments[0])
    try:
        if (processes := processes_of(run_dir)) > 1:
            train_together(run_dir, processes)
        else:
            train_run(run_dir, on_progress=_emit)
    except VpocError as error:
        _emit({"kind": "error", "error": type(error).__name__, "message": str(error)})
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    return 0


def _emit(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
