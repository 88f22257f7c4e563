"""Which member of an ensemble each parameter belongs to: members share a batch and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Members:
    """Reductions over, and spreading to, the flat parameters [P] of each of ``count`` members.

    ``owner`` [P] is the member of each parameter. A plain network is one member, and costs nothing extra.
    """

    def __init__(self, owner: Tensor) -> None:
        self.owner = owner
        self.count = int(owner.max()) + 1
        lengths = torch.bincount(owner, minlength=self.count)
        self.positions = owner.new_zeros(self.count, int(lengths.max()))
        self.filled = torch.zeros_like(self.positions, dtype=torch.bool)
        for member in range(self.count):
            mine = (owner == member).nonzero().squeeze(-1)
            self.positions[member, : len(mine)] = mine
            self.filled[member, : len(mine)] = True

    @classmethod
    def of(cls, net: nn.Module) -> Members:
        """Return the members of a network: what its ``owners()`` says of each parameter tensor, one tensor each.

        Without that method each parameter's first dimension counts the ``members`` of the network, 1 by default.
        """
        parameters = list(net.parameters())
        count = int(getattr(net, "members", 1))
        owners: Callable[[], list[Tensor]] | None = getattr(net, "owners", None)
        if owners is not None:
            parts = [torch.as_tensor(owner).expand(p.shape) for owner, p in zip(owners(), parameters, strict=True)]
        else:
            parts = [
                torch.arange(count).repeat_interleave(p.numel() // count) if count > 1 else torch.zeros(p.numel())
                for p in parameters
            ]
        return cls(torch.cat([part.reshape(-1).long() for part in parts]).to(parameters[0].device))

    def norm(self, flat: Tensor) -> Tensor:
        """Return the norm of each member's part of ``flat`` [P], [members]. A member's NaN stays its own."""
        if self.count == 1:
            norm: Tensor = torch.linalg.vector_norm(flat, dim=0, keepdim=True)
            return norm
        return torch.where(self.filled, flat.square()[self.positions], 0.0).sum(1).sqrt()

    def all(self, flags: Tensor) -> Tensor:
        """Return whether all of each member's ``flags`` [P] are true, shape [members]."""
        return (flags[self.positions] | ~self.filled).all(1)

    def spread(self, values: Tensor) -> Tensor:
        """Return each parameter's member's value, [P]; of a single member the value itself, [1]."""
        return values if self.count == 1 else values[self.owner]
