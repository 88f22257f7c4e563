"""The key of a model: derived in one place, read back from its text."""

from __future__ import annotations

import json

import pytest

from vpoc_ml import config
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.registry.model_key import ModelKey


def test_key_is_instrument_horizon_and_target_of_the_configuration():
    resolved = config.resolve("nightly", {"data.instrument": "NQ", "dataset.horizon_minutes": 15})
    assert str(ModelKey.of(resolved)) == "NQ-15m-rank"


@pytest.mark.parametrize("key", [ModelKey("ES", "1m", "rank"), ModelKey("M2K", "240m", "rank_gauss")])
def test_text_of_a_key_reads_back(key):
    assert ModelKey.parse(str(key)) == key


@pytest.mark.parametrize("text", ["ES", "ES-1-rank", "ES-0m-rank", "ES-1m", "ES-1m-rank ", "es/1m/rank", ""])
def test_other_texts_are_refused_with_an_example(text):
    with pytest.raises(InvalidValueError, match="ES-1m-rank"):
        ModelKey.parse(text)


def test_stored_configuration_of_an_earlier_version_has_a_key_whatever_its_other_settings_are():
    assert ModelKey.of_stored('{"data": {"instrument": "NQ"}, "dataset": {"gone": 3}}') == ModelKey("NQ", "1m", "rank")
    assert ModelKey.of_stored(b'{"recipe": "nightly"}') == ModelKey("ES", "1m", "rank")
    stored = {"data": {"instrument": "ES"}, "dataset": {"horizon_minutes": 5, "target": "binary"}, "gone": {}}
    assert str(ModelKey.of_stored(json.dumps(stored))) == "ES-5m-binary"
