"""ASFD (Zhang et al., 2020): a face detector around AutoFEM, as three spaces.

``autofem-fpn`` searches the pyramid and ``autofem-cpm`` the trees, each in a detector without the other, as the paper
does (section 4.2); ``asfd`` has both in a row, so that a found pyramid and found trees
become one network (`searchspaces.cascade`).

A detector takes pictures of any size. Its heads look at two sets of maps, the backbone's own and the enhanced ones
(the dual shot of DSFD); the first are for training alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import torch
from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor, nn

from .architecture import Architecture
from .autofem import (
    CPM_OPERATIONS,
    FPN,
    FPN_OPERATIONS,
    MutablePyramid,
    MutableTree,
    PyramidShape,
    add_pyramid,
    add_tree,
    paths_of,
    pyramid_edges,
    tree_count,
)
from .backbones import MOBILENETS, build_backbone, load_backbone
from .errors import ConfigError
from .registry import OpenChoice, register_space

TOP_LEVEL = 7  # stride 128
BACKBONE_LEVELS = (2, 3, 4, 5)
LOGITS, OFFSETS = 2, 4

OPEN_CHOICES = [
    OpenChoice("chain", "product", "Eq. 2 multiplies; read as chains, in which T_i and B_i are used once each."),
    OpenChoice("fusion of leaves", "ReLU, 1x1 convolution, batch norm", "Their number varies; the heads need W maps."),
    OpenChoice("F_c", "3x3 convolution, batch norm", "With it the members D1 to D5 have the paper's size."),
    OpenChoice("top-down, bottom-up", "bilinear, 3x3 max pool of stride 2", "The paper says max pooling, no kernel."),
    OpenChoice("levels 6 and 7", "depthwise-separable 3x3, stride 2, to W channels", "Not described; fits the sizes."),
    OpenChoice(
        "heads",
        "depthwise-separable 3x3 layers, then a 3x3 predictor, shared by all levels and both shots, no batch norm",
        "Full convolutions alone would cost more than the paper's whole networks; statistics of twelve different maps "
        "would not fit one batch norm.",
    ),
    OpenChoice("half_nodes", False, "Table 1 gives D0 to D2 half a layer: here the first half of each tree's nodes."),
]


class Separable(nn.Sequential):
    """Depthwise 3x3 and pointwise convolution, with ``tail`` after them."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, tail: Sequence[nn.Module], bias: bool) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_in, 3, stride, 1, groups=channels_in, bias=False),
            nn.Conv2d(channels_in, channels_out, 1, bias=bias),
            *tail,
        )


