"""The same bars as every vendor would write them."""

from __future__ import annotations

import gzip
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow as pa

from vpoc_ml.ingest.readers.sierra import RECORD

VALUES = ("open", "high", "low", "close", "volume")
NEW_YORK, CHICAGO = ZoneInfo("America/New_York"), ZoneInfo("America/Chicago")
Bars = pl.DataFrame
Settings = dict[str, Any]


@dataclass(frozen=True)
class Vendor:
    """How one vendor names and writes a file of ESH25, and the settings it needs."""

    reader: str
    name: str
    lines: Callable[[Bars], list[str]]
    end: str = "\n"
    settings: Settings = field(default_factory=dict)
    footer: str = ""

    def write(self, folder: Path, bars: Bars) -> Path:
        path = folder / self.name
        path.write_text("".join(line + self.end for line in self.lines(bars)) + self.footer, newline="")
        return path


def rows(bars: Bars) -> list[tuple[datetime, float, float, float, float, int]]:
    return list(bars.select("ts", *VALUES).iter_rows())


def each(bars: Bars, write: Callable[..., str]) -> list[str]:
    return [write(*row) for row in rows(bars)]


def ninjatrader(bars: Bars) -> list[str]:
    return each(
        bars, lambda t, o, h, low, c, v: f"{t + timedelta(minutes=1):%Y%m%d %H%M%S};{o:g};{h:g};{low:g};{c:g};{v}"
    )


def ninjatrader_tick(bars: Bars) -> list[str]:
    """Four trades a minute: open, high, low, close."""
    lines = []
    for t, o, h, low, c, v in rows(bars):
        sizes = [1, 1, 1, v - 3]
        for n, (price, size) in enumerate(zip((o, h, low, c), sizes, strict=True)):
            timestamp = t + timedelta(seconds=15 * n)
            lines.append(f"{timestamp:%Y%m%d %H%M%S} 0000001;{price:g};{price - 0.25:g};{price:g};{size}")
    return lines


def databento(bars: Bars, symbol: str = "ESH5") -> list[str]:
    head = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol"

    def line(t: datetime, o: float, h: float, low: float, c: float, v: int) -> str:
        return f"{t:%Y-%m-%dT%H:%M:%S}.000000000Z,33,1,5482,{o:.9f},{h:.9f},{low:.9f},{c:.9f},{v},{symbol}"

    return [head, *each(bars, line)]


def databento_raw(bars: Bars) -> list[str]:
    head = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume"

    def line(t: datetime, *values: float) -> str:
        prices = ",".join(str(round(value * 1e9)) for value in values[:4])
        return f"{int(t.timestamp()) * 10**9},33,1,5482,{prices},{values[4]}"

    return [head, *each(bars, line)]


def firstrate(bars: Bars) -> list[str]:
    return each(
        bars,
        lambda t, o, h, low, c, v: f"{t.astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S},{o:.2f},{h:.2f},{low:.2f},{c:.2f},{v}",
    )


def sierra(bars: Bars) -> list[str]:
    head = "Date, Time, Open, High, Low, Last, Volume, NumberOfTrades, BidVolume, AskVolume"

    def line(t: datetime, o: float, h: float, low: float, c: float, v: int) -> str:
        local = t.astimezone(CHICAGO)
        day = f"{local.year}/{local.month}/{local.day}"
        return f"{day}, {local:%H:%M:%S}, {o:.2f}, {h:.2f}, {low:.2f}, {c:.2f}, {v}, 3, 1, 2"

    return [head, *each(bars, line)]


def interactive_brokers(bars: Bars) -> list[str]:
    def line(t: datetime, o: float, h: float, low: float, c: float, v: int) -> str:
        local = t.astimezone(CHICAGO).isoformat(sep=" ")
        return f"{local},{o},{h},{low},{c},{float(v)},{c},12"

    return ["date,open,high,low,close,volume,average,barCount", *each(bars, line)]


def tradingview(bars: Bars) -> list[str]:
    head = "time,open,high,low,close,VWAP,Plot,Plot,Volume"

    def line(t: datetime, o: float, h: float, low: float, c: float, v: int) -> str:
        return f"{int(t.timestamp())},{o:g},{h:g},{low:g},{c:g},{c:g},NaN,NaN,{v}"

    return [head, *each(bars, line)]


