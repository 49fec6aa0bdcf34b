"""Auto-FAS (Yu et al., ICASSP 2020): cells for face anti-spoofing, from a 108x108 picture to a 14x14 map.

The paper fixes the cell (7 nodes, 6 operations), the picture, the map and the two cell types. It leaves open where
the reductions are, the widths and the number of cells; `OPEN_CHOICES` lists what we chose and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor, nn

from .cells import EDGES_KEPT, INPUTS, MutableCell, chosen_edges, derived_cells, edges
from .errors import ConfigError
from .registry import OpenChoice, register_space

OPERATION_NAMES = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5")
CELL_NAMES = {"N": "normal", "R": "reduce"}

OPEN_CHOICES = [
    OpenChoice(
        "layout",
        "RNRNRN",
        "Three reductions are needed for 108 -> 54 -> 27 -> 14; this is the simplest layout whose random genotypes "
        "reach the 0.27 M parameters and the 0.53 G MACs of Table 4 together.",
    ),
    OpenChoice(
        "channels",
        48,
        "Constant, no doubling at reductions: the ratio of MACs to parameters in Table 4 rules doubling out, and 48 "
        "fits both numbers with six cells.",
    ),
    OpenChoice("stem_multiplier", 3, "The stem of DARTS: a 3x3 convolution of stride 1 to three times the width."),
    OpenChoice("head", "1x1 convolution", "One logit for each position of the map, as DeepPixBiS does."),
    OpenChoice("separable convolution", "applied twice", "The sep_conv of DARTS, which the paper builds on."),
]


@register_space("autofas", open_choices=OPEN_CHOICES)
class AutoFas(ModelSpace):
    """The Auto-FAS search space: ``(N, 3, image_size, image_size) -> (N, 1, map, map)`` logits, positive for live.

    Args:
        channels: width of every cell, constant (no doubling at reductions). Even.
        layout: one letter a cell, N for normal and R for reduction.
        stem_multiplier: the stem's width in multiples of ``channels``.
        image_size: side of the picture in pixels; 108 gives the paper's 14x14 map.
        nodes: intermediate nodes of a cell.

    Raises:
        ConfigError: if the options cannot make a network.
    """

    operations = OPERATION_NAMES

    def __init__(
        self,
        channels: int = 48,
        layout: str = "RNRNRN",
        stem_multiplier: int = 3,
        image_size: int = 108,
        nodes: int = 4,
    ) -> None:
        super().__init__()
        _check(channels, layout, stem_multiplier, image_size, nodes)
        self.channels, self.nodes, self.layout, self.image_size = channels, nodes, layout, image_size
        width = stem_multiplier * channels
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        before = previous = width
        self.cells = nn.ModuleList()
        for index, letter in enumerate(layout):
            self.cells.append(
                MutableCell(
                    self.operations,
                    CELL_NAMES[letter],
                    before,
                    previous,
                    channels,
                    reduction=letter == "R",
                    after_reduction=index > 0 and layout[index - 1] == "R",
                    nodes=nodes,
                )
            )
            before, previous = previous, nodes * channels
        self.head = nn.Conv2d(previous, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        before = previous = self.stem(x)
        for cell in self.cells:
            before, previous = previous, cell(before, previous)
        return self.head(previous)

    @property
    def input_size(self) -> tuple[int, int, int]:
        return (3, self.image_size, self.image_size)

    @property
    def cell_names(self) -> list[str]:
        """Names of the cell types that the layout uses, normal first."""
        return [name for letter, name in CELL_NAMES.items() if letter in self.layout]

    def sizes(self) -> dict[str, int]:
        """Three ways to count the space (the paper prints "2 x 6^14"), for all cell types together.

        ``alpha_entries``: architecture parameters. ``relaxed``: choices of one operation for every edge.
        ``derived``: different networks that a search can return.
        """
        types, pairs = len(self.cell_names), len(edges(self.nodes))
        return {
            "alpha_entries": types * pairs * len(self.operations),
            "relaxed": len(self.operations) ** (types * pairs),
            "derived": derived_cells(self.nodes, len(self.operations) - 1) ** types,
        }

    def canonical(self, choices: Mapping[str, Any]) -> dict[str, Any]:
        """The same cells with the inputs of every node in ascending order: equal networks get equal choices."""
        result = dict(choices)
        for cell in self.cell_names:
            for node in range(INPUTS, INPUTS + self.nodes):
                sources = choices[f"{cell}/input_{node}"]
                operations = [choices[f"{cell}/op_{node}_{slot}"] for slot in range(EDGES_KEPT)]
                ordered = sorted(zip(sources, operations, strict=True))
                result[f"{cell}/input_{node}"] = [source for source, _ in ordered]
                for slot, (_, operation) in enumerate(ordered):
                    result[f"{cell}/op_{node}_{slot}"] = operation
        return result

    def graph(self, choices: dict[str, Any]) -> nx.MultiDiGraph:
        """The chosen cells as one graph.

        Nodes are ``"normal/c_{k-2}"``, ``"normal/2"``, ``"normal/out"`` with attributes ``cell``, ``kind`` (input,
        node, output) and ``label``; edges have ``operation`` (None for the concatenation) and ``stride``.
        """
        graph = nx.MultiDiGraph()
        for cell in self.cell_names:
            names = ["c_{k-2}", "c_{k-1}", *(str(n) for n in range(INPUTS, INPUTS + self.nodes))]
            for index, name in enumerate(names):
                graph.add_node(f"{cell}/{name}", cell=cell, kind="input" if index < INPUTS else "node", label=name)
            graph.add_node(f"{cell}/out", cell=cell, kind="output", label="c_{k}")
            for source, target, operation in chosen_edges(choices, cell, self.nodes):
                stride = 2 if cell == "reduce" and source < INPUTS else 1
                ends = (f"{cell}/{names[source]}", f"{cell}/{names[target]}")
                graph.add_edge(*ends, operation=operation, stride=stride)
            for name in names[INPUTS:]:
                graph.add_edge(f"{cell}/{name}", f"{cell}/out", operation=None, stride=1)
        return graph


def map_size(image_size: int, layout: str) -> int:
    """Side of the output map of a layout: every reduction halves and rounds up."""
    for _ in range(layout.count("R")):
        image_size = -(-image_size // 2)
    return image_size


def _check(channels: int, layout: str, stem_multiplier: int, image_size: int, nodes: int) -> None:
    if not layout or set(layout) - set(CELL_NAMES):
        raise ConfigError(f"layout {layout!r} of autofas: write one letter a cell, N (normal) or R (reduction).")
    if len(layout) > 100:
        raise ConfigError(f"layout of autofas has {len(layout)} cells; 100 at most.")
    if not 2 <= channels <= 4096 or channels % 2:
        raise ConfigError(f"channels {channels} of autofas: an even number from 2 to 4096 is needed.")
    if not 1 <= stem_multiplier <= 16 or not 1 <= nodes <= 16:
        raise ConfigError("stem_multiplier and nodes of autofas must be at least 1 and at most 16.")
    if image_size > 4096 or map_size(image_size, layout) < 2:
        smallest = 2 ** layout.count("R") + 1
        raise ConfigError(
            f"image_size {image_size} of autofas does not fit its layout {layout!r}: "
            f"choose {smallest} to 4096 pixels; the paper's picture has 108."
        )
