"""A lake on S3: a real server process, verified copies, mirrored folders, conditional writes."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import obstore
import polars as pl
import pytest
from obstore.exceptions import NotSupportedError, PermissionDeniedError

from vpoc_ml.errors import ArtifactError, ConfigError, InvalidValueError
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.lake.mirror import ContentCache, cache_folder
from vpoc_ml.lake.store import BuildKey, Lake

KEY = "bars/ES/ESH25.parquet"
BUILD_KEY = BuildKey({"raw": "aa", "vix": "bb"}, "cfg", "code")


@pytest.fixture
def frame():
    ts = pl.Series("ts", [datetime(2025, 1, 2, 14, 30 + minute, tzinfo=UTC) for minute in range(2)])
    return pl.DataFrame({"ts": ts.cast(pl.Datetime("us", "UTC")), "close": [1.0, 2.0]})


@pytest.fixture
def lake(bucket):
    return Lake(f"{bucket}/es")


@pytest.fixture
def another_machine(monkeypatch, tmp_path):
    """Give the process an empty cache, as on another machine."""

    def move():
        monkeypatch.setenv("VPOC_CACHE", str(tmp_path / f"cache{len(list(tmp_path.iterdir()))}"))

    return move


def objects(lake):
    return set(lake.storage.version_tokens(""))


def test_another_machine_reads_frame_and_manifest(lake, frame, another_machine):
    manifest = lake.write_frame(KEY, frame, BUILD_KEY, {"quarantined": 3})
    another_machine()
    there = Lake(str(lake.root))
    assert there.manifest(KEY) == manifest
    assert there.read_frame(KEY, ["close"]).equals(frame.select("close"))
    assert there.stale_reason(KEY, BUILD_KEY) is None
    assert there.stale_reason(KEY, BuildKey({"raw": "x", "vix": "bb"}, "cfg", "code")) == "inputs changed: raw"
    assert hash_file(there.local(KEY)) == manifest.sha256
    assert there.keys("bars/ES") == [KEY]
    assert objects(lake) == {KEY, "bars/ES/ESH25.json"}


def test_local_and_remote_lakes_hold_the_same_bytes(lake, frame, tmp_path):
    assert (
        lake.write_frame(KEY, frame, BUILD_KEY).sha256
        == Lake(tmp_path / "lake").write_frame(KEY, frame, BUILD_KEY).sha256
    )


def test_a_replaced_object_is_damaged(lake, frame):
    assert lake.stale_reason(KEY, BUILD_KEY) == "new"
    lake.write_frame(KEY, frame, BUILD_KEY)
    lake.storage.write(KEY, b"PAR1 not what it was PAR1")
    assert lake.stale_reason(KEY, BUILD_KEY) == "damaged: content does not match its manifest"
    lake.storage.delete(KEY)
    assert lake.stale_reason(KEY, BUILD_KEY) == "damaged: its file is missing"
    lake.write_frame(KEY, frame, BUILD_KEY)
    lake.storage.delete("bars/ES/ESH25.json")
    assert lake.stale_reason(KEY, BUILD_KEY) == "damaged: its manifest is missing or cannot be read"


def test_a_damaged_object_is_never_read(lake, frame, another_machine):
    lake.write_frame(KEY, frame, BUILD_KEY)
    lake.storage.write(KEY, lake.local(KEY).read_bytes()[:-1] + b"2")
    another_machine()
    with pytest.raises(ArtifactError, match="content its manifest names"):
        Lake(str(lake.root)).read_frame(KEY)
    with pytest.raises(ArtifactError, match="with its manifest"):
        lake.local("bars/ES/ESM25.parquet")


def test_a_damaged_copy_is_fetched_again(lake, frame):
    lake.write_frame(KEY, frame, BUILD_KEY)
    copy = lake.local(KEY)
    copy.write_bytes(b"rot")
    assert lake.read_frame(KEY).equals(frame)


def test_a_copied_lake_is_up_to_date_with_other_version_tokens(lake, frame, bucket):
    manifest = lake.write_frame(KEY, frame, BUILD_KEY)
    other = Lake(f"{bucket}/copy")
    other.storage.write("bars/ES/ESH25.json", json.dumps({**manifest.__dict__, "version_token": "elsewhere"}).encode())
    other.storage.upload(lake.local(KEY), KEY)
    assert other.stale_reason(KEY, BUILD_KEY) is None


@pytest.mark.parametrize("rows", [10, 2_000_000], ids=["one request", "many parts"])
def test_an_upload_that_breaks_off_leaves_the_old_object(lake, frame, monkeypatch, rows):
    lake.write_frame(KEY, frame, BUILD_KEY)
    before = objects(lake), lake.storage.read(KEY)
    put = obstore.put

    def broken(store, key, source, **options):
        def blocks():
            with Path(source).open("rb") as stream:
                yield stream.read(6 * 2**20)
            raise OSError("connection lost")

        return put(store, key, blocks(), **options)

    numbers = pl.int_range(rows, eager=True).hash(seed=1).reinterpret(signed=True)
    monkeypatch.setattr(obstore, "put", broken)
    with pytest.raises(OSError, match="connection lost"):
        lake.write_frame(KEY, pl.DataFrame({"close": numbers}), BUILD_KEY)
    monkeypatch.undo()
    assert (objects(lake), lake.storage.read(KEY)) == before
    assert lake.read_frame(KEY).equals(frame)


def test_a_raising_writer_publishes_nothing(lake):
    with pytest.raises(ValueError, match="JSON"):
        lake.write_json("runs/a/metrics.json", {"x": float("nan")})
    assert objects(lake) == set()
    assert lake.read_json("runs/a/metrics.json") is None
    lake.write_json("runs/a/metrics.json", {"x": 1})
    assert lake.read_json("runs/a/metrics.json") == {"x": 1}
    assert lake.exists("runs/a/metrics.json")


def work_and_die(lake):
    with lake.mirrored("runs/a"):
        folder = lake.folder("runs/a")
        assert (folder / "log.txt").read_text() == "one"
        (folder / "log.txt").write_text("two")
        (folder / "checkpoints" / "1.bin").unlink()
        (folder / "checkpoints" / "2.bin").write_bytes(b"2")
        raise RuntimeError("died")


def test_a_mirrored_folder_is_pulled_and_pushed(lake, another_machine):
    with lake.mirrored("runs/a"):
        folder = lake.folder("runs/a")
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "1.bin").write_bytes(b"1")
        (folder / "log.txt").write_text("one")
    another_machine()
    there = Lake(str(lake.root))
    with pytest.raises(RuntimeError, match="died"):
        work_and_die(there)
    with lake.mirrored("runs/a"):
        names = {path.name for path in lake.folder("runs/a").rglob("*") if path.is_file()}
        assert names == {"log.txt", "2.bin"}, "files that the other machine removed are removed here"
        assert (lake.folder("runs/a") / "log.txt").read_text() == "two"
    assert objects(lake) == {"runs/a/log.txt", "runs/a/checkpoints/2.bin"}
    assert lake.uri(lake.folder("runs/a") / "log.txt") == f"{lake.root}/runs/a/log.txt"


def test_files_of_a_killed_process_are_pushed_unless_the_objects_changed(lake, another_machine):
    with lake.mirrored("runs/a"):
        lake.folder("runs/a").mkdir(parents=True)
        for name in ("log.txt", "best.bin"):
            (lake.folder("runs/a") / name).write_text("old")
    for name in ("log.txt", "best.bin", "checkpoint.bin"):
        (lake.folder("runs/a") / name).write_text("left behind")
    another_machine()
    there = Lake(str(lake.root))
    with there.mirrored("runs/a"):
        (there.folder("runs/a") / "best.bin").write_text("finished elsewhere")
    with lake.mirrored("runs/a"):
        assert (lake.folder("runs/a") / "best.bin").read_text() == "finished elsewhere"
    assert lake.read_text("runs/a/log.txt") == "left behind"
    assert lake.read_text("runs/a/checkpoint.bin") == "left behind"


def test_files_pushed_and_removed_during_the_work_leave_the_store(lake, another_machine):
    """As a training does: every epoch pushes a checkpoint and removes an older one."""
    with lake.mirrored("runs/a") as push:
        checkpoints = lake.folder("runs/a") / "checkpoints"
        checkpoints.mkdir(parents=True)
        for step in range(4):
            (checkpoints / f"{step}.bin").write_bytes(bytes([step]))
            (checkpoints / f"{step - 2}.bin").unlink(missing_ok=True)
            push()
            kept = {f"runs/a/checkpoints/{each}.bin" for each in (step - 1, step) if each >= 0}
            assert objects(lake) == kept
    another_machine()
    there = Lake(str(lake.root))
    with there.mirrored("runs/a"):
        assert {path.name for path in (there.folder("runs/a") / "checkpoints").iterdir()} == {"2.bin", "3.bin"}


def test_a_push_keeps_objects_of_other_writers(lake):
    with lake.mirrored("runs/a") as push:
        folder = lake.folder("runs/a")
        folder.mkdir(parents=True)
        for name in ("mine.bin", "shared.bin"):
            (folder / name).write_text("mine")
        push()
        lake.storage.write("runs/a/theirs.bin", b"theirs")
        lake.storage.write("runs/a/shared.bin", b"theirs")
        for name in ("mine.bin", "shared.bin"):
            (folder / name).unlink()
    assert objects(lake) == {"runs/a/theirs.bin", "runs/a/shared.bin"}


def test_a_wiped_cache_deletes_nothing_in_the_store(lake):
    with lake.mirrored("reports"):
        lake.folder("reports").mkdir(parents=True)
        (lake.folder("reports") / "a.html").write_text("a")
    (lake.folder("reports") / "a.html").unlink()
    with lake.mirrored("reports"):
        assert (lake.folder("reports") / "a.html").read_text() == "a"
    shutil.rmtree(lake.folder(""))
    with lake.mirrored("reports"):
        pass
    assert objects(lake) == {"reports/a.html"}


def test_only_changed_files_are_moved(lake, monkeypatch):
    with lake.mirrored("reports"):
        lake.folder("reports").mkdir(parents=True)
        for name in "abc":
            (lake.folder("reports") / name).write_text(name)
    moved = []
    for verb in ("upload", "download"):
        monkeypatch.setattr(type(lake.storage), verb, lambda self, *paths, verb=verb: moved.append((verb, *paths)))
    with lake.mirrored("reports"):
        (lake.folder("reports") / "b").write_text("B")
    assert [(verb, Path(path).name) for verb, path, _ in moved] == [("upload", "b")]


def test_the_content_cache_is_bounded(lake, monkeypatch):
    monkeypatch.setenv("VPOC_CACHE_GB", "0.000001")
    lake = Lake(str(lake.root))
    first = lake.write_frame(KEY, pl.DataFrame({"x": range(1000)}), BUILD_KEY)
    old = lake.local(KEY)
    os.utime(old, ns=(0, old.stat().st_mtime_ns))
    lake.write_frame(KEY, pl.DataFrame({"x": range(1000, 2000)}), BUILD_KEY)
    assert not old.exists(), "unused for a day and over the limit"
    assert first.sha256 != hash_file(lake.local(KEY))


def write_run(lake, name, size=1000):
    with lake.mirrored(f"runs/{name}"):
        lake.folder(f"runs/{name}").mkdir(parents=True, exist_ok=True)
        (lake.folder(f"runs/{name}") / "training_set.parquet").write_bytes(bytes(size))


def make_room(hours, limit=1):
    """Make room in the cache as a process does after this many hours."""
    ContentCache(cache_folder(), limit=limit, clock=lambda: time.time() + 3600 * hours).make_room()


def test_mirrors_of_runs_that_nobody_used_for_a_day_leave_the_cache(lake, another_machine):
    for run in "abc":
        write_run(lake, run)
    with lake.mirrored("runs/a/folds/f"):
        lake.folder("runs/a/folds/f").mkdir(parents=True)
        (lake.folder("runs/a/folds/f") / "model.bin").write_bytes(b"model")
    before = objects(lake)
    make_room(23)
    assert len(list(lake.folder("runs").iterdir())) == 3, "all were used within a day"
    make_room(25, limit=2100)
    assert {path.name for path in lake.folder("runs").iterdir()} == {"a", "c"}, "b was used longest ago"
    make_room(25)
    assert list(lake.folder("runs").iterdir()) == []
    assert objects(lake) == before
    with lake.mirrored("runs/a"):
        assert (lake.folder("runs/a/folds/f") / "model.bin").read_bytes() == b"model"
        assert (lake.folder("runs/a") / "training_set.parquet").stat().st_size == 1000
    assert objects(lake) == before


def test_copies_and_mirrors_share_one_limit(lake, frame):
    write_run(lake, "a", 3000)
    lake.write_frame(KEY, frame, BUILD_KEY)
    copy = lake.local(KEY)
    make_room(25, limit=3000 + copy.stat().st_size)
    assert copy.exists()
    assert lake.folder("runs/a").exists()
    make_room(25, limit=3000)
    assert copy.exists(), "the mirror was used before it"
    assert not lake.folder("runs/a").exists()


def test_work_that_was_not_pushed_stays_in_the_cache(lake):
    for run in "abc":
        write_run(lake, run)
    (lake.folder("runs/a") / "checkpoint.bin").write_bytes(b"new")
    (lake.folder("runs/b") / "training_set.parquet").write_bytes(b"changed")
    make_room(48)
    assert {path.name for path in lake.folder("runs").iterdir()} == {"a", "b"}
    with lake.mirrored("runs/a"), lake.mirrored("runs/b"):
        pass
    assert lake.read_text("runs/a/checkpoint.bin") == "new"
    assert lake.read_text("runs/b/training_set.parquet") == "changed"
    make_room(48)
    assert list(lake.folder("runs").iterdir()) == [], "pushed by now"


def test_a_mirror_in_use_stays_until_its_process_has_ended(lake):
    write_run(lake, "a")
    code = (
        "import sys; from vpoc_ml.lake.store import Lake\n"
        "with Lake(sys.argv[1]).mirrored('runs/a/folds/f'): print('inside', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(lake.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "inside\n"
        with lake.mirrored("runs/a"):
            make_room(48)
        make_room(48)
        assert lake.folder("runs/a").exists()
        process.kill()
    make_room(48)
    assert not lake.folder("runs/a").exists()


def test_a_mirror_makes_room_before_it_is_pulled(lake, monkeypatch):
    """As on a machine that only trains: it mirrors runs and reads no other artifact."""
    write_run(lake, "a")
    tomorrow = ContentCache(cache_folder(), limit=1, clock=lambda: time.time() + 25 * 3600)
    monkeypatch.setattr(lake, "_contents", tomorrow)
    write_run(lake, "b")
    assert {path.name for path in lake.folder("runs").iterdir()} == {"b"}


@pytest.mark.parametrize(
    "url", ["nonsense://x/y", "memory://bucket/es", "https://host/es", "s3://", "az://container/es"]
)
def test_a_url_of_no_object_store_is_rejected(url, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(InvalidValueError, match=r"s3://bucket"):
        Lake(url)


@pytest.mark.parametrize("url", ["gs://bucket/es", "az://container/es"])
def test_google_and_azure_urls_are_opened(url, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    lake = Lake(url)
    assert lake.remote
    assert lake.location(KEY) == f"{url}/{KEY}"


def test_locks_may_lie_in_a_shared_folder(lake, monkeypatch, tmp_path):
    monkeypatch.setenv("VPOC_LOCKS", str(tmp_path))
    with lake.writing("ESH25"):
        assert (tmp_path / "ESH25.lock").exists()


def test_a_store_without_conditional_writes_names_the_setting(lake, monkeypatch):
    def put(store, key, content, **options):
        raise NotSupportedError("the store has no conditional writes")

    monkeypatch.setattr(obstore, "put", put)
    with pytest.raises(ConfigError, match="VPOC_LOCKS"), lake.writing("ESH25"):
        pass


def test_a_conditional_write_takes_place_once(lake):
    storage = lake.storage
    first = storage.write_if("a.json", b"1", None)
    assert storage.read_versioned("a.json") == (b"1", first)
    assert storage.write_if("a.json", b"2", None) is None, "the object exists"
    second = storage.write_if("a.json", b"2", first)
    assert storage.write_if("a.json", b"3", first) is None, "the version is another"
    assert storage.read_versioned("a.json") == (b"2", second)
    storage.delete("a.json")
    assert storage.write_if("a.json", b"3", second) is None, "the object is gone"
    assert storage.read_versioned("a.json") is None


def test_errors_of_the_store_are_os_errors_without_debug_output(lake, monkeypatch):
    def refuse(*args, **options):
        raise PermissionDeniedError("access denied\n\nDebug source: ...")

    monkeypatch.setattr(obstore, "get", refuse)
    with pytest.raises(PermissionError, match=rf"{lake.root}: access denied$"):
        lake.storage.read("a.json")
    absent = Lake("s3://no-such-bucket/es")
    with pytest.raises(OSError, match="NoSuchBucket"):
        absent.storage.write("a.json", b"1")


def test_a_store_is_refused_in_a_fork_of_a_process_that_used_one(lake):
    lake.write_json("a.json", 1)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            lake.read_json("a.json")
        except RuntimeError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        assert "expected a process that was started anew" in stream.read()


def test_an_aws_profile_supplies_the_credentials(bucket, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = test\naws_secret_access_key = test\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    lake = Lake(f"{bucket}/es")
    lake.write_json("a.json", 1)
    assert lake.read_json("a.json") == 1


def signed(lake):
    """Return the address of a request to the store, signed as every request is."""
    return obstore.sign(lake.storage._store, "GET", "a.json", timedelta(minutes=1))


def test_empty_variables_are_as_if_unset(monkeypatch):
    """Compose passes an empty variable for each one that its file names and nobody has set."""
    for name in ("AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "")
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    address = signed(Lake("s3://bucket/es"))
    assert address.startswith("https://s3.eu-west-1.amazonaws.com/bucket/es/a.json?")
    assert "X-Amz-Credential=key%2F" in address
    assert "X-Amz-Security-Token" not in address
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT"):
        monkeypatch.setenv(name, "")
    assert Lake("gs://bucket/es").remote


def test_an_endpoint_without_a_scheme_is_refused(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    with pytest.raises(InvalidValueError, match=r"AWS_ENDPOINT_URL to be an address with its scheme.*'minio:9000'"):
        Lake("s3://bucket/es")


def test_a_session_token_is_sent(bucket, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "temporary")
    lake = Lake(f"{bucket}/es")
    assert "X-Amz-Security-Token=temporary" in signed(lake)
    lake.write_json("a.json", 1)
    assert lake.read_json("a.json") == 1


class MachineRole(BaseHTTPRequestHandler):
    """What a machine in the cloud answers about its role."""

    def do_PUT(self):
        self.answer("token")

    def do_GET(self):
        keys = {
            "AccessKeyId": "of-the-role",
            "SecretAccessKey": "s",
            "Token": "t",
            "Expiration": "2100-01-01T00:00:00Z",
        }
        self.answer(json.dumps(keys) if self.path.endswith("/role") else "role")

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass


def test_empty_keys_leave_the_role_of_the_machine(bucket, monkeypatch, tmp_path):
    with HTTPServer(("127.0.0.1", 0), MachineRole) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HOME", str(tmp_path))  # without an AWS profile
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.setenv(name, "")
        lake = Lake(f"{bucket}/es")
        assert "X-Amz-Credential=of-the-role%2F" in signed(lake)
        lake.write_json("a.json", 1)
        assert lake.read_json("a.json") == 1
        server.shutdown()


def test_a_file_url_is_a_local_folder(tmp_path, frame):
    Lake(f"file://{tmp_path}/lake").write_frame(KEY, frame, BUILD_KEY)
    assert Lake(tmp_path / "lake").read_frame(KEY).equals(frame)
