"""Choose the reader of a file by its content."""

from __future__ import annotations

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError, UnreadableFileError
from vpoc_ml.ingest.file_streams import Head, has_compressed_magic
from vpoc_ml.ingest.parsing.file_settings import setting_for
from vpoc_ml.ingest.parsing.header import describe_line
from vpoc_ml.ingest.parsing.reader import FileRef, Reader
from vpoc_ml.ingest.readers import READERS, generic

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
    fitting = [reader for reader in READERS.values() if reader.recognises(head)]
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
    expected = next(iter(READERS.values())).expected
    remedy = "Declare its columns in ingest.mapping." if "," in shown else ""
    raise UnreadableFileError(file.shown, f"{expected} or another known format", shown, line=1, remedy=remedy)


def reader_named(name: str) -> Reader:
    """Return a reader by its name.

    Raises:
        InvalidValueError: there is none.
    """
    if name not in READERS:
        raise InvalidValueError("ingest.reader", name, f"one of {', '.join(READERS)}")
    return READERS[name]
