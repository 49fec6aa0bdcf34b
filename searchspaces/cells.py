"""Cells: small directed acyclic graphs that a network repeats, and what one may choose in them.

A cell has two input nodes (0 and 1, the outputs of the two cells before it), ``nodes`` intermediate nodes (2, 3, ...)
and an output, the concatenation of the intermediate nodes. An intermediate node is the sum of two operations, each on
another earlier node (Eq. 1 of the Auto-FAS paper after derivation).

The choices of a cell named ``normal``, for node 3:

    normal/input_3   two different earlier nodes, e.g. [0, 2]
    normal/op_3_0    the operation on the first of them, normal/op_3_1 on the second
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from nni.mutable import Categorical, CategoricalMultiple, label_scope
from nni.nas.nn.pytorch import MutableModule
from torch import Tensor, nn

from .operations import OPERATIONS, FactorizedReduce, ReLUConvNorm

EDGES_KEPT = 2  # incoming edges of a node after derivation
INPUTS = 2  # input nodes of a cell


def edges(nodes: int) -> list[tuple[int, int]]:
    """All (source, target) pairs of a cell in the order of the architecture parameters: 14 pairs for 4 nodes."""
    return [(source, target) for target in range(INPUTS, INPUTS + nodes) for source in range(target)]


def derived_cells(nodes: int, operations: int) -> int:
    """How many different cells can be derived: the product over the nodes of C(n, 2) * operations^2."""
    return math.prod(math.comb(n, EDGES_KEPT) * operations**EDGES_KEPT for n in range(INPUTS, INPUTS + nodes))


def chosen_edges(choices: Mapping[str, Any], name: str, nodes: int) -> Iterator[tuple[int, int, str]]:
    """The derived edges (source, target, operation) of the cell called ``name``."""
    for target in range(INPUTS, INPUTS + nodes):
        for slot, source in enumerate(choices[f"{name}/input_{target}"]):
            yield source, target, choices[f"{name}/op_{target}_{slot}"]


class CellShape(nn.Module):
    """What a cell is before its inside is chosen: widths, stride, and the 1x1 convolutions on its two inputs.

    Args:
        name: the name that cells of one type share, and the prefix of their labels.
        channels_before: channels of the output of the cell before the previous one.
        channels_previous: channels of the previous cell's output.
        channels: width inside the cell; its output has ``nodes * channels``.
        reduction: whether operations on the two inputs have stride 2.
        after_reduction: whether the previous cell halved the resolution, so that input 0 is twice the size of input 1.
        nodes: number of intermediate nodes.
        affine: whether the batch norms learn a scale and a shift.
    """

    def __init__(
        self,
        name: str,
        channels_before: int,
        channels_previous: int,
        channels: int,
        *,
        reduction: bool,
        after_reduction: bool,
        nodes: int,
        affine: bool = True,
    ) -> None:
        super().__init__()
        self.name, self.channels, self.nodes, self.reduction = name, channels, nodes, reduction
        align = FactorizedReduce if after_reduction else ReLUConvNorm
        self.preprocess_before = align(channels_before, channels, affine)
        self.preprocess_previous = ReLUConvNorm(channels_previous, channels, affine)

    def stride(self, source: int) -> int:
        """Stride of an operation that leaves the node ``source``."""
        return 2 if self.reduction and source < INPUTS else 1

    def run(
        self, wiring: Sequence[tuple[int, int, str]], operations: Iterable[nn.Module], before: Tensor, previous: Tensor
    ) -> Tensor:
        """The cell's output ``(N, nodes * C, H', W')`` with these derived edges and the operation on each."""
        states: list[Tensor] = [self.preprocess_before(before), self.preprocess_previous(previous)]
        pairs = list(zip(wiring, operations, strict=True))
        for target in range(INPUTS, INPUTS + self.nodes):
            terms = [operation(states[source]) for (source, to, _), operation in pairs if to == target]
            states.append(terms[0] + terms[1])
        return torch.cat(states[INPUTS:], dim=1)


class Cell(CellShape):
    """A cell whose edges and operations are chosen: ``(N, C0, H, W), (N, C1, H, W) -> (N, nodes * C, H', W')``."""

    def __init__(self, choices: Mapping[str, Any], name: str, *widths: int, **shape: Any) -> None:
        super().__init__(name, *widths, **shape)
        affine = shape.get("affine", True)
        self.wiring = list(chosen_edges(choices, name, self.nodes))
        self.operations = nn.ModuleList(
            OPERATIONS[operation](self.channels, self.stride(source), affine) for source, _, operation in self.wiring
        )

    def forward(self, before: Tensor, previous: Tensor) -> Tensor:
        return self.run(self.wiring, self.operations, before, previous)


class MutableCell(MutableModule):
    """A cell of a search space: NNI's declaration of what may be chosen. Cells of one name share their choices.

    The candidate ``none`` takes part in a differentiable search but is never chosen (Auto-FAS, section 2.1.2), so it
    is not among the values of ``op_*``. NNI's own ``Cell`` would allow it, and the same input twice; this one
    declares exactly the cells that can be derived.
    """

    def __init__(self, operations: Sequence[str], name: str, *widths: int, **shape: Any) -> None:
        super().__init__()
        self.name, self.candidates, self.widths, self.shape = name, tuple(operations), widths, shape
        values = [operation for operation in operations if operation != "none"]
        with label_scope(name):  # NNI's labels become name/input_2, name/op_2_0, ...
            for target in range(INPUTS, INPUTS + shape["nodes"]):
                sources = list(range(target))
                self.add_mutable(CategoricalMultiple(sources, n_chosen=EDGES_KEPT, label=f"input_{target}"))
                for slot in range(EDGES_KEPT):
                    self.add_mutable(Categorical(values, label=f"op_{target}_{slot}"))

    @classmethod
    def create_fixed_module(cls, sample: dict[str, Any], operations: Sequence[str], *args: Any, **kwargs: Any) -> Cell:
        """What NNI builds in place of this cell inside ``model_context(sample)``."""
        return Cell(sample, *args, **kwargs)

    def freeze(self, sample: dict[str, Any]) -> Cell:
        """The chosen cell, with new weights."""
        self.validate(sample)
        return Cell(sample, self.name, *self.widths, **self.shape)

    def forward(self, before: Tensor, previous: Tensor) -> Tensor:
        raise RuntimeError("A search space has no forward pass: freeze it with choices, or give it to a strategy.")
