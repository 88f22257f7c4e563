"""One reader a vendor format; ``READERS`` by name, in the order in which they are asked."""

from __future__ import annotations

from vpoc_ml.ingest.readers import ninjatrader
from vpoc_ml.ingest.readers.base import Reader

READERS: dict[str, Reader] = {reader.name: reader for reader in (ninjatrader.READER,)}
