"""An object store over a slow network, for the benchmarks of pages: a real server, and a client that waits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from vpoc_ml.lake.storage import ObjectStorage
from vpoc_ml.lake.store import Lake

SERVER = Path(__file__).resolve().parents[1] / "tests" / "s3_server.py"
LATENCY = 0.03
"""Seconds that each request of a slow client waits."""


@contextmanager
def lake_in_store() -> Iterator[Lake]:
    """Start an S3 server on this machine and yield an empty lake in it, whose requests do not wait yet."""
    import boto3

    with subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            os.environ |= {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{process.stdout.readline().strip()}",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
            boto3.client("s3").create_bucket(Bucket="lake")
            yield Lake("s3://lake/es")
        finally:
            process.kill()


class SlowStorage(ObjectStorage):
    """An object store over a network: each request waits ``LATENCY`` seconds and is counted."""

    requests = 0

    def read(self, key: str) -> bytes | None:
        self._wait()
        return super().read(key)

    def version_token(self, key: str) -> str | None:
        self._wait()
        return super().version_token(key)

    def written(self, prefix: str) -> dict[str, datetime]:
        self._wait()
        return super().written(prefix)

    def folders(self, prefix: str) -> list[str]:
        self._wait()
        return super().folders(prefix)

    @classmethod
    def _wait(cls) -> None:
        cls.requests += 1
        time.sleep(LATENCY)
