"""The rows of an epoch: a permutation, and with a stride one row in so many, others in the next epoch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.loop.data import epoch_order


def numbers(count: int, seed: int, epoch: int, stride: int) -> list[int]:
    return epoch_order(count, seed, epoch, stride).tolist()


@given(count=st.integers(1, 200), stride=st.integers(1, 20), seed=st.integers(0, 99), epoch=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_rows_of_an_epoch_are_a_stride_apart_and_the_epochs_take_turns(count, stride, seed, epoch):
    found = numbers(count, seed, epoch, stride)
    assert len(found) == count // stride
    assert sorted(found) == list(range(epoch % stride, epoch % stride + len(found) * stride, stride))
    later = {row for turn in range(stride) for row in numbers(count, seed, epoch + turn, stride)}
    assert later == set(range(count // stride * stride))


def test_without_a_stride_an_epoch_is_the_permutation_of_its_seed():
    generator = torch.Generator().manual_seed(7 * 1_000_003 + 4)
    assert numbers(50, 7, 4, 1) == torch.randperm(50, generator=generator).tolist()
    assert numbers(50, 7, 4, 1) != numbers(50, 7, 5, 1)


@pytest.mark.slow
def test_a_stride_shortens_the_epochs(tiny, make_run):
    short = {"training__epochs": 3, "training__batch_size": 64, "model__hidden_dims": (8,)}
    result = train_run(make_run(tiny, **short, training__stride=10))
    assert (result.epochs, result.steps, result.rows) == (3, 3 * (280 // 64), 2800)
    result = train_run(make_run(tiny, "few", **short, training__stride=100))
    assert result.steps == 3, "28 rows are one step"
