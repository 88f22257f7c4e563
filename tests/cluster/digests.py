"""Prints as JSON the SHA-256 of what a run has left, by file: ``python -c CODE LAKE RUN``, in a container."""

import hashlib
import io
import json
import sys
from pathlib import Path

import polars as pl

KINDS = ("bars", "quarantine", "sessions", "developing", "features", "roll", "vix")
FILES = ("training_set.parquet", "best_model.safetensors", "final_model.safetensors")
PREDICTIONS = "predictions.parquet"


def digests(lake: Path, run: str) -> dict[str, str]:
    """Return the SHA-256 of the tables below ``lake`` and of the files of a run."""
    tables = [path for kind in KINDS for path in sorted((lake / kind).rglob("*.parquet"))]
    files = {str(path.relative_to(lake)): path for path in tables} | {
        name: lake / "runs" / run / name for name in FILES
    }
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    # the champion's column is there only where an earlier run was promoted
    own = pl.read_parquet(lake / "runs" / run / PREDICTIONS).drop("champion", strict=False)
    own.write_ipc(memory := io.BytesIO())
    return found | {PREDICTIONS: hashlib.sha256(memory.getvalue()).hexdigest()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(digests(Path(sys.argv[1]), sys.argv[2])))
