"""Features computed in chunks are bit-identical to features of all bars at once."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.features.build import build_in_chunks

from .comparing import bits

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("rows", "skip"), [(1, 2_300), (7, 2_100), (83, 0), (1_000, 0), (1_000_000, 0), (40, 2_333)])
def test_chunks_of_any_size_give_the_features_of_all_bars(rows, skip, rough, compute, es):
    bars = rough.bars.head(2_500) if rows < 40 else rough.bars
    chunks = list(build_in_chunks(bars, rough.vix, es, rows=rows, skip=skip))
    found, expected = pl.concat(chunks), compute(bars, rough.vix)[skip:]
    assert [chunk.height for chunk in chunks[:-1]] == [rows] * (len(chunks) - 1)
    assert found.select("ts", "contract", "session").equals(expected.select("ts", "contract", "session"))
    assert np.array_equal(bits(found), bits(expected))


def test_a_chunk_size_below_one_is_rejected(rough, es):
    with pytest.raises(InvalidValueError, match="at least 1"):
        next(build_in_chunks(rough.bars, rough.vix, es, rows=0))
