"""Readers of vendor formats. ``READERS`` holds them by name, in the order in which ``choose_reader`` tries them.

A module holds the formats of one vendor, or similar ones: ``data_vendors`` those of FirstRate Data, Kibot and Barchart,
``platforms`` those of TradeStation, TradingView and Interactive Brokers.
"""

from __future__ import annotations

from vpoc_ml.ingest.parsing.reader import Reader
from vpoc_ml.ingest.readers import (
    data_vendors,
    databento,
    generic,
    generic_parquet,
    lean,
    merged,
    ninjatrader,
    platforms,
    sierra,
)

_READERS: tuple[Reader, ...] = (
    ninjatrader.READER,
    ninjatrader.TICK_READER,
    databento.CSV_READER,
    databento.DBN_READER,
    data_vendors.FIRSTRATE_READER,
    sierra.TEXT_READER,
    sierra.SCID_READER,
    platforms.BROKERS_READER,
    platforms.TRADINGVIEW_READER,
    platforms.TRADESTATION_READER,
    data_vendors.KIBOT_READER,
    data_vendors.BARCHART_READER,
    lean.READER,
    lean.DAILY_READER,
    merged.READER,
    generic.READER,
    generic_parquet.READER,
)
READERS: dict[str, Reader] = {reader.name: reader for reader in _READERS}
