"""Find the vendor files of an instrument below a folder; say of every other file why it was left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import ConfigError, ContractCodeError, MissingInputError, UnreadableFileError, VpocError
from vpoc_ml.ingest.file_streams import members, read_head
from vpoc_ml.ingest.parsing.reader import FileContents, FileRef
from vpoc_ml.ingest.sniff import AmbiguousFormatError, choose
from vpoc_ml.ingest.vix import covariates
from vpoc_ml.ingest.vix.index_files import identify_index
from vpoc_ml.ingest.vix.index_symbols import VIX
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.instruments import Instrument

_REMEDY = (
    "The folder is the one that --raw (raw in the form) names, else raw/ of the lake. Export one-minute bars of the"
    " contracts into it, such as NinjaTrader's 'ES 03-25.Last.txt'."
)
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
        sources = [source.model_dump(mode="json", exclude_none=True) for source in self.sources]
        indices = {symbol: list(map(str, paths)) for symbol, paths in self.indices.items()}
        return json.dumps([sources, indices, list(map(str, self.daily)), self.notes])

    @staticmethod
    def of_text(text: str) -> _Found:
        """Return what ``to_text`` wrote."""
        sources, found, daily, notes = json.loads(text)
        indices = {symbol: list(map(Path, paths)) for symbol, paths in found.items()}
        return _Found(list(map(Source.model_validate, sources)), [], indices, list(map(Path, daily)), notes)


def discover(
    folder: Path, instrument: Instrument, config: IngestConfig | None = None, remember: Remember | None = None
) -> Discovery:
    """Look through the files below ``folder``; names starting with a dot, folders named ``truth``
    and the files that ``ingest.covariates`` names are skipped.

    A file's content decides its reader; its name, its symbols or the names inside a zip give the contracts. VIX
    files, daily volumes and contracts of other instruments are set apart, the last two with a note. Every other
    file is listed in ``unreadable`` with its reason. A contract of which one file is cut off or still growing is left
    out whole, so that what was built of it before stays.

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
    for path in _files(folder, folder, found):
        if path not in named:
            found.add(_one(path, str(path.relative_to(folder)), instrument, config, remember))
    broken = {code: file.name for file in found.unreadable for code in file.contracts}
    contracts = _by_contract([source for source in found.sources if source.contract not in broken])
    found.unreadable += _left_with(broken, [source for source in found.sources if source.contract in broken], folder)
    if not contracts:
        if error := next((file.error for file in found.unreadable if file.error), None):
            raise error
        raise MissingInputError(folder, what, _left_out(found) + _REMEDY)
    indices = {symbol: tuple(paths) for symbol, paths in found.indices.items()}
    return Discovery(contracts, found.unreadable, indices, tuple(found.daily), tuple(found.notes))


