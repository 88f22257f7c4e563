"""The key of a champion: instrument, horizon and target."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from vpoc_ml.config import RunConfig
from vpoc_ml.errors import InvalidValueError

PATTERN = re.compile(r"(?P<instrument>\w+)-(?P<horizon>close|[1-9]\d*[ms])-(?P<target>[a-z_]+)")


@dataclass(frozen=True, order=True)
class ModelKey:
    """Models are compared, promoted and scored within one key. Its text form is ``ES-1m-rank``.

    ``instrument`` is the root symbol, ``horizon`` the label's horizon such as ``1m``, ``target`` the kind of target.
    """

    instrument: str
    horizon: str
    target: str

    def __str__(self) -> str:
        return f"{self.instrument}-{self.horizon}-{self.target}"

    @classmethod
    def of(cls, config: RunConfig) -> ModelKey:
        """Return the key of the models trained with a configuration."""
        return cls(config.data.instrument, str(config.dataset.horizon), config.dataset.target.kind)

    @classmethod
    def of_stored(cls, text: str | bytes) -> ModelKey:
        """Return the key in the text of a run's config.json.

        The file may be of an older release, with settings that no longer exist.

        Raises:
            ValueError: the text is not JSON, or a setting of the key is not valid.
        """
        config = json.loads(text)
        data, dataset = config.get("data", {}), config.get("dataset", {})
        known = {name: dataset[name] for name in ("horizon", "horizon_minutes", "target") if name in dataset}
        instrument = {"instrument": data["instrument"]} if "instrument" in data else {}
        return cls.of(RunConfig.model_validate({"data": instrument, "dataset": known}))

    @classmethod
    def parse(cls, text: str) -> ModelKey:
        """Return the key with the text form ``text``.

        Raises:
            InvalidValueError: the text has another form than ``ES-1m-rank``.
        """
        found = PATTERN.fullmatch(text)
        if found is None:
            raise InvalidValueError("the key of a model", text, "INSTRUMENT-HORIZON-TARGET, such as ES-1m-rank")
        return cls(found["instrument"], found["horizon"], found["target"])
