"""Networks of sizes (see `searchspaces.elastic`) in a search: every size weighted, or a sampled one of each choice.

The Gumbel single path of them is in `gumbel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from torch import Tensor, nn
from torch.nn import functional as F

from searchspaces.elastic import Kept, MutableElastic, take_first_channels

from .stand_in import SampledStandIn, StandIn
from .supernet import INITIAL_SCALE

NAME = "sizes"


class MixedElastic(StandIn):
    """A network with a weight for each candidate of each choice: ``(N, 3, S, S)`` in, the network's outputs out.

    Attributes:
        alphas: by label ``(candidates,)``; a choice with one candidate has none.
    """

    name = NAME

    def __init__(self, declared: MutableElastic, partial_channels: int = 1) -> None:
        super().__init__(declared)
        self.candidates = declared.candidates
        self.network = declared.elastic(partial_channels)
        self.alphas = nn.ParameterDict(
            {
                label: nn.Parameter(INITIAL_SCALE * torch.randn(len(values)))
                for label, values in self.candidates.items()
                if len(values) > 1
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x, {label: self.kept(label) for label in self.candidates})

    def kept(self, label: str) -> Kept:
        """All candidates with their weights, softmax of alpha."""
        values = self.candidates[label]
        if label not in self.alphas:
            return [(values[0], 1.0)]
        return list(zip(values, F.softmax(self.alphas[label], dim=0).unbind(), strict=True))

    def named_arch_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The architecture parameters by name."""
        for label, alpha in self.alphas.items():
            yield f"alpha/{label}", alpha

    def arch_parameters(self) -> list[nn.Parameter]:
        """The architecture parameters, as NNI's modules list them."""
        return [parameter for _, parameter in self.named_arch_parameters()]

    # ---- the protocol of NNI's supernet modules

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Of every choice the candidate with the largest weight; ties go to the earlier one."""
        return {
            label: values[int(self.alphas[label].detach().argmax())] if label in self.alphas else values[0]
            for label, values in self.candidates.items()
        }

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        return {
            label: dict(zip(self.candidates[label], F.softmax(alpha, dim=0).tolist(), strict=True))
            for label, alpha in self.alphas.items()
        }

    @classmethod
    def mutate(
        cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: Mapping[str, Any]
    ) -> BaseSuperNetModule | None:
        """NNI's hook: turns a MutableElastic into this one, leaves other modules to the next hook."""
        if not isinstance(module, MutableElastic):
            return None
        return cls(module, mutate_kwargs.get("partial_channels", 1))


class SampledElastic(SampledStandIn):
    """A network that holds the weights of every candidate and runs the sampled ones."""

    def __init__(self, declared: MutableElastic) -> None:
        super().__init__(declared)
        self.network = declared.elastic()

    def forward(self, x: Tensor) -> Tensor:
        labels = self._declared[0].candidates
        return self.network(x, {label: [(self.path[label], 1.0)] for label in labels})

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """The chosen network with the weights that it has here."""
        network = self._declared[0].freeze(sample)
        take_first_channels(self._declared[0].weights_of(self.network), network)
        return network
