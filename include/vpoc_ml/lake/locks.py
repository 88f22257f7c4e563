"""Locks of writers: two writers of one contract never interleave, on one machine or on many.

A local lake uses lock files, which the system frees when their process ends, however it ends. A lake in an object store
uses leases: one object per lock, replaced by conditional writes only (create if absent, then replace a known version),
so that the store refuses one of two writers. The holder renews its lease every few seconds. A waiter takes over a lease
whose version did not change while the waiter watched it for the whole lease time: no two clocks are compared.
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from vpoc_ml import environment
from vpoc_ml.errors import LockLostError, WriterBusyError
from vpoc_ml.lake.atomic import writing_to
from vpoc_ml.lake.storage import LocalStorage, ObjectStorage

if TYPE_CHECKING:
    from obstore import UpdateVersion

LEASE_SECONDS = 60.0
Confirm = Callable[[], None]
"""Does nothing, or raises LockLostError when the lock is no longer this process's."""
logger = logging.getLogger(__name__)


class FolderLocks:
    """Lock files in a local or shared folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def held(self, name: str, wait_seconds: float) -> Iterator[Confirm]:
        """Hold the lock file of ``name``; a file beside it names the holder. Such a lock cannot be lost.

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
            yield lambda: None
        finally:
            lock.release()


class LeaseLocks:
    """Leases in the folder ``.locks`` of an object store.

    ``lease_seconds``: how long a lease of a dead holder blocks the others.
    """

    def __init__(self, storage: ObjectStorage, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self.storage, self.lease_seconds = storage, lease_seconds

    @contextmanager
    def held(self, name: str, wait_seconds: float) -> Iterator[Confirm]:
        """Hold the lease of ``name``; a thread renews it until the block ends.

        The lease is lost to a waiter when this process stands still for longer than ``lease_seconds``. Confirm it
        before writing what only the holder may write: that renews it, or raises.

        Raises:
            WriterBusyError: another writer still holds the lease after ``wait_seconds``.
            LockLostError: another writer took it over because this one could not renew it in time.
        """
        lease = _Lease(self.storage, name)
        self._acquire(lease, wait_seconds)
        stop = threading.Event()
        renewer = threading.Thread(target=self._renew, args=(lease, stop), name=f"lease {name}", daemon=True)
        renewer.start()

        def require(held: bool) -> None:
            if not held:
                holder = f"{lease.holder()}, who took the lease over"
                raise LockLostError(lease.key, name, holder, self.lease_seconds)

        try:
            yield lambda: require(lease.put(owner_id()))
        finally:
            stop.set()
            renewer.join()
            released = lease.put(None)
        require(released)

    def _acquire(self, lease: _Lease, wait_seconds: float) -> None:
        begun = unchanged_since = time.monotonic()
        previous = lease.version
        while not lease.take(expired=previous is not None and time.monotonic() - unchanged_since >= self.lease_seconds):
            if lease.version != previous:
                previous, unchanged_since = lease.version, time.monotonic()
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
    """One lock object: its holder (None: nobody) and a count, so that every renewal changes its content.

    ``version`` is the version of the object that this process has read or written last; None: there was no object.
    """

    def __init__(self, storage: ObjectStorage, name: str) -> None:
        self.name, self.key = name, f".locks/{name}.json"
        self.version: UpdateVersion | None = None
        self._storage, self._token, self._count = storage, uuid.uuid4().hex, 0
        self._putting = threading.Lock()  # of two writes with one version the store would refuse the second

    def take(self, *, expired: bool) -> bool:
        """Try to become the holder of a new, free or ``expired`` lease; return whether that worked."""
        content, version = self._read()
        before, self.version = self.version, version
        holder = content["owner"] if content else None
        if holder is not None:
            if not (expired and version == before):
                return False
            logger.warning("taking over the lease %s of %s, who stopped renewing it", self.key, holder)
        return self.put(owner_id())

    def put(self, owner: str | None) -> bool:
        """Replace the known version of the lease; return False when another writer has replaced it."""
        with self._putting:
            self._count += 1
            body = json.dumps({"owner": owner, "token": self._token, "count": self._count}).encode()
            written = self._storage.write_if(self.key, body, self.version)
            if written is None:  # refused, unless the answer to this very write was lost and the client repeated it
                content, version = self._read()
                written = version if content == json.loads(body) else None
            if written is not None:
                self.version = written
            return written is not None

    def holder(self) -> str:
        """Return who holds the lease now."""
        content, _ = self._read()
        return str((content or {}).get("owner") or "another writer")

    def _read(self) -> tuple[dict[str, Any] | None, UpdateVersion | None]:
        found = self._storage.read_versioned(self.key)
        return (json.loads(found[0]), found[1]) if found else (None, None)


def locks_of(storage: LocalStorage | ObjectStorage) -> FolderLocks | LeaseLocks:
    """Return the locks of a lake: files in ``VPOC_LOCKS`` if that is set, else files or leases in the lake itself."""
    named = environment.read(environment.LOCKS)
    if named:
        return FolderLocks(Path(named))
    if isinstance(storage, LocalStorage):
        return FolderLocks(storage.root / ".locks")
    return LeaseLocks(storage, lease_seconds=float(environment.read(environment.LEASE_SECONDS) or LEASE_SECONDS))


def owner_id() -> str:
    """Return the name of this process for a person who looks for it."""
    return f"process {os.getpid()} on {socket.gethostname()}"
