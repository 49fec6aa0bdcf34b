"""PC-DARTS (Xu et al., ICLR 2020) as an NNI strategy: operations see a part of the channels only."""

from __future__ import annotations

if __name__ == "__main__":  # before the heavy imports
    from facenas.pipeline import search_command

    raise SystemExit(search_command("pc_darts"))

from typing import Any

from torch import nn

from searchspaces.errors import ConfigError
from searchspaces.pta import MutableBlock

from .darts import DARTS


class PCDARTS(DARTS):
    """DARTS with partial channel connections and edge normalisation.

    Args:
        partial_channels: K; 1/K of the channels pass through the operations. The cells' width must be divisible by K.
        edge_normalisation: learn a weight for each edge (PC-DARTS Eq. 4), which steadies the choice of edges while
            the sampled channels vary. The Auto-FAS paper mentions the partial channels only.
        warmup_epochs: 12 of the 40 epochs of the Auto-FAS paper, the fraction of PC-DARTS' 15 of 50.
        options: see `DARTS`.
    """

    def __init__(
        self, *, partial_channels: int = 4, edge_normalisation: bool = True, warmup_epochs: int = 12, **options: Any
    ) -> None:
        super().__init__(warmup_epochs=warmup_epochs, **options)
        self.mixed_options = {"partial_channels": partial_channels, "edge_normalisation": edge_normalisation}

    def default_mutation_hooks(self) -> list[Any]:
        """Those of DARTS, and a clear refusal of blocks that have no channels to leave out."""

        def refuse(module: nn.Module, name: str, memo: dict[str, Any], kwargs: dict[str, Any]) -> None:
            if isinstance(module, MutableBlock):
                raise ConfigError(
                    "PC-DARTS needs cells, whose operations can see a part of the channels; this space chooses whole "
                    "branches. Use strategies.darts, strategies.gumbel or strategies.single_path."
                )

        return [refuse, *super().default_mutation_hooks()]