def kibot(bars: Bars) -> list[str]:
    return each(
        bars,
        lambda t, o, h, low, c, v: f"{t.astimezone(NEW_YORK):%m/%d/%Y,%H:%M},{o:.2f},{h:.2f},{low:.2f},{c:.2f},{v}",
    )


def barchart(bars: Bars) -> list[str]:
    def line(t: datetime, o: float, h: float, low: float, c: float, v: int) -> str:
        local = t.astimezone(CHICAGO)
        size = f'"{v:,}"' if v >= 1000 else str(v)
        return f'{local:%Y-%m-%d %H:%M},"{o:,.2f}",{h},{low},{c},{c - o:.2f},+0.01%,{size}'

    return ["Time,Open,High,Low,Latest,Change,%Change,Volume", *reversed(each(bars, line))]


def merged(bars: Bars, contract: str = "ES 03-25") -> list[str]:
    """NinjaTrader's raw timestamps, with the session column of the legacy system."""

    def line(t: datetime, o: float, h: float, low: float, c: float, v: int) -> str:
        timestamp = t + timedelta(minutes=1)
        session = "RTH" if "09:30" <= f"{timestamp:%H:%M}" < "16:00" else "ETH"
        return f"{timestamp:%Y-%m-%d %H:%M:%S},{o},{h},{low},{c},{v},15.2,{contract},{session}"

    return ["timestamp,open,high,low,close,volume,VIX,contract,session", *each(bars, line)]


def merged_in_two_columns(bars: Bars) -> list[str]:
    """Date and time in separate columns; the file name holds the contract."""
    _header, *lines = merged(bars)
    names = "Date,Time,Open,High,Low,Close,Volume,VIX,Session"
    return [names, *(line.replace(" ", ",", 1).replace(",ES 03-25", "") for line in lines)]


def generic(bars: Bars) -> list[str]:
    def line(t: datetime, o: float, h: float, low: float, c: float, v: int) -> str:
        return f"{t.astimezone(CHICAGO):%d.%m.%Y %H:%M}|ESH25|{v}|{o}|{h}|{low}|{c}"

    return ["When|What|V|O|H|L|C", *each(bars, line)]


def tradestation(bars: Bars) -> list[str]:
    """Time is the end of the bar; Up and Down make the volume."""

    def line(t: datetime, o: float, h: float, low: float, c: float, v: int) -> str:
        local = (t + timedelta(minutes=1)).astimezone(CHICAGO)
        return f"{local:%m/%d/%Y,%H:%M},{o:.2f},{h:.2f},{low:.2f},{c:.2f},{v - v // 3},{v // 3}"

    return ['"Date","Time","Open","High","Low","Close","Up","Down"', *each(bars, line)]


GENERIC = ("stamp=When", "contract=What", "open=O", "high=H", "low=L", "close=C", "volume=V")
FOOTER = '"Downloaded from Barchart.com as of 05-05-2026 07:59am CDT"'
VENDORS = {
    "ninjatrader": Vendor("ninjatrader", "ES 03-25.Last.txt", ninjatrader, "\r\n"),
    "ninjatrader_tick": Vendor("ninjatrader_tick", "ES 03-25.Last.txt", ninjatrader_tick, "\r\n"),
    "databento": Vendor("databento_csv", "glbx-mdp3-20250101.ohlcv-1m.csv", databento),
    "databento_raw": Vendor("databento_csv", "ESH5.ohlcv-1m.csv", databento_raw),
    "firstrate": Vendor("firstrate", "ES_H25_1min.txt", firstrate),
    "sierra": Vendor("sierra_text", "ESH25_FUT_CME.txt", sierra, settings={"timezone": "America/Chicago"}),
    "interactive_brokers": Vendor("interactive_brokers", "ESH5.csv", interactive_brokers),
    "tradingview": Vendor("tradingview", "CME_MINI_ESH2025, 1.csv", tradingview),
    "tradestation": Vendor("tradestation", "ESH25.txt", tradestation, "\r\n", {"timezone": "America/Chicago"}),
    "kibot": Vendor("kibot", "ESH25.txt", kibot, "\r\n"),
    "barchart": Vendor("barchart", "esh25_intraday-1min_historical-data-05-05-2026.csv", barchart, footer=FOOTER),
    "merged": Vendor("merged", "merged_es_vix_test.csv", merged),
    "merged_in_two_columns": Vendor("merged", "merged ESH25.csv", merged_in_two_columns),
    "generic": Vendor(
        "generic",
        "export.csv",
        generic,
        settings={
            "mapping": (*GENERIC, "format=%d.%m.%Y %H:%M", "separator=pipe"),
            "timezone": "America/Chicago",
            "label_side": "start",
        },
    ),
}


