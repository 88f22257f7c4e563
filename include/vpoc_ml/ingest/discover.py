"""Find the vendor files of an instrument below a folder; say of every other file why it was left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import ConfigError, ContractCodeError, MissingInputError, UnreadableFileError, VpocError
from vpoc_ml.ingest import covariates
from vpoc_ml.ingest.index_files import index_of
from vpoc_ml.ingest.index_symbols import VIX
from vpoc_ml.ingest.readers.base import Listing, Place
from vpoc_ml.ingest.sniff import AmbiguousFormatError, choose
from vpoc_ml.ingest.sources import Source
from vpoc_ml.ingest.streams import members, read_head
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.instruments import Instrument

_REMEDY = "Export one-minute bars of its contracts into it, such as NinjaTrader's 'ES 03-25.Last.txt'."
_LEFT_OUT = ("truth",)
Remember = Callable[[Path, Callable[[], str]], str]


@dataclass(frozen=True)
class Unreadable:
    """A file that was not used, and why; ``contracts`` that it would have been of, as far as that is known.

    ``error`` is set where the file is a price file that something is wrong with, not a foreign one.
    """

    name: str
    reason: str
    contracts: tuple[str, ...] = ()
    error: VpocError | None = None


@dataclass(frozen=True)
class Discovery:
    """Sources by contract code in order of expiry; files that cannot be used; files of the VIX and of covariates by
    symbol; files of daily volume and open interest; and notes about what was set apart."""

    contracts: dict[str, tuple[Source, ...]]
    unreadable: list[Unreadable] = field(default_factory=list)
    indices: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    daily: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def vix(self) -> tuple[Path, ...]:
        """Files of the VIX."""
        return self.indices.get(VIX, ())


@dataclass
class _Found:
    sources: list[Source] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    indices: dict[str, list[Path]] = field(default_factory=dict)
    daily: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: _Found) -> None:
        """Add what was found in another file; daily files once each."""
        self.sources += other.sources
        self.unreadable += other.unreadable
        for symbol, paths in other.indices.items():
            self.indices.setdefault(symbol, []).extend(paths)
        self.daily += other.daily
        self.notes += other.notes

    def to_text(self) -> str:
        """Return what was found in one file as JSON; nothing where something was wrong: look at it every time."""
        if self.unreadable:
            return ""
        sources = [source.to_json() for source in self.sources]
        indices = {symbol: list(map(str, paths)) for symbol, paths in self.indices.items()}
        return json.dumps([sources, indices, list(map(str, self.daily)), self.notes])

    @staticmethod
    def of_text(text: str) -> _Found:
        """Return what ``to_text`` wrote."""
        sources, found, daily, notes = json.loads(text)
        indices = {symbol: list(map(Path, paths)) for symbol, paths in found.items()}
        return _Found(list(map(Source.from_json, sources)), [], indices, list(map(Path, daily)), notes)


def discover(
    folder: Path, instrument: Instrument, config: IngestConfig | None = None, remember: Remember | None = None
) -> Discovery:
    """Look through the files below ``folder``; names starting with a dot, folders named ``truth``
    and the files that ``ingest.covariates`` names are skipped.

    A file's content decides its reader; its name, its symbols or the names inside a zip give the contracts. VIX
    files and daily volumes are set apart. Every other file is listed in ``unreadable`` with its reason. A contract
    of which one file is cut off or still growing is left out whole, so that what was built of it before stays.

    ``remember(path, look)`` returns what ``look()`` tells about a file, or what it told while the file was the same.

    Raises:
        MissingInputError: no such folder, nothing in it, or nothing in it can be read.
        UnreadableFileError, ConfigError: the only price files are cut off or ambiguous.
    """
    what = f"price files of {instrument.symbol}"
    if not folder.is_dir():
        raise MissingInputError(folder, f"a folder with {what}", _REMEDY)
    found, config = _Found(), config or IngestConfig()
    named = covariates.files(config, folder)
    for path in _files(folder):
        if path not in named:
            found.add(_one(path, str(path.relative_to(folder)), instrument, config, remember))
    broken = {code for file in found.unreadable for code in file.contracts}
    contracts = _by_contract([source for source in found.sources if source.contract not in broken])
    if not contracts:
        if error := next((file.error for file in found.unreadable if file.error), None):
            raise error
        raise MissingInputError(folder, what, _left_out(found.unreadable) + _REMEDY)
    indices = {symbol: tuple(paths) for symbol, paths in found.indices.items()}
    return Discovery(contracts, found.unreadable, indices, tuple(found.daily), tuple(found.notes))


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and path.name not in _LEFT_OUT:
            yield from _files(path)
        elif path.is_file():
            yield path


def _one(path: Path, name: str, instrument: Instrument, config: IngestConfig, remember: Remember | None) -> _Found:
    """Return what one file is, from memory where that holds."""
    fresh = _Found()

    def look() -> str:
        _judge(path, name, instrument, config, fresh)
        return fresh.to_text()

    if remember is None:
        look()
        return fresh
    text = remember(path, look)
    if not text and not fresh.unreadable:
        look()
    return _Found.of_text(text) if text else fresh


def _judge(path: Path, name: str, instrument: Instrument, config: IngestConfig, found: _Found) -> None:
    """Sort one file into what was found."""
    try:
        inner = members(path)
        places = [Place(path)] if inner is None else [Place(path, member) for member in inner if _wanted(member)]
        for place in places:
            _judge_place(place, name, instrument, config, found)
    except OSError as error:
        found.unreadable.append(Unreadable(name, f"cannot be opened: {error.strerror or error}"))
    except (UnreadableFileError, MissingInputError) as error:
        found.unreadable.append(Unreadable(name, str(error), error=error))


def _wanted(member: str) -> bool:
    return not any(part.startswith((".", "__MACOSX")) for part in Path(member).parts)


def _judge_place(place: Place, name: str, instrument: Instrument, config: IngestConfig, found: _Found) -> None:
    shown = f"{name}:{place.member}" if place.member else name
    head = read_head(place.path, place.member)
    wanted = covariates.symbols(config)
    if (symbol := index_of(place.name, head.lines, config, *wanted[1:])) is not None:
        if symbol in wanted:
            found.indices[symbol] = [*dict.fromkeys((*found.indices.get(symbol, ()), place.path))]
        else:
            reason = f"values of {symbol}, not of the VIX; name it in ingest.covariates to use it"
            found.unreadable.append(Unreadable(shown, reason))
        return
    try:
        reader = choose(place, head, config)
    except AmbiguousFormatError as error:
        found.unreadable.append(Unreadable(shown, str(error), error=error))
        return
    except UnreadableFileError as error:
        found.unreadable.append(Unreadable(shown, _unknown(error)))
        return
    try:
        listing = reader.listing(place, head, instrument, config)
    except ContractCodeError as error:
        found.unreadable.append(Unreadable(shown, str(error)))
    except (ConfigError, UnreadableFileError) as error:
        found.unreadable.append(Unreadable(shown, str(error), error=error))
    else:
        _sort_in(listing, place, shown, instrument, found)


def _sort_in(listing: Listing, place: Place, shown: str, instrument: Instrument, found: _Found) -> None:
    """Add a listing's sources unless the file is cut off."""
    if listing.daily:
        found.daily.extend([place.path] if place.path not in found.daily else [])
        return
    found.notes.extend(f"{shown}: {note}" for note in listing.notes)
    ours = [source for source in listing.sources if parse_contract(source.contract).root == instrument.symbol]
    if not ours:
        roots = sorted({parse_contract(source.contract).root for source in listing.sources})
        reason = f"a contract of {', '.join(roots)}, not of {instrument.symbol}"
        found.unreadable.append(Unreadable(shown, reason))
        return
    if listing.cut is None:
        found.sources.extend(ours)
    else:
        codes = tuple(dict.fromkeys(source.contract for source in ours))
        found.unreadable.append(Unreadable(shown, str(listing.cut), codes, listing.cut))


def _unknown(error: UnreadableFileError) -> str:
    return f"expected {error.expected}; found {error.found}. {error.remedy}".rstrip()


def _by_contract(sources: list[Source]) -> dict[str, tuple[Source, ...]]:
    grouped: dict[Contract, list[Source]] = {}
    for source in sources:
        grouped.setdefault(parse_contract(source.contract), []).append(source)
    return {
        contract.code: tuple(sorted(grouped[contract], key=lambda source: source.order)) for contract in sorted(grouped)
    }


def _left_out(unreadable: list[Unreadable]) -> str:
    return "".join(f"{file.name}: {file.reason.rstrip('.')}. " for file in unreadable)
