"""Rows without a copy, and labels of one contract at a time."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from datetime import date

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from vpoc_ml.config import resolve
from vpoc_ml.dataset.assemble import BAR_COLUMNS, label_rows
from vpoc_ml.dataset.row_runs import MOST_RUNS, chunked_like, take_runs
from vpoc_ml.market.instruments import instrument


@given(st.lists(st.booleans(), max_size=40))
def test_runs_are_the_chosen_rows_in_their_order(chosen):
    frame = pl.DataFrame({"row": range(len(chosen))}, schema={"row": pl.Int64})
    mask = pl.Series(chosen, dtype=pl.Boolean)
    assert take_runs(frame, mask).equals(frame.filter(mask))


def test_a_run_shares_the_memory_of_the_table_and_many_runs_do_not():
    frame = pl.DataFrame({"row": np.arange(4.0 * MOST_RUNS)})
    values, rows = frame["row"].to_numpy(), pl.Series(np.arange(frame.height))
    assert np.shares_memory(values, take_runs(frame, rows.is_between(10, 900))["row"].to_numpy())
    assert not np.shares_memory(values, take_runs(frame, rows % 2 == 0)["row"].to_numpy())


def test_a_column_in_the_chunks_of_a_table_leaves_the_other_columns_where_they_are():
    parts = [pl.DataFrame({"row": np.arange(5.0)}), pl.DataFrame({"row": np.arange(7.0)})]
    frame = pl.concat(parts, rechunk=False)
    made = frame.with_columns(chunked_like(pl.Series("y", np.arange(12.0)), frame))
    assert made["y"].to_list() == list(range(12))
    chunks = zip(parts, made["row"].get_chunks(), strict=True)
    assert all(np.shares_memory(part["row"].to_numpy(), chunk.to_numpy()) for part, chunk in chunks)


class Watched(Mapping):
    """Frames that are made at each access; ``most`` counts how many of all mappings were alive at the same time."""

    def __init__(self, frames, alive):
        self.frames, self.alive, self.most, self.reads = frames, alive, 0, []

    def __getitem__(self, code):
        made = self.frames[code].clone()
        self.reads.append(code)
        self.alive.append(weakref.ref(made))
        self.most = max(self.most, sum(each() is not None for each in self.alive))
        return made

    def __contains__(self, code):
        return code in self.frames

    def __iter__(self):
        return iter(self.frames)

    def __len__(self):
        return len(self.frames)


def test_labelling_holds_bars_and_features_of_one_contract(make):
    days, codes = make.weekdays(date(2025, 3, 3), 24), ("ESH25", "ESM25", "ESU25", "ESZ25")
    own = {code: days[6 * number : 6 * number + 6] for number, code in enumerate(codes)}
    bars = {code: make.bars(code, days, seed=seed) for seed, code in enumerate(codes)}
    features = {code: make.features(frame) for code, frame in bars.items()}
    front = pl.DataFrame(
        {
            "contract": codes,
            "first_session": [own[code][0] for code in codes],
            "last_session": [own[code][-1] for code in codes],
        }
    )
    alive: list[weakref.ref[pl.DataFrame]] = []
    watched = Watched({code: frame.select(BAR_COLUMNS) for code, frame in bars.items()}, alive)
    watched_features = Watched(features, alive)
    es, config = instrument("ES"), resolve("nightly")
    rows = label_rows(watched, watched_features, front, es, config)
    assert rows.frame.equals(label_rows(bars, features, front, es, config).frame)
    assert watched.reads == list(codes)
    assert watched_features.reads == [codes[0], *codes], "the names of the features come from the first contract"
    assert max(watched.most, watched_features.most) <= 4, "one contract's two frames, while the next one's are read"
