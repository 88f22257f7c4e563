"""A lake that grows by the night: each delivery leads to exactly the rebuild it needs, nothing else, and says so."""

import shutil
import time
from pathlib import Path

import pytest

from vpoc_ml.lake import hashing
from vpoc_ml.lake.hashing import RACY_NS
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline import contract_stages

from .nights import H, M, U, contents, deliver, night

pytestmark = pytest.mark.slow


@pytest.fixture
def place(built, tmp_path):
    """Copy the place of one night's work, to go on from there."""

    def copy(*names) -> Path:
        return Path(shutil.copytree(built(*names), tmp_path / "place"))

    return copy


def new(code):
    return {(stage, code, "new") for stage in ("ingest", "profile", "features")}


def append(code, features="bars, developing, sessions"):
    """What a contract does whose file has other rows."""
    changed = {"ingest": "raw", "profile": "bars", "features": features}
    return {(stage, code, f"inputs changed: {inputs}") for stage, inputs in changed.items()}


def rolls(code):
    return ("rolls", None, f"inputs changed: bars/ES/{code}.parquet")


def test_first_night_builds_all_and_the_second_nothing(place):
    here = place(H, M, U)
    before = contents(here / "lake")
    assert len(before) == 5 * 3 + 2
    assert night(here) == (set(), {})
    assert contents(here / "lake") == before


def test_new_file(place, vendor, built):
    here = place(H, M)
    deliver(vendor, here / "raw", U)
    assert night(here)[0] == {*new("ESU23"), rolls("ESU23")}
    assert contents(here / "lake") == contents(built(H, M, U) / "lake"), "as if all had come at once"


def test_late_file_of_an_older_contract(place, vendor, built):
    """Its successor's features read its last sessions and follow; the contract after that does not."""
    here = place(M, U)
    deliver(vendor, here / "raw", H)
    assert night(here)[0] == {
        *new("ESH23"),
        rolls("ESH23"),
        ("features", "ESM23", "inputs changed: predecessor, roll"),
    }
    assert contents(here / "lake") == contents(built(H, M, U) / "lake"), "as if it had come in time"


def test_longer_file(place):
    here = place(H, M, U)
    path = here / "raw" / U
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1380]))
    shutil.rmtree(here / "lake")
    night(here)
    path.write_bytes(whole)
    worked, _ = night(here)
    assert worked == {*append("ESU23", "bars, developing, sessions, vix"), rolls("ESU23")}


def test_corrected_file(place):
    """Rows that the next contract's features do not read touch their own contract only."""
    here = place(H, M, U)
    correct(here / "raw" / M, b"20230301 1")
    assert night(here)[0] == {*append("ESM23"), rolls("ESM23")}


def test_corrected_file_that_the_next_contract_reads(place):
    here = place(H, M, U)
    correct(here / "raw" / H, b"20230306 1")
    worked, _ = night(here)
    assert worked == {*append("ESH23"), rolls("ESH23"), ("features", "ESM23", "inputs changed: predecessor")}


def correct(path, begin):
    """Correct the volumes of the lines that begin with ``begin``."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line.rstrip() + b"1\r\n" if line.startswith(begin) else line for line in lines))


def test_file_delivered_twice(place):
    here = place(H, M, U)
    (here / "raw" / "again").mkdir()
    shutil.copy(here / "raw" / M, here / "raw" / "again" / M)
    shutil.copy(here / "raw" / H, here / "raw" / "ES 03-23 copy.Last.txt")
    worked, left_out = night(here)
    assert worked == set()
    assert left_out == {}


def test_bars_delivered_twice_in_different_files(place):
    """The contract is read again, its bars are the same, and so nothing after them is made again."""
    here = place(H, M, U)
    before = contents(here / "lake")
    lines = (here / "raw" / U).read_bytes().splitlines(keepends=True)
    (here / "raw" / "late").mkdir()
    (here / "raw" / "late" / U).write_bytes(b"".join(lines[-3000:]))
    assert night(here)[0] == {("ingest", "ESU23", "inputs changed: raw")}
    assert contents(here / "lake") == before


def test_file_that_is_still_growing(place):
    """What was built of it stays; the other contracts go on; the night after takes it whole."""
    here = place(H, M, U)
    before = contents(here / "lake")
    path = here / "raw" / U
    whole = path.read_bytes()
    path.write_bytes(whole + b"20230708 1300")
    worked, left_out = night(here)
    assert worked == set()
    assert list(left_out) == [U]
    assert "line" in left_out[U]
    assert contents(here / "lake") == before
    more = whole.splitlines(keepends=True)[-1].replace(b"20230707 ", b"20230710 ")
    path.write_bytes(whole + more)
    assert night(here)[0] == {*append("ESU23", "bars, developing, sessions, vix"), rolls("ESU23")}


def test_damage_is_repaired_and_nothing_else(place):
    here = place(H, M, U)
    before = contents(here / "lake")
    lake = Lake(here / "lake")
    lake.path("sessions/ES/ESM23.parquet").write_bytes(b"PAR1")
    lake.path("bars/ES/ESH23.json").unlink()
    lake.path("features/ES/ESU23.parquet").unlink()
    lake.path("quarantine/ES/ESM23.parquet").unlink()
    assert night(here)[0] == {
        ("ingest", "ESH23", "damaged: its manifest is missing or cannot be read"),
        ("ingest", "ESM23", "damaged: its file is missing"),
        ("profile", "ESM23", "damaged: content does not match its manifest"),
        ("features", "ESU23", "damaged: its file is missing"),
    }
    assert contents(here / "lake") == before


def test_quiet_night_reads_no_file_again(place, monkeypatch):
    """What was hashed once and has not been touched since is neither read nor hashed to learn that it is fresh."""
    here = place(H, M, U)
    time.sleep(RACY_NS / 1e9 + 0.1)
    night(here)

    def refuse(*_):
        raise AssertionError("a file was read")

    monkeypatch.setattr(hashing, "hash_file", refuse)
    monkeypatch.setattr(contract_stages, "hash_source", refuse)
    assert night(here) == (set(), {})
    correct(here / "raw" / U, b"20230626 1")
    with pytest.raises(AssertionError, match="a file was read"):
        night(here)
