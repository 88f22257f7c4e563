"""Every reader on damaged content: it reads correctly or raises a typed error."""

from __future__ import annotations

import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InputError, UnreadableFileError, VpocError
from vpoc_ml.ingest.bars import BuiltBars, build_bars
from vpoc_ml.ingest.discover import discover
from vpoc_ml.ingest.vix.vix_closes import available_at
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument

from . import vendor_files as vendor

pytestmark = pytest.mark.slow

ES = instrument("ES")
MINUTES = 40
DAMAGES = ("truncated", "shuffled", "nan", "separators", "line ends", "bom", "long line", "bytes", "repeated")
SLACK = IngestConfig(quarantine_limit=1.0, date_order="month_first")


def small() -> pl.DataFrame:
    begin = datetime(2025, 1, 15, 17, 0, tzinfo=UTC)
    ts = [begin + timedelta(minutes=n) for n in range(MINUTES)]
    close = [6000.0 + n % 7 * 0.25 for n in range(MINUTES)]
    frame = pl.DataFrame({"ts": ts, "close": close}, schema_overrides={"ts": pl.Datetime("us", "UTC")})
    return frame.select(
        "ts",
        open=pl.col("close"),
        high=pl.col("close") + 0.5,
        low=pl.col("close") - 0.25,
        close="close",
        volume=1000 + pl.int_range(pl.len()),
    )


BARS = small()
VIX = pl.DataFrame({"date": pl.date_range(datetime(2024, 6, 1), datetime(2025, 6, 1), eager=True), "close": 15.0})  # noqa: DTZ001
VIX = VIX.with_columns(available_at=available_at("date"))


def binary(folder: Path, kind: str) -> Path:
    if kind == "scid":
        return vendor.write_scid(folder / "ESH25-CME.scid", BARS)
    if kind == "lean":
        return vendor.write_lean(folder, BARS)[0]
    if kind == "parquet":
        return vendor.write_parquet(folder / "a.parquet", BARS)
    if kind == "gzip":
        return vendor.gzipped(vendor.VENDORS["ninjatrader"].write(folder, BARS))
    path = folder / "a.dbn"
    path.write_bytes(vendor.dbn_bytes(BARS))
    return path


def config_of(kind: str) -> IngestConfig:
    extra = vendor.VENDORS[kind].settings if kind in vendor.VENDORS else {}
    if kind == "parquet":
        extra = {"mapping": vendor.GENERIC, "label_side": "start"}
    return SLACK.model_copy(update=extra)


def damaged(data: bytes, damage: str, seed: int) -> bytes:
    rng = random.Random(seed)
    lines = data.split(b"\n")
    where = rng.randrange(len(lines))
    if damage == "truncated":
        return data[: rng.randrange(len(data))]
    if damage == "shuffled":
        rng.shuffle(lines)
    elif damage == "nan":
        text = lines[where].replace(b"6000", rng.choice([b"NaN", b"inf", b"", b"-", b"1e400"]))
        lines[where] = text
    elif damage == "separators":
        lines[where] = lines[where].replace(rng.choice([b",", b";", b"."]), rng.choice([b";", b",", b"\t", b""]))
    elif damage == "line ends":
        return b"".join(line + rng.choice([b"\n", b"\r\n", b"\r", b"\n\n"]) for line in lines)
    elif damage == "bom":
        return b"\xef\xbb\xbf" + data
    elif damage == "long line":
        lines.insert(where, b"9" * rng.choice([70_000, 1_200_000]))
    elif damage == "repeated":
        lines.insert(where, lines[rng.randrange(len(lines))])
    else:
        raw = bytearray(data)
        for _ in range(rng.randrange(1, 30)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        return bytes(raw)
    return b"\n".join(lines)


def check(folder: Path, config: IngestConfig) -> None:
    """Discover and build; the result has only bars that were written, or values that the file states."""
    refused = None
    try:
        found = discover(folder, ES, config)
        for code, sources in found.contracts.items():
            check_bars(build_bars(sources, parse_contract(code), ES, VIX, config))
    except VpocError as error:
        refused = error
    if refused is not None:
        assert isinstance(refused, InputError) or refused.exit_code == 2
        assert len(str(refused)) < 4000
    if isinstance(refused, UnreadableFileError):
        assert all((refused.path, refused.expected, refused.found))


def check_bars(built: BuiltBars) -> None:
    assert built.rows_in == built.bars.height + built.quarantine.height
    assert built.bars["ts"].is_sorted()
    assert built.bars["ts"].is_unique().all()
    assert not any(built.bars[name].has_nulls() for name in ("ts", "session", *vendor.VALUES))
    assert built.bars.select(pl.col("open", "high", "low", "close").is_finite().all()).row(0) == (True,) * 4


FUZZ = settings(
    max_examples=16,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("kind", vendor.VENDORS)
@given(damages=st.lists(st.tuples(st.sampled_from(DAMAGES), st.integers(0, 2**20)), min_size=1, max_size=2))
@FUZZ
def test_text_readers(kind: str, damages: list[tuple[str, int]]) -> None:
    made = vendor.VENDORS[kind]
    with tempfile.TemporaryDirectory() as name:
        path = made.write(Path(name), BARS)
        data = path.read_bytes()
        for damage, seed in damages:
            data = damaged(data, damage, seed) if data else data
        path.write_bytes(data)
        check(Path(name), config_of(kind))
        assert [each.name for each in Path(name).iterdir()] == [path.name], "nothing is written beside the file"


@pytest.mark.parametrize("kind", ["scid", "lean", "parquet", "gzip", "dbn"])
@given(damage=st.sampled_from(["truncated", "bytes", "repeated", "bom"]), seed=st.integers(0, 2**20))
@FUZZ
def test_binary_and_packed_readers(kind: str, damage: str, seed: int) -> None:
    if kind == "dbn":
        pytest.importorskip("databento")
    with tempfile.TemporaryDirectory() as name:
        path = binary(Path(name), kind)
        path.write_bytes(damaged(path.read_bytes(), damage, seed))
        check(Path(name), config_of(kind))


@pytest.mark.parametrize("kind", vendor.VENDORS)
def test_shuffled_rows_read_the_same(kind: str, tmp_path: Path) -> None:
    made = vendor.VENDORS[kind]
    path = made.write(tmp_path, BARS)
    lines = path.read_text().splitlines(keepends=True)
    head = 0 if lines[0][0].isdigit() else 1
    rest = [line for line in lines[head:] if not line.startswith('"Downloaded')]
    random.Random(3).shuffle(rest)
    path.write_text("".join([*lines[:head], *rest]) + made.footer, newline="")
    config = config_of(kind)
    built = build_bars(discover(tmp_path, ES, config).contracts["ESH25"], parse_contract("ESH25"), ES, VIX, config)
    assert built.bars.select(BARS.columns).equals(BARS)


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_arbitrary_bytes_are_never_a_bare_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "ESH25.txt").write_bytes(data)
        check(Path(name), SLACK)
