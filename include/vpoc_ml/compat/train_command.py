"""Input and output of the legacy trainer: one merged data file in, a folder with the model out.

``write_closes`` makes daily VIX closes of the merged file's VIX column, without its look-ahead. That
column carries a daily close at every minute, joined by an undocumented rule: by UTC date or by trade date,
with or without a lag. Under every such rule a bar that ends by 16:15 New York of a date carries the close of that
date or an older one. So the last value until 16:15 is taken as the date's close and published at 16:15: where the
rule had a lag the closes are a day late, and they are never early.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.layout import hashed_name, run_name
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import ConfigError, ContractCodeError, InvalidValueError, MissingInputError, UnreadableFileError
from vpoc_ml.ingest.file_streams import read_head
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.symbols import contract_in_name
from vpoc_ml.ingest.parsing.timestamps import timestamp_format
from vpoc_ml.ingest.readers import merged as merged_reader
from vpoc_ml.ingest.vix.index_files import PublicationTime, identify_index
from vpoc_ml.ingest.vix.index_header import VIX
from vpoc_ml.ingest.vix.publication_times import NEW_YORK
from vpoc_ml.lake.atomic import replacing, write_text
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.contracts import parse_contract

_TIMESTAMPS = ("timestamp", "date", "datetime", "ts", "time")
_SAMPLED = 200
_REMEDY = "Give a VIX file (--vix)."


OUTPUTS = (*layout.MODEL_FILES, layout.FEATURE_STATISTICS, layout.CONFIG)
PRIVATE = ".vpoc-input"
"""Folder below the output that holds links to the data file, or what was made of it; a dot keeps searches out."""


def deliver(
    data: Path,
    vix: Path | None,
    output: Path,
    config: IngestConfig | None = None,
    contracts: Sequence[str] = (),
) -> tuple[Path, Path | None]:
    """Return the folder of vendor files and the VIX file that ``--data`` means.

    A folder is taken as it is. A file is linked into a private folder below ``output``, the merged file as Parquet
    becomes the CSV it was; its VIX file is the one named, else one beside it, else made of its VIX column (see
    ``write_closes``). If the file's name has no contract, the only one of ``contracts`` becomes part of the
    link's name. Nothing is ever removed: each data file has a folder of its own there.

    Raises:
        InvalidValueError: ``data`` lies in the private folder, or ``ingest.timezone`` is no zone.
        ContractCodeError: a contract that cannot be read.
        MissingInputError: nothing at ``data``.
        ConfigError: a file that is not the link lies where the link belongs.
        UnreadableFileError: no VIX file and no VIX column.
    """
    private = output / PRIVATE
    names = Path(os.path.abspath(data)), data.resolve()  # by its name or by what it links to
    roots = Path(os.path.abspath(private)), private.resolve()
    if any(name.is_relative_to(root) for name in names for root in roots):
        expected = f"a folder or file outside {private}, where vpoc-ml keeps its own links and copies"
        raise InvalidValueError("--data", str(data), expected)
    if data.is_dir():
        return data, vix
    if not data.is_file():
        raise MissingInputError(data, "a folder of vendor files or one CSV or Parquet file", "Correct --data.")
    name = _name(data, contracts)
    place = str(data.absolute()) if name == data.name else f"{data.absolute()} as {name}"
    own = private / hashlib.sha256(place.encode()).hexdigest()[:16]
    if _merged_parquet(data):
        raw = own / "converted"
        with replacing(raw / f"{Path(name).stem}.csv") as target:
            pl.scan_parquet(data).sink_csv(target, datetime_format="%Y-%m-%d %H:%M:%S")
    else:
        raw = own / "linked"
        _link(data, raw / name)
    if vix is None:
        siblings = (path for path in sorted(data.parent.iterdir()) if path.suffix.lower() == ".csv" and path != data)
        plain = IngestConfig()
        found = (path for path in siblings if identify_index(path.name, read_head(path, None).lines, plain) == VIX)
        vix = next(found, None)
    return raw, vix or write_closes(data, own / "vix.csv", config)


def _name(data: Path, contracts: Sequence[str]) -> str:
    """Return the name to read a file under: with the contract if there is one and the name has none.

    Raises:
        ContractCodeError: neither name, columns nor ``contracts`` give the contract of the legacy system's file.
    """
    try:
        contract_in_name(data.name)
    except ContractCodeError as error:
        if len(contracts) == 1:
            return f"{parse_contract(contracts[0], where='setting data.contracts').code} {data.name}"
        head = read_head(data)
        if merged_reader.READER.recognises(head) and "contract" not in text_layout.names(head):
            reason = "the file has no column contract either; name it with --contract, such as --contract ESH25"
            raise ContractCodeError(data.name, where="file name", reason=reason) from error
    return data.name


def output_of(lake: str, run: str, named: Path | None) -> Path:
    """Return the local folder that ``deliver`` works below: the named one, else one of the run.

    In a local lake that is the run's folder. Of a lake in an object store it lies in this machine's cache, beside the
    mirrored folders: the link stays here, and so does the data file.

    Raises:
        InvalidValueError: a lake's URL of no object store.
    """
    opened = Lake(lake)
    return named or opened.folder(f"input/{run}" if opened.remote else layout.run_folder(run))


def _link(data: Path, link: Path) -> None:
    """Make ``link`` a link to ``data``; two commands at once make the same link."""
    link.parent.mkdir(parents=True, exist_ok=True)
    target = data.absolute()
    with suppress(FileExistsError):
        link.symlink_to(target)
    if not link.is_symlink() or link.readlink() != target:
        raise ConfigError(
            f"Expected {link} to be the link to {target}; found something else there. Move it away and start again."
        )


def _merged_parquet(data: Path) -> bool:
    """Return whether a file is the merged one as Parquet; any other Parquet file is left to its reader."""
    if data.suffix.lower() not in (".parquet", ".pq"):
        return False
    columns = {name.lower(): kind for name, kind in pl.read_parquet_schema(data).items()}
    dtype = columns.get("timestamp", columns.get("date"))
    naive = dtype == pl.String or (isinstance(dtype, pl.Datetime) and dtype.time_zone in (None, "UTC"))
    naive = naive or (dtype == pl.Date and "time" in columns)
    own = {"contract", "vix", "session"} & set(columns)
    return naive and bool(own) and {"open", "high", "low", "close", "volume"} <= set(columns)


def hand_over(lake: str, run: str, folder: Path) -> list[str]:
    """Copy a trained run's model, configuration and records into ``folder``; return the names."""
    opened = Lake(lake)
    folder.mkdir(parents=True, exist_ok=True)
    copied = []
    for name in OUTPUTS:
        key = layout.run_file(run, name)
        if opened.exists(key):
            with replacing(folder / name) as target:
                opened.fetch(key, target)
            copied.append(name)
    return copied


