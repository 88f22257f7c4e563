"""Bad input gets a clear error, is told by name, and loses nothing that was built before."""

import polars as pl
import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import (
    ArtifactError,
    ContractCodeError,
    InsufficientSessionsError,
    InvalidValueError,
    MissingInputError,
    QuarantineLimitError,
    UnknownKeyError,
    UnknownPresetError,
    UnreadableFileError,
    VixCoverageError,
    VpocError,
)
from vpoc_ml.lake.store import Lake

from .conftest import NOW, ROWS

pytestmark = pytest.mark.slow

BARS = "bars/ES/ESH23.parquet"


def prices(folder):
    return next(folder.glob("ES*.txt"))


def bars_are_kept(lake, run, spoil, error, match):
    """Build the bars, spoil the delivery, run again: the typed error comes and the old bars are still whole."""
    pipeline.run_until(lake, run, "ingest", NOW)
    before = Lake(lake).manifest(BARS)
    spoil()
    with pytest.raises(error, match=match) as caught:
        pipeline.run_until(lake, run, "ingest", NOW)
    assert Lake(lake).manifest(BARS) == before
    assert Lake(lake).read_frame(BARS).height == before.rows
    assert not list(Lake(lake).root.rglob("*.tmp"))
    return caught.value


def test_missing_folder(lake, start, tmp_path):
    start(raw=tmp_path / "nowhere")
    with pytest.raises(MissingInputError, match="nowhere") as caught:
        pipeline.plan_contracts(lake, "night")
    assert caught.value.exit_code == 5


def test_empty_folder(lake, start, tmp_path):
    (tmp_path / "empty").mkdir()
    start(raw=tmp_path / "empty")
    with pytest.raises(MissingInputError, match="price files of ES"):
        pipeline.plan_contracts(lake, "night")


def test_foreign_files_are_listed_with_their_reason(lake, start, delivery):
    (delivery / "notes.txt").write_text("buy low\n")
    (delivery / "ES someday.Last.txt").write_bytes(prices(delivery).read_bytes())
    start()
    listed = {item.name: item.reason for item in pipeline.plan_contracts(lake, "night").unreadable}
    assert set(listed) == {"notes.txt", "ES someday.Last.txt"}
    assert "buy low" in listed["notes.txt"]
    assert "ESH25" in listed["ES someday.Last.txt"], "the reason shows a name that can be read"
    assert pipeline.summarize(lake, "night").unreadable


def test_nothing_readable_names_every_file(lake, start, tmp_path):
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "a.csv").write_text("hello\n")
    (folder / "b.csv").write_text("world\n")
    start(raw=folder)
    with pytest.raises(MissingInputError, match=r"(?s)a\.csv.*b\.csv"):
        pipeline.plan_contracts(lake, "night")


def test_truncated_last_line_keeps_the_bars_of_the_night_before(lake, start, delivery):
    path = prices(delivery)

    def spoil():
        path.write_bytes(path.read_bytes()[:-9])

    error = bars_are_kept(lake, start(), spoil, UnreadableFileError, path.name)
    assert error.line == ROWS


def test_too_many_bad_rows_are_an_error_that_counts_them(lake, start, delivery):
    path = prices(delivery)

    def spoil():
        lines = path.read_text().splitlines()
        for row in range(0, len(lines), 20):
            lines[row] = lines[row].replace(";", ";-", 1)
        path.write_text("\r\n".join(lines) + "\r\n", newline="")

    error = bars_are_kept(lake, start(), spoil, QuarantineLimitError, "bad rows")
    assert error.bad == ROWS // 20


def test_vix_that_does_not_overlap(lake, start, delivery):
    vix = next(delivery.glob("VIX*"))

    def spoil():
        vix.write_text("DATE,OPEN,HIGH,LOW,CLOSE\n2001-01-02,20,20,20,20\n2001-01-03,21,21,21,21\n")

    error = bars_are_kept(lake, start(), spoil, VixCoverageError, "2001-01-03")
    assert "2023" in str(error), "both spans are told"


def test_no_vix_at_all(lake, start, delivery):
    next(delivery.glob("VIX*")).unlink()
    start()
    with pytest.raises(MissingInputError, match="--vix"):
        pipeline.plan_contracts(lake, "night")


def test_two_vix_files_are_named_with_the_way_out(lake, start, delivery):
    (delivery / "VIXCLS.csv").write_text("observation_date,VIXCLS\n2023-03-01,20.58\n")
    start()
    with pytest.raises(UnreadableFileError, match=r"VIXCLS\.csv, VIX_History\.csv.*--vix"):
        pipeline.plan_contracts(lake, "night")


