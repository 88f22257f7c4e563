"""Several training processes under torchrun: prepared, started, and their failure told as one error.

``python -m vpoc_ml.training.launch.processes together RUN_DIR`` is one process of a data-parallel run,
``... apart RUN_DIR...`` one that trains every n-th of the folders, alone.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vpoc_ml.config.stored import read_config
from vpoc_ml.errors import MachineError, VpocError
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.training.launch.run_inputs import share_inputs
from vpoc_ml.training.launch.watchdog import die_with_parent

STATE = ("checkpoints", "rungs")  # beside config and inputs, all that decides how a run goes on
MODULE = "vpoc_ml.training.launch.processes"
ERROR = "error.json"
Progress = Callable[[dict[str, Any]], None]


def processes_of(run_dir: Path) -> int:
    """Return ``training.processes`` of a run; 1 when it has no configuration, which training itself reports.

    Raises:
        UnreadableFileError: the configuration is damaged.
    """
    return read_config(run_dir).training.processes if (run_dir / "config.json").is_file() else 1


def train_together(run_dir: Path, processes: int) -> None:
    """Train one net in ``processes`` processes; progress goes to stdout as of a single one.

    Rank 0 works in ``run_dir``; the others in folders below it that are made anew each time, with the same
    checkpoints, and removed in the end.

    Raises:
        MissingInputError: the run has no training set.
        VpocError: what the first process that failed raised.
        MachineError: a process was killed.
    """
    folders = [run_dir, *(run_dir / "processes" / str(rank) for rank in range(1, processes))]
    shutil.rmtree(run_dir / "processes", ignore_errors=True)
    for folder in folders[1:]:
        _twin(run_dir, folder)
    run_processes(["together", str(run_dir)], processes, folders)
    shutil.rmtree(run_dir / "processes", ignore_errors=True)


def _twin(original: Path, folder: Path) -> None:
    """Make a folder in which another process starts from the same settings, rows, checkpoints and rungs.

    Nothing else: searches and seeds below the run link its training set, and copying follows links.
    """
    share_inputs(folder, original, read_config(original))
    for name in STATE:
        if (original / name).is_dir():
            shutil.copytree(original / name, folder / name)


def run_processes(arguments: Sequence[str], processes: int, folders: Sequence[Path]) -> None:
    """Run this module under torchrun in ``processes`` processes and wait for all of them.

    Args:
        arguments: of each process.
        processes: how many, one a card.
        folders: where processes leave ``error.json`` when they fail.

    Raises:
        VpocError, MachineError: as a process raised it, or how one ended.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    for folder in folders:
        (folder / ERROR).unlink(missing_ok=True)
    options = ["--standalone", "--nproc-per-node", str(processes), "-m", MODULE]
    try:
        torchrun.main([*options, *arguments])
    except ChildFailedError as failed:
        stored = (json.loads((folder / ERROR).read_text()) for folder in folders if (folder / ERROR).is_file())
        raise _error(next(stored, None), failed.get_first_failure()[1].exitcode) from failed


def _error(stored: dict[str, Any] | None, code: int) -> VpocError:
    from vpoc_ml.training.launch.subprocess import error_of

    if stored is not None:
        return error_of(stored, int(stored["exit_code"]))
    if code < 0:
        return MachineError(f"Expected every training process to finish; one was ended by signal {-code}. Start again.")
    return VpocError(
        f"Expected every training process to finish; one ended with code {code}: see its last lines above."
    )


def main(arguments: Sequence[str]) -> int:
    """Be one of the processes; return the exit code."""
    die_with_parent(os.getppid())  # torchrun gives each process a group of its own, which outlives torchrun
    rank = int(os.environ["RANK"])
    if arguments[0] == "together":
        run_dir = Path(arguments[1])
        return _reporting(run_dir if rank == 0 else run_dir / "processes" / str(rank), _together, quiet=rank > 0)
    for folder in arguments[1:][rank :: int(os.environ["WORLD_SIZE"])]:
        code = _reporting(Path(folder), _alone, quiet=False)
        if code:
            return code
    return 0


def _reporting(folder: Path, train: Callable[[Path, Progress], None], *, quiet: bool) -> int:
    def emit(line: dict[str, Any]) -> None:
        if not quiet:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

    try:
        train(folder, emit)
    except VpocError as error:
        told = {"kind": "error", "error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
        write_json(folder / ERROR, told)
        return error.exit_code
    return 0


def _together(folder: Path, emit: Progress) -> None:
    from vpoc_ml.training.engines.distributed import process_group
    from vpoc_ml.training.launch.job import train_run

    with process_group():
        train_run(folder, emit)


def _alone(folder: Path, emit: Progress) -> None:
    from vpoc_ml.training.launch.job import train_run

    train_run(folder, lambda line: emit({**line, "folder": folder.name}))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
