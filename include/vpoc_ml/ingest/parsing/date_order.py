"""The order of month and day in slashed dates: the order that every date of the file fits."""

from __future__ import annotations

import polars as pl

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import blocks, open_unpacked
from vpoc_ml.ingest.parsing.reader import FileRef

MONTH_FIRST, DAY_FIRST = "%m/%d/%Y", "%d/%m/%Y"
_DATE = r"^[^\d]{0,2}(?<one>\d{1,2})/(?<two>\d{1,2})/\d{4}"


def order_of(file: FileRef, config: IngestConfig) -> str:
    """Return the chrono format of slashed dates at the start of lines; the file is read until a day above 12.

    Raises:
        UnreadableFileError: no day is above 12, so both orders fit, and ``ingest.date_order`` is not set.
    """
    if config.date_order != "auto":
        return MONTH_FIRST if config.date_order == "month_first" else DAY_FIRST
    with open_unpacked(file.path, file.member, ratio=config.expansion_limit) as stream:
        for block in blocks(stream):
            parts = pl.Series("text", [block.text]).str.split("\n").explode().str.extract_groups(_DATE).struct.unnest()
            days = parts.select(pl.all().cast(pl.Int32, strict=False).max())
            one, two = days.row(0)
            if (one or 0) > 12 or (two or 0) > 12:
                return DAY_FIRST if (one or 0) > 12 else MONTH_FIRST
    raise UnreadableFileError(
        file.shown,
        "dates that show the order of month and day",
        "no day above 12",
        remedy="Set ingest.date_order to month_first or day_first.",
    )
