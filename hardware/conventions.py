"""How operations are counted: named conventions, each a table from layer type to formula.

The papers of this field count in different ways under the one name "FLOPs". A figure without its convention is
therefore not comparable, and facenas always names it:

========= ======================================================================= ==========================
name      counts                                                                  used by
========= ======================================================================= ==========================
mac       multiply-accumulates of convolutions and linear layers, nothing else    Auto-FAS Table 4, ASFD Table 5
ptflops   mac + biases + norms, activations and pooling layers per element        PTA Table 4 (ptflops 0.6.9)
lfr       (2 Cin k k - 1) per output of a convolution without bias                AirFace (InsightFace's counter)
nni       mac + biases + 4 per batch-norm element + 1 per activation element      NNI 3.0's FlopsProfiler
flops     2 x the MACs of all operators: of layers, functions and attention       torch's FlopCounterMode
========= ======================================================================= ==========================

Every call of a layer is counted. (NNI itself counts a layer that is called twice only once.)

A table says something only where a convention differs from `mac`: a layer without an entry is counted as its MACs
times the convention's ``per_mac``. Add your own layer with `register_layer`. The convention `flops` asks no layer but
the operators that really ran (`hardware.operators`): half of it is a `mac` that leaves nothing out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import nn
from torch.nn.modules import batchnorm, dropout, padding, pooling

from searchspaces.errors import CostError
from searchspaces.naming import Registry
from searchspaces.operations import Zero

from .library_layers import CONVOLUTIONS_LIKE, FREE_LAYERS, library_name

Shape = tuple[int, ...]
Formula = Callable[[Any, Sequence[Shape], Shape], int]
"""(layer, shapes of its input tensors, shape of its output tensor) -> count; shapes include the batch axis."""


# The arithmetic: numbers in, a number out.


def convolution_macs(in_channels: int, out_channels: int, kernel: Sequence[int], groups: int, positions: int) -> int:
    """MACs of a convolution: ``Cin / groups * prod(kernel) * Cout`` at each of ``positions`` output pixels.

    For a transposed convolution ``positions`` are the input pixels: each of them is spread over the kernel.
    """
    return in_channels // groups * prod(kernel) * out_channels * positions


def convolution_lfr(
    in_channels: int, out_channels: int, kernel: Sequence[int], groups: int, positions: int, bias: bool
) -> int:
    """FLOPs of a convolution in InsightFace's counter: ``(2 Cin prod(kernel) - 1) * Cout * positions / groups``.

    The 1 is the addition that the first product does not need; with a bias it is needed. Dividing by the groups after
    the subtraction is the counter's own way, kept because the published figures depend on it.
    """
    return (2 * in_channels * prod(kernel) - (not bias)) * out_channels * positions // groups


def linear_lfr(in_features: int, out_features: int, rows: int, bias: bool) -> int:
    """FLOPs of a linear layer in InsightFace's counter: ``2 in out - out``, or ``2 in out`` with a bias, per row."""
    return (2 * in_features - (not bias)) * out_features * rows


def batch_norm_nni(elements: int, affine: bool) -> int:
    """NNI 3.0: subtract and divide, then scale and shift: 4 per element, 2 without scale and shift."""
    return 2 * (1 + affine) * elements


def norm_ptflops(elements: int, affine: bool) -> int:
    """ptflops 0.6.9: 2 per element with scale and shift, 1 without."""
    return (1 + affine) * elements


def attention_projection_macs(queries: int, keys: int, embed: int, key_dim: int, value_dim: int) -> int:
    """MACs of the four linear projections of multi-head attention (query, key, value, output), per sample."""
    return queries * embed * embed * 2 + keys * embed * (key_dim + value_dim)


def attention_products(queries: int, keys: int, embed: int, heads: int) -> int:
    """ptflops 0.6.9 and NNI 3.0: scaling, query x key, softmax and weights x value of attention, per sample."""
    return queries * embed + 2 * queries * keys * embed + heads * queries * keys


# From a layer to its numbers.


def free(layer: nn.Module, inputs: Sequence[Shape], output: Shape) -> int:
    """A layer without operations in a convention."""
    return 0


def _per_output_element(layer: nn.Module, inputs: Sequence[Shape], output: Shape) -> int:
    return prod(output)


def _per_input_element(layer: nn.Module, inputs: Sequence[Shape], output: Shape) -> int:
    return prod(inputs[0])


def _positions(shape: Shape, layer: Any) -> int:
    """Pixels of a tensor (batch, C, ...) or of an unbatched one, all samples together."""
    return prod(shape) // shape[-len(layer.kernel_size) - 1]


def _conv_numbers(layer: Any, positions: int) -> tuple[int, int, Sequence[int], int, int]:
    return layer.in_channels, layer.out_channels, layer.kernel_size, layer.groups, positions


