"""One reader per vendor format. ``READERS`` holds them by name, in the order in which ``choose_reader`` tries them."""

from __future__ import annotations

from vpoc_ml.ingest.parsing.reader import Reader
from vpoc_ml.ingest.readers import (
    barchart,
    databento_csv,
    databento_dbn,
    firstrate,
    generic,
    generic_parquet,
    interactive_brokers,
    kibot,
    lean,
    merged,
    ninjatrader,
    ninjatrader_tick,
    sierra_scid,
    sierra_text,
    tradestation,
    tradingview,
)

_READERS: tuple[Reader, ...] = (
    ninjatrader.READER,
    ninjatrader_tick.READER,
    databento_csv.READER,
    databento_dbn.READER,
    firstrate.READER,
    sierra_text.READER,
    sierra_scid.READER,
    interactive_brokers.READER,
    tradingview.READER,
    tradestation.READER,
    kibot.READER,
    barchart.READER,
    lean.READER,
    lean.DAILY_READER,
    merged.READER,
    generic.READER,
    generic_parquet.READER,
)
READERS: dict[str, Reader] = {reader.name: reader for reader in _READERS}
