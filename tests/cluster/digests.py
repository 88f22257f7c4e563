"""Prints as JSON the SHA-256 of what a run has left: ``python -c CODE LAKE RUN``, in a container."""

import hashlib
import json
import sys
from pathlib import Path

lake, run = Path(sys.argv[1]), sys.argv[2]
KINDS = ("bars", "sessions", "developing", "features", "roll", "vix")
NAMES = ("training_set.parquet", "best_model.safetensors", "final_model.safetensors", "predictions.parquet")
tables = [path for kind in KINDS for path in sorted((lake / kind).rglob("*.parquet"))]
files = {str(path.relative_to(lake)): path for path in tables} | {name: lake / "runs" / run / name for name in NAMES}
sys.stdout.write(json.dumps({name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}))
