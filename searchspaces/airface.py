"""AirFace (Li et al., *AirFace: Lightweight and Efficient Model for Face Recognition*, ICCV Workshops 2019).

A deeper and wider MobileFaceNet (Chen et al., 2018) with attention. `build_space("airface")` is the space around it,
of which the network of the paper's Table 1, MobileFaceNet and InsightFace's deeper sibling of it are points (see
`published`). Pictures ``(N, 3, S, S)`` become embeddings ``(N, 128 or 512)``; faces are compared by the cosine.

What there is to choose, all of it sizes (see `elastic`):

    stem                 what follows the first convolution: one depthwise convolution, or two bottlenecks (the sibling)
    stage_1/down         expansion of the bottleneck that halves the map at the start of a stage
    stage_1/repeats      how many bottlenecks follow it
    stage_1/expansion    their expansion; likewise for stages 2 and 3
    width                channels of stage 3; the convolution after it has four times as many
    attention            off, or CBAM in every bottleneck with the gates sigmoid or 1 + tanh
    embedding            length of the embedding
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import networkx as nx
import torch
from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor, nn
from torch.nn import functional as F

from .architecture import Architecture
from .elastic import (
    Convolution,
    Kept,
    MutableElastic,
    Sizes,
    channel_mask,
    depths,
    largest,
    masked,
    mixture,
    products,
    scaled,
    single,
)
from .errors import ConfigError, UnknownNameError
from .registry import OpenChoice, register_space

STAGES = (1, 2, 3)
STEM, STAGE_2 = 64, 128  # channels at the beginning, and of stage 2; those of stage 3 are chosen
STEMS = ("depthwise", "blocks")
STEM_BLOCKS = 2  # bottlenecks that do not expand: the sibling's
EXPANSIONS = (2, 4, 8)
WIDTHS = (128, 256)
LAST = 4  # the last convolution has so many times the width of stage 3: 512 in MobileFaceNet, 1024 in Table 1
GATES = ("off", "sigmoid", "tanh")
EMBEDDINGS = (128, 512)
REDUCTION = 16  # of CBAM's channel attention
STRIDE = 16  # of the last map
REPEATS = [[4, 8, 9], [6, 15, 16], [2, 4, 5, 6]]

OPEN_CHOICES = [
    OpenChoice("image_size", 112, "Given by the paper (Table 1)."),
    OpenChoice("channels", 64, "Given by the paper; narrower networks are for experiments."),
    OpenChoice(
        "repeats",
        REPEATS,
        "Ours: the numbers that occur in Table 1 (9, 16 and 6 after the bottleneck that halves the map, or 8, 15 and "
        "5 if that one is counted), in MobileFaceNet and in its deeper sibling.",
    ),
    OpenChoice("attention", "off, sigmoid, tanh", "CBAM is of its paper: reduction 16, a 7x7 convolution, no bias."),
]


class Attention(nn.Module):
    """CBAM (Woo et al., ECCV 2018): which channels, then where. ``(N, C, H, W)`` both ways.

    The gates are sigmoid, as there, or 1 + tanh (AirFace, section 3.2), which lets everything pass where the layers
    before it give zero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // REDUCTION)
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=False)
        self.expand = nn.Conv2d(hidden, channels, 1, bias=False)
        self.where = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.whole = False  # see `Convolution`

    def forward(self, x: Tensor, kept: Kept) -> Tensor:
        """Args: kept: gates and their weights; ``off`` is a gate of 1."""
        if [gate for gate, _ in kept] == ["off"]:
            return x
        logits = self._channels(F.adaptive_avg_pool2d(x, 1)) + self._channels(F.adaptive_max_pool2d(x, 1))
        x = x * gated(logits, kept)
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * gated(self.where(summary), kept)

    def _channels(self, x: Tensor) -> Tensor:
        """The shared two layers, run on as many channels as there are."""
        width = x.shape[1]
        if self.whole or width == self.expand.out_channels:
            return self.expand(F.relu(self.reduce(x)))
        hidden = max(1, width // REDUCTION)
        x = F.relu(F.conv2d(x, self.reduce.weight[:hidden, :width]))
        return F.conv2d(x, self.expand.weight[:width, :hidden])


def gated(logits: Tensor, kept: Kept) -> Tensor:
    """The gate of some logits, or the mixture of the kept ones."""
    gates = {"off": lambda: torch.ones_like(logits), "sigmoid": logits.sigmoid, "tanh": lambda: 1 + logits.tanh()}
    return mixture(kept, gates)


class Bottleneck(nn.Module):
    """MobileNetV2's inverted bottleneck with PReLU: 1x1, depthwise 3x3, linear 1x1, attention, and the sum with its
    input where the shape stays.

    Args:
        inputs, outputs: channels.
        expansion: t; the inner channels are t times the *input's*, as the published counts of MobileFaceNet need.
        stride: of the depthwise convolution.
        attention: whether it has CBAM.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, attention: bool) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = Convolution(inputs, inner, 1)
        self.depthwise = Convolution(inner, inner, 3, stride, padding=1, depthwise=True)
        self.project = Convolution(inner, outputs, 1, linear=True)
        self.attention = Attention(outputs) if attention else None
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor, expansion: Kept, width: Kept, gates: Kept) -> Tensor:
        """Args: expansion, width (the output's channels), gates: what is kept of each choice."""
        inner = products(expansion, [(x.shape[1], 1.0)])
        y = self.depthwise(self.expand(x, largest(inner)))
        y = masked(self.project(masked(y, channel_mask(inner)), largest(width)), channel_mask(width))
        if self.attention is not None:
            y = self.attention(y, gates)
        return x + y if self.residual else y


class PartialBottleneck(nn.Module):
    """A bottleneck that sees 1/K of the channels; the others pass by, then all are shuffled (PC-DARTS, Eq. 3).

    Args:
        widths: that the channels may have: each must be a whole network in itself, so those between two of them are
            sampled and shuffled among themselves.
    """

    def __init__(self, channels: int, expansion: int, attention: bool, widths: Sequence[int], parts: int) -> None:
        super().__init__()
        self.parts, self.ends = parts, sorted(widths)
        self.block = Bottleneck(channels // parts, channels // parts, expansion, 1, attention)

    def forward(self, x: Tensor, expansion: Kept, width: Kept, gates: Kept) -> Tensor:
        ends = [end for end in self.ends if end <= x.shape[1]]
        pieces = x.split([end - start for start, end in zip([0, *ends], ends, strict=False)], dim=1)
        seen = [piece.shape[1] // self.parts for piece in pieces]
        sampled = torch.cat([piece[:, :size] for piece, size in zip(pieces, seen, strict=True)], dim=1)
        changed = self.block(sampled, expansion, [(value // self.parts, weight) for value, weight in width], gates)
        result = [
            torch.cat([new, piece[:, size:]], dim=1)
            for new, piece, size in zip(changed.split(seen, dim=1), pieces, seen, strict=True)
        ]
        shuffled = [
            piece.permute(0, 2, 3, 1).unflatten(3, (self.parts, -1)).transpose(3, 4).flatten(3).permute(0, 3, 1, 2)
            for piece in result
        ]
        return torch.cat(shuffled, dim=1)


class AirFaceNetwork(nn.Module):
    """Pictures ``(N, 3, S, S)`` to embeddings ``(N, embedding)``, of one network or of all candidates of each choice.

    Args:
        candidates: values of every choice.
        channels: of the stem; the widths of stages are multiples of it, see `width_of`.
        image_size: S, a multiple of 16.
        partial_channels: K; above 1 the repeated bottlenecks see 1/K of their channels.

    Raises:
        ConfigError: if K does not divide the channels.
    """

    def __init__(self, candidates: Sizes, channels: int, image_size: int, partial_channels: int = 1) -> None:
        super().__init__()
        self.kept = single(candidates) if all(len(values) == 1 for values in candidates.values()) else None
        self.channels = channels
        attention = any(gate != "off" for gate in candidates["attention"])
        self.first = Convolution(3, channels, 3, 2, padding=1)
        if "depthwise" in candidates["stem"]:
            self.depthwise = Convolution(channels, channels, 3, padding=1, depthwise=True)
        if "blocks" in candidates["stem"]:
            blocks = [Bottleneck(channels, channels, 1, 1, attention) for _ in range(STEM_BLOCKS)]
            self.blocks = nn.ModuleList(blocks)
        self.stages, inputs = nn.ModuleList(), channels
        for stage in STAGES:
            widths = [width_of(stage, width, channels) for width in candidates["width"]]
            width, label = max(widths), f"stage_{stage}"
            down = Bottleneck(inputs, width, max(candidates[f"{label}/down"]), 2, attention)
            expansion, repeats = max(candidates[f"{label}/expansion"]), max(candidates[f"{label}/repeats"])
            self.stages.append(
                nn.ModuleList(
                    [down, *(_repeated(width, expansion, attention, widths, partial_channels) for _ in range(repeats))]
                )
            )
            inputs = width
        last, side = LAST * inputs, image_size // STRIDE
        self.last = Convolution(inputs, last, 1)
        self.pool = Convolution(last, last, (side, side), depthwise=True, linear=True)  # GDConv: a weight a position
        self.embedding = Convolution(last, max(candidates["embedding"]), 1, linear=True)
        for module in self.modules():
            if isinstance(module, Convolution | Attention):
                module.whole = self.kept is not None
        self.init_weights()

    def init_weights(self) -> None:
        """Fresh weights: those of convolutions after He et al. (2015) for the slope of a new PReLU, those of attention
        small, so that its gates start near the middle."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", a=0.25)
            elif isinstance(module, nn.PReLU):
                nn.init.constant_(module.weight, 0.25)
        for module in self.modules():
            if isinstance(module, Attention):
                for layer in (module.expand, module.where):
                    nn.init.normal_(layer.weight, 0, 0.01)

    def forward(self, x: Tensor, kept: Mapping[str, Kept] | None = None) -> Tensor:
        kept = kept or self.kept
        if kept is None:
            raise RuntimeError("This network holds several candidates: say which are kept.")
        x = self.first(x)
        x = mixture(kept["stem"], {"depthwise": partial(self._depthwise, x), "blocks": partial(self._blocks, x, kept)})
        for stage, blocks in zip(STAGES, self.stages, strict=True):
            x = self._stage(stage, blocks, x, kept)
        width = scaled(self._width(3, kept), LAST)
        x = masked(self.pool(self.last(x, largest(width))), channel_mask(width))
        embedding = kept["embedding"]
        return masked(self.embedding(x, largest(embedding)), channel_mask(embedding)).flatten(1)

    def _depthwise(self, x: Tensor) -> Tensor:
        return self.depthwise(x)

    def _blocks(self, x: Tensor, kept: Mapping[str, Kept]) -> Tensor:
        for block in self.blocks:
            x = block(x, [(1, 1.0)], [(self.channels, 1.0)], kept["attention"])
        return x

    def _stage(self, stage: int, blocks: Any, x: Tensor, kept: Mapping[str, Kept]) -> Tensor:
        label, width, gates = f"stage_{stage}", self._width(stage, kept), kept["attention"]
        x = blocks[0](x, kept[f"{label}/down"], width, gates)
        expansion = kept[f"{label}/expansion"]
        run = [partial(block, expansion=expansion, width=width, gates=gates) for block in list(blocks)[1:]]
        return depths(kept[f"{label}/repeats"], x, run)

    def _width(self, stage: int, kept: Mapping[str, Kept]) -> Kept:
        """Channels of a stage; those of the first two are given."""
        if stage < 3:
            return [(width_of(stage, 0, self.channels), 1.0)]
        return [(width_of(stage, width, self.channels), weight) for width, weight in kept["width"]]


def _repeated(width: int, expansion: int, attention: bool, widths: Sequence[int], parts: int) -> nn.Module:
    if parts == 1:
        return Bottleneck(width, width, expansion, 1, attention)
    smallest = min([b - a for a, b in zip([0, *sorted(set(widths))], sorted(set(widths)), strict=False)])
    if smallest % parts or smallest // parts < 2:
        raise ConfigError(
            f"partial_channels is {parts}: {smallest} channels of a stage cannot be split into {parts} equal parts of "
            "at least 2. Give fewer parts, or more channels in space_options."
        )
    return PartialBottleneck(width, expansion, attention, sorted(set(widths)), parts)


def width_of(stage: int, width: int, channels: int) -> int:
    """Channels of a stage's maps: 64, 128 and the chosen width in the paper, and less in a narrower network.

    >>> [width_of(stage, 256, 64) for stage in (1, 2, 3)], width_of(3, 256, 32)
    ([64, 128, 256], 128)
    """
    return (STEM, STAGE_2, width)[stage - 1] * channels // STEM


class MutableAirFace(MutableElastic):
    """The choices of the space."""

    @staticmethod
    def network(candidates: Sizes, **options: Any) -> AirFaceNetwork:
        return AirFaceNetwork(candidates, **options)


@register_space("airface", open_choices=OPEN_CHOICES)
class AirFace(ModelSpace):
    """The AirFace search space: ``(N, 3, image_size, image_size) -> (N, embedding)``, not normalised.

    Args:
        image_size: side of the picture, a multiple of 16; 112 in the paper.
        channels: of the first convolution, a multiple of 16; 64 in the paper. All widths but the embedding follow it.
        repeats: for each stage the numbers of bottlenecks to choose from.
        expansions: to choose from.
        embeddings: lengths of the embedding to choose from.

    Raises:
        ConfigError: if the options cannot make a network.
    """

    task = "recognition"

    def __init__(
        self,
        image_size: int = 112,
        channels: int = 64,
        repeats: list[list[int]] = REPEATS,
        expansions: list[int] = list(EXPANSIONS),  # noqa: B006  never changed
        embeddings: list[int] = list(EMBEDDINGS),  # noqa: B006
    ) -> None:
        super().__init__()
        _check(image_size, channels, repeats, expansions, embeddings)
        self.image_size, self.stem_channels, self.embeddings = image_size, channels, list(embeddings)
        candidates: dict[str, Sequence[Any]] = {"stem": STEMS}
        for stage, numbers in zip(STAGES, repeats, strict=True):
            candidates |= {
                f"stage_{stage}/down": sorted(expansions),
                f"stage_{stage}/repeats": sorted(numbers),
                f"stage_{stage}/expansion": sorted(expansions),
            }
        candidates |= {"width": WIDTHS, "attention": GATES, "embedding": sorted(embeddings)}
        self.trunk = MutableAirFace(candidates, channels=channels, image_size=image_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x)

    @property
    def input_size(self) -> tuple[int, int, int]:
        return (3, self.image_size, self.image_size)

    @property
    def embedding_size(self) -> int:
        """Length of the longest embedding."""
        return max(self.embeddings)

    def sizes(self) -> dict[str, int]:
        """How many networks there are."""
        return {"networks": math.prod(map(len, self.trunk.candidates.values()))}

    def graph(self, choices: dict[str, Any]) -> nx.MultiDiGraph:
        """The stages as a chain.

        Nodes have ``kind`` (input, stage, output), ``label``, ``channels``, ``size`` of the map, ``repeats`` and
        ``used``, which is always true.
        """
        return _graph(self, choices)


# the points of the space that others have published, as what differs from the first
PUBLISHED: dict[str, dict[str, Any]] = {
    # Table 1 as it is printed: n counts the bottlenecks of stride 1, in rows of their own
    "airface": {
        "stem": "depthwise",
        "stage_1/down": 2,
        "stage_1/repeats": 9,
        "stage_1/expansion": 2,
        "stage_2/down": 4,
        "stage_2/repeats": 16,
        "stage_2/expansion": 2,
        "stage_3/down": 8,
        "stage_3/repeats": 6,
        "stage_3/expansion": 2,
        "width": 256,
        "attention": "off",
        "embedding": 512,
    },
    "airface-cbam": {"attention": "tanh"},
    # n counts the bottleneck that halves the map too: within the 1 GFLOP of the competition, which the first is not
    "airface-strict": {"stage_1/repeats": 8, "stage_2/repeats": 15, "stage_3/repeats": 5},
    "airface-128": {"embedding": 128},
}
_MOBILEFACENET = {"stage_1/repeats": 4, "stage_2/repeats": 6, "stage_3/repeats": 2, "stage_3/down": 4, "width": 128}
_SIBLING = {"stem": "blocks", "stage_1/repeats": 8, "stage_2/repeats": 16, "stage_3/repeats": 4}
PUBLISHED |= {
    "mobilefacenet-128": {**_MOBILEFACENET, "embedding": 128},
    "mobilefacenet-512": _MOBILEFACENET,
    "mobilefacenet-y2": {**_MOBILEFACENET, **_SIBLING},
}


def published(name: str = "airface") -> Architecture:
    """A network of the paper's family: ``airface`` (Table 1), ``airface-cbam`` (with its attention),
    ``airface-strict`` (the other reading of Table 1), ``airface-128``, ``mobilefacenet-128``, ``mobilefacenet-512``,
    ``mobilefacenet-y2`` (InsightFace's deeper sibling).

    Raises:
        UnknownNameError: with the nearest name.
    """
    if name not in PUBLISHED:
        raise UnknownNameError("published network of airface", name, PUBLISHED)
    return Architecture("airface", {}, {**PUBLISHED["airface"], **PUBLISHED[name]}, {"published": name})


def _graph(space: AirFace, choices: Mapping[str, Any]) -> nx.MultiDiGraph:
    channels, side = space.stem_channels, space.image_size
    graph = nx.MultiDiGraph()

    def add(name: str, kind: str, label: str, width: int, size: int, repeats: int = 1) -> None:
        facts = {"channels": width, "size": f"{size} x {size}", "repeats": repeats, "used": True}
        previous = list(graph)[-1] if len(graph) else None
        graph.add_node(name, kind=kind, label=label, **facts)
        if previous:
            graph.add_edge(previous, name, operation=None, stride=1)

    add("input", "input", "picture", 3, side)
    add("first", "stage", "conv 3x3, stride 2", channels, side // 2)
    stem = {"depthwise": "depthwise conv 3x3", "blocks": f"{STEM_BLOCKS} x bottleneck, t = 1"}[choices["stem"]]
    add("stem", "stage", stem, channels, side // 2, STEM_BLOCKS if choices["stem"] == "blocks" else 1)
    for stage in STAGES:
        label, width, size = f"stage_{stage}", width_of(stage, choices["width"], channels), side // 2 ** (stage + 1)
        down, repeats = choices[f"{label}/down"], choices[f"{label}/repeats"]
        add(f"{label}/down", "stage", f"bottleneck, t = {down}, stride 2", width, size)
        text = f"{repeats} x bottleneck, t = {choices[f'{label}/expansion']}"
        add(f"{label}/repeats", "stage", text, width, size, repeats)
    last = LAST * width_of(3, choices["width"], channels)
    add("last", "stage", "conv 1x1", last, side // STRIDE)
    add("pool", "stage", f"depthwise conv {side // STRIDE}x{side // STRIDE}, linear", last, 1)
    add("output", "output", "embedding", choices["embedding"], 1)
    graph.graph["note"] = {
        "off": "No attention.",
        "sigmoid": "CBAM with sigmoid gates in every bottleneck.",
        "tanh": "CBAM with gates 1 + tanh in every bottleneck.",
    }[choices["attention"]]
    return graph


def _check(
    image_size: int,
    channels: int,
    repeats: Sequence[Sequence[int]],
    expansions: Sequence[int],
    embeddings: Sequence[int],
) -> None:
    if image_size % STRIDE or not 32 <= image_size <= 1024:
        raise ConfigError(f"image_size {image_size} of airface: a multiple of 16 from 32 to 1024 is needed.")
    if channels % 16 or not 16 <= channels <= 1024:
        raise ConfigError(f"channels {channels} of airface: a multiple of 16 from 16 to 1024 is needed.")
    if len(repeats) != len(STAGES) or not all(_whole(numbers, 1, 100) for numbers in repeats):
        raise ConfigError(
            f"repeats {repeats} of airface: give for each of the {len(STAGES)} stages a list of different numbers from "
            "1 to 100, such as [[1, 2], [2, 4], [1]]."
        )
    for name, numbers, most in (("expansions", expansions, 16), ("embeddings", embeddings, 4096)):
        if not _whole(numbers, 1, most):
            raise ConfigError(f"{name} {numbers} of airface: a list of different numbers from 1 to {most} is needed.")


def _whole(numbers: Any, low: int, high: int) -> bool:
    """Whether these are different whole numbers within the bounds, at least one."""
    return (
        isinstance(numbers, list)
        and 0 < len(numbers) == len(set(map(str, numbers)))
        and all(type(number) is int and low <= number <= high for number in numbers)
    )
