"""RunConfig: presets, overrides, hashes, the trigger form's fields."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from vpoc_ml import config
from vpoc_ml.config import renamed
from vpoc_ml.config.schema import changed_settings, every_setting, field_of, shown
from vpoc_ml.errors import InvalidValueError, UnknownKeyError, UnknownPresetError


@pytest.mark.parametrize("name", config.PRESETS)
def test_every_preset_round_trips_through_json(name):
    assert config.RunConfig.model_validate_json(config.preset(name).to_json()) == config.preset(name)
    assert config.preset(name).preset == name


def test_top5_is_the_published_reference_run():
    run = config.top5()
    assert run.features.names == config.TOP5_FEATURES
    assert (run.model.kind, run.model.hidden_dims) == ("reference_mlp", (16, 8))
    training = run.training
    assert (training.batch_size, training.learning_rate, training.huber_delta) == (16, 1e-4, 0.1)
    assert (training.warmup_steps, training.gradient_clip, training.epochs) == (1000, 1.0, 3)


def test_ensemble_has_a_group_for_each_kind_of_feature_and_trees():
    model = config.ensemble().model
    assert (model.groups, model.blend) == (("price", "volume", "volatility"), "lightgbm")
    assert model.members > 1
    assert config.ensemble().training == config.nightly().training


def test_groups_differ():
    with pytest.raises(InvalidValueError, match="groups that differ"):
        config.resolve("nightly", {"model.groups": "price,price"})


def test_steps_at_rolls_are_stated_in_one_way():
    assert config.resolve("nightly", {"data.rolls": "rolls.csv"}).data.adjusted is False
    assert config.resolve("nightly", {"data.adjusted": "true"}).data.adjusted is True
    with pytest.raises(InvalidValueError, match=r"data\.adjusted.*false where data\.rolls names a file"):
        config.resolve("nightly", {"data.rolls": "rolls.csv", "data.adjusted": True})


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(UnknownPresetError, match=r"nightly, smoke, top5, .*; was 'nightyl'"):
        config.resolve("nightyl")


def test_unknown_key_suggests_the_setting_meant():
    with pytest.raises(UnknownKeyError, match=r"Did you mean training\.learning_rate"):
        config.resolve("nightly", {"learning_rate": 1})
    with pytest.raises(UnknownKeyError, match=r"training\.learning_rate"):
        config.resolve("nightly", {"training.learning_rat": 1})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training.epochs", 0, "greater than or equal to 1"),
        ("training.epochs", "many", "a valid integer"),
        ("dataset.train_share", 1.5, "less than 1"),
        ("profile.value_area", 0.049, "greater than or equal to 0.05"),
        ("machine.device", "tpu", "'auto', 'cpu', 'cuda' or 'rocm'"),
        ("dataset.validation_share", 0.4, "below 0.4, what train_share leaves"),
        ("model.hidden_dims", "32, 0", "widths of at least 1"),
        ("model.hidden_dims", [], "one or more widths"),
        ("features.names", "vwap, rv_30, vwap", "names that differ"),
        ("features.pair", "ES", "another instrument than data.instrument"),
    ],
)
def test_impossible_value_says_what_was_expected(key, value, expected):
    with pytest.raises(InvalidValueError, match=expected) as caught:
        config.resolve("nightly", {key: value})
    assert caught.value.key == key


def test_override_changes_only_its_setting_and_its_section_hash():
    base, changed = config.nightly(), config.resolve("nightly", {"training.learning_rate": 1e-4})
    assert changed.training.learning_rate == 1e-4
    assert changed.digest() != base.digest()
    assert changed.digest("training") != base.digest("training")
    assert changed.digest("profile", "dataset") == base.digest("profile", "dataset")


def test_names_may_be_given_as_text():
    assert config.resolve("nightly", {"features.names": "vwap, rv_30"}).features.names == ("vwap", "rv_30")


def test_config_is_frozen_and_refuses_unknown_fields():
    with pytest.raises(ValidationError):
        config.nightly().training.epochs = 3
    with pytest.raises(ValidationError):
        config.RunConfig.model_validate_json('{"preset":"nightly","trainning":{}}')


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("training.epochs=3", ("training.epochs", 3)), ("model.kind=residual", ("model.kind", "residual"))],
)
def test_parse_override(text, parsed):
    assert config.parse_override(text) == parsed


def test_parse_override_without_equals_sign():
    with pytest.raises(InvalidValueError, match="key=value"):
        config.parse_override("training.epochs")


def test_form_has_every_setting_with_help_section_and_limits():
    fields = config.form_fields()
    assert list(fields) == ["preset", *config.setting_keys()]
    for name, field in fields.items():
        assert field["description"], name
        assert field["section"], name
    rate = fields["training.learning_rate"]
    assert rate["type"] == ["null", "string", "number"]
    assert (rate["exclusiveMinimum"], rate["maximum"], rate["section"]) == (0, 10, "Training")
    assert fields["machine.device"]["enum"] == [None, "auto", "cpu", "cuda", "rocm"]


def test_form_draws_no_number_widget_and_one_line_for_every_number_and_list():
    """Airflow takes the first type that is not null, and a text line for several types only beside examples."""
    for name, field in config.form_fields().items():
        types = [kind for kind in field["type"] if kind != "null"] if isinstance(field["type"], list) else []
        assert types[:1] != ["number"], name
        assert types[:1] != ["integer"], name
        assert len(types) < 2 or (types[0] == "string" and isinstance(field["examples"], list)), name


def test_help_states_limits_and_the_values_of_the_presets():
    fields = config.form_fields()
    assert fields["training.learning_rate"]["description"].endswith(
        "A valid number greater than 0 and less than or equal to 10. Empty: as the preset says (nightly: 0.004;"
        " top5: 0.0001; conservative: 5e-05; medium: 8e-05; ambitious: 0.0002; others as nightly)."
    )
    assert fields["dataset.horizon"]["description"].endswith("(nightly: 1m; others as nightly).")
    assert "(nightly: 32, 32; smoke: 16; top5: 16, 8;" in fields["model.hidden_dims"]["description"]
    assert fields["training.epochs"]["examples"] == ["12", "2", "3", "50", "100"]
    for name, field in fields.items():
        assert name == "preset" or "Empty: as the preset says (nightly: " in field["description"], name


@pytest.mark.parametrize(
    ("key", "given", "number"),
    [
        ("training.learning_rate", "1e-4", 1e-4),
        ("training.learning_rate", "3e-4", 3e-4),
        ("training.learning_rate", "1E-3", 1e-3),
        ("training.learning_rate", ".0005", 5e-4),
        ("training.learning_rate", " 5. ", 5.0),
        ("training.learning_rate", "+0.25", 0.25),
        ("training.learning_rate", 1, 1.0),
        ("training.epochs", "1_000", 1000),
        ("training.epochs", "1e3", 1000),
        ("training.epochs", "3.0", 3),
        ("training.epochs", 3.0, 3),
        ("training.seed", "2147483647", 2**31 - 1),
        ("promotion.champion_margin", "-1", -1.0),
        ("promotion.champion_margin", "-2e-3", -0.002),
        ("evaluation.round_turn_cost", "2.5", 2.5),
        ("evaluation.round_turn_cost", None, None),
        ("model.hidden_dims", "64, 32", (64, 32)),
        ("model.hidden_dims", "1e2", (100,)),
    ],
)
def test_number_typed_as_text_is_the_number(key, given, number):
    section, name = key.split(".")
    found = getattr(getattr(config.resolve("nightly", {key: given}), section), name)
    assert found == number
    assert type(found) is type(number)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training.learning_rate", "-1", "a valid number greater than 0 and less than or equal to 10"),
        ("training.learning_rate", "99", "a valid number greater than 0 and less than or equal to 10"),
        ("training.learning_rate", "0,004", "with a decimal point and without thousands separators"),
        ("training.epochs", "1,000", "with a decimal point and without thousands separators"),
        ("training.epochs", "0", "a valid integer greater than or equal to 1 and less than or equal to 10000"),
        *[
            ("training.epochs", value, "a valid integer greater than or equal to 1")
            for value in ("1e-4", "1.5", "-1", "many", "", " ", "1 000", "0x10", "1__0", "\uff11", "1e999", "NaN", True,
                          [3], None, 10**400, float("nan"), float("inf"))
        ],
        ("ingest.min_price", float("inf"), "a valid number greater than 0"),
        ("ingest.min_price", "inf", "a valid number greater than 0"),
        ("dataset.train_share", "1", "a valid number greater than 0 and less than 1"),
        ("model.hidden_dims", "32, 16.5", "a valid integer"),
        ("model.hidden_dims", [True], "a valid integer"),
    ],
)  # fmt: skip
def test_text_that_is_no_number_within_the_limits_is_refused(key, value, expected):
    with pytest.raises(InvalidValueError) as caught:
        config.resolve("nightly", {key: value})
    assert caught.value.key == key
    assert expected in str(caught.value)


def test_all_wrong_values_are_named_at_once():
    wrong = {"training.epochs": "0", "machine.device": "tpu", "training.learning_rate": "1,5"}
    with pytest.raises(InvalidValueError) as caught:
        config.resolve("nightly", wrong | {"training.seed": "3"})
    for key, value in wrong.items():
        assert f"Expected {key} to be " in str(caught.value)
        assert f"; was {value!r}." in str(caught.value)
    assert "training.seed" not in str(caught.value)
    assert str(caught.value).endswith("Correct these values and start again.")


def test_settings_are_the_reviewed_ones():
    """Freezes the public knobs: a new setting is a decision, made here too."""
    assert len(config.setting_keys()) == len(set(config.setting_keys()))
    sections = {key.split(".")[0] for key in config.setting_keys()}
    assert sections == {
        "data", "ingest", "profile", "features", "dataset", "model", "training", "evaluation", "quality", "promotion",
            "scoring", "monitoring", "machine",
    }  # fmt: skip


def test_importing_the_configuration_stays_light():
    heavy = "{'numpy', 'pandas', 'polars', 'torch', 'great_expectations', 'mlflow'}"
    code = f"import sys, vpoc_ml.config; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_optional_families_are_off_by_default_and_cointegration_needs_its_pair():
    from vpoc_ml.features.registry import OPTIONAL_FAMILIES

    assert config.resolve("nightly").features.extras == ()
    every = config.resolve("nightly", {"features.extras": ", ".join(OPTIONAL_FAMILIES), "features.pair": "NQ"})
    assert every.features.extras == OPTIONAL_FAMILIES
    with pytest.raises(InvalidValueError, match=r"features\.pair.*another instrument"):
        config.resolve("nightly", {"features.extras": "cointegration"})
    with pytest.raises(InvalidValueError, match=r"features\.extras.*'garch', 'har'"):
        config.resolve("nightly", {"features.extras": "garch, magic"})


@pytest.mark.parametrize("given", [16, "16", [16]])
def test_a_lone_width_is_a_list_of_one(given):
    assert config.resolve("nightly", {"model.hidden_dims": given}).model.hidden_dims == (16,)


def test_change_keeps_what_the_configuration_had():
    own = config.resolve("top5", {"training.epochs": 9})
    changed = config.change(own, {"training.learning_rate": 1e-3})
    assert (changed.preset, changed.training.epochs, changed.training.learning_rate) == ("top5", 9, 1e-3)
    assert own.training.learning_rate == 1e-4


def test_empty_value_is_shown_as_its_setting_means_it():
    for section, name, field in every_setting():
        expected = "all" if "empty means all" in field.description else "none"
        assert shown(field, ()) == expected or name == "round_turn_cost", f"{section}.{name}"
    assert shown(field_of("evaluation", "round_turn_cost"), None) == "the instrument's own"
    assert shown(field_of("model", "hidden_dims"), (16, 8)) == "16, 8"
    assert shown(field_of("evaluation", "round_turn_cost"), 0.0) == "0.0"
    assert shown(field_of("promotion", "require_approval"), False) == "False"


def test_deeply_nested_override_is_refused():
    with pytest.raises(InvalidValueError, match=r"model.groups to be a value without deeply nested brackets"):
        config.parse_override("model.groups=" + "[" * 100_000)


def test_names_of_the_previous_release_work_with_a_warning():
    with pytest.warns(FutureWarning, match="settings: recipe is now called preset"):
        changed = renamed.current_names({"recipe": "smoke", "training.epochs": 3}, "settings")
    assert changed == {"preset": "smoke", "training.epochs": 3}
    with pytest.warns(FutureWarning):
        assert renamed.current_names({"recipe": "smoke", "preset": "top5"}, "conf") == {"preset": "top5"}
    with pytest.warns(FutureWarning, match="has no effect any more"):
        assert config.resolve("nightly", {"training.processes": 2}) == config.nightly()
    with pytest.warns(FutureWarning, match="engine=compiled is now auto"):
        assert config.resolve("nightly", {"training.engine": "compiled"}) == config.nightly()


AS_BEFORE = {"training.validations_per_epoch": 1, "training.keep_start": False, "model.learners": "net"}
"""What the preset nightly of the previous release did."""


def test_a_stored_configuration_of_the_previous_release_is_read():
    stored = config.resolve("smoke", {"training.epochs": 3}).to_json().replace('"preset":', '"recipe":')
    assert config.RunConfig.model_validate_json(stored) == config.resolve("smoke", {"training.epochs": 3})
    old = {"training": {"processes": 2, "ladder": False, "engine": "compiled"}, "ingest": {"stamp": "end"}}
    now = config.resolve("nightly", AS_BEFORE | {"machine.fallback": False, "ingest.label_side": "end"})
    assert config.RunConfig.model_validate(old) == now


def test_a_stored_label_of_the_previous_release_begins_at_the_close():
    old = config.RunConfig.model_validate({"dataset": {"horizon_minutes": 15}})
    assert (str(old.dataset.horizon), old.dataset.label) == ("15m", "close")
    with pytest.warns(FutureWarning, match="dataset.horizon_minutes is now called dataset.horizon"):
        now = config.resolve("nightly", {"dataset.horizon_minutes": 15})
    assert (str(now.dataset.horizon), now.dataset.label) == ("15m", "next_open")


@pytest.mark.parametrize(
    ("given", "text", "minutes"),
    [
        ("1m", "1m", 1),
        (240, "240m", 240),
        ("60", "60m", 60),
        ("1379m", "1379m", 1379),
        ("close", "close", 1380),
        (" 5s ", "5s", 5 * 1380),
        ("20s", "20s", 20 * 1380),
    ],
)
def test_a_horizon_is_minutes_the_close_or_sessions(given, text, minutes):
    run = config.resolve("nightly", {"dataset.horizon": given})
    assert (str(run.dataset.horizon), run.dataset.horizon.minutes) == (text, minutes)
    assert config.RunConfig.model_validate_json(run.to_json()) == run


@pytest.mark.parametrize("given", ["0m", "1380m", "21s", "5d", "-1m", "1.5m", "", "m", True, 0, None])
def test_an_impossible_horizon_names_the_limits(given):
    with pytest.raises(InvalidValueError, match=r"dataset.horizon"):
        config.resolve("nightly", {"dataset.horizon": given})


def test_the_longest_horizon_in_minutes_reaches_from_the_first_bar_of_a_session_to_its_last():
    with pytest.raises(InvalidValueError, match="1m to 1379m"):
        config.resolve("nightly", {"dataset.horizon": "1380m"})


@pytest.mark.parametrize(
    ("text", "kind", "own"),
    [
        ("multiclass", "multiclass", {"classes": 3}),
        ("multiclass(classes=5)", "multiclass", {"classes": 5}),
        (" multiclass ( 5 ) ", "multiclass", {"classes": 5}),
        ("quantiles(levels=0.1 0.5 0.9)", "quantiles", {"levels": (0.1, 0.5, 0.9)}),
        ("vol_scaled(bars=60)", "vol_scaled", {"bars": 60}),
    ],
)
def test_a_choice_and_its_parameter_are_one_value(text, kind, own):
    run = config.resolve("nightly", {"dataset.target": text})
    assert run.dataset.target.kind == kind
    assert {name: getattr(run.dataset.target, name) for name in own} == own
    assert config.RunConfig.model_validate_json(run.to_json()) == run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ranks", "'rank', 'rank_gauss'"),
        ("rank(classes=3)", "rank without parameters"),
        ("multiclass(levels=3)", r"multiclass\(classes=\.\.\.\)"),
        ("multiclass(classes=1)", "classes greater than or equal to 2"),
        ("multiclass(", "a kind such as"),
    ],
)
def test_an_impossible_choice_says_what_was_expected(text, expected):
    with pytest.raises(InvalidValueError, match=expected) as caught:
        config.resolve("nightly", {"dataset.target": text})
    assert (caught.value.key, caught.value.value) == ("dataset.target", text)


def test_parameters_of_the_previous_release_join_their_choice():
    with pytest.warns(FutureWarning, match="dataset.target_classes is now a parameter of dataset.target"):
        changed = config.resolve("nightly", {"dataset.target": "multiclass", "dataset.target_classes": 5})
    assert str(changed.dataset.target) == "multiclass(classes=5)"
    stored = {"dataset": {"target": "rank", "target_classes": 5}, "model": {"encoding": "piecewise_linear", "bins": 8}}
    assert config.RunConfig.model_validate(stored) == config.resolve(
        "nightly", AS_BEFORE | {"model.encoding": "piecewise_linear(8)"}
    )


def test_quality_levels_and_overrides_give_the_thresholds():
    standard, strict = config.nightly().quality, config.resolve("nightly", {"quality.level": "strict"}).quality
    assert standard.thresholds == config.QualityThresholds()
    assert strict.thresholds.row_count_fail < standard.thresholds.row_count_fail
    changed = config.resolve("nightly", {"quality.overrides": "row_count_fail=0.2, outlier_warn=0.5"}).quality
    assert (changed.thresholds.row_count_fail, changed.thresholds.outlier_warn) == (0.2, 0.5)
    assert changed.thresholds.row_count_warn == standard.thresholds.row_count_warn
    with pytest.warns(FutureWarning, match="quality.outlier_warn is now part of quality.overrides"):
        assert config.resolve("nightly", {"quality.outlier_warn": 0.5}).quality.thresholds.outlier_warn == 0.5
    assert config.RunConfig.model_validate({"quality": {"outlier_warn": 0.5}}).quality.thresholds.outlier_warn == 0.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("row_count_fail", "name=value"),
        ("rows=0.1", "one of row_count_warn"),
        ("row_count_fail=0.01", "at least row_count_warn, 0.02"),
        ("outlier_warn=2", "outlier_warn less than or equal to 1"),
    ],
)
def test_an_impossible_threshold_says_what_was_expected(text, expected):
    with pytest.raises(InvalidValueError, match=expected) as caught:
        config.resolve("nightly", {"quality.overrides": text})
    assert caught.value.key == "quality.overrides"


def test_presets_have_the_published_numbers():
    def of(name):
        run = config.preset(name)
        training = run.training
        return (
            run.model.hidden_dims, training.learning_rate, training.batch_size, run.model.dropout,
            training.weight_decay, training.warmup_steps, training.gradient_clip, training.patience, training.epochs,
            training.loss, run.data.fraction,
        )  # fmt: skip

    adaptive = "adaptive_huber"
    assert of("ambitious") == ((512, 256, 128, 64), 2e-4, 64, 0.15, 5e-5, 3000, 2.0, 30, 100, adaptive, 1.0)
    assert of("conservative") == ((64, 32, 16), 5e-5, 32, 0.3, 1e-3, 5000, 5.0, 25, 50, adaptive, 0.8)
    assert of("medium")[:4] == ((128, 64, 32), 8e-5, 48, 0.25)


def test_changes_against_the_preset_are_listed_in_the_order_of_the_form():
    own = {"training.epochs": 9, "data.contracts": ["ESH25", "ESM25"], "promotion.require_approval": False}
    assert changed_settings(config.resolve("top5", own)) == [
        "data.contracts: ESH25, ESM25 (top5: all)",
        "training.epochs: 9 (top5: 3)",
    ]
    assert changed_settings(config.resolve("ambitious")) == []
    assert changed_settings(config.RunConfig(preset="of an earlier version")) == []
