"""Libraries that are loaded before tasks are forked: by whom, and that a forked process computes with them."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

FORKED = """
import multiprocessing, sys
from vpoc_airflow.preload import preload

def compute(answer):
    import numba, pandas, polars, torch
    from great_expectations import expectations, get_context
    double = numba.njit(lambda value: 2 * value)
    source = get_context(mode="ephemeral").data_sources.add_pandas("source")
    batch = source.add_dataframe_asset("asset").add_batch_definition_whole_dataframe("batch")
    rows = pandas.DataFrame({"a": [1, 2, 3]})
    at_most = expectations.ExpectColumnMaxToBeBetween(column="a", max_value=3)
    found = batch.get_batch({"dataframe": rows}).validate(at_most)
    groups = polars.from_pandas(rows).lazy().group_by("a").agg(polars.len()).collect().height
    product = torch.ones(300, 300).mm(torch.ones(300, 300))
    answer.put((found.success, double(3), groups, float(product[0, 0])))

preload()
print("threads of", sorted({"polars", "torch"} & set(sys.modules)))
fork = multiprocessing.get_context("fork")
answer = fork.SimpleQueue()
process = fork.Process(target=compute, args=(answer,))
process.start()
process.join(60)
print("exit code", process.exitcode, answer.get() if process.exitcode == 0 else "")
"""

STARTED = """
import sys
from airflow.executors import local_executor
from airflow.executors.executor_loader import ExecutorLoader
from vpoc_airflow.preload import PRELOADED

def start_workers(executor):
    print("absent", sorted(set(PRELOADED) - set(sys.modules)))

local_executor.LocalExecutor.start = start_workers
ExecutorLoader.get_default_executor().start()
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180, check=False)


def test_a_process_forked_after_the_libraries_are_loaded_computes():
    done = run(FORKED)
    found = [line for line in done.stdout.splitlines() if line.startswith(("threads", "exit"))]
    assert found == ["threads of []", "exit code 0 (True, 6, 3, 300.0)"], done.stdout + done.stderr


def test_the_scheduler_of_make_up_loads_them_before_it_starts_its_workers():
    done = run(STARTED)
    assert "absent []" in done.stdout.splitlines(), done.stdout + done.stderr
