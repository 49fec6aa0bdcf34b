"""HaTFAS (Zhang et al., Applied Soft Computing 2024): a small vision transformer, taught by a large one.

The paper's student is DeiT-Tiny, its teacher DeiT-Base (see `published`). `build_space("hatfas")` is a space of
students around it, all of them timm's ``VisionTransformer``; heads have 64 channels each, as in both networks of the
paper, so that their number follows the embedding. What there is to choose (see `elastic`):

    embed        channels of a token
    depth        number of blocks
    mlp_ratio    channels inside a block's MLP, as a multiple of the token's

How a student is taught is in `evaluators.distillation`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import networkx as nx
import torch
from nni.nas.nn.pytorch import ModelSpace
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from .architecture import Architecture
from .elastic import Kept, MutableElastic, Sizes, channel_mask, depths, largest, products, single
from .errors import ConfigError, UnknownNameError
from .registry import OpenChoice, register_space

HEAD = 64  # channels of a head, in both networks of the paper
EMBED, DEPTH, RATIO = (128, 192, 256), (6, 9, 12), (2, 3, 4)

OPEN_CHOICES = [
    OpenChoice("image_size", 224, "Given by the paper's code."),
    OpenChoice("patch_size", 16, "Given by the paper (DeiT)."),
    OpenChoice("embed", list(EMBED), "Ours: the paper has one student, of 192; heads stay 64 wide."),
    OpenChoice("depth", list(DEPTH), "Ours: the paper's student has 12 blocks."),
    OpenChoice("mlp_ratio", list(RATIO), "Ours: the paper's student has 4."),
]


class ElasticTransformer(nn.Module):
    """Timm's vision transformer with all candidates of each choice: ``(N, 3, S, S) -> (N, classes)``.

    Smaller ones run the first channels, heads and blocks of the largest (AutoFormer, Chen et al., ICCV 2021).
    """

    def __init__(self, candidates: Sizes, **options: Any) -> None:
        super().__init__()
        self.vit = transformer({label: [max(values)] for label, values in candidates.items()}, **options)

    def forward(self, x: Tensor, kept: Mapping[str, Kept] | None = None) -> Tensor:
        if kept is None:
            raise RuntimeError("This network holds several candidates: say which are kept.")
        vit, embed = self.vit, kept["embed"]
        width, mask = largest(embed), channel_mask(embed)
        patches = vit.patch_embed.proj
        if width == patches.out_channels:
            tokens = patches(x)
        else:
            tokens = F.conv2d(x, patches.weight[:width], patches.bias[:width], patches.stride)
        tokens = tokens.flatten(2).transpose(1, 2)
        first = vit.cls_token[..., :width].expand(len(x), -1, -1)
        tokens = torch.cat([first, tokens], dim=1) + vit.pos_embed[..., :width]
        tokens = tokens if mask is None else tokens * mask
        run = [partial(run_block, block, embed=embed, inner=products(embed, kept["mlp_ratio"])) for block in vit.blocks]
        tokens = depths(kept["depth"], tokens, run)
        return linear(vit.head, weighted_layer_norm(vit.norm, tokens[:, 0], mask), vit.head.out_features)


def run_block(block: Any, tokens: Tensor, embed: Kept, inner: Kept) -> Tensor:
    """One block of timm's on the first channels, ``(N, T, width)`` both ways.

    Args:
        embed, inner: what is kept of the token's channels and of those inside the MLP.
    """
    mask = channel_mask(embed)
    tokens = tokens + _masked(_attend(block.attn, weighted_layer_norm(block.norm1, tokens, mask), mask), mask)
    hidden = F.gelu(linear(block.mlp.fc1, weighted_layer_norm(block.norm2, tokens, mask), largest(inner)))
    return tokens + _masked(linear(block.mlp.fc2, _masked(hidden, channel_mask(inner)), tokens.shape[2]), mask)


def _attend(attention: Any, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Self-attention with as many heads as the tokens' channels make."""
    count, width = tokens.shape[1], tokens.shape[2]
    if width == attention.qkv.in_features:
        triple = attention.qkv(tokens)
    else:  # the first of the queries, of the keys and of the values
        weight = attention.qkv.weight.unflatten(0, (3, -1))[:, :width, :width].flatten(0, 1)
        triple = F.linear(tokens, weight, attention.qkv.bias.unflatten(0, (3, -1))[:, :width].flatten())
    q, k, v = triple.view(len(tokens), count, 3, -1, HEAD).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return linear(attention.proj, _masked(mixed, mask), width)


