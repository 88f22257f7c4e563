"""Incremental ingest of an appended file: the result equals that of reading the whole file, or it is None."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml import pipeline
from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.detect_append import append_bars, detect_append
from vpoc_ml.ingest.merge import hash_source
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument
from vpoc_ml.pipeline import contract_stages
from vpoc_ml.synthetic.generate import SyntheticMarket, write_market

pytestmark = pytest.mark.slow

ES, CODE = instrument("ES"), "ESH23"
CONFIG = IngestConfig(quarantine_limit=0.05)
NOW = datetime(2023, 3, 17, 22, 30, tzinfo=UTC)
BAD = {
    20: b"20230101 garbage\r\n",
    700: b"20230114 120000;4000;4001;3999;4000;5\r\n",  # a Saturday
    1500: b"20230105 180000;4000.1;4001;3999;4000;5\r\n",
}


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> SyntheticMarket:
    return write_market(tmp_path_factory.mktemp("append"), contracts=1, seed=3, mode="signal")


@pytest.fixture(scope="module")
def vix(market) -> pl.DataFrame:
    return read_vix(market.vix)


@pytest.fixture(scope="module")
def lines(market) -> list[bytes]:
    """Eight thousand lines of a contract, among the first of which some are bad."""
    path = market.files[CODE]
    found = path.read_bytes().splitlines(keepends=True)[60_000:68_000]
    for at, bad in BAD.items():
        found.insert(at, bad)
    return found


def source(folder: Path, content: bytes) -> Source:
    path = folder / "ES 03-23.Last.txt"
    path.write_bytes(content)
    return Source(path=path, reader="ninjatrader", contract=CODE)


def both(folder: Path, vix: pl.DataFrame, old: list[bytes], new: list[bytes]):
    """Return the incremental result, or None, and the result of reading the whole file."""
    before = build_bars([source(folder, b"".join(old))], parse_contract(CODE), ES, vix, CONFIG)
    whole = source(folder, b"".join(old + new))
    append = detect_append(whole, len(b"".join(old)))
    assert append is not None
    assert (append.lines, append.hash_now) == (len(old), hash_source(whole))
    made = append_bars(before, append, parse_contract(CODE), ES, vix, CONFIG)
    return made, build_bars([whole], parse_contract(CODE), ES, vix, CONFIG)


def equal(made, built) -> None:
    assert made is not None
    for name in ("bars", "quarantine"):
        one, other = getattr(made, name), getattr(built, name)
        assert one.schema == other.schema
        assert one.equals(other)
    assert (made.rows_in, made.reasons, made.notes) == (built.rows_in, built.reasons, built.notes)


@settings(max_examples=12, deadline=None)
@given(cut=st.integers(2_000, 7_990), more=st.integers(1, 3_000))
def test_appending_after_any_cut_equals_a_rebuild(lines, vix, tmp_path_factory, cut, more):
    """In the middle of a session, at its end, before a weekend: bad lines of the old part keep their numbers."""
    made, built = both(tmp_path_factory.mktemp("cut"), vix, lines[:cut], lines[cut : cut + more])
    equal(made, built)
    assert sorted(built.quarantine["line"].to_list()) == [at + 1 for at in BAD]


def unparsable(new):
    return [*new[:50], b"20230303 garbage\r\n", *new[50:]]


def weekend(new):
    return [*new, b"20230311 120000;4000;4001;3999;4000;5\r\n"]


def out_of_order(new):
    return [new[1], new[0], *new[2:]]


def twice(new):
    return [*new, new[-1]]


def blank(new):
    return [*new, b"\r\n"]


def no_last_break(new):
    return [*new[:-1], new[-1].rstrip()]


def nothing_but_a_break(_):
    return [b"\r\n"]


@pytest.mark.parametrize("fault", [unparsable, weekend, out_of_order, twice])
def test_unusual_new_rows_need_the_whole_file(lines, vix, tmp_path, fault):
    assert both(tmp_path, vix, lines[:5_000], fault(lines[5_000:6_000]))[0] is None


def test_blank_last_line_is_no_row(lines, vix, tmp_path):
    equal(*both(tmp_path, vix, lines[:5_000], blank(lines[5_000:6_000])))


@pytest.mark.parametrize("fault", [no_last_break, nothing_but_a_break])
def test_a_truncated_end_is_not_appended(lines, vix, tmp_path, fault):
    old = lines[:5_000]
    before = build_bars([source(tmp_path, b"".join(old))], parse_contract(CODE), ES, vix, CONFIG)
    append = detect_append(source(tmp_path, b"".join(old + fault(lines[5_000:6_000]))), len(b"".join(old)))
    assert append is not None
    assert append_bars(before, append, parse_contract(CODE), ES, vix, CONFIG) is None


def test_new_rows_that_repeat_old_ones_need_the_whole_file(lines, vix, tmp_path):
    assert both(tmp_path, vix, lines[:5_000], lines[4_999:6_000])[0] is None


def test_files_without_an_append_are_recognised(lines, tmp_path):
    file = source(tmp_path, b"".join(lines))
    size = file.path.stat().st_size
    assert detect_append(file, size) is None, "not longer"
    assert detect_append(file, size - 1) is None, "the old end was within a line"
    assert detect_append(file, 1_000) is None, "within the head that shows the format"
    assert detect_append(Source(path=file.path, reader="databento_dbn", contract=CODE), 100_000) is None, "no text"
    assert detect_append(Source(path=file.path, reader="kibot", contract=CODE), 100_000) is None, (
        "the order of its dates needs all lines"
    )


class Nights:
    """A lake of one contract whose file is replaced by the night."""

    def __init__(self, folder: Path, vix: Path) -> None:
        self.folder, self.lake, self.raw, self.count = folder, folder / "lake", folder / "raw", 0
        self.raw.mkdir()
        (self.raw / "VIX.csv").write_bytes(vix.read_bytes())

    def run(self, content: list[bytes], lake: Path | None = None) -> dict:
        source(self.raw, b"".join(content))
        root, name = str(lake or self.lake), f"night-{self.count}"
        self.count += 1
        pipeline.start_run(root, name, "smoke", None, str(self.raw), None, NOW)
        pipeline.plan_contracts(root, name)
        return pipeline.ingest_contract(root, name, CODE)

    def equals_rebuild(self, content: list[bytes]) -> None:
        """Compare files and manifests with those of a lake built at once."""
        other = self.folder / f"built-{self.count}"
        self.run(content, other)
        for kind in ("bars", "quarantine"):
            for suffix in ("parquet", "json"):
                key = f"{kind}/ES/{CODE}.{suffix}"
                assert (self.lake / key).read_bytes() == (other / key).read_bytes()


@pytest.fixture
def nights(market, tmp_path, monkeypatch):
    """Nights, and the list of what ``append_bars`` made in them."""
    made = []

    @wraps(append_bars)  # a build key digests the module that the function names
    def counted(*args):
        made.append(append_bars(*args))
        return made[-1]

    monkeypatch.setattr(contract_stages, "append_bars", counted)
    return Nights(tmp_path, market.vix), made


def test_nights_that_append_leave_the_bytes_of_a_rebuild(lines, nights):
    lake, made = nights
    assert "file" not in lake.run(lines[:3_000])
    for end in (3_001, 4_380, 6_000):
        assert lake.run(lines[:end]).reason == "inputs changed: raw"
    assert [each is not None for each in made] == [True] * 3
    lake.equals_rebuild(lines[:6_000])


def corrected_before(lines):
    line = lines[2_000]
    return [*lines[:2_000], line.rstrip() + b"1\r\n", *lines[2_001:6_000]]


def shorter(lines):
    return lines[:2_500]


def longer_in_front(lines):
    return lines[1_000:6_000]


@pytest.mark.parametrize("change", [corrected_before, shorter, longer_in_front])
def test_any_change_of_the_old_part_is_a_rebuild(lines, nights, change):
    lake, made = nights
    lake.run(lines[:3_000] if change is not longer_in_front else lines[1_500:3_000])
    lake.run(change(lines))
    assert made == []
    lake.equals_rebuild(change(lines))


def test_bad_new_line_is_a_rebuild_with_the_right_numbers(lines, nights):
    lake, made = nights
    lake.run(lines[:3_000])
    content = unparsable(lines[:6_000][3_000:])
    assert lake.run(lines[:3_000] + content).quarantined == len(BAD) + 1
    assert made == [None]
    lake.equals_rebuild(lines[:3_000] + content)
    bad = Lake(lake.lake).read_frame(f"quarantine/ES/{CODE}.parquet")
    assert bad.filter(pl.col("line") == 3_051)["text"].to_list() == ["20230303 garbage"]


@pytest.mark.parametrize("kind", ["bars", "quarantine"])
def test_a_damaged_artifact_is_not_appended_to(lines, nights, kind):
    lake, made = nights
    lake.run(lines[:3_000])
    (lake.lake / f"{kind}/ES/{CODE}.parquet").write_bytes(b"PAR1")
    lake.run(lines[:6_000])
    assert made == []
    lake.equals_rebuild(lines[:6_000])


def test_a_manifest_of_an_older_release_is_a_rebuild(lines, nights):
    lake, made = nights
    lake.run(lines[:3_000])
    path = lake.lake / f"bars/ES/{CODE}.json"
    stored = json.loads(path.read_text())
    del stored["details"]["file"]
    path.write_text(json.dumps(stored))
    lake.run(lines[:6_000])
    assert made == []
    lake.equals_rebuild(lines[:6_000])


def spiked(line: bytes) -> bytes:
    """Return a line whose high is 600 points too high."""
    parts = line.split(b";")
    parts[2] = str(float(parts[2]) + 600).encode()
    return b";".join(parts)


@pytest.mark.parametrize("bad", [4999, 5000, 5001], ids=["last old line", "first new line", "second new line"])
def test_a_bad_print_around_the_old_end_needs_the_whole_file(bad, tmp_path, vix, lines):
    content = [*lines[:bad], spiked(lines[bad]), *lines[bad + 1 : 5100]]
    made, built = both(tmp_path, vix, content[:5000], content[5000:])
    assert made is None
    assert built.reasons["isolated bad print"] == 1
