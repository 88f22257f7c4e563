"""Airflow for the tests: a home of its own, set before anything imports airflow."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RunDag = Callable[..., SimpleNamespace]


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """The fake pipeline's module, which also serves the tests of the demo."""
    path = ROOT / "tests" / "ops" / "fake_pipeline.py"
    spec = importlib.util.spec_from_file_location("fake_pipeline", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_pipeline"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def quick_params(fakes: ModuleType) -> Iterator[None]:
    """``validate_quickly``, for the session."""
    with pytest.MonkeyPatch.context() as patch:
        fakes.validate_quickly(patch.setattr)
        yield


@pytest.fixture(scope="session")
def synced_once(airflow_home: Path) -> Iterator[None]:
    """Store the DAGs once: ``dag.test`` reads the folder and stores it anew each time, a third of a fake run's time."""
    from airflow.dag_processing import dagbag
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    manager = DagBundlesManager()
    manager.sync_bundles_to_db()
    for bundle in manager.get_all_dag_bundles():
        bundle.initialize()
        read = dagbag.BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
        dagbag.sync_bag_to_db(read, bundle.name, bundle.version)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dagbag, "BundleDagBag", lambda **places: None)
        patch.setattr(dagbag, "sync_bag_to_db", lambda *stored: None)
        yield


@pytest.fixture(scope="session")
def bag(airflow_home: Path, quick_params: None) -> Any:
    """The DAGs of the project, read from their folder."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag()


@pytest.fixture
def dag(bag: Any) -> Any:
    assert bag.import_errors == {}
    return bag.dags["vpoc_nightly"]


@pytest.fixture
def contracts_dag(bag: Any) -> Any:
    assert bag.import_errors == {}
    return bag.dags["vpoc_contracts"]


@pytest.fixture
def run_dag(dag: Any, run_any: RunDag) -> RunDag:
    """Run the nightly DAG in this process with the fake pipeline; return the run, its tasks' states and the fake."""
    return partial(run_any, dag)


@pytest.fixture
def run_contract(contracts_dag: Any, run_any: RunDag) -> RunDag:
    """Run the DAG of one contract, as ``run_dag`` does the nightly."""
    return partial(run_any, contracts_dag)


@pytest.fixture
def run_any(fakes: ModuleType, synced_once: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunDag:
    """Run a DAG in this process with the fake pipeline; further arguments are the run's conf."""
    return partial(run_fake, fakes, monkeypatch, tmp_path)


def run_fake(
    fakes: ModuleType,
    patch: pytest.MonkeyPatch,
    place: Path,
    dag: Any,
    fail: str | None = None,
    contracts: list[str] | None = None,
    state: str = "refused",
    **conf: Any,
) -> SimpleNamespace:
    """Run a DAG on the lake below ``place``; ``patch`` undoes what that changes."""
    from vpoc_ml.artifacts.layout import dag_run_name

    patch.setenv("VPOC_LAKE", str(place / "lake"))
    fake = fakes.install(fakes.FakePipeline(fail, contracts), patch.setitem)
    fake.state = state
    for holder in (dag, *dag.tasks):  # ``dag.test`` leaves a run's conf in the params of the DAG and its tasks
        for param in map(holder.params.get_param, holder.params):
            patch.setattr(param, "value", param.value)
    with pytest.MonkeyPatch.context() as brief:
        fakes.wait_briefly(brief.setattr)
        result = dag.test(run_conf=conf)
    instances = result.get_task_instances()
    states = {(ti.task_id, ti.rendered_map_index or ""): str(ti.state) for ti in instances}
    folder = place / "lake" / "runs" / dag_run_name(dag.dag_id, result.run_id)
    returned = {ti.task_id: ti.xcom_pull(task_ids=ti.task_id) for ti in instances if ti.map_index < 0}
    return SimpleNamespace(
        state=str(result.state.value), states=states, fake=fake, folder=folder, id=result.run_id, returned=returned
    )
