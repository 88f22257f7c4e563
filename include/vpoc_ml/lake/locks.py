"""Locks of writers: two writers of one contract never interleave, on one machine or on many.

A local lake locks files, which the system frees when their process ends, however it ends. A lake on S3
keeps a lease: one object a lock, replaced only by conditional puts (``If-None-Match: *`` the first time,
``If-Match`` afterwards), so that of two writers one is refused by the store. The holder renews the lease
every few seconds. A waiter takes over a lease that it has itself watched stand still for the whole lease
time: no two clocks are ever compared.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from vpoc_ml import environment
from vpoc_ml.errors import ConfigError, WriterBusyError
from vpoc_ml.lake.atomic import writing_to
from vpoc_ml.lake.storage import Bucket, Folder

LEASE_SECONDS = 60.0
logger = logging.getLogger(__name__)


class Locks(Protocol):
    """Locks by name."""

    def held(self, name: str, wait_seconds: float) -> Any:
        """Return a context manager that holds ``name``; entering raises WriterBusyError after the wait."""


class FolderLocks:
    """Lock files in a local or shared folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def held(self, name: str, wait_seconds: float) -> Iterator[None]:
        """Hold the lock file of ``name``; beside it lies who holds it.

        Raises:
            WriterBusyError: another writer still holds the lock after ``wait_seconds``.
        """
        path = self.folder / f"{name}.lock"
        owner = path.with_suffix(".owner")
        lock = FileLock(path)
        try:
            with writing_to(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=wait_seconds)
        except Timeout as error:
            holder = owner.read_text() if owner.is_file() else "another process"
            raise WriterBusyError(path, name, holder, wait_seconds) from error
        try:
            with writing_to(owner):
                owner.write_text(owner_id())
            yield
        finally:
            lock.release()


class LeaseLocks:
    """Leases in the folder ``.locks`` of a bucket. ``lease_seconds``: how long a dead holder blocks the others."""

    def __init__(self, bucket: Bucket, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self.bucket, self.lease_seconds = bucket, lease_seconds

    @contextmanager
    def held(self, name: str, wait_seconds: float) -> Iterator[None]:
        """Hold the lease of ``name``, renewed by a thread until the block ends.

        Raises:
            WriterBusyError: another writer still holds the lease after ``wait_seconds``, or took it over
                because this one could not renew it in time.
        """
        lease = _Lease(self.bucket, name)
        self._acquire(lease, wait_seconds)
        stop = threading.Event()
        renewer = threading.Thread(target=self._renew, args=(lease, stop), name=f"lease {name}", daemon=True)
        renewer.start()
        try:
            yield
        finally:
            stop.set()
            renewer.join()
            lost = not lease.put(None)
        if lost:
            raise WriterBusyError(lease.key, name, f"{lease.holder()}, who took the lease over", self.lease_seconds)

    def _acquire(self, lease: _Lease, wait_seconds: float) -> None:
        begun = time.monotonic()
        seen, since = "", begun
        while not lease.take(stale=seen and time.monotonic() - since >= self.lease_seconds):
            if lease.etag != seen:
                seen, since = lease.etag, time.monotonic()
            if time.monotonic() - begun >= wait_seconds:
                raise WriterBusyError(lease.key, lease.name, lease.holder(), wait_seconds)
            time.sleep(random.uniform(0.5, 1.0) * min(1.0, self.lease_seconds / 10, wait_seconds / 4 + 0.01))  # noqa: S311

    def _renew(self, lease: _Lease, stop: threading.Event) -> None:
        while not stop.wait(self.lease_seconds / 4):
            with suppress(OSError):  # an unreachable store is tried again until the lease is lost
                if not lease.put(owner_id()):
                    logger.error("the lease %s was taken over by %s", lease.key, lease.holder())
                    return


class _Lease:
    """One lock object: who holds it (None: nobody) and a count, so that every renewal is another content."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        self.name, self.key, self.etag = name, f".locks/{name}.json", ""
        self.bucket, self.token, self._count = bucket, uuid.uuid4().hex, 0

    def take(self, *, stale: object) -> bool:
        """Try to become the holder: of a new or free lease, or of a ``stale`` one; ``etag`` tells what stood there."""
        content, etag = self._read()
        before, self.etag = self.etag, etag
        if content is not None and content["owner"] is not None and not (stale and etag == before):
            return False
        if content is not None and content["owner"] is not None:
            logger.warning("taking over the lease %s of %s, who stopped renewing it", self.key, content["owner"])
        return self.put(owner_id())

    def put(self, owner: str | None) -> bool:
        """Replace the lease this object knows; False when somebody else has replaced it meanwhile."""
        self._count += 1
        body = json.dumps({"owner": owner, "token": self.token, "count": self._count}).encode()
        condition = {"IfMatch": f'"{self.etag}"'} if self.etag else {"IfNoneMatch": "*"}
        try:
            answer = self.bucket.put_if(self.key, body, condition)
        except OSError as error:
            if isinstance(error, FileExistsError | FileNotFoundError) or error.errno in (errno.EINVAL, errno.EBUSY):
                return self._mine(body)
            raise
        self.etag = answer
        return True

    def holder(self) -> str:
        """Return who holds the lease now."""
        content, _ = self._read()
        return str((content or {}).get("owner") or "another writer")

    def _mine(self, body: bytes) -> bool:
        """Return whether a refused put had in truth arrived: its answer was lost and it was sent again."""
        content, etag = self._read()
        if content == json.loads(body):
            self.etag = etag
            return True
        return False

    def _read(self) -> tuple[dict[str, Any] | None, str]:
        found = self.bucket.read_stamped(self.key)
        return (json.loads(found[0]), found[1]) if found else (None, "")


def locks_of(storage: Folder | Bucket) -> Locks:
    """Return the locks of a lake: files in ``VPOC_LOCKS`` if that is set, else in the lake itself.

    Raises:
        ConfigError: the lake's store has no conditional put and no shared folder is named.
    """
    named = environment.read(environment.LOCKS)
    if named:
        return FolderLocks(Path(named))
    if isinstance(storage, Folder):
        return FolderLocks(storage.root / ".locks")
    if storage.conditional:
        return LeaseLocks(storage, lease_seconds=float(environment.read(environment.LEASE_SECONDS) or LEASE_SECONDS))
    raise ConfigError(
        f"Expected a lake in a folder or on S3, whose writers can lock each other out; was {storage.root}."
        " Set VPOC_LOCKS to a folder that every machine which writes can see."
    )


def owner_id() -> str:
    """Return this process as a person would look for it."""
    return f"process {os.getpid()} on {socket.gethostname()}"