class Head(nn.Module):
    """Two towers over every map, one set of weights for all: ``[(N, W, H_i, W_i)] -> (N, A, 6)``.

    A is the number of positions of all maps, one anchor each; the last axis has two logits (background, face) and the
    four offsets of the box.

    Args:
        layers: of each tower, before its predictor.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.logits, self.offsets = self._tower(channels, layers, LOGITS), self._tower(channels, layers, OFFSETS)

    @staticmethod
    def _tower(channels: int, layers: int, outputs: int) -> nn.Sequential:
        hidden: list[Any] = [Separable(channels, channels, 1, [nn.ReLU()], bias=True) for _ in range(layers)]
        for depthwise, pointwise, _ in hidden:  # without norms the maps must keep their size
            nn.init.kaiming_normal_(depthwise.weight, nonlinearity="linear")
            nn.init.kaiming_normal_(pointwise.weight, nonlinearity="relu")
        predictor = nn.Conv2d(channels, outputs, 3, padding=1)
        nn.init.normal_(predictor.weight, std=0.01)
        nn.init.zeros_(predictor.bias)  # type: ignore[arg-type]
        return nn.Sequential(*hidden, predictor)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        rows = []
        for x in maps:
            both = torch.cat([self.logits(x), self.offsets(x)], dim=1)
            rows.append(both.permute(0, 2, 3, 1).flatten(1, 2))
        return torch.cat(rows, dim=1)


class Detector(ModelSpace):
    """A detector: ``(N, 3, H, W)`` in [-1, 1] to ``(N, 2, A, 6)`` in training, first and second shot, and to the
    second shot alone, ``(N, A, 6)``, in evaluation.

    The defaults are those of the paper's search (section 4.1): ResNet-50, width 256, two-layer heads, six nodes.

    Args:
        backbone: one of `backbones.BACKBONES`.
        width: W, channels of AutoFEM and of the heads.
        nodes: of each tree.
        fem_layers: pyramids in a row; the trees come once, after them.
        half_nodes: build only the first half of each tree's nodes.
        head_layers: of each tower.
        lowest_level: 2 for maps from stride 4 on, 3 from stride 8 on.
        chain: how the chains of the pyramid join a level, ``product`` or ``sum``.
        output: what a tree concatenates, ``leaves`` or ``all`` nodes.
        image_size: side of a training picture; the network takes any size.

    Raises:
        ConfigError: if the options cannot make a network.
    """

    task = "detection"
    has_fpn = has_cpm = False

    def __init__(
        self,
        backbone: str = "resnet50",
        width: int = 256,
        nodes: int = 6,
        fem_layers: int = 1,
        half_nodes: bool = False,
        head_layers: int = 2,
        lowest_level: int = 2,
        chain: str = "product",
        output: str = "leaves",
        image_size: int = 640,
    ) -> None:
        super().__init__()
        _check(width, nodes, fem_layers, head_layers, lowest_level, chain, output, image_size)
        self.channels, self.nodes, self.chain, self.output = width, nodes, chain, output
        self.used_nodes = nodes // 2 if half_nodes else nodes
        self.levels, self.image_size = list(range(lowest_level, TOP_LEVEL + 1)), image_size
        self.backbone = build_backbone(backbone)
        channels = self.backbone.channels[lowest_level - BACKBONE_LEVELS[0] :]
        self.extra = nn.ModuleList(
            Separable(before, width, 2, [nn.BatchNorm2d(width), nn.ReLU()], bias=False)
            for before in (channels[-1], width)
        )
        channels = [*channels, width, width]
        # the first shot sees the backbone's maps, brought to the heads' width
        self.original = nn.ModuleList(_lateral(each, width) for each in channels)
        self.laterals = nn.ModuleList(_lateral(each, width) for each in channels)
        pyramids = fem_layers if self.has_fpn else 0
        self.pyramids = nn.ModuleList(MutablePyramid(width, self.levels, chain) for _ in range(pyramids))
        self.trees = nn.ModuleList(
            MutableTree(f"cpm_{level}", width, nodes, self.used_nodes, output)
            for level in (self.levels if self.has_cpm else [])
        )
        self.head = Head(width, head_layers)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone(x)[self.levels[0] - BACKBONE_LEVELS[0] :]
        for extra in self.extra:
            maps.append(extra(maps[-1]))
        second = self.head(self.enhance([lateral(each) for lateral, each in zip(self.laterals, maps, strict=True)]))
        if not self.training:
            return second
        first = self.head([lateral(each) for lateral, each in zip(self.original, maps, strict=True)])
        return torch.stack([first, second], dim=1)

    def enhance(self, maps: list[Tensor]) -> list[Tensor]:
        """AutoFEM: the pyramids in a row, then each level's tree."""
        for pyramid in self.pyramids:
            maps = pyramid(maps)
        if self.trees:
            maps = [tree(each) for tree, each in zip(self.trees, maps, strict=True)]
        return maps

    def load_backbone(self, path: str) -> None:
        """ImageNet weights for the backbone, see `backbones.load_backbone`."""
        load_backbone(self.backbone, path)

    @property
    def input_size(self) -> tuple[int, int, int]:
        return (3, self.image_size, self.image_size)

    def sizes(self) -> dict[str, int]:
        """How many pyramids, trees and whole modules there are to find."""
        pyramids = len(FPN_OPERATIONS) ** len(pyramid_edges(self.levels)) if self.has_fpn else 1
        tree = tree_count(self.nodes, len(CPM_OPERATIONS)) if self.has_cpm else 1
        return {"pyramids": pyramids, "trees_of_a_level": tree, "derived": pyramids * tree ** len(self.levels)}

    def graph(self, choices: Mapping[str, Any]) -> nx.MultiDiGraph:
        """The chosen AutoFEM as one graph: see `autofem.add_pyramid` and `autofem.add_tree`."""
        graph = nx.MultiDiGraph(levels=self.levels, chain=self.chain, output=self.output)
        if self.has_fpn:
            add_pyramid(graph, choices, self.levels, self.chain)
        if self.has_cpm:
            for level in self.levels:
                add_tree(graph, choices, level, self.nodes, self.used_nodes, self.output)
        return graph

    def path_weights(self) -> dict[str, dict[str, float]]:
        """Trained weights of the pyramid's paths, ``fpn/beta_5`` by path; of several pyramids those of the first."""
        if not len(self.pyramids) or not isinstance(self.pyramids[0], PyramidShape):
            return {}
        first = self.pyramids[0]
        return {
            f"{FPN}/beta_{level}": dict(
                zip(paths_of(self.levels, level), first.shares(level).detach().tolist(), strict=True)
            )
            for level in self.levels
        }


@register_space("autofem-fpn", open_choices=OPEN_CHOICES)
class AutoFemFpn(Detector):
    """A detector whose pyramid is searched; it has no trees."""

    has_fpn = True


@register_space("autofem-cpm", open_choices=OPEN_CHOICES)
class AutoFemCpm(Detector):
    """A detector whose trees are searched, one a level; it has no pyramid."""

    has_cpm = True


