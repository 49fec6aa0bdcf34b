"""Networks whose choices are sizes: widths, depths, gates.

Of all candidates of a choice the largest is built, and smaller ones run a part of it: a width of w the first w
channels, a depth of d the first d blocks. What takes part in a pass are the *kept* values of each choice with their
weights: a single one in a finished network or in a sampled pass; all of them, weighted, in a differentiable search,
where the weights of widths become a mask over channels (FBNetV2, Wan et al., CVPR 2020, section 3.2) and those of
depths mix what comes out of the blocks. A mixture costs little more than its largest member.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from nni.mutable import Categorical, label_scope
from nni.nas.nn.pytorch import MutableModule
from torch import Tensor, nn
from torch.nn import functional as F

Kept = Sequence[tuple[Any, Tensor | float]]  # values and their weights; the weights add up to 1
Sizes = Mapping[str, Sequence[Any]]  # candidates by label


def single(candidates: Sizes) -> dict[str, Kept]:
    """What is kept where every choice has one candidate.

    >>> single({"width": [128]})
    {'width': [(128, 1.0)]}
    """
    return {label: [(value, 1.0)] for label, (value,) in candidates.items()}


def largest(kept: Kept) -> Any:
    """The largest of the kept values."""
    return max(value for value, _ in kept)


def scaled(kept: Kept, factor: int) -> Kept:
    """The same choice as a width: values times ``factor``."""
    return [(value * factor, weight) for value, weight in kept]


def products(first: Kept, second: Kept) -> Kept:
    """Two independent choices whose values multiply to a width; the weights multiply too."""
    return [(a * b, v * w) for a, v in first for b, w in second]


def channel_mask(kept: Kept) -> Tensor | None:
    """Weights of channels, ``(largest,)``: the sum of the weights of the widths that reach a channel.

    None where a single width takes part with weight 1, so that a finished network has nothing to multiply by.
    """
    if len(kept) == 1 and not isinstance(kept[0][1], Tensor):
        return None
    size, learnt = largest(kept), next((weight for _, weight in kept if isinstance(weight, Tensor)), torch.ones(()))
    channels = torch.arange(size, device=learnt.device)
    return sum((weight * (channels < width) for width, weight in kept), start=learnt.new_zeros(size))


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """``(N, C, H, W)`` times ``(C,)``."""
    return x if mask is None else x * mask.view(1, -1, 1, 1)


def mixture(kept: Kept, outputs: Mapping[Any, Callable[[], Tensor]]) -> Tensor:
    """The weighted sum of the kept candidates' outputs; others are not computed."""
    terms = [_times(outputs[value](), weight) for value, weight in kept]
    return sum(terms[1:], start=terms[0])


