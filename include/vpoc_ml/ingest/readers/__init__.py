"""One reader a vendor format; ``READERS`` by name, in the order in which they are asked."""

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
    lean_daily,
    merged,
    ninjatrader,
    ninjatrader_tick,
    sierra_scid,
    sierra_text,
    tradestation,
    tradingview,
)

_MODULES = (
    ninjatrader,
    ninjatrader_tick,
    databento_csv,
    databento_dbn,
    firstrate,
    sierra_text,
    sierra_scid,
    interactive_brokers,
    tradingview,
    tradestation,
    kibot,
    barchart,
    lean,
    lean_daily,
    merged,
    generic,
    generic_parquet,
)
READERS: dict[str, Reader] = {module.READER.name: module.READER for module in _MODULES}
