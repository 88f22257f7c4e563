"""Find the vendor files of an instrument below a folder, and choose the reader of each by its content.

Every other file is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PrivateAttr

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import (
    ConfigError,
    ContractCodeError,
    InvalidValueError,
    MissingInputError,
    UnreadableFileError,
    VpocError,
)
from vpoc_ml.ingest.file_streams import Head, has_compressed_magic, read_head, zip_members
from vpoc_ml.ingest.parsing.reader import FileContents, FileRef, Reader, setting_for
from vpoc_ml.ingest.parsing.text_layout import describe_line
from vpoc_ml.ingest.readers import generic, known_readers
from vpoc_ml.ingest.vix import covariates
from vpoc_ml.ingest.vix.index_files import identify_index
from vpoc_ml.ingest.vix.index_header import VIX
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.instruments import Instrument

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class AmbiguousFormatError(UnreadableFileError):
    """A file that fits several readers."""


def choose_reader(file: FileRef, head: Head, config: IngestConfig) -> Reader:
    """Return the reader of a file: by ``ingest.reader``, else by a declared mapping, else the one that recognises it.

    Raises:
        AmbiguousFormatError: several readers recognise it; the error names the setting.
        UnreadableFileError: no reader recognises it.
        InvalidValueError: ``ingest.reader`` names no reader.
    """
    if chosen := setting_for(config.reader, file):
        return reader_named(chosen)
    if generic.matches_mapping(head, config):
        return reader_named(generic.NAME)
    readers = known_readers()
    fitting = [reader for reader in readers.values() if reader.recognises(head)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " and ".join(reader.name for reader in fitting)
        raise AmbiguousFormatError(
            file.shown, "a file that fits one reader", f"one that fits {names}", remedy="Set ingest.reader to one."
        )
    if generic.fits_positions(head, config):
        return reader_named(generic.NAME)
    if has_compressed_magic(head.raw):
        raise UnreadableFileError(
            file.shown, "texts in an archive", "an archive in an archive", remedy="Unpack the outer one."
        )
    if head.raw[:2] in _UTF16:
        raise UnreadableFileError(file.shown, "UTF-8 text", "UTF-16 text", line=1, remedy="Save it as UTF-8.")
    shown = describe_line(head.lines[0]) if head.lines else "an empty file"
    expected = next(iter(readers.values())).expected
    remedy = "Declare its columns in ingest.mapping." if any(mark in shown for mark in ",;|") else ""
    if missing := generic.missing_columns(head, config):
        remedy = f"Correct ingest.mapping: the file lacks {', '.join(missing)}; check names and separator."
    raise UnreadableFileError(file.shown, f"{expected} or another known format", shown, line=1, remedy=remedy)


def reader_named(name: str) -> Reader:
    """Return a reader by its name.

    Raises:
        InvalidValueError: there is none.
    """
    readers = known_readers()
    if name not in readers:
        raise InvalidValueError("ingest.reader", name, f"one of {', '.join(readers)}")
    return readers[name]


_REMEDY = (
    "The folder is the one that --raw (raw in the form) names, else raw/ of the lake; data.instrument names the"
    " instrument. Export one-minute bars of its contracts into the folder, such as NinjaTrader's 'ES 03-25.Last.txt'."
)
_SKIPPED_FOLDERS = ("truth",)
Cache = Callable[[Path, Callable[[], str]], str]
"""``cache(path, inspect)`` returns the text ``inspect()``, or its stored result if the file has not changed."""


@dataclass(frozen=True)
class Unreadable:
    """A file that was not used, and the reason; ``contracts`` of its name or content, as far as they are known.

    ``error`` is set for a price file with a fault, None for a file of another kind.
    """

    name: str
    reason: str
    contracts: tuple[str, ...] = ()
    error: VpocError | None = None


@dataclass(frozen=True)
class Discovery:
    """The files below a folder.

    Attributes:
        contracts: sources by contract code, in order of expiry.
        unreadable: files that cannot be used.
        indices: files of the VIX and of covariates, by symbol.
        daily: files of daily volume and open interest.
        notes: what was set apart.
    """

    contracts: dict[str, tuple[Source, ...]]
    unreadable: tuple[Unreadable, ...]
    indices: dict[str, tuple[Path, ...]]
    daily: tuple[Path, ...]
    notes: tuple[str, ...]

    @property
    def vix(self) -> tuple[Path, ...]:
        """Files of the VIX."""
        return self.indices.get(VIX, ())


class _Inspection(BaseModel):
    """Result for one file, or for all files of a folder; JSON, so that a cache can hold it."""

    model_config = ConfigDict(extra="forbid")

    sources: list[Source] = []
    indices: dict[str, list[Path]] = {}
    daily: list[Path] = []
    notes: list[str] = []
    _unreadable: list[Unreadable] = PrivateAttr(default_factory=list)

    @property
    def unreadable(self) -> list[Unreadable]:
        return self._unreadable

    def add(self, other: _Inspection) -> None:
        """Add the result for another file."""
        self.sources += other.sources
        self.unreadable.extend(other.unreadable)
        for symbol, paths in other.indices.items():
            self.indices.setdefault(symbol, []).extend(paths)
        self.daily += other.daily
        self.notes += other.notes


def discover(
    folder: Path, instrument: Instrument, config: IngestConfig | None = None, cache: Cache | None = None
) -> Discovery:
    """Inspect the files below ``folder``; skip names starting with a dot, folders named ``truth`` and the files that
    ``ingest.covariates`` names.

    A file's content decides its reader; its name, its symbols or the names inside a zip give the contracts. VIX files,
    daily volumes and contracts of other instruments are set apart, the last two with a note. Every other file is
    listed in ``unreadable`` with its reason. If one file of a contract is cut off or still being written, the contract
    is left out with all its files, so that the artifacts built before stay.

    ``cache`` stores the results for files without a fault.

    Raises:
        MissingInputError: no such folder, nothing in it, or nothing in it can be read.
        UnreadableFileError, ConfigError: the only price files are cut off or ambiguous.
    """
    expected = f"price files of {instrument.symbol}"
    if not folder.is_dir():
        raise MissingInputError(folder, f"a folder with {expected}", _REMEDY)
    found, config = _Inspection(), config or IngestConfig()
    named = covariates.files(config, folder)
    for path in _files(folder, folder, found):
        if path not in named:
            found.add(_cached(path, str(path.relative_to(folder)), instrument, config, cache))
    broken = {code: file.name for file in found.unreadable for code in file.contracts}
    grouped: dict[Contract, list[Source]] = {}
    for source in found.sources:
        if source.contract not in broken:
            grouped.setdefault(parse_contract(source.contract), []).append(source)
            continue
        name = str(source.path.parent.relative_to(folder) / source.name)
        reason = f"left out with {source.contract}, of which {broken[source.contract]} cannot be used"
        found.unreadable.append(Unreadable(name, reason))
    if not grouped:
        if error := next((file.error for file in found.unreadable if file.error), None):
            raise error
        reasons = [*(f"{file.name}: {file.reason}" for file in found.unreadable), *found.notes]
        raise MissingInputError(folder, expected, "".join(f"{text.rstrip('.')}. " for text in reasons) + _REMEDY)
    return Discovery(
        {each.code: tuple(sorted(grouped[each], key=lambda source: source.order)) for each in sorted(grouped)},
        tuple(found.unreadable),
        {symbol: tuple(paths) for symbol, paths in found.indices.items()},
        tuple(found.daily),
        tuple(found.notes),
    )


def _files(folder: Path, root: Path, found: _Inspection) -> Iterator[Path]:
    """Yield the files below a folder; list what is neither file nor folder as unreadable."""
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
            elif path.name not in _SKIPPED_FOLDERS:
                yield from _files(path, root, found)
        elif path.is_file():
            yield path
        else:
            found.unreadable.append(Unreadable(str(path.relative_to(root)), "no file: a broken link or a device"))


def _cached(path: Path, name: str, instrument: Instrument, config: IngestConfig, cache: Cache | None) -> _Inspection:
    """Return the result for one file, from the cache if it is there."""
    fresh = _Inspection()

    def inspect() -> str:
        _inspect_file(path, name, instrument, config, fresh)
        return "" if fresh.unreadable else fresh.model_dump_json()  # a file with a fault is inspected every time

    if cache is None:
        inspect()
        return fresh
    text = cache(path, inspect)
    if not text and not fresh.unreadable:
        inspect()
    return _Inspection.model_validate_json(text) if text else fresh


def _inspect_file(path: Path, name: str, instrument: Instrument, config: IngestConfig, found: _Inspection) -> None:
    """Add one delivered file, or each file inside a zip, to ``found``."""
    try:
        members = zip_members(path, ratio=config.expansion_limit)
    except OSError as error:
        found.unreadable.append(Unreadable(name, f"cannot be opened: {error.strerror or error}"))
        return
    except UnreadableFileError as error:
        found.unreadable.append(Unreadable(name, str(error), error=error))
        return
    files = [FileRef(path)]
    if members is not None:
        hidden = (".", "__MACOSX")
        files = [FileRef(path, each) for each in members if not any(p.startswith(hidden) for p in Path(each).parts)]
    if not files:
        found.unreadable.append(Unreadable(name, "an archive without files"))
    for file in files:
        shown = f"{name}:{file.member}" if file.member else name
        try:
            contents = _contents(file, shown, instrument, config, found)
        except OSError as error:
            found.unreadable.append(Unreadable(shown, f"cannot be opened: {error.strerror or error}"))
        except (UnreadableFileError, MissingInputError) as error:
            found.unreadable.append(Unreadable(shown, str(error), error=error))
        else:
            if contents is not None:
                _add_contents(contents, file, shown, instrument, found)


def _contents(
    file: FileRef, shown: str, instrument: Instrument, config: IngestConfig, found: _Inspection
) -> FileContents | None:
    """Return the contents of a price file; None for a file of another kind, which is added to ``found``."""
    head = read_head(file.path, file.member)
    used = covariates.symbols(config)
    if (symbol := identify_index(file.name, head.lines, config, *used[1:])) is not None:
        if symbol in used:
            found.indices[symbol] = [*dict.fromkeys((*found.indices.get(symbol, ()), file.path))]
        else:
            reason = f"values of {symbol}, not of the VIX; name it in ingest.covariates to use it"
            found.unreadable.append(Unreadable(shown, reason))
        return None
    try:
        reader = choose_reader(file, head, config)
    except AmbiguousFormatError:
        raise
    except UnreadableFileError as error:
        reason = f"expected {error.expected}; found {error.found}. {error.remedy}".rstrip()
        found.unreadable.append(Unreadable(shown, reason))
        return None
    try:
        return reader.contents(file, head, instrument, config)
    except ContractCodeError as error:
        found.unreadable.append(Unreadable(shown, str(error)))
    except ConfigError as error:
        found.unreadable.append(Unreadable(shown, str(error), error=error))
    return None


def _add_contents(
    contents: FileContents, file: FileRef, shown: str, instrument: Instrument, found: _Inspection
) -> None:
    """Add the sources of the instrument unless the file is cut off."""
    if contents.daily:
        if file.path not in found.daily:
            found.daily.append(file.path)
            name = shown.removesuffix(f":{file.member}")
            found.notes.append(f"{name}: daily volume or open interest, for data.open_interest")
        return
    found.notes.extend(f"{shown}: {note}" for note in contents.notes)
    codes = dict.fromkeys(source.contract for source in contents.sources)
    others = [code for code in codes if parse_contract(code).root != instrument.symbol]
    ours = [source for source in contents.sources if source.contract not in others]
    if others:
        found.notes.append(f"{shown}: bars of {', '.join(others)}, not of {instrument.symbol}")
    if contents.truncation is None:
        found.sources.extend(ours)
    elif ours:
        codes = dict.fromkeys(source.contract for source in ours)
        found.unreadable.append(Unreadable(shown, str(contents.truncation), tuple(codes), contents.truncation))
