"""Find the vendor files of an instrument in a folder; say of every other file why it was left."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vpoc_ml.errors import ContractCodeError, MissingInputError, UnreadableFileError
from vpoc_ml.ingest import ninjatrader, vix
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.instruments import Instrument

_HEAD_BYTES = 4096
_HEAD_LINES = 5
_REMEDY = "Export one-minute bars from NinjaTrader into it, one file per contract, such as 'ES 03-25.Last.txt'."


@dataclass(frozen=True)
class Unreadable:
    """A file that was not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Discovery:
    """Files by contract code in order of expiry, VIX files, and the files that cannot be used."""

    files: dict[str, Path]
    unreadable: list[Unreadable] = field(default_factory=list)
    vix: tuple[Path, ...] = ()


def discover(folder: Path, instrument: Instrument) -> Discovery:
    """Look through the files directly in ``folder`` (not below; names starting with a dot are skipped).

    A file is judged by its first lines; its name gives the contract. VIX files are set apart. Every other file
    is listed in ``unreadable`` with its reason.

    Raises:
        MissingInputError: no such folder, nothing in it, or nothing in it can be read.
        UnreadableFileError: two files of one contract.
    """
    what = f"price files of {instrument.symbol}"
    if not folder.is_dir():
        raise MissingInputError(folder, f"a folder with {what}", _REMEDY)
    found: dict[Contract, Path] = {}
    unreadable: list[Unreadable] = []
    closes: list[Path] = []
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        kind = _judge(path, instrument)
        if isinstance(kind, Unreadable):
            unreadable.append(kind)
        elif kind is None:
            closes.append(path)
        elif kind in found:
            raise _two_files(folder, kind, found[kind], path)
        else:
            found[kind] = path
    if not found:
        raise MissingInputError(folder, what, _left_out(unreadable) + _REMEDY)
    return Discovery({contract.code: found[contract] for contract in sorted(found)}, unreadable, tuple(closes))


def _judge(path: Path, instrument: Instrument) -> Contract | Unreadable | None:
    """Return the file's contract, why it has none, or None for VIX closes."""
    try:
        head = _head(path)
    except OSError as error:
        return Unreadable(path.name, f"cannot be opened: {error.strerror or error}")
    if vix.looks_like(head):
        return None
    if not ninjatrader.looks_like(head):
        shown = repr(head[0][:60]) if head else "an empty file"
        return Unreadable(path.name, f"expected {ninjatrader.EXPECTED}; found {shown}")
    try:
        contract = parse_contract(path.name.split(".")[0], where="file name")
    except ContractCodeError as error:
        return Unreadable(path.name, str(error))
    if contract.root != instrument.symbol:
        return Unreadable(path.name, f"a contract of {contract.root}, not of {instrument.symbol}")
    return contract


def _head(path: Path) -> list[str]:
    with path.open("rb") as stream:
        text = stream.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    return text.splitlines()[:_HEAD_LINES]


def _two_files(folder: Path, contract: Contract, one: Path, other: Path) -> UnreadableFileError:
    return UnreadableFileError(
        folder, f"one file of {contract.code}", f"{one.name} and {other.name}", remedy="Keep the one that is right."
    )


def _left_out(unreadable: list[Unreadable]) -> str:
    return "".join(f"{file.name}: {file.reason.rstrip('.')}. " for file in unreadable)
