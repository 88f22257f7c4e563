"""Stored models: weights in safetensors, everything else in JSON. Loading runs no pickled code.

Size and shapes of a stored model are checked before memory is allocated for it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from pydantic import JsonValue, ValidationError

from vpoc_ml.artifacts.feature_statistics import NetworkInputs
from vpoc_ml.artifacts.model_card import ModelCard, StoredModelCard
from vpoc_ml.config import ModelConfig
from vpoc_ml.dataset.scalers import Scaler, scaler_from_json
from vpoc_ml.dataset.targets import Target
from vpoc_ml.errors import CheckpointError, InputError, InvalidValueError
from vpoc_ml.lake.atomic import write_bytes, write_json
from vpoc_ml.models.build import build_model, stored_target
from vpoc_ml.models.distance import row_distances
from vpoc_ml.models.forecaster import Forecaster
from vpoc_ml.models.guard import GuardedNet
from vpoc_ml.models.own import PREFIX, OwnPart, from_arrays, to_arrays
from vpoc_ml.models.ridge import Ridge
from vpoc_ml.models.stacking import RIDGE, TREES
from vpoc_ml.models.trees import Trees

MAX_JSON_BYTES = 16 * 1024**2
MAX_WEIGHTS_BYTES = 2 * 1024**3
MAX_INPUTS = 100_000
TRAIN_AGAIN = "Train again."
_LENGTH = struct.Struct("<Q")  # a safetensors file begins with the length of its JSON header
Shapes = dict[str, tuple[int, ...]]


def require_at_most(path: Path, limit: int) -> int:
    """Return the size of ``path`` in bytes.

    Raises:
        CheckpointError: the file is missing or larger than ``limit`` bytes.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(path, "a model file", f"none: cannot read it ({error.strerror})") from error
    if size > limit:
        raise CheckpointError(path, f"at most {limit:,} bytes", f"{size:,}", TRAIN_AGAIN)
    return size


def stored_shapes(path: Path) -> Shapes:
    """Return name and shape of every tensor of a safetensors file. Only its header is read.

    Raises:
        CheckpointError: the file is missing, too large or truncated, or has no valid header.
    """
    size = require_at_most(path, MAX_WEIGHTS_BYTES)
    with path.open("rb") as stream:
        start = stream.read(_LENGTH.size)
        length = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else size
        if length > min(size - _LENGTH.size, MAX_JSON_BYTES):
            raise CheckpointError(path, f"a header within {size:,} bytes", f"{length:,}", TRAIN_AGAIN)
        header = stream.read(length)
    try:
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        expected = _LENGTH.size + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        shapes = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise CheckpointError(path, "a safetensors header", f"something else ({error})") from error
    if expected != size:
        raise CheckpointError(path, f"{expected:,} bytes by its header", f"{size:,}", TRAIN_AGAIN)
    return shapes


def require_same_shapes(path: Path, config: ModelConfig, statistics: NetworkInputs, stored: Shapes) -> None:
    """Compare the network that ``config`` and ``statistics`` describe with the tensors of a weights' file.

    The network is built on torch's meta device, without memory for its weights, so no dimension is too large.

    Raises:
        CheckpointError: they differ; the error names the first different tensor.
    """
    layers, inputs = len(config.hidden_dims), len(statistics.features)
    if layers > len(stored) or inputs > MAX_INPUTS:
        raise CheckpointError(
            path, f"at most {len(stored)} layers and {MAX_INPUTS:,} inputs", f"{layers:,} and {inputs:,}"
        )
    with torch.device("meta"):
        named = build_model(config, statistics).state_dict()
    described = {name: tuple(tensor.shape) for name, tensor in named.items()}
    for name in sorted(described.keys() | stored.keys()):
        if described.get(name) != stored.get(name):
            found = f"{described.get(name)} in the network it names"
            raise CheckpointError(path, f"tensor {name} of shape {stored.get(name)}", found)