@register_space("asfd", open_choices=OPEN_CHOICES)
class Asfd(Detector):
    """A detector with a pyramid and trees, both searched or both given.

    Args:
        fpn: whether it has a pyramid.
        cpm: whether it has trees. With neither it is the detector without AutoFEM.
        options: see `Detector`.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        width: int = 256,
        nodes: int = 6,
        fem_layers: int = 1,
        half_nodes: bool = False,
        head_layers: int = 2,
        lowest_level: int = 2,
        chain: str = "product",
        output: str = "leaves",
        image_size: int = 640,
        fpn: bool = True,
        cpm: bool = True,
    ) -> None:
        self.has_fpn, self.has_cpm = fpn, cpm
        super().__init__(
            backbone, width, nodes, fem_layers, half_nodes, head_layers, lowest_level, chain, output, image_size
        )


def _lateral(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))


def map_shapes(height: int, width: int, levels: Sequence[int]) -> list[tuple[int, int]]:
    """Sizes of the maps of a picture: every halving rounds up.

    >>> map_shapes(100, 64, [2, 3])
    [(25, 16), (13, 8)]
    """
    return [(-(-height // 2**level), -(-width // 2**level)) for level in levels]


# ---- the family D0 to D6

# Table 1 of the paper: theta, backbone
MEMBERS = {
    "D0": (1, "mobilenet_0.25"),
    "D1": (1, "mobilenet_1.0"),
    "D2": (2, "resnet18"),
    "D3": (3, "resnet34"),
    "D4": (4, "resnet50"),
    "D5": (5, "resnet101"),
    "D6": (6, "resnet152"),
}
PROFILES = ("table5", "text")


def scaling(theta: int) -> tuple[int, float, int]:
    """Width, layers of AutoFEM and layers of a head: Eq. 9 of the paper as its Table 1 has it.

    ``W = 64 theta``, and with ``f = floor((theta - 1) / 2)``: ``D_fem = 2^(f - 1)``, ``D_head = 2^f``. Printed without
    the floor, and with ``f + 1`` for the heads, the equation does not give the table; perhaps it counts both towers.

    >>> [scaling(theta) for theta in (1, 2, 3, 6)]
    [(64, 0.5, 1), (128, 0.5, 1), (192, 1.0, 2), (384, 2.0, 4)]
    """
    half = (theta - 1) // 2
    return 64 * theta, 2.0 ** (half - 1), 2**half


def member_options(member: str, profile: str = "table5") -> dict[str, Any]:
    """Options of the space ``asfd`` for a member of the family.

    Args:
        member: ``D0`` to ``D6``.
        profile: ``table5`` leaves out the maps of stride 4 where the backbone is a MobileNet, without which the sizes
            of the paper's Table 5 cannot be reached; ``text`` has six levels everywhere, as the text says.

    Raises:
        ConfigError: for an unknown member or profile.
    """
    if member not in MEMBERS or profile not in PROFILES:
        raise ConfigError(
            f"No member {member!r} of profile {profile!r}; members are {', '.join(MEMBERS)}, "
            f"profiles {' and '.join(PROFILES)}."
        )
    theta, backbone = MEMBERS[member]
    width, fem_layers, head_layers = scaling(theta)
    return {
        "backbone": backbone,
        "width": width,
        "fem_layers": max(1, int(fem_layers)),
        "half_nodes": fem_layers < 1,
        "head_layers": head_layers,
        "lowest_level": 3 if profile == "table5" and backbone in MOBILENETS else 2,
    }


def table5_architecture(member: str, profile: str = "table5") -> Architecture:
    """A member with the operations that stand for the paper's found ones, which it only draws (Fig. 5): laterals 1x1
    as its text says, top-down 3x3, bottom-up 5x5, and 3x3 in trees with three leaves of six nodes (two of three)."""
    choices: dict[str, Any] = {}
    options = member_options(member, profile)
    operations = {"lateral": "conv_1x1", "top_down": "dw_conv_3x3", "bottom_up": "dw_conv_5x5"}
    levels = range(options["lowest_level"], TOP_LEVEL + 1)
    for edge in pyramid_edges(levels):
        choices[f"{FPN}/{edge}"] = operations[edge.rpartition("_")[0]]
    parents = {2: 0, 3: 1, 4: 2, 5: 3, 6: 3}
    for level in levels:
        choices |= {f"cpm_{level}/input_{node}": parent for node, parent in parents.items()}
        choices |= {f"cpm_{level}/op_{node}": "dw_conv_3x3" for node in range(1, 7)}
    return Architecture("asfd", options, choices, {"stands_for": "Fig. 5 of the paper"})


def _check(
    width: int,
    nodes: int,
    fem_layers: int,
    head_layers: int,
    lowest_level: int,
    chain: str,
    output: str,
    image_size: int,
) -> None:
    bounds = {
        "width": (width, 4, 4096),
        "nodes": (nodes, 2, 16),
        "fem_layers": (fem_layers, 1, 16),
        "head_layers": (head_layers, 1, 16),
        "lowest_level": (lowest_level, 2, 3),
        "image_size": (image_size, 64, 4096),
    }
    for name, (value, smallest, largest) in bounds.items():
        if not smallest <= value <= largest:
            raise ConfigError(f"{name} of a detector is {value}, but must be from {smallest} to {largest}.")
    if chain not in ("product", "sum"):
        raise ConfigError(f"chain is {chain!r}; expected product or sum.")
    if output not in ("leaves", "all"):
        raise ConfigError(f"output is {output!r}; expected leaves or all.")
