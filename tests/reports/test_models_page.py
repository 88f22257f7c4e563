"""The pages of registered versions: list, champion, one version with its reasons, evidence, lineage and ledger."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html import unescape

import numpy as np
import polars as pl
import pytest
from tests.evaluation.example_metrics import example_metrics

from vpoc_ml import config
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.decision import Check, Decision, DecisionState
from vpoc_ml.artifacts.lineage import BuiltArtifact, GateOutcome, Lineage
from vpoc_ml.artifacts.schemas import LIVE_RECORD
from vpoc_ml.artifacts.sources import DeliveredFile
from vpoc_ml.evaluation.sequential import bounded, log_wealth
from vpoc_ml.evaluation.session_scores import session_ic
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.store import Lake
from vpoc_ml.registry.ledger import CANDIDATE, PROMOTE, REFUSE, Ledger
from vpoc_ml.reports.pages.models import (
    ChampionQuery,
    ModelQuery,
    champion_page,
    evidence_chart,
    model_page,
    models_page,
)
from vpoc_ml.reports.pages.run import run_page
from vpoc_ml.reports.site import NoSuchPageError, Query, Site

NOW = datetime(2024, 9, 1, tzinfo=UTC)
KEY, PRESET, RUN = "ES-1m-rank", "0123456789abcdef", "night"
BUILT = BuiltArtifact(
    key="roll/ES.parquet", sha256="c" * 64, rows=3, first_ts=None, last_ts=None, inputs={}, config="s", code="d"
)


def lineage() -> Lineage:
    return Lineage(
        run=RUN,
        trained_in="before",
        preset="nightly",
        config_hash="0" * 16,
        preset_key=PRESET,
        fingerprint="f" * 16,
        weights_sha256="e" * 64,
        periods={},
        files=(DeliveredFile(path="/data/<b>.txt", size=1234, sha256="a" * 64),),
        indices=(),
        roll=BUILT,
        contracts={"ESH24": (BUILT.model_copy(update={"key": "bars/ES/ESH24.parquet"}),)},
        training_set=BUILT.model_copy(update={"key": "training_set.parquet"}),
        folds=(),
        gates=(GateOutcome(gate="bars", passed=True, checks=41),),
        sessions=60,
        rank_ic=None,
        net=-1.0,
        libraries={"polars": "1.0"},
    )


@pytest.fixture
def lake(tmp_path) -> Lake:
    registry = tmp_path / "registry"
    book = Ledger(registry / layout.LEDGER)
    for number, action in enumerate((CANDIDATE, PROMOTE, CANDIDATE, REFUSE)):
        version, preset = 1 + number // 2, PRESET if action == CANDIDATE else None
        reasons, at = [f"{action} <{version}>"], NOW - timedelta(days=9 - number)
        book.append(action, version=version, key=KEY, preset=preset, actor="rule", reasons=reasons, now=at)
    files = registry / "models" / "1"
    write_json(files / layout.METRICS, example_metrics())
    write_json(files / layout.LINEAGE, lineage().to_json())
    write_json(files / layout.CONFIG, json.loads(config.resolve("nightly").to_json()))
    decision = Decision(
        key=KEY,
        state=DecisionState.PROMOTED,
        promote=True,
        reasons=(),
        checks=(
            Check(name="gates", passed=True, text="Every gate passed."),
            Check(name="x", passed=False, text="<no>"),
        ),
        version=1,
        champion_before=None,
        decided_at=NOW.isoformat(),
        remark="Requested by hand",
        approval=None,
    )
    run = tmp_path / layout.run_folder(RUN)
    write_json(run / layout.CONFIG, json.loads(config.resolve("nightly").to_json()))
    write_json(run / layout.DECISION, decision.to_json())
    days = [date(2024, 5, 1) + timedelta(days=number) for number in range(40)]
    product = 0.25 * np.random.default_rng(3).normal(0.02, 0.01, 40)
    rows = dict.fromkeys(LIVE_RECORD, 0.0) | {"session": days, "version": 1, "rows": 1380}
    rows |= {"forecast_square": 1 / 12, "product_mean": product}
    live = registry / layout.LIVE / KEY / f"{PRESET}.parquet"
    live.parent.mkdir(parents=True)
    pl.DataFrame(rows, schema=LIVE_RECORD).write_parquet(live)
    return Lake(tmp_path)


def site(lake: Lake) -> Site:
    return Site(lake, NOW, base="/air/vpoc-reports", path="/models", registry=lake.path("registry"))


def test_pages_of_models_and_runs_link_to_mlflow_where_it_is_served(lake):
    assert "MLflow" not in models_page(site(lake), Query())
    served = replace(site(lake), mlflow="http://127.0.0.1:5000")
    assert '<a target="_top" href="http://127.0.0.1:5000/#/models">' in models_page(served, Query())
    link = '<a target="_top" href="http://127.0.0.1:5000/#/models/vpoc/versions/1">'
    assert link in model_page(served, ModelQuery(version=1))
    assert link in run_page(served, RUN)


def test_the_list_shows_each_version_with_its_decision_and_the_whole_ledger(lake):
    page = models_page(site(lake), Query())
    for text in ('href="/air/vpoc-reports/models/1">version 1', "refuse &lt;2&gt;", 'data-filter="Filter the ledger"'):
        assert text in page
    assert page.count('<span class="cell good">champion</span>') == 1
    skill = session_ic(pl.read_parquet(lake.path(f"registry/live/{KEY}/{PRESET}.parquet")))
    live = float(skill[1:].mean())
    assert page.count(f'<td class="number">{live:.4f}</td>') == 2, "both versions are of one preset"


def test_the_page_of_the_champion_has_its_reasons_and_leads_back_to_the_files(lake):
    page = champion_page(site(lake), ChampionQuery())
    assert page == model_page(site(lake), ModelQuery(version=1))
    for text in (
        "Why it was promoted",
        "&lt;no&gt;",
        "not met",
        "Requested by hand",
        "/data/&lt;b&gt;.txt",
        "a" * 64,
        "bars/ES/ESH24.parquet",
        "bars passed (41 checks)",
        '<a href="/air/vpoc-reports/runs/before">',
        "Evidence on live sessions",
        "vpoc-ml reproduce 1",
        'href="/air/dags/vpoc_champion"',
    ):
        assert text in page, text
    pasted = json.loads(unescape(page.split('<pre tabindex="0">')[1].split("</pre>")[0]))
    assert pasted == {"action": "rollback", "version": 1, "key": KEY, "reason": ""}


def test_a_version_without_files_still_has_its_decision_and_a_promotion_by_hand(lake):
    page = model_page(site(lake), ModelQuery(version=2))
    assert "Why it was refused" in page
    assert "refuse &lt;2&gt;" in page
    assert "registered by an earlier release" in page
    assert '"action": "promote"' in unescape(page)


def test_unknown_versions_and_keys_are_refused_and_an_empty_registry_is_not(lake, tmp_path):
    with pytest.raises(NoSuchPageError, match="found 3"):
        model_page(site(lake), ModelQuery(version=3))
    with pytest.raises(NoSuchPageError, match="found NQ"):
        champion_page(site(lake), ChampionQuery(key="NQ-1m-rank"))
    empty = Site(Lake(tmp_path / "new"), NOW)
    assert "none yet" in champion_page(empty, ChampionQuery())
    assert "none yet" in models_page(empty, Query())


def test_the_page_of_a_run_links_to_its_version(lake):
    assert 'href="/air/vpoc-reports/models/1">Model version 1</a>' in run_page(site(lake), RUN)


def test_the_evidence_is_that_of_the_promotion_rule():
    skill = np.random.default_rng(1).normal(0.02, 0.05, 30)
    chart = evidence_chart("Evidence", [str(number) for number in range(30)], skill, 1, opposed=True)
    last = log_wealth(bounded(skill))[-1] / math.log(10), log_wealth(bounded(-skill))[-1] / math.log(10)
    assert [float(cell) for cell in chart.rows[-1][1:]] == pytest.approx(last, rel=0.01)
