"""What the file system refuses is said in words, and what was there before stays."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from vpoc_ml.errors import MachineError, StorageError
from vpoc_ml.lake.atomic import replacing, write_text
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.synthetic.generate import write_market

BUILD_KEY = BuildKey({}, "cfg", "code")
KEY = "bars/ES/ESH25.parquet"
FRAME = pl.DataFrame({"volume": pl.int_range(0, 200_000, eager=True).shuffle(seed=1)})


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 512 KiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mounting a file system needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_keeps_the_old_artifact_and_leaves_no_file(small_disk):
    lake = Lake(small_disk / "lake")
    lake.write_frame(KEY, FRAME.head(10), BUILD_KEY)
    with pytest.raises(StorageError, match=r"ESH25.parquet: expected room for the file; found no space left .* Free"):
        lake.write_frame(KEY, FRAME, BUILD_KEY)
    assert lake.read_frame(KEY).equals(FRAME.head(10))
    assert not [path for path in small_disk.rglob("*") if path.name.endswith(".tmp")]


def test_a_limit_on_file_sizes_is_named(tmp_path):
    lake = Lake(tmp_path / "lake")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="a limit on the size of files reached"):
            lake.write_frame(KEY, FRAME, BUILD_KEY)
        with pytest.raises(StorageError, match="a limit on the size of files reached"):
            lake.write_text("runs/night/config.json", "x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "expected room for the file; found no space left on the disk. Free space there"),
        (errno.EDQUOT, "found the quota of this user used up"),
        (errno.EROFS, "expected a lake that can be written to; found a read-only file system. Mount it writable"),
        (errno.EACCES, "expected permission to write; found access denied. Give this user the folder"),
        (errno.EPERM, "found the operation not permitted"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
def test_each_error_of_the_file_system_has_its_message(tmp_path, monkeypatch, number, message, call):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "runs" / "a.json"
    target = {"fsync": "os.fsync", "replace": "pathlib.Path.replace", "mkdir": "pathlib.Path.mkdir"}[call]
    monkeypatch.setattr(target, refuse)
    with pytest.raises(StorageError, match=r"a.json") as caught:
        write_text(path, "text")
    monkeypatch.undo()
    assert message in str(caught.value)
    assert "Then run the stage again" in str(caught.value)
    assert isinstance(caught.value, MachineError), "a task retries it"
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


def test_other_errors_are_not_changed(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a") as temporary:
        (temporary.parent / "none" / "b").read_text()


def test_a_read_only_lake_is_named_by_writes_and_locks(tmp_path):
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mounting a file system needs root")
    try:
        lake = Lake(tmp_path / "lake")
        with pytest.raises(StorageError, match=r"found a read-only file system. Mount it writable, or name another"):
            lake.write_frame(KEY, FRAME, BUILD_KEY)
        with pytest.raises(StorageError, match="found a read-only file system"), lake.writing("ESH25"):
            pass
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_path_with_spaces_and_unicode_works(tmp_path):
    lake = Lake(tmp_path / "märkte und 期货 'ES'" / "a b%20c")
    with lake.writing("ESH25"):
        lake.write_frame(KEY, FRAME, BUILD_KEY)
    assert lake.read_frame(KEY).equals(FRAME)
    assert lake.stale_reason(KEY, BUILD_KEY) is None
    assert lake.keys("bars") == [KEY]


def test_a_clock_that_jumps_back_hides_no_change(tmp_path):
    lake = Lake(tmp_path / "lake")
    lake.write_frame(KEY, FRAME, BUILD_KEY)
    file = lake.path(KEY)
    for day in (datetime.now(UTC) + timedelta(days=400), datetime(1980, 1, 1, tzinfo=UTC)):
        os.utime(file, (day.timestamp(), day.timestamp()))
        assert lake.stale_reason(KEY, BUILD_KEY) is None, "a timestamp alone changes nothing"
    found = file.stat()
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert lake.stale_reason(KEY, BUILD_KEY) == "damaged: content does not match its manifest"


WRITER = """
import sys, time
from pathlib import Path
from vpoc_ml.lake.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_the_next_write_removes_temporary_files_of_killed_writers_only(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / name], stdout=subprocess.PIPE) for name in ("a", "b")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
    writers[0].kill()
    writers[0].wait()
    write_text(tmp_path / "c", "text")
    left = [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")]
    assert [name[:3] for name in left] == [".b."]
    writers[1].kill()
    writers[1].wait()
    write_text(tmp_path / "c", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_lake_path_that_leads_through_a_file_is_rejected(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"expected a folder that can be made; found a file in its path\. .*--lake"):
        Lake(tmp_path / "file" / "lake").write_text("runs/night/config.json", "{}")
    with pytest.raises(StorageError, match="found a file in its p"):
        Lake(tmp_path / "file").write_text("runs", "{}")


def test_a_synthetic_market_in_place_of_a_file_is_rejected(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="found a file in its path"):
        write_market(tmp_path / "file", contracts=1)
