"""Supernets of which one path runs at a time: all weights are there, a sample says which of them take part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from numpy.random import RandomState
from torch import Tensor, nn

from searchspaces.autofem import MutablePyramid, MutableTree
from searchspaces.cells import Cell, CellShape, MutableCell, chosen_edges, edges
from searchspaces.elastic import MutableElastic
from searchspaces.errors import ConfigError
from searchspaces.operations import OPERATIONS
from searchspaces.pta import MutableBlock
from searchspaces.sampling import random_choices

from .elastic import SampledElastic
from .sampled_autofem import SampledPyramid, SampledTree
from .stand_in import SampledStandIn

Accepts = Callable[[Mapping[str, Any]], bool]
DRAWS = 1000  # random points before a search for one that is accepted is given up


class SampledCell(SampledStandIn):
    """A cell with the weights of every operation on every edge, of which the sampled ones run.

    ``(N, C0, H, W), (N, C1, H, W) -> (N, nodes * C, H', W')``. ``none`` is never derived, so it is never sampled.
    """

    def __init__(self, cell: MutableCell) -> None:
        super().__init__(cell)
        self.frame = CellShape(cell.name, *cell.widths, **cell.shape)
        self.weights = nn.ModuleDict()
        for source, target in edges(self.frame.nodes):
            for operation in cell.candidates:
                if operation != "none":
                    stride = self.frame.stride(source)
                    module = OPERATIONS[operation](self.frame.channels, stride, cell.shape.get("affine", True))
                    self.weights[f"{source}_{target}_{operation}"] = module

    def forward(self, before: Tensor, previous: Tensor) -> Tensor:
        wiring = list(chosen_edges(self.path, self.frame.name, self.frame.nodes))
        operations = [self.weights[f"{source}_{target}_{name}"] for source, target, name in wiring]
        return self.frame.run(wiring, operations, before, previous)

    def freeze(self, sample: dict[str, Any]) -> Cell:
        """The chosen cell with the weights that it has here."""
        cell = self._declared[0].freeze(sample)
        cell.load_state_dict(self.frame.state_dict(), strict=False)
        for (source, target, name), operation in zip(cell.wiring, cell.operations, strict=True):
            operation.load_state_dict(self.weights[f"{source}_{target}_{name}"].state_dict())
        return cell

    @classmethod
    def mutate(cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: Mapping[str, Any]) -> Any:
        """NNI's hook: cells, pyramids and trees become sampled ones, blocks that switch by themselves stay."""
        for declared, sampled in SAMPLED.items():
            if isinstance(module, declared):
                return sampled(module)
        if isinstance(module, MutableBlock):
            return None, True  # nothing to replace, and no later hook is asked
        return None


SAMPLED: dict[type, Any] = {
    MutableCell: SampledCell,
    MutablePyramid: SampledPyramid,
    MutableTree: SampledTree,
    MutableElastic: SampledElastic,
}


def run_path(supernet: nn.Module, choices: Mapping[str, Any]) -> None:
    """From now on, run the path of these choices; a whole sample of the space is needed."""
    memo = dict(choices)
    for module in supernet.modules():
        if isinstance(module, BaseSuperNetModule):
            module.resample(memo)
        elif isinstance(module, MutableBlock):
            module.set_choices(memo)


def accepted_choices(space: ModelSpace, random: RandomState, accepts: Accepts | None = None) -> dict[str, Any]:
    """The first of the random points that is accepted.

    Raises:
        ConfigError: if none of a thousand is.
    """
    for _ in range(DRAWS):
        choices = random_choices(space, random)
        if accepts is None or accepts(choices):
            return choices
    raise ConfigError(
        f"None of {DRAWS} random networks keeps the budget. Raise it, or use a search that needs no draws: darts."
    )
