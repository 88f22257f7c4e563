"""What a search varies: settings of the model and of training, each with a range or a list of choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vpoc_ml.config import RunConfig, change, parse_override, setting_keys
from vpoc_ml.errors import InvalidValueError

if TYPE_CHECKING:
    from optuna.trial import Trial

SEARCHED = ("model", "training")
# The best of many seeds is luck. Trials run without fallback presets, so that unstable settings are recorded
FIXED = ("training.seed", "machine.fallback")
FORM = "key=low..high, key=low..high log, or key=a|b|c, such as training.learning_rate=1e-4..1e-2 log"

# What is searched unless something else is named: enough to move a small net, few enough for 30 trials.
DEFAULT_SPACE = (
    "training.learning_rate=5e-4..2e-2 log",
    "training.weight_decay=1e-4..1e-1 log",
    "training.batch_size=256|1024|4096",
    "training.ema_decay=0.0|0.99|0.999",
    "model.hidden_dims=16|32,32|64,64|64,64,64",
    "model.dropout=0.0..0.3",
)


@dataclass(frozen=True)
class Dimension:
    """One setting to vary: ``choices``, or a range from ``low`` to ``high``, uniform or (``log``) in its logarithm."""

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: Trial) -> Any:
        """Return the trial's value of this setting."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        if self.integer:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def ends(self) -> tuple[Any, ...]:
        """Return the choices, or both ends of the range, as settings take them."""
        return self.choices or tuple(int(end) if self.integer else end for end in (self.low, self.high))

    def own(self, config: RunConfig) -> Any:
        """Return the value that ``config`` has, as this dimension writes it; None if it lies outside."""
        section, name = self.key.split(".")
        value = getattr(getattr(config, section), name)
        if self.choices:
            texts = [_text(choice) for choice in self.choices]
            return self.choices[texts.index(_text(value))] if _text(value) in texts else None
        return value if self.low <= value <= self.high else None

    def to_text(self) -> str:
        """Return it as the command line takes it; ``parse_dimension`` reads it."""
        if self.choices:
            return f"{self.key}={'|'.join(map(_text, self.choices))}"
        low, high = self.ends()
        return f"{self.key}={low}..{high}{' log' if self.log else ''}"


def parse_space(texts: Sequence[str], config: RunConfig) -> tuple[Dimension, ...]:
    """Read the dimensions of a search and try the ends of each on ``config``.

    Args:
        texts: such as ``training.learning_rate=1e-4..1e-2 log`` or ``model.hidden_dims=32,32|64,64``.
        config: settings that the search starts from.

    Raises:
        InvalidValueError: nothing to vary, a setting named twice, one of another section than model and training,
            the seed, a range of a setting that is no number, or a value that the setting does not allow.
        UnknownKeyError: no such setting.
    """
    space = tuple(parse_dimension(text, config) for text in texts)
    keys = [each.key for each in space]
    if not keys or len(set(keys)) < len(keys):
        raise InvalidValueError("the space of a search", keys, "one or more settings, each named once")
    return space


def parse_dimension(text: str, config: RunConfig) -> Dimension:
    """Read one dimension, as ``parse_space`` does."""
    key, separator, values = (part.strip() for part in text.partition("="))
    if not separator or not values:
        raise InvalidValueError("what a search varies", text, f"of the form {FORM}")
    if key.split(".")[0] not in SEARCHED or key in FIXED:
        expected = "a setting of model or training other than the seed: data and split stay fixed"
        raise InvalidValueError("what a search varies", key, expected)
    if key not in setting_keys():
        change(config, {key: None})  # raises, with the settings that are probably meant
    if ".." in values:
        made = _range(key, values, config)
    else:
        made = Dimension(key, choices=tuple(parse_override(f"x={each.strip()}")[1] for each in values.split("|")))
    for value in made.ends():
        change(config, {key: value})
    return made


def _range(key: str, values: str, config: RunConfig) -> Dimension:
    section, name = key.split(".")
    now = getattr(getattr(config, section), name)
    if isinstance(now, bool) or not isinstance(now, (int, float)):
        raise InvalidValueError(key, values, "choices, a|b|c: a range is for settings that are one number")
    integer = isinstance(now, int)
    log = values.endswith(" log")
    ends = values.removesuffix(" log").split("..")
    try:
        low, high = (float(end) for end in ends)
    except ValueError as error:
        raise InvalidValueError(key, values, "two numbers, low..high") from error
    if integer and not (low.is_integer() and high.is_integer()):
        raise InvalidValueError(key, values, "two whole numbers, low..high")
    if not low < high or (log and low <= 0):
        raise InvalidValueError(key, values, "low..high with low below high, and above 0 where it ends in log")
    return Dimension(key, low, high, log, integer)


def _text(value: Any) -> str:
    """Return a value as the command line takes it: ``(32, 32)`` is ``32,32``."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def overrides(params: Mapping[str, Any]) -> list[str]:
    """Return the settings of a trial as ``-o`` takes them."""
    return [f"{key}={_text(value)}" for key, value in params.items()]
