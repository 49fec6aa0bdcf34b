"""Gumbel single path (ASFD, Zhang et al. 2020, Eq. 4 and 5): of the candidates of a choice only one, sampled, runs.

    i* = argmax_k (gamma_k + g_k),  g_k ~ Gumbel(0, 1)        forward: x = O_i*(x_i*)
    d x / d gamma_k = L * O_i*(x_i*) * d softmax(gamma)_i* / d gamma_k      L: number of candidates

Only the sampled candidate is computed, so only it gives the architecture a signal and only its weights are trained.
The paper prints ``exp(gamma + g / tau)``; the temperature does not change an arg-max, so there is none here.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the heavy imports
    from facenas.pipeline import search_command

    raise SystemExit(search_command("gumbel"))

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from searchspaces.cells import MutableCell
from searchspaces.errors import ConfigError
from searchspaces.pta import run_branches

from .branches import MODES, MixedBlock
from .darts import DARTS


def gumbel_index(gamma: Tensor) -> int:
    """The sampled candidate: ``argmax (gamma + g)``, which is k with probability softmax(gamma)_k.

    Args:
        gamma: ``(L,)``. The noise comes from torch's generator.
    """
    noise = -torch.log(torch.empty_like(gamma).exponential_())
    return int((gamma.detach() + noise).argmax())


def straight_through_weight(gamma: Tensor, index: int) -> Tensor:
    """A factor that is 1 and has the gradient of Eq. 5: ``L * d softmax(gamma)_index / d gamma``, a scalar."""
    probability = F.softmax(gamma, dim=0)[index]
    return 1 + len(gamma) * (probability - probability.detach())


class GumbelBlock(MixedBlock):
    """A PTA block of which one sampled mode runs. The mode "both" is a candidate as the two branches are."""

    mode: str

    def forward(self, x: Tensor) -> Tensor:
        index = gumbel_index(self.alpha)
        self.mode = MODES[index]
        return straight_through_weight(self.alpha, index) * run_branches(self, x)


class GumbelSinglePath(DARTS):
    """Differentiable search in which one sampled candidate of every choice runs.

    The arguments are those of `DARTS`; the order is the first. Runs on spaces whose choices are branches (``pta``).
    """

    def __init__(self, **options: Any) -> None:
        if options.get("order", "first") != "first":
            raise ConfigError("The Gumbel single path has the first order only: a sampled step is not unrolled.")
        super().__init__(**options)

    def default_mutation_hooks(self) -> list[Any]:
        """Our block first, and a clear refusal of cells."""

        def sampled(module: nn.Module, name: str, memo: dict[str, Any], kwargs: dict[str, Any]) -> Any:
            if isinstance(module, MutableCell):
                raise ConfigError(
                    "The Gumbel single path runs on choices of branches (space pta), not on cells: "
                    "use strategies.darts, strategies.pc_darts or strategies.single_path."
                )
            return GumbelBlock.mutate(module, name, memo, kwargs)

        return [sampled, *super().default_mutation_hooks()]
