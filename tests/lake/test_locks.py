"""Two writers of one contract never interleave: real processes, some of them killed or stopped while they hold."""

import os
import signal
import subprocess
import sys
import time

import pytest

from vpoc_ml.errors import WriterBusyError
from vpoc_ml.lake.store import Lake

pytestmark = pytest.mark.slow

HOLD = """
import sys, time
from vpoc_ml.lake.store import Lake
with Lake(sys.argv[1]).writing("ESH25", wait_seconds=30):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
print("done", flush=True)
"""
COUNT = """
import sys
from vpoc_ml.lake.store import Lake
lake = Lake(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with lake.writing("ESH25", wait_seconds=60):
        lake.write_json("count", (lake.read_json("count") or 0) + 1)
"""


@pytest.fixture(params=["folder", "s3"])
def root(request, tmp_path, monkeypatch):
    """Root of a lake in a folder or on S3; a lease that nobody renews is taken over after three seconds."""
    monkeypatch.setenv("VPOC_LEASE_SECONDS", "3")
    return str(tmp_path / "lake") if request.param == "folder" else request.getfixturevalue("bucket")


@pytest.fixture
def process():
    """Start a script in its own process; processes that still run at the end are killed."""
    started = []

    def start(script, *arguments):
        command = [sys.executable, "-c", script, *map(str, arguments)]
        started.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


def test_an_error_names_the_holder_and_a_killed_holder_frees_the_lock(root, process):
    holder = process(HOLD, root, 60)
    assert holder.stdout.readline() == "held\n"
    begun = time.monotonic()
    busy = pytest.raises(
        WriterBusyError, match=f"no other writer of ESH25 within 4 s; it is held by process {holder.pid}"
    )
    with busy, Lake(root).writing("ESH25", wait_seconds=4):
        pytest.fail("the lock was taken twice")
    assert time.monotonic() - begun >= 4, "a lease that is renewed is never taken over"
    with Lake(root).writing("ESM25", wait_seconds=0):
        pass  # another contract is free
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Lake(root).writing("ESH25", wait_seconds=20):
        pass


def test_a_second_writer_waits_for_the_first(root, process):
    first = process(HOLD, root, 1)
    assert first.stdout.readline() == "held\n"
    begun = time.monotonic()
    with Lake(root).writing("ESH25", wait_seconds=20):
        assert time.monotonic() - begun > 0.5
    assert first.wait(10) == 0


def test_no_update_is_lost_between_processes(root, process):
    counters = [process(COUNT, root, 6) for _ in range(2)]
    for each in counters:
        _, errors = each.communicate(timeout=60)
        assert each.returncode == 0, errors
    assert Lake(root).read_json("count") == 12


def test_a_stopped_writer_gets_an_error_when_it_lost_its_lease(bucket, process, monkeypatch):
    monkeypatch.setenv("VPOC_LEASE_SECONDS", "3")
    sleeper = process(HOLD, bucket, 0.2)
    assert sleeper.stdout.readline() == "held\n"
    sleeper.send_signal(signal.SIGSTOP)
    with Lake(bucket).writing("ESH25", wait_seconds=20):
        sleeper.send_signal(signal.SIGCONT)
        _, errors = sleeper.communicate(timeout=20)
        assert sleeper.returncode != 0
        assert "LockLostError" in errors
        assert f"process {os.getpid()}" in errors
    with Lake(bucket).writing("ESH25", wait_seconds=0):
        pass


GHOST = """
import sys
from vpoc_ml.lake.store import Lake
lake = Lake(sys.argv[1])
with lake.writing("train") as confirm, lake.mirrored("run", confirm=confirm) as push:
    (lake.folder("run") / "weights").write_text("ghost")
    (lake.folder("run") / "older").unlink()
    print("trains", flush=True)
    sys.stdin.readline()
    push()
"""


def test_a_stopped_writer_that_lost_its_lease_pushes_and_removes_nothing(bucket, process, monkeypatch, tmp_path):
    monkeypatch.setenv("VPOC_LEASE_SECONDS", "3")
    lake = Lake(bucket)
    lake.write_text("run/older", "checkpoint")
    monkeypatch.setenv("VPOC_CACHE", str(tmp_path / "another machine"))
    ghost = process(GHOST, bucket)
    assert ghost.stdout.readline() == "trains\n"
    ghost.send_signal(signal.SIGSTOP)
    with lake.writing("train", wait_seconds=20) as confirm, lake.mirrored("run", confirm=confirm):
        (lake.folder("run") / "weights").write_text("successor")
    ghost.send_signal(signal.SIGCONT)
    _, errors = ghost.communicate("\n", timeout=20)
    assert ghost.returncode != 0
    assert "LockLostError" in errors
    assert lake.read_text("run/weights") == "successor"
    assert lake.read_text("run/older") == "checkpoint"


def test_an_error_inside_frees_the_lock(root):
    with pytest.raises(RuntimeError, match="mine"):
        fail_inside(root)
    with Lake(root).writing("ESH25", wait_seconds=0):
        pass


def fail_inside(root):
    with Lake(root).writing("ESH25"):
        raise RuntimeError("mine")
