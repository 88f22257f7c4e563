"""Any Parquet file whose columns are declared in ``ingest.mapping``; the module ``generic`` describes that setting.

The timestamp column is a timestamp with its zone or without one (then ``ingest.timezone`` is needed), text in the
mapping's ``format``, or a number with ``format=epoch:s`` (ms, us, ns). Rows are read in batches; ``line`` is the
1-based number of the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from vpoc_ml.artifacts.schemas import OHLCV, PRICES
from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import ConfigError, ExpansionLimitError, InvalidValueError, UnreadableFileError
from vpoc_ml.ingest.file_streams import Head, expanded_limit, open_unpacked
from vpoc_ml.ingest.parsing.reader import FileContents, FileRef, setting_for
from vpoc_ml.ingest.parsing.symbols import contents_by_month, contract_in_name, rows_of_symbol
from vpoc_ml.ingest.parsing.timestamps import (
    describe_format,
    label_side_of,
    timestamp_format,
    zone_of,
)
from vpoc_ml.ingest.readers import generic
from vpoc_ml.ingest.readers.generic import ColumnMapping, parse_mapping
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import Instrument

_BATCH_ROWS = 100_000
_INSPECTED = 200
_ROW_BYTES = 48
_REMEDY = "None of the rows could be read: check ingest.mapping and its format."


class ParquetReader:
    """Reader of Parquet files with declared columns."""

    name = "generic_parquet"
    expected = "a Parquet file with the columns of ingest.mapping"

    def recognises(self, head: Head) -> bool:
        """Return whether the first bytes are the magic number."""
        return head.raw[:4] == b"PAR1"

    def contents(self, file: FileRef, head: Head, instrument: Instrument, config: IngestConfig) -> FileContents:
        """Return a source for each contract of the declared column, else for the contract of the file name.

        Raises:
            ContractCodeError, InvalidValueError, UnreadableFileError: no contract, mapping or readable file.
        """
        if not config.mapping:
            raise UnreadableFileError(
                file.shown, "a declared mapping", "a Parquet file", remedy="Declare its columns in ingest.mapping."
            )
        near = None
        counted: dict[tuple[str, date], int] = {}
        for batch in self._rows(file, config):
            valid = batch.filter(pl.col("ts").is_not_null())
            near = near or (valid["ts"][0].date() if valid.height else None)
            if "symbol" in batch.columns:
                months = valid.group_by("symbol", month=pl.col("ts").dt.date().dt.month_start()).len()
                for symbol, month, rows in months.iter_rows():
                    counted[symbol, month] = counted.get((symbol, month), 0) + rows
        if "contract" not in parse_mapping(config).columns:
            return FileContents((file.source(self.name, contract_in_name(file.name, near=near)),))
        return contents_by_month(file, self.name, counted)

    def batches(self, source: Source, instrument: Instrument, config: IngestConfig) -> Iterator[pl.DataFrame]:
        """Yield the source's rows; a row with a missing or impossible value is null in all but line and text.

        Raises:
            MissingInputError, InvalidValueError, UnreadableFileError: as ``contents``.
        """
        rows = self._rows(FileRef(source.path, source.member), config)
        if source.symbol is None:
            yield from (batch.drop("symbol", strict=False) for batch in rows)
        else:
            carried = source.span.carried if source.span else ""
            yield from rows_of_symbol(rows, source.symbol, parse_contract(source.contract), carried)

    def note(self, source: Source, config: IngestConfig) -> str:
        """Return the sentence about the conversion, for the run's report."""
        file = FileRef(source.path, source.member)
        zone = setting_for(config.timezone, file, generic.NAME)
        side = label_side_of(file, generic.NAME, config, None)
        shown = f"with their zone, else of {zone}" if zone else "with their zone"
        return describe_format(f"Parquet file, columns {', '.join(config.mapping)}", shown, side)

    def _rows(self, file: FileRef, config: IngestConfig) -> Iterator[pl.DataFrame]:
        mapping = parse_mapping(config)
        if mapping.by_position:
            raise InvalidValueError("ingest.mapping", ", ".join(config.mapping), "names of columns for Parquet")
        line, first, any_valid = 1, None, False
        with open_unpacked(file.path, file.member, ratio=config.expansion_limit) as stream:
            try:
                parquet = pq.ParquetFile(stream)
                _check_size(file, parquet.metadata, config)
                names = {name.lower(): name for name in parquet.schema_arrow.names}
                if missing := [column for column in mapping.roles if column not in names]:
                    raise UnreadableFileError(
                        file.shown, f"the columns of ingest.mapping ({', '.join(missing)})", ", ".join(names)[:80]
                    )
                for batch in parquet.iter_batches(_BATCH_ROWS, columns=[names[column] for column in mapping.roles]):
                    frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
                    given = _by_role(frame, names, mapping.roles)
                    rows = _typed(file, given, mapping, config, line)
                    first, any_valid = first or given.row(0), any_valid or bool(rows["ts"].count())
                    yield rows
                    line += frame.height
            except (pa.ArrowException, pl.exceptions.PolarsError, ValueError, OverflowError) as error:
                raise UnreadableFileError(file.shown, self.expected, str(error)[:200]) from error
        if first is not None and not any_valid:
            expected = "rows with a timestamp on a whole minute, numbers as prices and a whole number as volume"
            raise UnreadableFileError(file.shown, expected, str(first)[:120], line=1, remedy=_REMEDY)


