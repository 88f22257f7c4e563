"""The two places a lake can be in: a local folder, or an object store behind an fsspec URL.

Both do the same few things with whole objects. A put is all or nothing: in a folder by a rename, in an
object store because an object appears when its last byte has arrived. Nothing is ever opened for writing
in the store: fsspec closes, and so publishes, a half-written file when its writer raises.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import fsspec.asyn

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.lake.atomic import replacing, write_bytes

HIDDEN = (".cache", ".locks")


class Storage(Protocol):
    """Objects by key, a relative path with forward slashes. A missing object is None or FileNotFoundError."""

    @property
    def root(self) -> Path:
        """Return the root: a Path, or a UPath, which reads like one."""

    def read(self, key: str) -> bytes | None:
        """Return the content of ``key``; None when there is none."""

    def write(self, key: str, data: bytes) -> None:
        """Put ``data`` at ``key``, all or nothing."""

    def upload(self, source: Path, key: str) -> None:
        """Put the local file ``source`` at ``key``, all or nothing."""

    def download(self, key: str, target: Path) -> None:
        """Copy ``key`` to the local file ``target``."""

    def delete(self, key: str) -> None:
        """Remove ``key`` if it exists."""

    def version_token(self, key: str) -> str | None:
        """Return a text that changes whenever the content of ``key`` is replaced; None when there is none."""

    def version_tokens(self, prefix: str) -> dict[str, str]:
        """Return key and stamp of every object below the folder ``prefix``, hidden ones left out."""


class Folder:
    """A local folder. It is made when first written to."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, key: str) -> bytes | None:
        """Return the content of ``key``; None when there is none."""
        try:
            with open(os.path.join(self.root, key), "rb", buffering=0) as stream:
                return stream.readall()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, key: str, data: bytes) -> None:
        """Put ``data`` at ``key`` by a rename."""
        write_bytes(self.root / key, data)

    def upload(self, source: Path, key: str) -> None:
        """Copy ``source`` to ``key`` by a rename."""
        with replacing(self.root / key) as temporary:
            shutil.copyfile(source, temporary)

    def download(self, key: str, target: Path) -> None:
        """Copy ``key`` to ``target``."""
        shutil.copyfile(self.root / key, target)

    def delete(self, key: str) -> None:
        """Remove ``key`` if it exists."""
        (self.root / key).unlink(missing_ok=True)

    def version_token(self, key: str) -> str | None:
        """Return size, times and inode of ``key``; None when it is no file."""
        try:
            found = os.stat(os.path.join(self.root, key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return stat_version_token(found) if stat.S_ISREG(found.st_mode) else None

    def version_tokens(self, prefix: str) -> dict[str, str]:
        """Return key and stamp of every file below ``prefix`` that is neither hidden nor temporary."""
        found: dict[str, str] = {}
        for folder, names, files in os.walk(self.root / prefix):
            names[:] = [name for name in names if name not in HIDDEN]
            for name in files:
                path = Path(folder, name)
                if not name.startswith(".") and not name.endswith(".lock"):
                    found[path.relative_to(self.root).as_posix()] = file_version_token(path)
        return found


class Bucket:
    """A prefix of an object store. Listings are never cached: other machines write too."""

    def __init__(self, url: str) -> None:
        from upath import UPath

        try:
            self.root: Any = UPath(url.rstrip("/"), use_listings_cache=False)
            self.files: Any = self.root.fs
        except (ImportError, ValueError) as error:
            expected = "a local folder or a URL that fsspec knows, such as s3://bucket/prefix"
            raise InvalidValueError("the lake", url, f"{expected} ({error})") from error

    def read(self, key: str) -> bytes | None:
        """Return the content of ``key``; None when there is none."""
        try:
            content: bytes = self.files.cat_file(self._full(key))
        except FileNotFoundError:
            return None
        return content

    def write(self, key: str, data: bytes) -> None:
        """Put ``data`` at ``key``."""
        self.files.pipe_file(self._full(key), data)

    def upload(self, source: Path, key: str) -> None:
        """Put ``source`` at ``key``; an upload that breaks off leaves the old object."""
        self.files.put_file(str(source), self._full(key))

    def download(self, key: str, target: Path) -> None:
        """Copy ``key`` to ``target`` in blocks."""
        self.files.get_file(self._full(key), str(target))

    def delete(self, key: str) -> None:
        """Remove ``key`` if it exists."""
        if self.version_token(key) is not None:
            self.files.rm_file(self._full(key))

    def version_token(self, key: str) -> str | None:
        """Return the store's own version mark of ``key``, an ETag on S3; None when there is none."""
        try:
            info = self.files.info(self._full(key))
        except FileNotFoundError:
            return None
        return _object_stamp(info) if info["type"] == "file" else None

    def version_tokens(self, prefix: str) -> dict[str, str]:
        """Return key and version mark of every object below ``prefix``, hidden ones left out."""
        begin = len(self._full("").rstrip("/")) + 1
        found = self.files.find(self._full(prefix), detail=True)
        listed = {path[begin:]: _object_stamp(info) for path, info in found.items() if info["type"] == "file"}
        return {key: version_token for key, version_token in listed.items() if not any(map(_hidden, key.split("/")))}

    @property
    def conditional(self) -> bool:
        """Whether the store can put on a condition, which leases need."""
        return hasattr(self.files, "call_s3")

    def put_if(self, key: str, data: bytes, condition: Mapping[str, str]) -> str:
        """Put ``data`` at ``key`` if the S3 ``condition`` holds; return the new ETag, OSError when it does not."""
        bucket, name, _ = self.files.split_path(self._full(key))
        answer = self.files.call_s3("put_object", Bucket=bucket, Key=name, Body=data, **condition)
        return str(answer["ETag"]).strip('"')

    def read_stamped(self, key: str) -> tuple[bytes, str] | None:
        """Return content and ETag of an S3 object as one; None when there is none."""
        bucket, name, _ = self.files.split_path(self._full(key))
        try:
            answer = self.files.call_s3("get_object", Bucket=bucket, Key=name)
        except FileNotFoundError:
            return None
        content: bytes = fsspec.asyn.sync(self.files.loop, answer["Body"].read)
        return content, str(answer["ETag"]).strip('"')

    def _full(self, key: str) -> str:
        return f"{self.root.path.rstrip('/')}/{key}"


def storage_at(root: str | Path) -> Folder | Bucket:
    """Return the storage at ``root``: a folder, ``file:///folder``, or another fsspec URL.

    Raises:
        InvalidValueError: a URL that fsspec does not know.
    """
    text = str(root)
    if text.startswith(("file://", "local://")):
        return Folder(Path(text.split("://", 1)[1]))
    return Bucket(text) if "://" in text else Folder(Path(root))


def file_version_token(path: Path) -> str:
    """Return what changes when a local file is replaced or written to: size, both times, inode."""
    return stat_version_token(os.stat(path))


def stat_version_token(found: os.stat_result) -> str:
    """Return the stamp that ``file_stamp`` makes of what is known of a file."""
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"


def _object_stamp(info: Mapping[str, Any]) -> str:
    marks = [info.get(name) for name in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created", "size")]
    known = next((str(mark).strip('"') for mark in marks[:3] if mark), None)
    return known or hashlib.sha256(repr(marks).encode()).hexdigest()[:32]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.endswith(".lock")
