"""### Search for better settings

Started manually. Builds a training set as the nightly run does, gates included, and tries settings of the model and of
training on it: `resolve_config` → `prepare` → `search`.

* **Trials:** Optuna suggests `trials` combinations of settings from the space in `vary`. The first trial uses the
  settings of the form, if the space contains them: they are the baseline of the search.
* **Objective:** the rank IC on validation rows; the search never reads test rows. The best of many trials is partly
  luck: `search/returns.parquet` of the run keeps the returns of each trial per session, for a deflated Sharpe ratio.
* **Unstable** settings are recorded as unstable and avoided. Trials are in MLflow, experiment `vpoc-search`.
* **A killed search** continues with the interrupted trial: clear the task, or wait for its retry.
* **Nothing is promoted.** Pass the best trial's settings, which the task returns, to a nightly run as `overrides`.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, result, task, teardown

from vpoc_airflow import alerts, search, stage_tasks, time_limits
from vpoc_airflow.schedule import dag_instrument


@task
def resolve_config(params: Any = None, dag_run: Any = None) -> dict[str, Any]:
    return search.resolve(params, dag_run)


@task(execution_timeout=time_limits.training_limit())
def prepare() -> None:
    search.prepare()


@result
@task(task_id="search", **stage_tasks.TRAINING)
def try_settings(params: Any = None) -> dict[str, Any]:
    return search.search(params)


@teardown
def publish_reports() -> dict[str, Any]:
    return stage_tasks.publish_reports()


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    params=search.form_params(),
    default_args=stage_tasks.TASK_DEFAULTS,
    dagrun_timeout=time_limits.run_limit(),
    on_failure_callback=alerts.AlertNotifier(alerts.FAILED),
    doc_md=__doc__,
    tags=[dag_instrument().symbol, "search"],
)
def vpoc_search() -> None:
    started, prepared, tried, reports = resolve_config(), prepare(), try_settings(), publish_reports()
    started >> prepared >> tried
    [prepared, tried] >> reports  # the gates' reports, also if the search fails


vpoc_search()
