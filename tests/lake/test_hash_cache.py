"""The hash cache: unchanged files are not read again, changed files always are."""

import os
import sqlite3
import time

import pytest

from vpoc_ml.lake import hashing
from vpoc_ml.lake.hashing import HashCache, hash_file

LATER = 10_000_000_000


@pytest.fixture
def work(monkeypatch):
    """Names of the files that were read."""
    read = []

    def counted(path):
        read.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(hashing, "hash_file", counted)
    return read


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "ES 03-25.Last.txt"
    path.write_bytes(b"one")
    return path


@pytest.fixture
def cache(tmp_path):
    """A cache whose clock is ten seconds ahead of the files."""
    return HashCache(tmp_path / ".cache" / "hashes.sqlite", clock=lambda: time.time_ns() + LATER)


def test_an_unchanged_file_is_read_once_by_all_processes(cache, file, work):
    again = HashCache(cache.path, clock=lambda: time.time_ns() + LATER)
    assert cache.hash_file(file) == again.hash_file(file) == hash_file(file)
    assert work == [file.name]


def append(file):
    with file.open("ab") as stream:
        stream.write(b"two")


def same_size_in_place(file):
    with file.open("r+b") as stream:
        stream.write(b"two")


def same_size_and_time(file):
    before = file.stat()
    same_size_in_place(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_file_of_the_same_time(file):
    before = file.stat()
    other = file.with_suffix(".new")
    other.write_bytes(b"two")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize("change", [append, same_size_in_place, same_size_and_time, another_file_of_the_same_time])
def test_a_changed_file_is_read_again(cache, file, work, change):
    before = cache.hash_file(file)
    time.sleep(0.02)  # a tick of the file system's clock
    change(file)
    assert cache.hash_file(file) == hash_file(file) != before
    assert len(work) == 2


def test_a_file_that_was_just_written_is_always_read(file, work, tmp_path):
    """Two writes within one tick of the clock may leave size and times equal."""
    now = HashCache(tmp_path / ".cache" / "hashes.sqlite")
    assert now.hash_file(file) == now.hash_file(file)
    assert work == [file.name] * 2
    later = HashCache(now.path, clock=lambda: time.time_ns() + LATER)
    later.hash_file(file)
    assert len(work) == 3, "nothing was cached at first"


def test_a_file_that_changes_while_it_is_read_is_not_cached(cache, file, monkeypatch):
    def grow(path):
        found = hash_file(path)
        append(path)
        return found

    monkeypatch.setattr(hashing, "hash_file", grow)
    cache.hash_file(file)
    monkeypatch.setattr(hashing, "hash_file", hash_file)
    assert cache.hash_file(file) == hash_file(file)


def test_a_damaged_cache_only_costs_time(cache, file, work, caplog):
    cache.path.parent.mkdir()
    cache.path.write_bytes(b"this is no database" * 100)
    assert cache.hash_file(file) == cache.hash_file(file) == hash_file(file)
    assert work == [file.name] * 2
    assert "cannot be used" in caplog.text


def test_facts_about_a_file_are_cached_by_name(cache, file):
    answers = iter(["a", "b", "c"])
    assert cache.cached_for_file(file, "member one", lambda: next(answers)) == "a"
    assert cache.cached_for_file(file, "member two", lambda: next(answers)) == "b"
    assert cache.cached_for_file(file, "member one", lambda: next(answers)) == "a"
    assert cache.hash_file(file) == hash_file(file)


def test_a_locked_database_is_waited_for(cache, file):
    cache.hash_file(file)
    with sqlite3.connect(cache.path) as other:
        other.execute("SELECT * FROM content_hashes").fetchall()
        assert cache.hash_file(file) == hash_file(file)