def test_vix_file_of_another_index_is_named_as_such(lake, start, delivery):
    next(delivery.glob("VIX*")).rename(delivery / "VVIX_History.csv")
    start()
    with pytest.raises(MissingInputError, match="--vix"):
        pipeline.plan_contracts(lake, "night")
    start(vix=delivery / "VVIX_History.csv")
    with pytest.raises(UnreadableFileError, match="values of VIX; found those of VVIX"):
        pipeline.plan_contracts(lake, "night")


def test_unknown_preset_key_and_value(lake, start):
    with pytest.raises(UnknownPresetError):
        start(preset="weekly")
    with pytest.raises(UnknownKeyError, match=r"training\.epochs"):
        start(overrides={"training.epoch": 3})
    with pytest.raises(InvalidValueError):
        start(overrides={"training.epochs": -1})
    with pytest.raises(ArtifactError, match="started run"):
        pipeline.plan_contracts(lake, "night")


@pytest.mark.parametrize("name", ["a/b", "", "x:y"])
def test_run_name_that_cannot_be_a_folder(lake, start, name):
    with pytest.raises(InvalidValueError, match="letters, digits"):
        start(name=name)


def test_unreadable_or_absent_contract_requested(lake, start):
    start(overrides={"data.contracts": "ES someday"})
    with pytest.raises(ContractCodeError):
        pipeline.plan_contracts(lake, "night")
    start(overrides={"data.contracts": ["ESM23"]})
    with pytest.raises(MissingInputError, match=r"ESM23.*holds ESH23"):
        pipeline.plan_contracts(lake, "night")


def test_too_few_sessions_says_how_many_are_needed(lake, start):
    start()
    with pytest.raises(InsufficientSessionsError) as caught:
        pipeline.run_until(lake, "night", "training-set", NOW)
    assert caught.value.needed > caught.value.found
    assert str(caught.value.needed) in str(caught.value)
    failed = [row for row in pipeline.summarize(lake, "night").stages if row.error]
    assert [row.stage for row in failed] == ["rolls"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"features.names": "vwap,MOM_15"}, r"did you mean mom_15m for MOM_15\?\); was 'MOM_15'"),
        ({"features.names": "hurst_390m"}, r"hurst_390m needs features\.extras=hurst"),
        ({"features.names": "hurst_390", "features.extras": "hurst"}, r"did you mean hurst_390m for hurst_390\?"),
        ({"features.names": "vvix_lag1", "ingest.covariates": "VVIX"}, r"vvix_lag1 needs features\.extras=covariates"),
        ({"features.names": "xxxxxxxx,vwpa"}, r"did you mean vwap for vwpa\?\); was 'xxxxxxxx, vwpa'"),
        ({"features.names": "xxxxxxxx"}, r"docs/features\.md lists them"),
    ],
)
def test_feature_that_there_is_not_is_refused_at_the_start_with_a_suggestion(lake, start, settings, words):
    with pytest.raises(InvalidValueError, match=words):
        start(overrides=settings)
    assert not Lake(lake).exists("runs/night/config.json")


def test_absent_open_interest_is_refused_before_any_bar_is_read(lake, start, tmp_path, monkeypatch):
    for name, file in (("none", ""), ("lost", "nowhere.csv")):
        start(name, overrides={"data.roll_rule": "open_interest", "data.open_interest": file})
        with pytest.raises(MissingInputError, match=r"No stage makes these figures.*data\.open_interest=FILE"):
            pipeline.plan_contracts(lake, name)
    own = tmp_path / "own.toml"
    own.write_text('[ES]\nroll_rule = "open_interest"\n')
    monkeypatch.setenv("VPOC_INSTRUMENTS", str(own))
    start("instrument")
    with pytest.raises(MissingInputError, match=r"data\.open_interest; found none"):
        pipeline.plan_contracts(lake, "instrument")


def test_features_of_chosen_families_and_indices_can_be_named(start):
    chosen = "vwap, hurst_390m, vvix_chg_5d"
    extras = {"features.extras": "hurst, covariates", "ingest.covariates": "VVIX"}
    assert start(overrides={"features.names": chosen, **extras}) == "night"


def test_quarantined_rows_keep_line_and_reason(lake, start, delivery):
    path = prices(delivery)
    lines = path.read_text().splitlines()
    lines[99] = lines[99].rsplit(";", 4)[0] + ";0.1;0.1;0.1;5"
    path.write_text("\r\n".join(lines) + "\r\n", newline="")
    start()
    pipeline.run_until(lake, "night", "ingest", NOW)
    kept = pl.read_parquet(Lake(lake).path("quarantine/ES/ESH23.parquet"))
    assert kept["line"].to_list() == [100]
    assert kept["text"].to_list() == [lines[99]]


def test_every_error_is_typed_with_an_exit_code():
    import vpoc_ml.errors as module

    classes = [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, VpocError)]
    assert {error.exit_code for error in classes} == {1, 2, 3, 4, 5}
