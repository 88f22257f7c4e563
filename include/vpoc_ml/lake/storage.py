"""The two kinds of place a lake can lie in: a local folder, or an object store (S3, Google Cloud Storage, Azure).

Both have the same few methods on whole objects. A key is a relative path with forward slashes. A write is all or
nothing: in a folder by a rename, in a store because an object appears when its last byte has arrived.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vpoc_ml.errors import ConfigError, InvalidValueError
from vpoc_ml.lake.atomic import replacing, write_bytes

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, PutResult, UpdateVersion
    from obstore.store import ClientConfig, ObjectStore

HIDDEN = (".cache", ".locks")
SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl")
ENDPOINT = "AWS_ENDPOINT_URL"
"""Variable with the address of an S3 store other than AWS."""
VARIABLES = ("AWS_", "GOOGLE_", "AZURE_")
"""How the names of the variables begin that the clients of object stores read from the environment."""
REQUEST_TIMEOUT = "5 minutes"
"""Limit of one request, the transfer of its content included."""


class LocalStorage:
    """A local folder. It is made when first written to."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def location(self, key: str) -> str:
        """Return the path of ``key`` for a person or another process."""
        return str(self.root / key)

    def read(self, key: str) -> bytes | None:
        """Return the content of ``key``; None when there is none."""
        try:
            with open(os.path.join(self.root, key), "rb", buffering=0) as stream:
                return stream.readall()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, key: str, data: bytes) -> None:
        """Write ``data`` to ``key`` by a rename."""
        write_bytes(self.root / key, data)

    def upload(self, source: Path, key: str) -> None:
        """Copy the local file ``source`` to ``key`` by a rename."""
        with replacing(self.root / key) as temporary:
            shutil.copyfile(source, temporary)

    def download(self, key: str, target: Path) -> None:
        """Copy ``key`` to the local file ``target``.

        Raises:
            FileNotFoundError: there is no ``key``.
        """
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
        """Return key and version token of every file below the folder ``prefix``; hidden ones are left out."""
        found: dict[str, str] = {}
        for folder, names, files in os.walk(self.root / prefix):
            names[:] = [name for name in names if name not in HIDDEN]
            for name in files:
                if not _is_hidden(name):
                    path = Path(folder, name)
                    found[path.relative_to(self.root).as_posix()] = file_version_token(path)
        return found

    def written(self, prefix: str) -> dict[str, datetime]:
        """Return key and time of the last write (UTC) of every file below the folder ``prefix``; no hidden ones."""
        times: dict[str, datetime] = {}
        for folder, names, files in os.walk(self.root / prefix):
            names[:] = [name for name in names if name not in HIDDEN]
            for name in files:
                path = Path(folder, name)
                if _is_hidden(name):
                    continue
                with suppress(FileNotFoundError):  # a running stage may have replaced or removed it
                    seconds = path.stat().st_mtime
                    times[path.relative_to(self.root).as_posix()] = datetime.fromtimestamp(seconds, UTC)
        return times

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly below the folder ``prefix``, sorted; hidden ones are left out."""
        try:
            with os.scandir(self.root / prefix) as found:
                return sorted(each.name for each in found if each.is_dir() and not _is_hidden(each.name))
        except (FileNotFoundError, NotADirectoryError):
            return []


class ObjectStorage:
    """A prefix of an object store. Listings are never cached: other machines write too.

    Every method raises OSError when the store refuses a request or does not answer.
    """

    def __init__(self, url: str) -> None:
        self.root = url.rstrip("/")
        self._store = _open_store(self.root)

    def location(self, key: str) -> str:
        """Return the URL of ``key``."""
        return f"{self.root}/{key}"

    def read(self, key: str) -> bytes | None:
        """Return the content of ``key``; None when there is none."""
        found = self.read_versioned(key)
        return None if found is None else found[0]

    def write(self, key: str, data: bytes) -> None:
        """Write ``data`` to ``key``."""
        import obstore

        with self._requests():
            obstore.put(self._store, key, data)

    def upload(self, source: Path, key: str) -> None:
        """Write the local file ``source`` to ``key``; an upload that breaks off leaves the old object."""
        import obstore

        with self._requests():
            obstore.put(self._store, key, source)

    def download(self, key: str, target: Path) -> None:
        """Copy ``key`` to the local file ``target`` in blocks.

        Raises:
            FileNotFoundError: there is no ``key``.
        """
        import obstore

        with self._requests(), target.open("wb") as stream:
            for block in obstore.get(self._store, key).stream():
                stream.write(block)

    def delete(self, key: str) -> None:
        """Remove ``key`` if it exists."""
        import obstore

        with self._requests(), suppress(FileNotFoundError):
            obstore.delete(self._store, key)

    def version_token(self, key: str) -> str | None:
        """Return the store's ETag of ``key``; None when there is no such object."""
        import obstore

        try:
            with self._requests():
                return _version_token(obstore.head(self._store, key))
        except FileNotFoundError:
            return None

    def version_tokens(self, prefix: str) -> dict[str, str]:
        """Return key and version token of every object below the folder ``prefix``; hidden ones are left out."""
        return {each["path"]: _version_token(each) for each in self._list(prefix)}

    def written(self, prefix: str) -> dict[str, datetime]:
        """Return key and time of the last write (UTC) of every object below the folder ``prefix``; no hidden ones."""
        return {each["path"]: each["last_modified"] for each in self._list(prefix)}

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly below the folder ``prefix``, sorted; hidden ones are left out."""
        import obstore

        with self._requests():
            found = obstore.list_with_delimiter(self._store, prefix or None)["common_prefixes"]
        names = (each.rstrip("/").rpartition("/")[2] for each in found)
        return sorted(name for name in names if not _is_hidden(name))

    def read_versioned(self, key: str) -> tuple[bytes, UpdateVersion] | None:
        """Return the content of ``key`` and the version that ``write_if`` expects; None when there is none."""
        import obstore

        try:
            with self._requests():
                answer = obstore.get(self._store, key)
                content = answer.bytes().to_bytes()
        except FileNotFoundError:
            return None
        return content, _version(answer.meta)

    def write_if(self, key: str, data: bytes, expected: UpdateVersion | None) -> UpdateVersion | None:
        """Write ``data`` to ``key`` if its version is ``expected``, None for an absent object.

        Returns:
            The new version; None when another writer has changed the object and nothing was written.

        Raises:
            ConfigError: the store has no conditional writes.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

        try:
            with self._requests():
                mode: PutMode = "create" if expected is None else expected
                written = obstore.put(self._store, key, data, mode=mode, use_multipart=False)
        except OSError as error:
            match error.__cause__:
                case AlreadyExistsError() | PreconditionError():
                    return None
                case NotSupportedError():
                    raise ConfigError(
                        f"Expected a store with conditional writes, which locks need; found {self.root}."
                        " Set VPOC_LOCKS to a folder that every machine which writes can see."
                    ) from error
            raise
        return _version(written)

    def _list(self, prefix: str) -> list[ObjectMeta]:
        """Return what the store says of every object below the folder ``prefix``; hidden ones are left out."""
        import obstore

        with self._requests():
            listed = [each for block in obstore.list(self._store, prefix or None) for each in block]
        return [each for each in listed if not any(map(_is_hidden, each["path"].split("/")))]

    @contextmanager
    def _requests(self) -> Iterator[None]:
        """Turn the errors of the store's client into OSError; FileNotFoundError is one already.

        Raises:
            RuntimeError: this process is a fork of one that used a store; the client's threads are gone in it.
        """
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        if os.getpid() != _client_process():
            raise RuntimeError(
                f"{self.root}: expected a process that was started anew, found a fork of one that used it"
            )
        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise PermissionError(f"{self.root}: {_first_line(error)}") from error
        except BaseError as error:
            raise OSError(f"{self.root}: {_first_line(error)}") from error


