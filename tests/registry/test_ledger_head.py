"""The last line of the ledger: proved by a head outside the file, whenever a process dies."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from vpoc_ml.errors import RegistryError
from vpoc_ml.registry import ledger as book
from vpoc_ml.registry.ledger import Ledger, LedgerHead

NOW = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)
KEY = "ES-1m-rank"


class Memory:
    """An anchor that dies before or after the write with the given number."""

    def __init__(self) -> None:
        self.kept: LedgerHead | None = None
        self.writes = 0
        self.die_before = self.die_after = 0

    def head(self) -> LedgerHead | None:
        return self.kept

    def set_head(self, head: LedgerHead) -> None:
        self.writes += 1
        if self.writes == self.die_before:
            raise SystemExit(137)
        self.kept = head
        if self.writes == self.die_after:
            raise SystemExit(137)


@pytest.fixture
def anchor() -> Memory:
    return Memory()


@pytest.fixture
def ledger(tmp_path: Path, anchor: Memory) -> Ledger:
    made = Ledger(tmp_path / "ledger.jsonl", anchor)
    for number in (1, 2, 3):
        made.append("promote", version=number, key=KEY, reasons=["better"], now=NOW)
    anchor.writes = 0
    return made


def lines(ledger: Ledger) -> list[bytes]:
    return ledger.path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_edited_line_is_the_one_that_is_named(ledger, number):
    changed = lines(ledger)
    changed[number - 1] = changed[number - 1].replace(b"better", b"worse!")
    ledger.path.write_bytes(b"".join(changed))
    for use in (ledger.entries, ledger.verify, lambda: ledger.append("refuse", version=4, key=KEY, now=NOW)):
        with pytest.raises(RegistryError, match=f"line {number}: expected an entry with the digest"):
            use()


@pytest.mark.parametrize("number", [2, 3])
def test_line_whose_link_was_edited_is_named(ledger, number):
    changed = lines(ledger)
    previous = ledger.entries()[number - 1].previous.encode()
    changed[number - 1] = changed[number - 1].replace(previous, previous[::-1])
    ledger.path.write_bytes(b"".join(changed))
    with pytest.raises(RegistryError, match=f"line {number}: expected entry {number} after"):
        ledger.entries()


def test_removed_last_line_is_named(ledger):
    ledger.path.write_bytes(b"".join(lines(ledger)[:-1]))
    with pytest.raises(RegistryError, match=r"line 3: expected 3 entries.*found 2"):
        ledger.entries()


def test_forged_additional_line_is_named(ledger, tmp_path):
    forger = Ledger(ledger.path)
    forger.append("promote", version=9, key=KEY, reasons=["trust me"], now=NOW)
    with pytest.raises(RegistryError, match=r"line 4: expected 3 entries.*found 4"):
        ledger.entries()


def test_deleted_ledger_and_lost_head_are_found(ledger, anchor):
    whole = ledger.path.read_bytes()
    ledger.path.unlink()
    with pytest.raises(RegistryError, match=r"line 1: expected 3 entries.*found 0"):
        ledger.entries()
    ledger.path.write_bytes(whole)
    anchor.kept = None
    with pytest.raises(RegistryError, match="MLflow's database was lost or replaced"):
        ledger.entries()


def append_and_die(ledger: Ledger) -> None:
    with pytest.raises(SystemExit):
        ledger.append("refuse", version=4, key=KEY, reasons=["no evidence"], now=NOW)


@pytest.mark.parametrize(
    ("die", "written"),
    [({"die_before": 1}, 3), ({"die_after": 1}, 3), ({"die_before": 2}, 4), ({"die_after": 2}, 4)],
)
def test_a_kill_at_any_step_of_an_append_leaves_a_ledger_that_goes_on(ledger, anchor, die, written):
    vars(anchor).update(die)
    append_and_die(ledger)
    vars(anchor).update(die_before=0, die_after=0)
    assert ledger.verify() == written
    ledger.append("refuse", version=5, key=KEY, now=NOW)
    assert [entry.version for entry in ledger.entries()] == [1, 2, 3, *([4] if written == 4 else []), 5]
    assert anchor.kept == LedgerHead(written + 1, ledger.entries()[-1].digest())


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_a_kill_within_the_write_leaves_a_ledger_that_goes_on(ledger, anchor, monkeypatch, kept):
    def torn(path: Path, data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data[:kept])
        raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr(book, "append_bytes", torn)
        append_and_die(ledger)
    assert len(ledger.entries()) == 3
    ledger.append("refuse", version=5, key=KEY, now=NOW)
    actions = {0: ["refuse"], -1: ["refuse", "refuse"]}.get(kept, ["repair", "refuse"])
    assert [entry.action for entry in ledger.entries()[3:]] == actions
    assert ledger.verify() == 3 + len(actions)


def test_edit_in_the_moment_between_write_and_head_is_found(ledger, anchor):
    anchor.die_before = 2
    append_and_die(ledger)
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b"no evidence", b"evidence :)"))
    with pytest.raises(RegistryError, match=r"line 4: expected 3 entries"):
        ledger.entries()
