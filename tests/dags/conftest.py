"""Airflow for the tests: a home of its own, set before anything imports airflow."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def fakes():
    """The fake pipeline's module, which also serves the tests of the demo."""
    path = ROOT / "tests" / "ops" / "fake_pipeline.py"
    spec = importlib.util.spec_from_file_location("fake_pipeline", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_pipeline"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def quick_params():
    """Validate params without checking their schemas anew each time: half of a fake run's time."""
    import jsonschema

    def validate(instance, schema, **kwargs):
        jsonschema.Draft202012Validator(schema, **kwargs).validate(instance)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonschema, "validate", validate)
        yield


@pytest.fixture(scope="session")
def bag(airflow_home, quick_params):
    """The DAGs of the project, read from their folder."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag()


@pytest.fixture
def dag(bag):
    assert bag.import_errors == {}
    return bag.dags["vpoc_nightly"]


@pytest.fixture
def run_dag(dag, fakes, monkeypatch, tmp_path):
    """Run the DAG in this process with the fake pipeline; return the run, its tasks' states and the fake."""

    def run(fail: str | None = None, contracts: list[str] | None = None, **conf):
        monkeypatch.setenv("VPOC_ML_LAKE", str(tmp_path / "lake"))
        fake = fakes.install(fakes.FakePipeline(fail, contracts), monkeypatch.setitem)
        result = dag.test(run_conf=conf)
        instances = result.get_task_instances()
        states = {(ti.task_id, ti.rendered_map_index or ""): str(ti.state) for ti in instances}
        from vpoc_ops.stage import folder_name

        folder = tmp_path / "lake" / "runs" / folder_name(result.run_id)
        return SimpleNamespace(state=str(result.state.value), states=states, fake=fake, folder=folder)

    return run
