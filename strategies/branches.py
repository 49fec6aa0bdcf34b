"""The blocks of PTA in a differentiable search: every branch weighted.

With weights ``p`` of light, heavy and both, and both = mean, the mixture needs each branch once:

    p_light L(x) + p_heavy H(x) + p_both (L(x) + H(x)) / 2 = (p_light + p_both / 2) L(x) + (p_heavy + p_both / 2) H(x)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from torch import Tensor, nn
from torch.nn import functional as F

from searchspaces.pta import LETTERS, MutableBlock

from .stand_in import StandIn
from .supernet import INITIAL_SCALE

MODES = tuple(LETTERS)  # light, heavy, both: the order of the architecture parameters


class MixedBlock(StandIn):
    """A PTA block with a weight for each of its modes: ``(N, C, H, W)`` both ways.

    Attributes:
        alpha: ``(3,)``, of light, heavy and both.
    """

    def __init__(self, block: MutableBlock) -> None:
        super().__init__(block)
        self.label, self.light, self.heavy = block.label, block.light, block.heavy
        self.alpha = nn.Parameter(INITIAL_SCALE * torch.randn(len(MODES)))

    def forward(self, x: Tensor) -> Tensor:
        light, heavy, both = self.probabilities()
        return (light + both / 2) * self.light(x) + (heavy + both / 2) * self.heavy(x)

    def probabilities(self) -> Tensor:
        """Weights of the modes, ``(3,)``: softmax of alpha."""
        return F.softmax(self.alpha, dim=0)

    def named_arch_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The architecture parameters by name."""
        yield f"alpha/{self.label}", self.alpha

    def arch_parameters(self) -> list[nn.Parameter]:
        """The architecture parameters, as NNI's modules list them."""
        return [self.alpha]

    # ---- the protocol of NNI's supernet modules

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """The mode with the largest weight; ties go to the earlier one."""
        return {self.label: MODES[int(self.alpha.detach().argmax())]}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        return {self.label: dict(zip(MODES, self.probabilities().tolist(), strict=True))}

    @classmethod
    def mutate(
        cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: Mapping[str, Any]
    ) -> BaseSuperNetModule | None:
        """NNI's hook: turns a MutableBlock into this one, leaves other modules to the next hook."""
        return cls(module) if isinstance(module, MutableBlock) else None
