"""### Search for better settings

Started by hand. Builds a training set as the nightly run does, gates included, and tries settings of the model and of
training on it: `resolve_config` → `prepare` → `search`.

* **What is tried:** `trials` settings out of the space in `vary`, suggested by Optuna. The first trial is the settings
  of the form itself, where they lie in the space: what a search has to beat.
* **What counts** is the rank IC on validation rows; test rows are never looked at. The best of many trials is the best
  partly by luck: `search/returns.parquet` of the run keeps what each earned per session, for a deflation.
* **Unstable** settings are recorded as such and avoided. Trials are in MLflow, experiment `vpoc-search`.
* **A killed search** goes on where it ended: clear the task, or let its retry do it.
* **Nothing is promoted.** Give the best trial's settings, which the task returns, to a nightly run as `overrides`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import dag, result, task, teardown

from vpoc_airflow import search, stage_tasks
from vpoc_ml import environment


@task
def resolve_config(params: Any = None, dag_run: Any = None) -> dict[str, Any]:
    return search.resolve(params, dag_run)


@task
def prepare() -> None:
    search.prepare()


@result
@task(
    task_id="search",
    queue="rocm",
    pool=environment.read(environment.TRAIN_POOL) or "default_pool",
    executor=environment.read(environment.TRAIN_EXECUTOR),
)
def try_settings(params: Any = None) -> dict[str, Any]:
    return search.search(params)


@teardown
def publish_reports() -> dict[str, Any]:
    stage_tasks.skip_unless_started()
    return stage_tasks.call("publish_reports", datetime.now(UTC))


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    params=search.form_params(),
    default_args=stage_tasks.RETRIES,
    doc_md=__doc__,
    tags=["ES", "search"],
)
def vpoc_search() -> None:
    started, prepared, tried, reports = resolve_config(), prepare(), try_settings(), publish_reports()
    started >> prepared >> tried
    [prepared, tried] >> reports  # the gates' reports, whatever came of the search


vpoc_search()
