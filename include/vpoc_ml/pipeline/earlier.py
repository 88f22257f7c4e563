"""What the earlier trainer took and gave: one merged data file in, a folder with the model out."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from vpoc_ml.errors import MissingInputError
from vpoc_ml.ingest.merged_vix import write_closes
from vpoc_ml.ingest.streams import read_head
from vpoc_ml.ingest.vix import looks_like
from vpoc_ml.lake.atomic import replacing
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.model import MODEL_FILES
from vpoc_ml.pipeline.names import run_name
from vpoc_ml.pipeline.run import run_prefix

OUTPUTS = (*MODEL_FILES, "feature_statistics.json", "config.json")


def deliver(data: Path, vix: Path | None, folder: Path) -> tuple[Path, Path | None]:
    """Return the folder of vendor files and the VIX file that ``--data`` means.

    A folder is taken as it is. A file is linked into a folder of its own below ``folder``, the merged file as Parquet
    becomes the CSV it was; its VIX file is the one named, else one beside it, else made of its VIX column (see
    ``ingest.merged_vix``).

    Raises:
        MissingInputError: nothing at ``data``.
        UnreadableFileError: no VIX file and no VIX column.
    """
    if data.is_dir():
        return data, vix
    if not data.is_file():
        raise MissingInputError(data, "a folder of vendor files or one CSV or Parquet file", "Correct --data.")
    raw = folder / "data"
    raw.mkdir(parents=True, exist_ok=True)
    for stale in raw.iterdir():
        stale.unlink()
    if not _merged_parquet(data):
        (raw / data.name).symlink_to(data.absolute())
    else:
        with replacing(raw / f"{data.stem}.csv") as target:
            pl.scan_parquet(data).sink_csv(target, datetime_format="%Y-%m-%d %H:%M:%S")
    return raw, vix or _vix_beside(data) or write_closes(data, folder / "vix.csv")


def _merged_parquet(data: Path) -> bool:
    """Return whether a file is the merged one as Parquet; any other Parquet file is left to its reader."""
    if data.suffix.lower() not in (".parquet", ".pq"):
        return False
    columns = {name.lower(): kind for name, kind in pl.read_parquet_schema(data).items()}
    stamp = columns.get("timestamp", columns.get("date"))
    naive = stamp == pl.String or (isinstance(stamp, pl.Datetime) and stamp.time_zone in (None, "UTC"))
    return naive and {"open", "high", "low", "close", "volume", "contract"} <= set(columns)


def _vix_beside(data: Path) -> Path | None:
    siblings = (path for path in sorted(data.parent.iterdir()) if path.suffix.lower() == ".csv" and path != data)
    return next((path for path in siblings if looks_like(list(read_head(path, None).lines))), None)


def hand_over(lake: str, run: str, folder: Path) -> list[str]:
    """Copy a trained run's model, configuration and records into ``folder``; return the names."""
    opened = Lake(lake)
    folder.mkdir(parents=True, exist_ok=True)
    copied = []
    for name in OUTPUTS:
        key = f"{run_prefix(run)}/{name}"
        if opened.exists(key):
            with replacing(folder / name) as target:
                opened.fetch(key, target)
            copied.append(name)
    return copied


def run_of(folder: Path | None) -> str:
    """Return the name of the run that trains into ``folder``: the folder's last two parts."""
    if folder is None:
        return "manual"
    return run_name("-".join(part for part in Path(os.path.abspath(folder)).parts[-2:] if part != os.sep))