def write_scid(path: Path, bars: Bars, *, records: int | None = None) -> Path:
    """A .scid file of one-minute records."""
    epoch = datetime(1899, 12, 30, tzinfo=UTC)
    data = np.zeros(bars.height, RECORD)
    data["timestamp"] = [int((t - epoch) / timedelta(microseconds=1)) for t in bars["ts"]]
    for name in ("open", "high", "low", "close", "volume"):
        data[name] = bars[name].to_numpy()
    data["trades"] = 5
    header = b"SCID" + struct.pack("<IIHHI", 56, 40, 1, 0, 0) + bytes(36)
    path.write_bytes(header + data[:records].tobytes())
    return path


def write_lean(folder: Path, bars: Bars) -> list[Path]:
    """A zip per UTC day."""
    paths = []
    for (day,), part in bars.group_by(pl.col("ts").dt.date(), maintain_order=True):
        midnight = datetime.combine(day, datetime.min.time(), UTC)
        lines = each(
            part,
            lambda t, o, h, low, c, v, m=midnight: (
                f"{int((t - m).total_seconds() * 1000)},{o:g},{h:g},{low:g},{c:g},{v}"
            ),
        )
        path = folder / f"{day:%Y%m%d}_trade.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{day:%Y%m%d}_es_minute_trade_202503.csv", "\n".join(lines))
        paths.append(path)
    return paths


def write_parquet(path: Path, bars: Bars) -> Path:
    bars.select(When="ts", What=pl.lit("ESH25"), O="open", H="high", L="low", C="close", V="volume").write_parquet(path)
    return path


def dbn_bytes(bars: Bars, symbol: str = "ESH5", number: int = 5482, extra: list[tuple[str, int, Bars]] = []) -> bytes:  # noqa: B006
    """A DBN file encoded by Databento's own package; records of all symbols interleave by time."""
    import databento_dbn

    dbn: Any = databento_dbn  # its stubs take fewer types than its functions

    parts = [(symbol, number, bars), *extra]
    whole = (datetime(2020, 1, 1, tzinfo=UTC).date(), datetime(2030, 1, 1, tzinfo=UTC).date())
    mappings = [
        SimpleNamespace(
            raw_symbol=name,
            intervals=[SimpleNamespace(start_date=whole[0], end_date=whole[1], symbol=str(key))],
        )
        for name, key, _ in parts
    ]
    start = int(bars["ts"][0].timestamp() * 1e9)
    metadata = dbn.Metadata(
        "GLBX.MDP3",
        start,
        dbn.SType.PARENT,
        dbn.SType.INSTRUMENT_ID,
        dbn.Schema.OHLCV_1M,
        symbols=["ES.FUT"],
        partial=[],
        not_found=[],
        mappings=mappings,
        end=start + 10**18,
    )
    records = []
    for _, key, frame in parts:
        for t, *prices, volume in rows(frame):
            fixed = [round(price * 1e9) for price in prices]
            records.append((t, bytes(dbn.OHLCVMsg(33, 1, key, int(t.timestamp()) * 10**9, *fixed, volume))))
    return bytes(metadata) + b"".join(data for _, data in sorted(records, key=lambda each: each[0]))


def gzipped(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed


def zstandarded(path: Path) -> Path:
    packed = path.with_name(path.name + ".zst")
    packed.write_bytes(pa.compress(path.read_bytes(), "zstd", asbytes=True))
    path.unlink()
    return packed


def zipped(path: Path) -> Path:
    packed = path.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    path.unlink()
    return packed