def linear(layer: nn.Linear, x: Tensor, outputs: int) -> Tensor:
    """The first outputs of a layer from its first inputs, ``(..., inputs) -> (..., outputs)``."""
    if (x.shape[-1], outputs) == (layer.in_features, layer.out_features):
        return layer(x)
    return F.linear(x, layer.weight[:outputs, : x.shape[-1]], layer.bias[:outputs])


def weighted_layer_norm(norm: nn.LayerNorm, x: Tensor, mask: Tensor | None) -> Tensor:
    """Layer norm over the first channels, ``(..., C)`` both ways.

    With weights of channels the mean and the variance are weighted by them and so is the result: with weights of 0
    and 1 that is the layer norm of the channels of weight 1.
    """
    width = x.shape[-1]
    weight, bias = norm.weight[:width], norm.bias[:width]
    if mask is None:
        return F.layer_norm(x, (width,), weight, bias, norm.eps)
    share = mask / mask.sum()
    centred = x - (x * share).sum(-1, keepdim=True)
    variance = (centred.square() * share).sum(-1, keepdim=True)
    return (centred * torch.rsqrt(variance + norm.eps) * weight + bias) * mask


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def transformer(candidates: Sizes, image_size: int, patch_size: int, classes: int) -> VisionTransformer:
    """Timm's network of one sample."""
    sizes = {label: value for label, ((value, _),) in single(candidates).items()}
    return VisionTransformer(
        img_size=image_size,
        patch_size=patch_size,
        num_classes=classes,
        embed_dim=sizes["embed"],
        depth=sizes["depth"],
        num_heads=sizes["embed"] // HEAD,
        mlp_ratio=sizes["mlp_ratio"],
    )


class MutableTransformer(MutableElastic):
    """The choices of the space."""

    @staticmethod
    def network(candidates: Sizes, **options: Any) -> nn.Module:
        return transformer(candidates, **options)

    def elastic(self, partial_channels: int = 1) -> nn.Module:
        if partial_channels > 1:
            raise ConfigError(
                "PC-DARTS leaves out channels of convolutions; the layer norms of a transformer need all of a token's. "
                "Use strategies.darts, strategies.gumbel or strategies.single_path."
            )
        return ElasticTransformer(self.candidates, **self.options)

    @staticmethod
    def weights_of(elastic: nn.Module) -> nn.Module:
        return elastic.vit  # type: ignore[return-value]


