"""Readers of vendor formats. ``READERS`` holds them by name, in the order in which ``choose_reader`` tries them.

A module holds the formats of one vendor, or similar ones: ``data_vendors`` those of FirstRate Data, Kibot and Barchart,
``platforms`` those of TradeStation, TradingView and Interactive Brokers.
"""

from __future__ import annotations

from vpoc_ml.errors import PluginError
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
from vpoc_ml.plugins import registered

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
"""The readers of the product. ``known_readers`` adds own ones."""


def known_readers() -> dict[str, Reader]:
    """Return every reader by name: the product's, then those of the active plugins.

    Raises:
        PluginError: an own reader has the name of one of the product.
    """
    own = registered.of_kind("readers")
    for plugin in own:
        if plugin.name in READERS:
            expected = "a name that no reader of the product has"
            raise PluginError(plugin.origin, expected, plugin.name, "Rename the reader.")
    return READERS | {plugin.name: plugin.value for plugin in own}