FORMAT = "vpoc-ml-model/1"
BATCH_ROWS = 65_536
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class LoadedModel:
    """A stored model, ready to predict.

    ``target`` None is the rank target. ``scaler`` None means that the guard alone scales the features. ``trees``,
    ``ridge``, ``own`` and ``weights`` [parts] belong to blends, stacks and groups, see ``Forecaster``.
    """

    model_card: ModelCard
    net: GuardedNet
    target: Target | None = None
    scaler: Scaler | None = None
    trees: Trees | None = None
    weights: npt.NDArray[np.float64] | None = None
    ridge: Ridge | None = None
    own: Mapping[str, OwnPart] = field(default_factory=dict)

    @property
    def features(self) -> tuple[str, ...]:
        """Feature columns in model order."""
        return self.model_card.features

    @property
    def zero_rank(self) -> float:
        """Score at which the model expects an unchanged price."""
        return self.model_card.zero_rank

    @property
    def part_zero_ranks(self) -> dict[str, float]:
        """Score of an unchanged price of each part, in the order of ``parts``; empty for a single part."""
        return {part.name: part.zero_rank for part in self.model_card.parts or ()}

    def predict(self, raw: Floats) -> npt.NDArray[np.float64]:
        """Return the score of each row in rank units, float64 [n].

        Args:
            raw: unscaled features [n, f] in the order of ``features``; NaN and infinities are allowed.

        Raises:
            InputError: another number of columns.
        """
        return self.mixed(self.parts(raw))

    def mixed(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the score of each row [n] from the scores of the parts [parts, n]."""
        return self._forecaster.mixed(parts)

    def distances(self, raw: Floats) -> npt.NDArray[np.float64]:
        """Return the distance of each row from the training rows [n]; see ``row_distances``. Arguments as ``predict``.

        Raises:
            InputError: another number of columns.
        """
        self._require_columns(raw)
        with torch.inference_mode():
            return row_distances(self._guarded(raw).numpy())

    def parts(self, raw: Floats) -> npt.NDArray[np.float64]:
        """Return the score of each part, float64 [parts, n]; arguments and errors are those of ``predict``."""
        self._require_columns(raw)
        forecaster = self._forecaster
        out = np.empty((len(forecaster.names), len(raw)), dtype=np.float64)
        with torch.inference_mode():
            for start in range(0, len(raw), BATCH_ROWS):
                guarded = self._guarded(raw[start : start + BATCH_ROWS])
                out[:, start : start + BATCH_ROWS] = forecaster.parts(guarded)
        return out

    def _guarded(self, raw: Floats) -> torch.Tensor:
        rows = np.array(raw, dtype=np.float64)
        scaled = rows if self.scaler is None else self.scaler.apply(rows)
        guarded: torch.Tensor = self.net.guard(torch.from_numpy(scaled))
        return guarded

    def _require_columns(self, raw: Floats) -> None:
        if raw.ndim != 2 or raw.shape[1] != len(self.features):
            raise InputError(
                f"Expected {len(self.features)} feature columns in the order of the model"
                f" ({', '.join(self.features[:3])}, ...); was an array of shape {raw.shape}."
            )

    @property
    def _forecaster(self) -> Forecaster:
        if self.net.training:
            self.net.eval()
        body, slope = self.net.body, self.model_card.slope
        return Forecaster(body, self.target, self.trees, self.weights, self.ridge, slope, self.own)


def save_model(
    folder: Path,
    name: str,
    net: GuardedNet,
    model_card: ModelCard,
    trees: Trees | None = None,
    ridge: Ridge | None = None,
    own: Mapping[str, OwnPart] | None = None,
) -> Path:
    """Write ``name.safetensors`` and ``name.json`` into ``folder``; return the path of the JSON file.

    LightGBM's text and own learners are stored beside the weights, as bytes, and ridge as a tensor [features + 1]. The
    JSON file is written last. It holds the SHA-256 of the weights file and of its own content.
    """
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in net.state_dict().items()}
    if trees is not None:
        tensors[TREES] = torch.frombuffer(bytearray(trees.text.encode()), dtype=torch.uint8)
    if ridge is not None:
        tensors[RIDGE] = torch.from_numpy(ridge.values)
    tensors |= {key: torch.from_numpy(values.copy()) for key, values in to_arrays(own or {}).items()}
    weights = safetensors.torch.save(tensors)
    content = model_card.to_json() | {
        "format": FORMAT,
        "weights": f"{name}.safetensors",
        "weights_sha256": _sha256(weights),
    }
    content["sha256"] = _digest(content)
    write_bytes(folder / f"{name}.safetensors", weights)
    write_json(folder / f"{name}.json", content)
    return folder / f"{name}.json"


def load_model(path: Path) -> LoadedModel:
    """Load the model whose JSON file is ``path``; its weights lie beside it.

    Raises:
        CheckpointError: a file is missing, damaged, of another format, too large, or does not fit the network, or the
            plugin of an own learner is missing or predicts something else than when it was stored. Sizes are
            compared before any memory is allocated for the weights.
    """
    model_card = read_model_card(path)
    file = path.with_name(model_card.weights)
    shapes = stored_shapes(file)
    shapes.pop(TREES, None)
    for key in [each for each in shapes if each.startswith(PREFIX)]:
        del shapes[key]
    inputs = model_card.network_inputs()
    linear = (len(inputs.features) + 1,)
    if shapes.pop(RIDGE, linear) != linear:
        raise CheckpointError(path, f"tensor {RIDGE} of shape {linear}", "another")
    try:
        require_same_shapes(path, model_card.model, inputs, shapes)
        tensors = _read_weights(file, model_card.weights_sha256)
        stored, values = tensors.pop(TREES, None), tensors.pop(RIDGE, None)
        arrays = {key: tensors.pop(key).numpy() for key in list(tensors) if key.startswith(PREFIX)}
        trees = None if stored is None else Trees(bytes(stored.numpy()).decode())
        ridge = None if values is None else Ridge(values.double().numpy())
        net = build_model(model_card.model, inputs)
        net.load_state_dict(tensors, strict=True)
        target = stored_target(inputs)
        scaler = None if model_card.scaler is None else scaler_from_json(model_card.scaler)
    except (RuntimeError, ValidationError, InvalidValueError) as error:
        raise CheckpointError(path, "weights of the network it names", f"others ({error})") from error
    weights = None if model_card.parts is None else np.array([part.weight for part in model_card.parts])
    own = from_arrays(path, [part.name for part in model_card.parts or ()], arrays)
    expected = Forecaster(net.body, trees=trees, ridge=ridge, own=own).names
    found = expected[:1] if model_card.parts is None else tuple(part.name for part in model_card.parts)
    if found != expected:
        raise CheckpointError(path, f"the parts {', '.join(expected)}", ", ".join(found))
    return LoadedModel(model_card, net.eval(), target, scaler, trees, weights, ridge, own)


def read_model_card(path: Path) -> StoredModelCard:
    """Read the description of a model, without its weights.

    Raises:
        CheckpointError: the file is missing, damaged or of another format.
    """
    require_at_most(path, MAX_JSON_BYTES)
    try:
        meta = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, "JSON", f"something else ({error})", TRAIN_AGAIN) from error
    found = meta.get("format") if isinstance(meta, dict) else None
    if found != FORMAT:
        raise CheckpointError(path, f"format {FORMAT}", repr(found), "Use a version that reads it.")
    if _digest({key: value for key, value in meta.items() if key != "sha256"}) != meta.get("sha256"):
        raise CheckpointError(path, "the content its own SHA-256 names", "another: it was changed", TRAIN_AGAIN)
    try:
        return StoredModelCard.model_validate(meta)
    except ValidationError as error:
        raise CheckpointError(path, "the description of a model", str(error)) from error


def _read_weights(path: Path, expected: str) -> dict[str, torch.Tensor]:
    data = _read(path)
    if _sha256(data) != expected:
        raise CheckpointError(path, f"SHA-256 {expected}", _sha256(data), TRAIN_AGAIN)
    tensors: dict[str, torch.Tensor] = safetensors.torch.load(data)
    return tensors


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(path, "a model file", f"none: cannot read it ({error.strerror})") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest(content: Mapping[str, JsonValue]) -> str:
    return _sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
