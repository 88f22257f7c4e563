"""Conventions of vendor files, one test each: read correctly, or refused with the name of the setting."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import (
    ContractCodeError,
    InvalidValueError,
    MissingInputError,
    QuarantineLimitError,
    UnreadableFileError,
)
from vpoc_ml.ingest.bars import BuiltBars, build_bars
from vpoc_ml.ingest.discover import Discovery, discover
from vpoc_ml.ingest.parsing.symbols import contract_in_name
from vpoc_ml.ingest.roll_inputs import read_open_interest
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument

from . import vendor_files as vendor

ES, ESH25 = instrument("ES"), parse_contract("ESH25")


def flat_bars(begin: datetime, minutes: int, price: float = 6000.0) -> pl.DataFrame:
    ts = [begin + timedelta(minutes=n) for n in range(minutes)]
    return pl.DataFrame(
        {"ts": ts, "open": price, "high": price + 0.5, "low": price - 0.25, "close": price + 0.25, "volume": 1500},
        schema_overrides={"ts": pl.Datetime("us", "UTC"), "volume": pl.Int64},
    )


@pytest.fixture(scope="module")
def week() -> pl.DataFrame:
    """Five full sessions: 2025-01-13..17."""
    begin = datetime(2025, 1, 12, 23, 0, tzinfo=UTC)
    return pl.concat(flat_bars(begin + timedelta(days=day), 1380) for day in range(5))


@pytest.fixture
def built(tmp_path: Path, flat_vix: pl.DataFrame) -> Callable[..., BuiltBars]:
    def build(**settings: object) -> BuiltBars:
        config = IngestConfig(**settings)
        found = discover(tmp_path, ES, config)
        return build_bars(found.contracts["ESH25"], ESH25, ES, flat_vix, config)

    return build


def put(folder: Path, name: str, lines: list[str], end: str = "\n") -> Path:
    path = folder / name
    path.write_text("".join(line + end for line in lines), newline="")
    return path


# ---------------------------------------------------------------- the minute that a timestamp means


def test_end_timestamps_read_as_start_are_refused_and_the_setting_helps(week, tmp_path: Path, built) -> None:
    late = week.with_columns(pl.col("ts") + pl.duration(minutes=1))
    vendor.VENDORS["kibot"].write(tmp_path, late)
    with pytest.raises(
        UnreadableFileError, match=r"the timestamps mark the end of a bar\. Set ingest\.label_side to end"
    ):
        built()
    rth = built(label_side="end").bars.filter(pl.col("rth"))
    first = rth.group_by("session").agg(pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last"))
    eastern = [pl.col(name).dt.convert_time_zone("America/New_York").dt.strftime("%H:%M") for name in ("first", "last")]
    assert set(first.select(eastern).rows()) == {("09:30", "15:59")}


def test_start_timestamps_read_as_end_are_refused(week, tmp_path: Path, built) -> None:
    early = week.with_columns(pl.col("ts") - pl.duration(minutes=1))
    vendor.VENDORS["ninjatrader"].write(tmp_path, early)
    with pytest.raises(
        UnreadableFileError, match=r"the timestamps mark the start of a bar\. Set ingest\.label_side to start"
    ):
        built()
    assert built(label_side="start").bars["ts"].equals(week["ts"])


@pytest.mark.parametrize("zone", ["America/Chicago", "UTC"])
def test_naive_timestamps_of_another_zone_are_refused_and_the_setting_helps(zone: str, week, tmp_path, built) -> None:
    written = week["ts"].dt.convert_time_zone(zone).dt.strftime("%Y-%m-%d %H:%M:%S")
    put(tmp_path, "ES_H25.txt", [f"{timestamp},6000,6000.5,5999.75,6000.25,10" for timestamp in written])
    with pytest.raises(UnreadableFileError, match=r"outside, but 0\.0% .* Set ingest\.timezone"):
        built()
    assert built(timezone=zone).bars["ts"].equals(week["ts"])


def test_local_timestamps_follow_daylight_saving_on_both_sides(tmp_path: Path, flat_vix) -> None:
    days = [date(2025, 3, 7), date(2025, 3, 10)]  # the Friday before and the Monday after the change
    lines = [f"{day} 09:{minute}:00,5700,5700,5700,5700,10" for day in days for minute in range(30, 60)]
    built = build_bars(put(tmp_path, "ESH25.txt", lines), ESH25, ES, flat_vix, IngestConfig())
    assert built.bars["rth"].all()
    hours = built.bars.group_by("session", maintain_order=True).agg(pl.col("ts").dt.hour().first())["ts"].to_list()
    assert hours == [14, 13]


def test_local_time_that_exists_twice_or_never_is_quarantined(tmp_path: Path, flat_vix) -> None:
    good = [f"2025-03-07 {hour:02d}:{minute:02d}:00,5700,5700,5700,5700,10" for hour in (9, 10) for minute in range(60)]
    never = "2025-03-09 02:30:00,5700,5700,5700,5700,10"
    built = build_bars(
        put(tmp_path, "ESH25.txt", [*good, never, good[0].replace("-07 09:00", "-10 09:00")]),
        ESH25, ES, flat_vix, IngestConfig(),
    )  # fmt: skip
    assert built.quarantine.select("line", "reason", "text").rows() == [(121, "unparsable", never)]


def test_sierra_text_without_a_zone_names_the_setting(week, tmp_path: Path) -> None:
    vendor.VENDORS["sierra"].write(tmp_path, week)
    with pytest.raises(UnreadableFileError, match=r"time zone is known.* Set ingest\.timezone"):
        discover(tmp_path, ES)
    with pytest.raises(InvalidValueError, match=r"ingest\.timezone to be a time zone"):
        discover(tmp_path, ES, IngestConfig(timezone="Chicago"))
    pair = IngestConfig(timezone="*.xyz=UTC, sierra_text=America/Chicago")
    assert list(discover(tmp_path, ES, pair).contracts) == ["ESH25"]


def test_merged_csv_with_another_session_rule_names_both_settings(tmp_path: Path, week, built) -> None:
    lines = vendor.merged(week)
    odd = [line.replace(",ETH", ",GLOBEX") for line in lines]
    odd[5] = odd[5].replace("GLOBEX", "RTH")
    put(tmp_path, "merged.csv", odd)
    with pytest.raises(UnreadableFileError, match=r"Set ingest\.timezone .* and ingest\.label_side"):
        discover(tmp_path, ES)
    assert built(timezone="UTC", label_side="end").bars["ts"].equals(week["ts"])


# ---------------------------------------------------------------- dates and numbers


def test_a_day_above_12_decides_the_date_order(tmp_path: Path, week, built) -> None:
    lines = vendor.kibot(week)
    swapped = [f"{line[3:5]}/{line[:2]}/{line[6:]}" for line in lines]
    put(tmp_path, "ESH25.txt", swapped)
    assert built().bars["ts"].equals(week["ts"])


def test_dates_that_fit_both_orders_need_the_setting(tmp_path: Path, built) -> None:
    bars = flat_bars(datetime(2025, 2, 3, 15, 0, tzinfo=UTC), 60)
    vendor.VENDORS["kibot"].write(tmp_path, bars)
    with pytest.raises(UnreadableFileError, match=r"Set ingest\.date_order to month_first or day_first"):
        discover(tmp_path, ES)
    assert built(date_order="month_first").bars["ts"].equals(bars["ts"])


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["plain", "bom"])
def test_line_ends_and_byte_order_mark_do_not_matter(end: str, bom: str, tmp_path: Path, week, built) -> None:
    lines = vendor.databento(week)
    put(tmp_path, "a.csv", [bom + lines[0], *lines[1:]], end)
    assert built().bars["ts"].equals(week["ts"])


def test_mixed_line_ends(tmp_path: Path, week, built) -> None:
    lines = vendor.ninjatrader(week)
    (tmp_path / "ES 03-25.txt").write_text("".join(x + ("\n", "\r\n")[n % 2] for n, x in enumerate(lines)), newline="")
    assert built().bars.height == week.height


def test_semicolons_where_commas_belong_are_no_vendors_format(tmp_path: Path, week) -> None:
    put(tmp_path, "ESH25.csv", [line.replace(",", ";") for line in vendor.databento(week)])
    with pytest.raises(MissingInputError, match="another known format"):
        discover(tmp_path, ES)


def test_thousands_separators_newest_first_and_footer(tmp_path: Path, week, built) -> None:
    path = vendor.VENDORS["barchart"].write(tmp_path, week)
    text = path.read_text()
    assert '"1,500"' in text
    assert text.splitlines()[1] > text.splitlines()[2]
    result = built()
    assert result.bars["ts"].equals(week["ts"])
    assert result.bars["volume"].unique().to_list() == [1500]
    assert result.quarantine.is_empty()
    assert "newest first" in result.notes[0]


def test_barchart_without_footer_has_no_zone(tmp_path: Path, week) -> None:
    put(tmp_path, "esh25.csv", vendor.barchart(week))
    with pytest.raises(UnreadableFileError, match=r"Set ingest\.timezone"):
        discover(tmp_path, ES)


def test_missing_volume_names_the_remedy(tmp_path: Path, week) -> None:
    lines = [line.rsplit(",", 1)[0] for line in vendor.tradingview(week)]
    put(tmp_path, "CME_MINI_ESH2025, 1.csv", lines)
    with pytest.raises(UnreadableFileError, match="Show the Volume indicator"):
        discover(tmp_path, ES)


def test_utf16_is_refused(tmp_path: Path, week) -> None:
    (tmp_path / "ES 03-25.txt").write_bytes("\n".join(vendor.ninjatrader(week)).encode("utf-16"))
    with pytest.raises(MissingInputError, match="UTF-16"):
        discover(tmp_path, ES)


# ---------------------------------------------------------------- series that are no contract


@pytest.mark.parametrize(
    "name",
    [
        "CME_MINI_ES1!, 1.csv",
        "ES_full_1min_continuous_UNadjusted.txt",
        "ES_full_1min_continuous_ratio_adjusted.txt",
        "ES_H25_absolute_adjusted.txt",
        "@ES.txt",
        "ES.c.0.csv",
    ],
)
def test_continuous_and_adjusted_series_are_refused_by_name(name: str) -> None:
    with pytest.raises(ContractCodeError, match="deliver the single contracts, unadjusted"):
        contract_in_name(name)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ES 03-25.Last.txt", "ESH25"),
        ("CME_MINI_ESH2025, 1.csv", "ESH25"),
        ("ESH25-CME.scid", "ESH25"),
        ("ESH25_FUT_CME.txt", "ESH25"),
        ("esh25_intraday-1min_historical-data-05-05-2026.csv", "ESH25"),
        ("ES_H25_1min.txt", "ESH25"),
        ("ESH5.csv.gz", "ESH25"),
        ("glbx ESH25 UNadjusted.csv", "ESH25"),
    ],
)
def test_contract_is_found_in_vendors_names(name: str, code: str) -> None:
    assert contract_in_name(name, near=date(2025, 1, 15)).code == code


def test_name_with_two_contracts_is_refused() -> None:
    with pytest.raises(ContractCodeError, match="it names ESH25, ESM25"):
        contract_in_name("spread ESH25 to ESM25.csv")


def test_ratio_adjusted_prices_are_refused_by_the_tick_grid(tmp_path: Path, week, built) -> None:
    adjusted = week.with_columns(pl.col("open", "high", "low", "close") * 0.99371)
    vendor.VENDORS["firstrate"].write(tmp_path, adjusted)
    with pytest.raises(UnreadableFileError, match=r"ratio-adjusted.*unadjusted"):
        built()


def test_calendar_spreads_are_set_apart_with_a_note(tmp_path: Path, week, built) -> None:
    spread = week.with_columns(pl.col("open", "high", "low", "close") - 5950)
    lines = vendor.databento(week)
    spreads = vendor.databento(spread, "ESH5-ESM5")[1:]
    both = [line for pair in zip(lines[1:], spreads, strict=True) for line in pair]
    put(tmp_path, "parent.csv", [lines[0], *both])
    found = discover(tmp_path, ES)
    assert list(found.contracts) == ["ESH25"]
    assert found.notes == (
        "parent.csv: calendar spreads set apart, never mixed with a contract: ESH5-ESM5 (6900 rows)",
    )
    result = built()
    assert result.bars["close"].unique().to_list() == [6000.25]
    assert result.rows_in == week.height


def test_calendar_spreads_inside_dbn_are_set_apart(tmp_path: Path, week, built) -> None:
    pytest.importorskip("databento")
    spread = week.with_columns(pl.col("open", "high", "low", "close") - 6050)
    (tmp_path / "parent.dbn").write_bytes(vendor.dbn_bytes(week, extra=[("ESH5-ESM5", 99, spread)]))
    assert "ESH5-ESM5 (6900 rows)" in discover(tmp_path, ES).notes[0]
    assert built().rows_in == week.height


def test_raw_databento_of_several_instruments_needs_symbols(tmp_path: Path, week) -> None:
    lines = vendor.databento_raw(week)
    put(tmp_path, "ESH5.csv", [*lines, lines[-1].replace(",5482,", ",5483,")])
    with pytest.raises(UnreadableFileError, match=r"2 numbered instruments.*map_symbols"):
        discover(tmp_path, ES)


def test_databento_bars_of_another_length_are_refused(tmp_path: Path, week) -> None:
    put(tmp_path, "ESH5.csv", [line.replace("Z,33,", "Z,34,") for line in vendor.databento(week)])
    with pytest.raises(UnreadableFileError, match="rtype 34"):
        discover(tmp_path, ES)


def test_one_digit_year_is_resolved_by_each_rows_date(tmp_path: Path, flat_vix) -> None:
    old = flat_bars(datetime(2015, 1, 15, 17, 0, tzinfo=UTC), 60, 2000.0)
    new = flat_bars(datetime(2025, 1, 15, 17, 0, tzinfo=UTC), 60)
    put(tmp_path, "decade.csv", [*vendor.databento(old), *vendor.databento(new)[1:]])
    found = discover(tmp_path, ES)
    assert list(found.contracts) == ["ESH15", "ESH25"]
    result = build_bars(found.contracts["ESH25"], ESH25, ES, flat_vix, IngestConfig())
    assert result.bars["ts"].equals(new["ts"])


# ---------------------------------------------------------------- ambiguity and missing packages


def test_file_that_fits_two_readers_names_them_and_the_setting(tmp_path: Path, week) -> None:
    lines = ["timestamp,open,high,low,close,volume", *vendor.firstrate(week)]
    put(tmp_path, "ESH25.csv", lines)
    with pytest.raises(UnreadableFileError, match=r"fits firstrate and merged\. Set ingest\.reader to one"):
        discover(tmp_path, ES)
    assert list(discover(tmp_path, ES, IngestConfig(reader="firstrate")).contracts) == ["ESH25"]
    pattern = discover(tmp_path, ES, IngestConfig(reader="*.csv=merged"))
    assert pattern.contracts["ESH25"][0].reader == "merged"
    with pytest.raises(InvalidValueError, match=r"ingest\.reader to be one of ninjatrader"):
        discover(tmp_path, ES, IngestConfig(reader="bloomberg"))


def test_unknown_columns_name_the_mapping(tmp_path: Path, week) -> None:
    put(tmp_path, "ESH25.csv", ["when,o,h,l,c,v", "1,2,3,4,5,6"])
    with pytest.raises(MissingInputError, match=r"Declare its columns in ingest\.mapping"):
        discover(tmp_path, ES)


def test_semicolons_name_the_mapping_too(tmp_path: Path, week) -> None:
    put(tmp_path, "ESH25.csv", ["when;o;h;l;c;v", "1;2;3;4;5;6"])
    with pytest.raises(MissingInputError, match=r"Declare its columns in ingest\.mapping"):
        discover(tmp_path, ES)


@pytest.mark.parametrize(
    ("old", "new", "lacks"),
    [
        ("volume=Vol", "volume=Amount", "amount"),
        ("separator=comma", "separator=tab", "when, o, h, l, c, vol"),
    ],
)
def test_a_column_that_the_file_lacks_is_named(old: str, new: str, lacks: str, tmp_path: Path) -> None:
    put(tmp_path, "ESH25.csv", ["When,O,H,L,C,Vol", "2025-03-03 15:30,2,3,1,2,6"])
    mapping = ("timestamp=When", "open=O", "high=H", "low=L", "close=C", "volume=Vol", "separator=comma")
    declared = tuple(entry.replace(old, new) for entry in mapping)
    with pytest.raises(MissingInputError, match=rf"Correct ingest\.mapping: the file lacks {lacks}; check names"):
        discover(tmp_path, ES, IngestConfig(mapping=declared))


@pytest.mark.parametrize(
    ("mapping", "match"),
    [
        (("stamp=When",), "open, high, low, close, volume is missing"),
        (("when", "open=O"), "role=column"),
        ((*vendor.GENERIC, "separator=space"), "a separator out of"),
    ],
)
def test_mapping_mistakes_are_explained(mapping: tuple[str, ...], match: str, tmp_path: Path, week) -> None:
    put(tmp_path, "export.csv", vendor.generic(week))
    with pytest.raises(InvalidValueError, match=match):
        discover(tmp_path, ES, IngestConfig(mapping=mapping))


def test_generic_file_without_zone_or_side_names_the_settings(tmp_path: Path, week) -> None:
    made = vendor.VENDORS["generic"]
    made.write(tmp_path, week)
    with pytest.raises(UnreadableFileError, match=r"Set ingest\.timezone"):
        discover(tmp_path, ES, IngestConfig(mapping=made.settings["mapping"]))
    with pytest.raises(UnreadableFileError, match=r"Set ingest\.label_side"):
        discover(tmp_path, ES, IngestConfig(mapping=made.settings["mapping"], timezone="America/Chicago"))


def test_parquet_without_a_mapping_names_the_setting(tmp_path: Path, week) -> None:
    vendor.write_parquet(tmp_path / "a.parquet", week)
    with pytest.raises(UnreadableFileError, match=r"Declare its columns in ingest\.mapping"):
        discover(tmp_path, ES)


def test_dbn_without_the_package_names_the_extra(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a.dbn").write_bytes(b"DBN\x03" + bytes(100))
    monkeypatch.setitem(__import__("sys").modules, "databento", None)
    with pytest.raises(MissingInputError, match=r"pip install 'vpoc-ml\[databento\]'"):
        discover(tmp_path, ES)


def test_lean_file_without_its_name_has_no_day(tmp_path: Path, week) -> None:
    path = vendor.write_lean(tmp_path, week)[0]
    import zipfile

    with zipfile.ZipFile(path) as archive:
        text = archive.read(archive.namelist()[0])
    path.unlink()
    for other in tmp_path.iterdir():
        other.unlink()
    (tmp_path / "renamed.csv").write_bytes(text + b"\n")
    with pytest.raises(UnreadableFileError, match="Keep the vendor's names"):
        discover(tmp_path, ES)


# ---------------------------------------------------------------- several deliveries of one contract


def found_two(folder: Path, one: pl.DataFrame, other: pl.DataFrame) -> Discovery:
    put(folder, "ES 03-25 a.txt", vendor.ninjatrader(one))
    put(folder, "ES 03-25 b.txt", vendor.ninjatrader(other))
    return discover(folder, ES)


def test_same_file_twice_counts_once(tmp_path: Path, week, flat_vix) -> None:
    sources = found_two(tmp_path, week, week).contracts["ESH25"]
    result = build_bars(sources, ESH25, ES, flat_vix, IngestConfig())
    assert (result.rows_in, result.bars.height, result.quarantine.height) == (6900, 6900, 0)
    assert "ES 03-25 b.txt is a copy of ES 03-25 a.txt and was read once" in result.notes


def test_overlapping_files_that_agree_count_each_bar_once(tmp_path: Path, week, flat_vix) -> None:
    sources = found_two(tmp_path, week.head(5000), week.tail(5000)).contracts["ESH25"]
    result = build_bars(sources, ESH25, ES, flat_vix, IngestConfig())
    assert result.rows_in == result.bars.height == 6900
    assert "3100 rows were delivered identically by several files and count once" in result.notes
    assert not any("out of order" in note for note in result.notes)


def test_files_that_conflict_are_refused_with_both_names_unless_set(tmp_path: Path, week, flat_vix) -> None:
    wrong = week.head(3000).with_columns(volume=pl.when(pl.int_range(pl.len()) == 7).then(9).otherwise("volume"))
    sources = found_two(tmp_path, week, wrong).contracts["ESH25"]
    with pytest.raises(UnreadableFileError, match=r"a\.txt, line 8: .* b\.txt, line 8: .*ingest\.conflicts=latest"):
        build_bars(sources, ESH25, ES, flat_vix, IngestConfig())
    result = build_bars(sources, ESH25, ES, flat_vix, IngestConfig(conflicts="latest"))
    assert result.bars["volume"].unique().to_list() == [1500]  # the file of the week has the latest bar
    assert any("1 minutes that differ between files" in note for note in result.notes)


def test_duplicate_inside_one_file_is_still_quarantined(tmp_path: Path, week, flat_vix) -> None:
    lines = vendor.ninjatrader(week)
    sources = found_two(tmp_path, week, week.head(100)).contracts["ESH25"]
    put(tmp_path, "ES 03-25 a.txt", [*lines[:10], lines[9], *lines[10:]])
    result = build_bars(sources, ESH25, ES, flat_vix, IngestConfig())
    assert result.quarantine.select("line", "reason", "file").rows() == [(11, "duplicate", "ES 03-25 a.txt")]
    assert result.rows_in == result.bars.height + 1


# ---------------------------------------------------------------- real files of another vendor


@pytest.mark.real
def test_real_lean_contract_of_december_2013(real_data: Path) -> None:
    vix = read_vix(real_data / "vix" / "vix-daily.csv")
    found = discover(real_data / "es_lean", ES)
    result = build_bars(found.contracts["ESZ13"], parse_contract("ESZ13"), ES, vix, IngestConfig())
    assert (result.rows_in, result.bars.height) == (16_673, 16_672)
    (bad,) = result.quarantine.rows(named=True)  # the vendor's ESH14 has one there too: 45 points below the market
    assert (bad["reason"], bad["low"], bad["close"]) == ("isolated bad print", 1767.25, 1810.25)
    full = result.bars.filter(pl.col("rth")).group_by("session").agg(pl.len(), pl.col("ts").min().dt.hour())
    assert full.filter(pl.col("len") >= 389)["ts"].unique().sort().to_list() == [13, 14], "UTC: summer and winter"


@pytest.mark.real
def test_real_lean_open_interest_is_read(real_data: Path) -> None:
    interest = read_open_interest(real_data / "es_lean" / "daily" / "es_openinterest.zip", ES)
    assert interest.filter(contract="ESH14", session=date(2013, 12, 20))["open_interest"].item() == 2_658_894


def test_quarantine_limit_still_counts_wrong_contracts(tmp_path: Path, week, flat_vix) -> None:
    path = put(tmp_path, "ES 12-24.txt", vendor.ninjatrader(week))
    with pytest.raises(QuarantineLimitError, match="outside exchange hours"):
        build_bars(path, parse_contract("ESZ24"), ES, flat_vix, IngestConfig())