def _check_size(file: FileRef, metadata: pq.FileMetaData, config: IngestConfig) -> None:
    """Refuse a file whose footer claims more than ``ingest.expansion_limit`` allows, before memory is allocated."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    size = max(sum(group.total_byte_size for group in groups), metadata.num_rows * _ROW_BYTES)
    limit = expanded_limit(file.path, config.expansion_limit)
    if size > limit:
        raise ExpansionLimitError(file.shown, file.path.stat().st_size, limit)


def _by_role(frame: pl.DataFrame, names: dict[str, str], roles: dict[str, str]) -> pl.DataFrame:
    """Return the columns under the names of their roles; columns of one role are added."""
    columns = {role: [names[column] for column in roles if roles[column] == role] for role in roles.values()}
    return frame.select(
        (
            pl.sum_horizontal(pl.col(each).cast(pl.Float64, strict=False) for each in parts)
            if len(parts) > 1
            else pl.col(parts[0])
        ).alias(role)
        for role, parts in columns.items()
    )


def _typed(file: FileRef, frame: pl.DataFrame, mapping: ColumnMapping, config: IngestConfig, line: int) -> pl.DataFrame:
    rows = frame.with_columns(
        _start_of_bar(file, frame, mapping, config).alias("ts"),
        *(pl.col(name).cast(pl.Float64, strict=False) for name in PRICES),
        pl.col("volume").cast(pl.Float64, strict=False).alias("_volume"),
    )
    valid = (
        pl.all_horizontal(pl.col(name).is_finite() for name in (*PRICES, "_volume"))
        & (pl.col("_volume") == pl.col("_volume").floor())
        & (pl.col("ts").dt.truncate("1m") == pl.col("ts"))
    ).fill_null(value=False)
    volume = pl.col("_volume").cast(pl.Int64, strict=False).alias("volume")
    symbol = [pl.when(valid).then(pl.col("symbol").cast(pl.String))] if "symbol" in frame.columns else []
    return rows.select(
        *(pl.when(valid).then(pl.col(name)) for name in ("ts", *PRICES)),
        pl.when(valid).then(volume),
        pl.int_range(line, line + pl.len(), dtype=pl.Int64).alias("line"),
        pl.format("row {}", pl.int_range(line, line + pl.len())).alias("text"),
        *symbol,
    ).select("ts", *OHLCV, "line", "text", *(["symbol"] if symbol else []))


def _start_of_bar(file: FileRef, frame: pl.DataFrame, mapping: ColumnMapping, config: IngestConfig) -> pl.Expr:
    """Return START-of-bar timestamps in UTC of the declared column."""
    if "timestamp" not in frame.columns:
        raise ConfigError("Expected ingest.mapping to name one timestamp column for Parquet. Declare timestamp=COLUMN.")
    dtype, column = frame.schema["timestamp"], pl.col("timestamp")
    side = label_side_of(file, generic.NAME, config, None)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            zone = zone_of(file, generic.NAME, config, None)
            column = column.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
        utc = column.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
        return utc - pl.duration(minutes=1) if side == "end" else utc
    if dtype.is_numeric() and not mapping.formats[0].startswith("epoch"):
        raise UnreadableFileError(
            file.shown,
            "a timestamp that can be read",
            str(dtype),
            remedy="Add format=epoch:s (ms, us, ns) to ingest.mapping.",
        )
    written = frame["timestamp"].cast(pl.String).drop_nulls().head(_INSPECTED).to_list()
    form, _ = timestamp_format(file, generic.NAME, config, written, mapping.formats, label_side=side)
    return form.to_utc(column.cast(pl.String))


READER = ParquetReader()