def _files(folder: Path, root: Path, found: _Found) -> Iterator[Path]:
    """Yield the files below a folder; what is neither file nor folder is listed."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        reason = f"a folder that cannot be opened: {error.strerror or error}"
        found.unreadable.append(Unreadable(str(folder.relative_to(root)), reason))
        return
    for path in entries:
        if path.is_dir():
            if path.is_symlink() and folder.resolve().is_relative_to(path.resolve()):
                found.unreadable.append(Unreadable(str(path.relative_to(root)), "a link to a folder that holds it"))
            elif path.name not in _LEFT_OUT:
                yield from _files(path, root, found)
        elif path.is_file():
            yield path
        else:
            found.unreadable.append(Unreadable(str(path.relative_to(root)), "no file: a broken link or a device"))


def _left_with(broken: dict[str, str], sources: list[Source], folder: Path) -> list[Unreadable]:
    """Return the whole files of contracts that are left out because of another file."""
    return [
        Unreadable(
            str(source.path.parent.relative_to(folder) / source.name),
            f"left out with {source.contract}, of which {broken[source.contract]} cannot be used",
        )
        for source in sources
    ]


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
        inner = members(path, ratio=config.expansion_limit)
    except OSError as error:
        found.unreadable.append(Unreadable(name, f"cannot be opened: {error.strerror or error}"))
        return
    except UnreadableFileError as error:
        found.unreadable.append(Unreadable(name, str(error), error=error))
        return
    files = [FileRef(path)] if inner is None else [FileRef(path, member) for member in inner if _wanted(member)]
    if not files:
        found.unreadable.append(Unreadable(name, "an archive without files"))
    for file in files:
        shown = f"{name}:{file.member}" if file.member else name
        try:
            _judge_place(file, shown, instrument, config, found)
        except OSError as error:
            found.unreadable.append(Unreadable(shown, f"cannot be opened: {error.strerror or error}"))
        except (UnreadableFileError, MissingInputError) as error:
            found.unreadable.append(Unreadable(shown, str(error), error=error))


def _wanted(member: str) -> bool:
    return not any(part.startswith((".", "__MACOSX")) for part in Path(member).parts)


def _judge_place(file: FileRef, shown: str, instrument: Instrument, config: IngestConfig, found: _Found) -> None:
    head = read_head(file.path, file.member)
    wanted = covariates.symbols(config)
    if (symbol := identify_index(file.name, head.lines, config, *wanted[1:])) is not None:
        if symbol in wanted:
            found.indices[symbol] = [*dict.fromkeys((*found.indices.get(symbol, ()), file.path))]
        else:
            reason = f"values of {symbol}, not of the VIX; name it in ingest.covariates to use it"
            found.unreadable.append(Unreadable(shown, reason))
        return
    try:
        reader = choose(file, head, config)
    except AmbiguousFormatError as error:
        found.unreadable.append(Unreadable(shown, str(error), error=error))
        return
    except UnreadableFileError as error:
        found.unreadable.append(Unreadable(shown, _unknown(error)))
        return
    try:
        contents = reader.contents(file, head, instrument, config)
    except ContractCodeError as error:
        found.unreadable.append(Unreadable(shown, str(error)))
    except (ConfigError, UnreadableFileError) as error:
        found.unreadable.append(Unreadable(shown, str(error), error=error))
    else:
        _sort_in(contents, file, shown, instrument, found)


def _sort_in(contents: FileContents, file: FileRef, shown: str, instrument: Instrument, found: _Found) -> None:
    """Add a listing's sources unless the file is cut off."""
    if contents.daily:
        if file.path not in found.daily:
            found.daily.append(file.path)
            found.notes.append(
                f"{shown.removesuffix(f':{file.member}')}: daily volume or open interest, for data.open_interest"
            )
        return
    found.notes.extend(f"{shown}: {note}" for note in contents.notes)
    codes = tuple(dict.fromkeys(source.contract for source in contents.sources))
    others = [code for code in codes if parse_contract(code).root != instrument.symbol]
    ours = [source for source in contents.sources if source.contract not in others]
    if others:
        found.notes.append(f"{shown}: bars of {', '.join(others)}, not of {instrument.symbol}")
    if contents.cut is None:
        found.sources.extend(ours)
    elif ours:
        codes = tuple(dict.fromkeys(source.contract for source in ours))
        found.unreadable.append(Unreadable(shown, str(contents.cut), codes, contents.cut))


def _unknown(error: UnreadableFileError) -> str:
    return f"expected {error.expected}; found {error.found}. {error.remedy}".rstrip()


def _by_contract(sources: list[Source]) -> dict[str, tuple[Source, ...]]:
    grouped: dict[Contract, list[Source]] = {}
    for source in sources:
        grouped.setdefault(parse_contract(source.contract), []).append(source)
    return {
        contract.code: tuple(sorted(grouped[contract], key=lambda source: source.order)) for contract in sorted(grouped)
    }


def _left_out(found: _Found) -> str:
    files = [f"{file.name}: {file.reason}" for file in found.unreadable]
    return "".join(f"{text.rstrip('.')}. " for text in [*files, *found.notes])
