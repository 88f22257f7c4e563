"""Several networks as one module: members with different seeds for each group of features."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from vpoc_ml.artifacts.feature_statistics import NetworkInputs
from vpoc_ml.config import ModelConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.features.registry import known_features
from vpoc_ml.models.calibrated import Calibrated
from vpoc_ml.models.stacking import ALL

MOMENTS = "moments"


class Group(nn.Module):
    """Networks of equal structure on the same columns. The first dimension of every weight is the network.

    ``net`` is a template. One batched call evaluates it with the weights of every network. Of its buffers only the
    moments of batch normalisation differ between networks.
    """

    columns: Tensor

    def __init__(self, nets: Sequence[nn.Module], columns: Sequence[int]) -> None:
        super().__init__()
        self.count = len(nets)
        self.net = copy.deepcopy(nets[0])
        self.register_buffer("columns", torch.tensor(columns))
        for name, parameter in self.net.named_parameters():
            parameter.data = torch.stack([net.get_parameter(name).detach() for net in nets])
        for name, buffer in self._moments().items():
            buffer.data = torch.stack([net.get_buffer(name) for net in nets])

    def _moments(self) -> dict[str, Tensor]:
        return {name: buffer for name, buffer in self.net.named_buffers() if name.split(".")[-1] == MOMENTS}

    def forward(self, guarded: Tensor, **options: bool) -> Tensor:
        """Return the networks' outputs [count, rows] or [count, rows, outputs] for guarded [rows, features]."""

        def one(own: dict[str, Tensor], rows: Tensor) -> Tensor:
            outputs: Tensor = functional_call(self.net, own, (rows,), options)
            return outputs

        own = {**dict(self.net.named_parameters()), **self._moments()}
        outputs: Tensor = vmap(one, in_dims=(0, None), randomness="different")(own, guarded[:, self.columns])
        return outputs

    def calibrate(self, guarded: Tensor) -> None:
        """Set the moments of batch normalisation, if there is any, to those of ``guarded`` [rows, features]."""
        moments = self._moments()
        if moments:
            measured = self.forward(guarded, measure=True)
            widths = [buffer.shape[-1] for buffer in moments.values()]
            for buffer, values in zip(moments.values(), torch.split(measured, widths, dim=-1), strict=True):
                buffer.copy_(values)


class Ensemble(Calibrated):
    """Groups of networks. Members are numbered across groups: the networks of the first group, then of the next.

    They share only the rows of a batch, so each member trains exactly as it would alone.
    """

    def __init__(self, groups: Mapping[str, Group]) -> None:
        super().__init__()
        self.names = tuple(groups)
        self.groups = nn.ModuleList(groups.values())
        self.members = sum(group.count for group in groups.values())

    def _groups(self) -> list[Group]:
        return cast("list[Group]", list(self.groups))

    @property
    def columns(self) -> dict[str, list[int]]:
        """Feature columns of each group."""
        return {name: group.columns.tolist() for name, group in zip(self.names, self._groups(), strict=True)}

    @property
    def counts(self) -> list[int]:
        """Networks of each group."""
        return [group.count for group in self._groups()]

    def forward(self, guarded: Tensor) -> Tensor:
        """Return the outputs of all members [members, rows] or [members, rows, outputs]."""
        return torch.cat([group(guarded) for group in self.groups])

    def calibrate(self, rows: Tensor) -> None:
        """Set the moments of batch normalisation, if there is any."""
        for group in self._groups():
            group.calibrate(rows)

    def owners(self) -> list[Tensor]:
        """Return the member of each parameter: one tensor per parameter that broadcasts to its shape."""
        owners: list[Tensor] = []
        first = 0
        for group in self._groups():
            mine = torch.arange(first, first + group.count)
            owners += [mine.view(-1, *[1] * (parameter.dim() - 1)) for parameter in group.parameters()]
            first += group.count
        return owners

    def decays(self) -> list[bool]:
        """Return which parameters are matrices in a single network. Weight decay applies to these."""
        return [parameter.dim() > 2 for parameter in self.parameters()]


def seeded(build: Callable[[], nn.Module], count: int) -> list[nn.Module]:
    """Build ``count`` networks. Network k uses torch's current seed plus k, so the first equals a single network."""
    seed = torch.initial_seed()
    nets = []
    for member in range(count):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + member)
            nets.append(build())
    return nets


EVERY = "every group"
# Profile levels depend on volume, VIX is a volatility, and the time of day matters for all groups
GROUP_OF = {
    "price": "price",
    "volume": "volume",
    "levels": "volume",
    "volatility": "volatility",
    "vix": "volatility",
    "calendar": EVERY,
    "garch": "volatility",
    "har": "volatility",
    "hurst": "volatility",
    "wavelet": "volatility",
    "cointegration": "price",
    "fracdiff": "price",
    "alpha158": "price",
}


def group_columns(config: ModelConfig, statistics: NetworkInputs) -> dict[str, list[int]]:
    """Return the feature columns of each group of ``config.groups``; without groups, one group of all columns.

    A stored model holds its columns (``groups``), so it does not change when a family is assigned to another group.

    Raises:
        InvalidValueError: a group without features, or a feature of no known family.
    """
    if not config.groups:
        return {ALL: list(range(len(statistics.features)))}
    if statistics.groups is not None:
        return statistics.groups
    return {name: _columns(name, statistics.features) for name in config.groups}


def _columns(group: str, features: Sequence[str]) -> list[int]:
    if group == ALL:
        return list(range(len(features)))
    known = known_features()
    unknown = [name for name in features if name not in known]
    if unknown:
        expected = f"empty with features outside the registry, such as {unknown[0]}: their group is not known"
        raise InvalidValueError("model.groups", group, expected)
    groups = [GROUP_OF.get(known[name].family, EVERY) for name in features]
    if group not in groups:
        raise InvalidValueError("model.groups", group, f"groups of features.names: {', '.join(sorted(set(groups)))}")
    return [column for column, of in enumerate(groups) if of in (group, EVERY)]