@register_space("hatfas", open_choices=OPEN_CHOICES)
class HaTFAS(ModelSpace):
    """The space of HaTFAS students: ``(N, 3, image_size, image_size) -> (N, classes)`` logits.

    For anti-spoofing class 0 is an attack and class 1 a live face.

    Args:
        image_size: side of the picture, a multiple of the patch; 224 in the paper's code.
        patch_size: side of a patch, each of which becomes a token; 16 in the paper.
        classes: number of logits.
        embed: channels of a token to choose from, multiples of 64.
        depth: numbers of blocks to choose from.
        mlp_ratio: widths of a block's MLP to choose from, as multiples of the token's channels.

    Raises:
        ConfigError: if the options cannot make a network.
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        classes: int = 2,
        embed: list[int] = list(EMBED),  # noqa: B006  never changed
        depth: list[int] = list(DEPTH),  # noqa: B006
        mlp_ratio: list[int] = list(RATIO),  # noqa: B006
    ) -> None:
        super().__init__()
        candidates = {"embed": embed, "depth": depth, "mlp_ratio": mlp_ratio}
        _check(image_size, patch_size, classes, candidates)
        self.image_size, self.patch_size, self.classes = image_size, patch_size, classes
        sizes = {label: sorted(values) for label, values in candidates.items()}
        self.vit = MutableTransformer(sizes, image_size=image_size, patch_size=patch_size, classes=classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.vit(x)

    @property
    def input_size(self) -> tuple[int, int, int]:
        return (3, self.image_size, self.image_size)

    def sizes(self) -> dict[str, int]:
        """How many networks there are."""
        return {"networks": math.prod(map(len, self.vit.candidates.values()))}

    def graph(self, choices: dict[str, Any]) -> nx.MultiDiGraph:
        """The stages as a chain, with the attributes that `airface.AirFace.graph` names."""
        side = self.image_size // self.patch_size
        embed, depth, ratio, tokens = choices["embed"], choices["depth"], choices["mlp_ratio"], f"{side**2 + 1} tokens"
        nodes: list[tuple[str, str, str, int, str, int]] = [
            ("input", "input", "picture", 3, f"{self.image_size} x {self.image_size}", 1),
            ("patches", "stage", f"patches {self.patch_size}x{self.patch_size}", embed, tokens, 1),
            (
                "blocks",
                "stage",
                f"{depth} x transformer block, {_heads(embed)}, MLP x {ratio}",
                embed,
                tokens,
                depth,
            ),
            ("norm", "stage", "layer norm, class token", embed, "1 token", 1),
            ("output", "output", f"{self.classes} logits", self.classes, "1", 1),
        ]
        graph = nx.MultiDiGraph()
        for name, kind, label, channels, size, repeats in nodes:
            previous = list(graph)[-1] if len(graph) else None
            graph.add_node(name, kind=kind, label=label, channels=channels, size=size, repeats=repeats, used=True)
            if previous:
                graph.add_edge(previous, name, operation=None, stride=1)
        return graph


def _heads(embed: int) -> str:
    return f"{embed // HEAD} head{'' if embed == HEAD else 's'}"


PUBLISHED = {"deit-tiny": 192, "deit-base": 768}  # channels of a token


def published(name: str = "deit-tiny") -> Architecture:
    """The student (``deit-tiny``) or the teacher (``deit-base``) of the paper.

    Raises:
        UnknownNameError: with the nearest name.
    """
    if name not in PUBLISHED:
        raise UnknownNameError("published network of hatfas", name, PUBLISHED)
    embed = PUBLISHED[name]
    options: dict[str, Any] = {} if embed in EMBED else {"embed": [embed]}
    return Architecture("hatfas", options, {"embed": embed, "depth": 12, "mlp_ratio": 4}, {"published": name})


def _check(image_size: int, patch_size: int, classes: int, candidates: Sizes) -> None:
    if not 4 <= patch_size <= 64:
        raise ConfigError(f"patch_size {patch_size} of hatfas: 4 to 64 pixels are needed; the paper has 16.")
    if image_size % patch_size or not 2 * patch_size <= image_size <= 1024:
        raise ConfigError(
            f"image_size {image_size} of hatfas: a multiple of patch_size ({patch_size}) from {2 * patch_size} to 1024 "
            "is needed."
        )
    if not 2 <= classes <= 1_000_000:
        raise ConfigError(f"classes {classes} of hatfas: at least 2 are needed.")
    for label, most in (("embed", 4096), ("depth", 100), ("mlp_ratio", 16)):
        values, step = candidates[label], HEAD if label == "embed" else 1
        usable = [type(value) is int and 1 <= value <= most and value % step == 0 for value in values]
        if not usable or not all(usable) or len(set(values)) != len(values):
            what = f"multiples of {HEAD} up to {most}" if label == "embed" else f"numbers from 1 to {most}"
            raise ConfigError(f"{label} {values} of hatfas: a list of different {what} is needed.")