def run_of(folder: Path | None) -> str:
    """Return the name of the run that trains into ``folder``: its last two parts and a hash of the whole path.

    Folders that end alike, or differ only in characters that a run's name cannot have, are different runs; a folder
    reached through a link is the run of the folder itself.
    """
    if folder is None:
        return "manual"
    resolved = folder.resolve()
    last = run_name("-".join(part for part in resolved.parts[-2:] if part != os.sep))
    return hashed_name(last, str(resolved))


def write_closes(merged: Path, target: Path, config: IngestConfig | None = None) -> Path:
    """Write the closes as a CSV file ``DATE,CLOSE`` that ``read_vix`` reads; return its path.

    The first session needs a close from before the file; its own first value stands in for that. Only rows of the
    features' warm-up see it.

    Args:
        merged: CSV or Parquet file with VIX and a column of timestamps of the end of bars, or date and time.
        target: file to write.
        config: ``ingest.timezone`` is the zone of timestamps that carry none, UTC unless set; ``date_order``.

    Raises:
        UnreadableFileError: no such columns, or no positive VIX in them.
    """
    parquet = merged.suffix.lower() in (".parquet", ".pq")
    scan = pl.scan_parquet(merged) if parquet else pl.scan_csv(merged, infer_schema=False)
    names = {name.strip().lower(): name for name in scan.collect_schema().names()}
    timestamps = [names[name] for name in merged_reader.timestamp_columns(names) if name in names]
    timestamps = timestamps or [names[name] for name in _TIMESTAMPS if name in names][:1]
    if not timestamps or "vix" not in names:
        found = ", ".join(names) or "no columns"
        raise UnreadableFileError(merged, f"the columns VIX and {' or '.join(_TIMESTAMPS[:2])}", found, remedy=_REMEDY)
    written = pl.col(timestamps[0])
    if len(timestamps) > 1:
        written = pl.concat_str(pl.col(timestamps).cast(pl.String).str.strip_chars(), separator=" ")
    frame = scan.select(ts=written, vix=pl.col(names["vix"]).cast(pl.Float64, strict=False)).collect()
    frame = frame.with_columns(_utc(merged, frame["ts"], config or IngestConfig())).sort("ts")
    local = frame["ts"].dt.convert_time_zone(NEW_YORK)
    known = frame.with_columns(date=local.dt.date(), clock=local.dt.time()).filter(
        pl.col("vix").is_finite() & (pl.col("vix") > 0)
    )
    if known.is_empty():
        raise UnreadableFileError(merged, "a VIX column with positive closes", "none", remedy=_REMEDY)
    daily = (
        known.filter(pl.col("clock") <= PublicationTime().at).group_by("date").agg(pl.col("vix").last()).sort("date")
    )
    first = known.row(0, named=True)
    rows = [(first["date"] - timedelta(days=1), first["vix"]), *daily.iter_rows()]
    write_text(target, "DATE,CLOSE\n" + "".join(f"{day.isoformat()},{close}\n" for day, close in rows))
    return target


def _utc(path: Path, timestamps: pl.Series, config: IngestConfig) -> pl.Series:
    if isinstance(timestamps.dtype, pl.Datetime) and timestamps.dtype.time_zone is not None:
        return timestamps.dt.convert_time_zone("UTC")
    if isinstance(timestamps.dtype, pl.Datetime):
        timestamps = timestamps.dt.to_string("%Y-%m-%d %H:%M:%S")
    if timestamps.dtype != pl.String:
        raise UnreadableFileError(path, "a column of date-times", str(timestamps.dtype), remedy=_REMEDY)
    file, first = FileRef(path), timestamps.drop_nulls().head(_SAMPLED).to_list()
    formats = merged_reader.formats(file, first, config)
    parsed, _ = timestamp_format(
        file, merged_reader.READER.name, config, first, formats, label_side="start", default="UTC"
    )
    known = timestamps.to_frame("ts").select(parsed.to_utc(pl.col("ts"))).to_series()
    if known.has_nulls():
        line = int(known.is_null().arg_true()[0])
        raise UnreadableFileError(path, "timestamps such as 2025-01-31 09:30:00", repr(timestamps[line]), line=line + 2)
    return known