@cache
def _client_process() -> int:
    """Return the process in which the client of object stores was used first."""
    return os.getpid()


def _open_store(url: str) -> ObjectStore:
    """Return obstore's client of a URL; credentials and endpoint come from the provider's environment variables.

    Those that are empty are unset: Compose passes every variable that its file names, and the client would take the
    empty text for an endpoint or a key, which hides the right endpoint and the role of the machine.
    """
    expected = f"a local folder, or a URL of an object store such as s3://bucket/prefix ({', '.join(SCHEMES)})"
    if url.partition("://")[0] not in SCHEMES:
        raise InvalidValueError("the lake", url, expected)
    from obstore.exceptions import BaseError
    from obstore.store import S3Store, from_url

    for name in [name for name in os.environ if name.startswith(VARIABLES) and not os.environ.get(name)]:
        os.environ.pop(name, None)
    endpoint = os.environ.get(ENDPOINT, "http://")
    if "://" not in endpoint:
        raise InvalidValueError(ENDPOINT, endpoint, "an address with its scheme, such as http://host:9000")
    options: ClientConfig = {"allow_http": True, "timeout": REQUEST_TIMEOUT}  # HTTP only if the endpoint says so
    try:
        if url.startswith("s3") and _has_aws_profile():
            from obstore.auth.boto3 import Boto3CredentialProvider

            return S3Store.from_url(url, client_options=options, credential_provider=Boto3CredentialProvider())
        return from_url(url, client_options=options)
    except (BaseError, ValueError) as error:
        raise InvalidValueError("the lake", url, f"{expected}; {_first_line(error)}") from error


def _has_aws_profile() -> bool:
    """Return whether the credentials of S3 come from the files of the AWS command line, which obstore does not read."""
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws" / "credentials"
    return "AWS_PROFILE" in os.environ or ("AWS_ACCESS_KEY_ID" not in os.environ and Path(file).is_file())


def _first_line(error: Exception) -> str:
    """Return the message of obstore's client without its debug output."""
    return str(error).partition("\n")[0]


def open_storage(root: str | Path) -> LocalStorage | ObjectStorage:
    """Return the storage at ``root``: a folder, ``file:///folder``, or the URL of an object store.

    Raises:
        InvalidValueError: a URL of another kind, or an incomplete one.
    """
    text = str(root)
    if text.startswith(("file://", "local://")):
        return LocalStorage(Path(text.split("://", 1)[1]))
    return ObjectStorage(text) if "://" in text else LocalStorage(Path(root))


def file_version_token(path: Path) -> str:
    """Return what changes when a local file is replaced or written to: size, both times, inode."""
    return stat_version_token(os.stat(path))


def stat_version_token(found: os.stat_result) -> str:
    """Return the version token that ``file_version_token`` makes of a file's status."""
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"


def _version(found: ObjectMeta | PutResult) -> UpdateVersion:
    """Return what identifies the version of an object in a conditional write: ETag on S3 and Azure, number on GCS."""
    version: UpdateVersion = {}
    if found["e_tag"] is not None:
        version["e_tag"] = found["e_tag"]
    if found["version"] is not None:
        version["version"] = found["version"]
    return version


def _version_token(found: ObjectMeta) -> str:
    """Return the ETag without quotes; of a store without ETags a hash of time and size."""
    if found["e_tag"]:
        return found["e_tag"].strip('"')
    return hashlib.sha256(f"{found['last_modified']} {found['size']}".encode()).hexdigest()[:32]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.endswith(".lock")
