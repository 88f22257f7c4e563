"""The lake in an object store: the same night, the same bytes."""

from __future__ import annotations

from pathlib import Path

import boto3

from .conftest import STORED
from .digests import KINDS, digests
from .stack import run as command
from .stack import started

BUCKET, PREFIX = "lake", "es"
STORE = {
    "COMPOSE_PROFILES": "s3",
    "VPOC_LAKE": f"s3://{BUCKET}/{PREFIX}",
    "AWS_ENDPOINT_URL": "http://s3:5000",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
}


def test_a_night_with_its_lake_in_a_store_has_the_bytes_of_the_command_line(stack, stored, took, tmp_path):
    took("lake moved into a store: healthy after", stack.change(STORE))
    store = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{stack.values['S3_PORT']}",
        aws_access_key_id=STORE["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=STORE["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    store.create_bucket(Bucket=BUCKET)
    raw = Path(stack.values["VPOC_RAW"])
    for path in raw.rglob("*"):
        if path.is_file():
            store.upload_file(str(path), BUCKET, f"{PREFIX}/raw/{path.relative_to(raw)}")

    run_id = stack.trigger("vpoc_nightly", {"preset": "smoke", "overrides": STORED})
    assert stack.wait("vpoc_nightly", [run_id], 1800) == ["success"], stack.failures("vpoc_nightly", run_id)
    took("nightly run, lake in a store", stack.run("vpoc_nightly", run_id)["duration"])
    assert stack.call("GET", f"/vpoc-reports/run/vpoc_nightly/{run_id}", user="viewer").status_code == 200

    pages = store.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{PREFIX}/")
    keys = [each["Key"].removeprefix(f"{PREFIX}/") for page in pages for each in page["Contents"]]
    (run,) = {key.split("/")[1] for key in keys if key.startswith("runs/vpoc_nightly")}

    for key in keys:
        if key.split("/")[0] in KINDS or key.startswith(f"runs/{run}/"):
            path = tmp_path / key
            path.parent.mkdir(parents=True, exist_ok=True)
            store.download_file(BUCKET, f"{PREFIX}/{key}", str(path))
    assert digests(tmp_path, run) == stored


def test_no_kernel_was_compiled_by_a_task(stack):
    for service in ("worker", "worker-rocm"):
        for container in stack.containers(service):
            find = f"find / -xdev -newermt {started(container)} -path '*numba*' 2>/dev/null || true"
            assert command(["docker", "exec", container, "sh", "-c", find], 60) == "", service