def _conv_mac(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    return convolution_macs(*_conv_numbers(layer, _positions(output, layer)))


def _conv_transpose_mac(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    return convolution_macs(*_conv_numbers(layer, _positions(inputs[0], layer)))


def _conv_with_bias(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    # ptflops uses the output pixels for transposed convolutions too; kept, because it is what ptflops prints
    bias = prod(output) if layer.bias is not None else 0
    return _conv_mac(layer, inputs, output) + bias


def _conv_lfr(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    return convolution_lfr(*_conv_numbers(layer, _positions(output, layer)), bias=layer.bias is not None)


def _linear_mac(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    return layer.in_features * prod(output)


def _linear_ptflops(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    # ptflops adds the bias once, however many rows there are
    return _linear_mac(layer, inputs, output) + (layer.out_features if layer.bias is not None else 0)


def _linear_nni(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    return _linear_mac(layer, inputs, output) + (prod(output) if layer.bias is not None else 0)


def _linear_lfr(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    rows = prod(output) // layer.out_features
    return linear_lfr(layer.in_features, layer.out_features, rows, layer.bias is not None)


def _batch_norm_nni(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    return batch_norm_nni(prod(output), layer.affine)


def _norm_ptflops(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    return norm_ptflops(prod(output), layer.affine)


def _attention_sizes(layer: Any, inputs: Sequence[Shape]) -> tuple[int, int, int]:
    """Samples, queries and keys of one call of nn.MultiheadAttention."""
    query, key = inputs[0], inputs[1] if len(inputs) > 1 else inputs[0]
    if len(query) == 2:
        return 1, query[0], key[0]
    return (query[0], query[1], key[1]) if layer.batch_first else (query[1], query[0], key[0])


def _attention_mac(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    samples, queries, keys = _attention_sizes(layer, inputs)
    return samples * attention_projection_macs(queries, keys, layer.embed_dim, layer.kdim, layer.vdim)


def _attention_with_products(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    samples, queries, keys = _attention_sizes(layer, inputs)
    bias = layer.embed_dim * 2 * (queries + keys) if layer.in_proj_bias is not None else 0
    products = attention_products(queries, keys, layer.embed_dim, layer.num_heads)
    return _attention_mac(layer, inputs, output) + samples * (products + bias)


def _kernel_mac(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    return prod(output) * prod(layer.weight.shape[1:])


def library_formula(kind: type) -> Formula | None:
    """The `mac` formula of a layer of torchvision or timm, by its name: neither library has to be imported."""
    name = library_name(kind)
    return free if name in FREE_LAYERS else _kernel_mac if name in CONVOLUTIONS_LIKE else None


def _bilinear_mac(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    return layer.in1_features * layer.in2_features * prod(output)


def _matrix_entries(layer: nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters() if parameter.dim() > 1)


def _recurrent_mac(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    """Every step multiplies with every weight matrix once."""
    return _matrix_entries(layer) * (prod(inputs[0]) // inputs[0][-1])


def _recurrent_cell_mac(layer: Any, inputs: Sequence[Shape], output: Shape) -> int:
    return _matrix_entries(layer) * (prod(output) // output[-1])


@dataclass(frozen=True)
class Convention:
    """A way to count.

    Attributes:
        unit: what one count is.
        per_mac: counts per MAC of a layer type without an entry in ``formulas``.
        formulas: layer type -> formula, where the convention differs from ``mac * per_mac``.
        of_operators: whether the operators are counted rather than the layers; no formula applies, only ``per_mac``.
    """

    unit: str
    per_mac: int
    formulas: dict[type[nn.Module], Formula] = field(default_factory=dict)
    of_operators: bool = False


_CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED: tuple[type[nn.Module], ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# the private bases cover the one-, two- and three-dimensional layer of each kind
_POOLINGS: tuple[type[nn.Module], ...] = (
    pooling._MaxPoolNd,
    pooling._AvgPoolNd,
    pooling._AdaptiveAvgPoolNd,
    pooling._AdaptiveMaxPoolNd,
)
_FREE: tuple[type[nn.Module], ...] = (
    *_POOLINGS,
    pooling._LPPoolNd,
    batchnorm._NormBase,  # batch and instance norm
    dropout._DropoutNd,
    padding._ConstantPadNd,
    padding._ReflectionPadNd,
    padding._ReplicationPadNd,
    padding._CircularPadNd,
    *(nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm, nn.Embedding),
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Upsample),
    *(nn.ReLU, nn.ReLU6, nn.PReLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.GLU),
    *(nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Threshold),
    *(nn.Softplus, nn.Softsign, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin),
    *(nn.Softshrink, nn.Hardshrink, nn.Tanhshrink, nn.RReLU, nn.Fold, nn.Unfold),
    *(nn.CosineSimilarity, nn.EmbeddingBag, nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d),
    Zero,
)

CONVENTIONS = Registry[Convention]("counting convention")
MAC = CONVENTIONS.register("mac")(
    Convention(
        unit="MAC",
        per_mac=1,
        formulas={
            **dict.fromkeys(_FREE, free),
            **dict.fromkeys(_CONVOLUTIONS, _conv_mac),
            **dict.fromkeys(_TRANSPOSED, _conv_transpose_mac),
            nn.Linear: _linear_mac,
            nn.Bilinear: _bilinear_mac,
            **dict.fromkeys((nn.RNN, nn.LSTM, nn.GRU), _recurrent_mac),
            **dict.fromkeys((nn.RNNCell, nn.LSTMCell, nn.GRUCell), _recurrent_cell_mac),
            nn.MultiheadAttention: _attention_mac,
        },
    )
)
CONVENTIONS.register("flops")(Convention(unit="FLOP", per_mac=2, of_operators=True))
CONVENTIONS.register("ptflops")(
    Convention(
        unit="op",
        per_mac=1,
        formulas={
            **dict.fromkeys((*_CONVOLUTIONS, *_TRANSPOSED), _conv_with_bias),
            **dict.fromkeys(_POOLINGS, _per_input_element),
            **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.PReLU, nn.LeakyReLU, nn.ELU, nn.GELU), _per_output_element),
            **dict.fromkeys((batchnorm._NormBase, nn.GroupNorm), _norm_ptflops),
            nn.Upsample: _per_output_element,
            nn.Linear: _linear_ptflops,
            nn.MultiheadAttention: _attention_with_products,
        },
    )
)
CONVENTIONS.register("lfr")(
    Convention(
        unit="FLOP",
        per_mac=2,
        formulas={**dict.fromkeys(_CONVOLUTIONS, _conv_lfr), nn.Linear: _linear_lfr},
    )
)
CONVENTIONS.register("nni")(
    Convention(
        unit="op",
        per_mac=1,
        formulas={
            **dict.fromkeys(_CONVOLUTIONS, _conv_with_bias),
            **dict.fromkeys(
                (nn.ReLU, nn.ReLU6, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.LeakyReLU), _per_output_element
            ),
            batchnorm._BatchNorm: _batch_norm_nni,
            nn.Linear: _linear_nni,
            nn.MultiheadAttention: _attention_with_products,
        },
    )
)


def register_layer(layer: type[nn.Module], *, mac: Formula, **others: Formula) -> None:
    """Teach the counters a layer of your own. A layer that scales its input and is built from no other layers::

        register_layer(LayerScale, mac=free, ptflops=lambda layer, inputs, output: prod(output))

    Args:
        layer: the class; its subclasses are counted alike. The layers inside it are no longer counted on their own.
        mac: formula of the ``mac`` convention (see `Formula`).
        others: formulas of further conventions, by name; a convention left out counts ``mac * per_mac``.

    Raises:
        ValueError: if the layer has formulas already.
        UnknownNameError: if there is no such convention.
    """
    if layer in MAC.formulas:
        raise ValueError(f"Layer {layer.__name__} has formulas already.")
    tables = [(CONVENTIONS[name].formulas, formula) for name, formula in {"mac": mac, **others}.items()]
    for table, formula in tables:
        table[layer] = formula
    _known_types.clear()


_known_types: dict[type[nn.Module], type[nn.Module] | None] = {}


def known_type(layer: nn.Module) -> type[nn.Module] | None:
    """The nearest class of the layer's ancestry that has formulas, or None."""
    kind = type(layer)
    if kind not in _known_types:
        for base in kind.__mro__:
            if (formula := library_formula(base)) is not None:
                MAC.formulas.setdefault(base, formula)
        _known_types[kind] = next((base for base in kind.__mro__ if base in MAC.formulas), None)
    return _known_types[kind]


def count_call(convention: str, layer: nn.Module, inputs: Sequence[Shape], output: Shape) -> int:
    """Operations of one call of a known layer in a convention.

    Raises:
        UnknownNameError: if there is no such convention.
        CostError: if no formula knows the layer.
    """
    table = CONVENTIONS[convention]
    kind = known_type(layer)
    if kind is None:
        raise CostError(f"No formula knows the layer type {type(layer).__name__}. Add one with register_layer().")
    # not above `kind`: a registered subclass of Conv2d has left Conv2d's formulas behind, in every convention
    ancestry = type(layer).__mro__[: type(layer).__mro__.index(kind) + 1]
    formula = next((table.formulas[base] for base in ancestry if base in table.formulas), None)
    if formula is None:
        return table.per_mac * MAC.formulas[kind](layer, inputs, output)
    return formula(layer, inputs, output)
