"""The ledger under tampering, kills and concurrent writers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.lake.read_only_mount import read_only

from vpoc_ml.errors import InvalidValueError, RegistryError
from vpoc_ml.registry.ledger import GENESIS, Ledger

NOW = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.jsonl")


def fill(ledger: Ledger, count: int = 3) -> None:
    for number in range(1, count + 1):
        ledger.append("promote", version=number, reasons=[f"gain of {number} point — ok"], now=NOW)


def test_entries_come_back_in_order_and_chained(ledger):
    fill(ledger)
    entries = ledger.entries()
    assert [entry.seq for entry in entries] == [1, 2, 3]
    assert entries[0].previous == GENESIS
    assert entries[2].previous == entries[1].digest()
    assert entries[0].time == "2026-03-02T23:30:00+00:00"
    assert entries[0].reasons == ("gain of 1 point — ok",)
    assert ledger.verify() == 3


def test_empty_ledger_has_no_entries(ledger):
    assert ledger.entries() == []
    assert ledger.verify() == 0


def test_naive_time_and_unknown_action_are_refused(ledger):
    with pytest.raises(InvalidValueError, match="zone"):
        ledger.append("promote", version=1, now=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidValueError, match="coronate"):
        ledger.append("coronate", version=1, now=NOW)
    assert not ledger.path.exists()


@pytest.mark.parametrize(
    "tamper",
    [
        lambda lines: [lines[0].replace(b'"version":1', b'"version":9'), *lines[1:]],
        lambda lines: lines[1:],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [lines[0], b"garbage", *lines[1:]],
        lambda lines: [lines[0], lines[0], *lines[1:]],
        lambda lines: [lines[0].replace(b'":', b'": '), *lines[1:]],
    ],
)
def test_tampering_is_found_and_nothing_is_appended(ledger, tamper):
    fill(ledger)
    damaged = b"\n".join(tamper(ledger.path.read_bytes().splitlines())) + b"\n"
    ledger.path.write_bytes(damaged)
    for use in (ledger.verify, ledger.entries, lambda: ledger.append("refuse", now=NOW)):
        with pytest.raises(RegistryError, match="line"):
            use()
    assert ledger.path.read_bytes() == damaged


def test_torn_last_line_at_every_byte_loses_nothing_before_it(ledger):
    fill(ledger)
    whole = ledger.path.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in range(start + 1, len(whole) - 1, 7):
        ledger.path.write_bytes(whole[:end])
        assert [entry.version for entry in ledger.entries()] == [1, 2]
        with pytest.raises(RegistryError, match="line 3: expected a complete entry"):
            ledger.verify()
        ledger.append("refuse", version=4, now=NOW)
        entries = ledger.entries()
        assert [entry.action for entry in entries] == ["promote", "promote", "repair", "refuse"]
        assert f"{end - start} bytes" in entries[2].reasons[0]
        assert ledger.torn_path.read_bytes().endswith(whole[start:end] + b"\n")
        assert ledger.verify() == 4


def test_line_that_lacks_only_its_newline_is_kept(ledger):
    fill(ledger)
    ledger.path.write_bytes(ledger.path.read_bytes().rstrip(b"\n"))
    ledger.append("refuse", version=4, now=NOW)
    assert [entry.version for entry in ledger.entries()] == [1, 2, 3, 4]
    assert not ledger.torn_path.exists()


def _append_many(path: str, count: int) -> None:
    for number in range(count):
        Ledger(Path(path)).append("refuse", version=number, reasons=[str(os.getpid())], now=NOW)


def test_concurrent_appends_keep_one_chain(ledger):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(str(ledger.path), 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert ledger.verify() == 100
    assert len({entry.reasons for entry in ledger.entries()}) == 4


def test_reader_of_a_read_only_mount_finds_the_entries_that_are_complete(ledger, caplog):
    with read_only(ledger.path.parent):
        assert ledger.entries_without_lock() == []
    fill(ledger)
    expected, whole = ledger.entries(), ledger.path.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in (*range(start, len(whole), 7), len(whole) - 1, len(whole)):
        ledger.path.write_bytes(whole[:end])
        with read_only(ledger.path.parent):
            assert ledger.entries_without_lock() == expected[: 3 if end == len(whole) else 2]
    assert not caplog.records, "an append in progress is no damage"
    ledger.path.write_bytes(whole.replace(b'"version":2', b'"version":9'))
    with read_only(ledger.path.parent), pytest.raises(RegistryError, match="line 3: expected entry 3"):
        ledger.entries_without_lock()


def test_reader_without_lock_sees_a_whole_ledger_beside_writers(ledger):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(str(ledger.path), 40)) for _ in range(2)]
    for writer in writers:
        writer.start()
    seen = [0]
    while any(writer.is_alive() for writer in writers):
        seen.append(len(ledger.entries_without_lock()))
    assert seen == sorted(seen)
    assert len(ledger.entries_without_lock()) == 80


def test_reader_without_lock_reads_again_what_a_repair_has_replaced_meanwhile(ledger, monkeypatch):
    fill(ledger)
    whole = ledger.path.read_bytes()
    torn = whole + whole[: len(whole) // 6]
    ledger.path.write_bytes(torn)
    read, reads = Path.read_bytes, []

    def read_bytes(path: Path) -> bytes:
        reads.append(path)
        if len(reads) > 1:
            return read(path)
        ledger.append("refuse", version=4, now=NOW)
        return torn + read(path)[len(torn) :]  # the first part before the repair, the rest after it

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert [entry.action for entry in ledger.entries_without_lock()][3:] == ["repair", "refuse"]


def test_killed_writer_leaves_a_ledger_that_goes_on(ledger):
    code = (
        "import sys, datetime, pathlib; from vpoc_ml.registry.ledger import Ledger\n"
        "ledger = Ledger(pathlib.Path(sys.argv[1]))\n"
        "while True: ledger.append('refuse', reasons=['x' * 5000], now=datetime.datetime.now(datetime.UTC))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(ledger.path)]) as writer:
        while not (ledger.path.exists() and ledger.path.stat().st_size > 20_000):
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
    before = len(ledger.entries())
    ledger.append("refuse", version=1, now=NOW)
    assert ledger.verify() >= before + 1