def depths(kept: Kept, x: Tensor, blocks: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """The weighted sum of what comes out after so many blocks; blocks beyond the largest depth do not run."""
    reached = {0: x}
    for number, block in zip(range(1, largest(kept) + 1), blocks, strict=False):
        x = block(x)
        reached[number] = x
    terms = [_times(reached[depth], weight) for depth, weight in kept]
    return sum(terms[1:], start=terms[0])


def _times(x: Tensor, weight: Tensor | float) -> Tensor:
    return x if not isinstance(weight, Tensor) and weight == 1.0 else x * weight


class Convolution(nn.Module):
    """Convolution without bias, batch norm and, unless it is linear, PReLU; it runs at any width up to its own.

    ``(N, C, H, W) -> (N, width, H', W')`` where ``C`` is at most ``inputs``. A depthwise one (``depthwise=True``)
    gives as many channels as it gets.

    Attributes:
        whole: whether it always runs at its own width, as in a finished network, so that nothing is asked of shapes
            (an exporter would write the question into the graph).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        *,
        padding: int = 0,
        depthwise: bool = False,
        linear: bool = False,
    ) -> None:
        super().__init__()
        groups = inputs if depthwise else 1
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = None if linear else nn.PReLU(outputs)
        self.depthwise, self.whole = depthwise, False

    def forward(self, x: Tensor, width: int | None = None) -> Tensor:
        own, inputs = self.convolution, x.shape[1]
        if self.whole or (inputs, width or own.out_channels) == (own.in_channels, own.out_channels):
            x = self.norm(own(x))
            return x if self.activation is None else self.activation(x)
        width = inputs if self.depthwise else (width or own.out_channels)
        weight = own.weight[:width] if self.depthwise else own.weight[:width, :inputs]
        x = F.conv2d(x, weight, None, own.stride, own.padding, groups=inputs if self.depthwise else 1)
        x = first_channels_norm(self.norm, x)
        return x if self.activation is None else F.prelu(x, self.activation.weight[:width])


def first_channels_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """A batch norm run on as many of its first channels as ``x (N, C, H, W)`` has; their statistics follow."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    width, momentum = x.shape[1], norm.momentum
    if norm.training:
        norm.num_batches_tracked.add_(1)
        if momentum is None:  # a plain average over batches
            momentum = 1.0 / float(norm.num_batches_tracked)
    mean, variance = norm.running_mean[:width], norm.running_var[:width]
    weight, bias = norm.weight[:width], norm.bias[:width]
    return F.batch_norm(x, mean, variance, weight, bias, norm.training, momentum or 0.0, norm.eps)


class MutableElastic(MutableModule):
    """A network of a search space whose choices are sizes: NNI's declaration of what may be chosen.

    Subclasses say how the network is built. It takes candidates by label and runs ``forward(x)`` where every choice
    has one, and ``forward(x, kept)`` in a supernet.

    Args:
        candidates: values of every choice, ascending where they are numbers.
        options: of the network.
    """

    def __init__(self, candidates: Sizes, **options: Any) -> None:
        super().__init__()
        self.candidates, self.options = {label: list(values) for label, values in candidates.items()}, options
        for label, values in self.candidates.items():
            scope, _, name = label.rpartition("/")
            with label_scope(scope) if scope else nullcontext():
                self.add_mutable(Categorical(values, label=name))

    @staticmethod
    @abstractmethod
    def network(candidates: Sizes, **options: Any) -> nn.Module:
        """The network that holds all candidates."""

    def elastic(self, partial_channels: int = 1) -> nn.Module:
        """The network that holds all candidates of all choices.

        Args:
            partial_channels: K of PC-DARTS.

        Raises:
            ConfigError: if the network cannot leave out channels.
        """
        return self.network(self.candidates, **self.options, **_parts(partial_channels))

    @staticmethod
    def weights_of(elastic: nn.Module) -> nn.Module:
        """The part of `elastic` that a finished network is a part of."""
        return elastic

    @classmethod
    def create_fixed_module(cls, sample: dict[str, Any], candidates: Sizes, **options: Any) -> nn.Module:
        """What NNI builds in place of this module inside ``model_context(sample)``."""
        return cls.network({label: [sample[label]] for label in candidates}, **options)

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """The chosen network, with new weights."""
        self.validate(sample)
        return self.create_fixed_module(sample, self.candidates, **self.options)

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("A search space has no forward pass: freeze it with choices, or give it to a strategy.")


def _parts(partial_channels: int) -> dict[str, int]:
    return {"partial_channels": partial_channels} if partial_channels > 1 else {}


def take_first_channels(source: nn.Module, target: nn.Module) -> None:
    """Give a smaller network the weights of the part of a larger one that it is: the first of everything."""
    state = source.state_dict()
    taken = {}
    for name, own in target.state_dict().items():
        weights = state[name]
        if ".qkv." in name:  # queries, keys and values lie one after the other, each is cut by itself
            weights = weights.unflatten(0, (3, -1))[:, : len(own) // 3].flatten(0, 1)
        taken[name] = weights[tuple(slice(0, size) for size in own.shape)].clone()
    target.load_state_dict(taken)
