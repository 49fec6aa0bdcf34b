"""MACs of torch's operators, whoever runs them: a layer, a function, or an attention kernel.

The counts are those of torch's own `FlopCounterMode` (half of its FLOPs), and of the matrix operators that it does not
see: attention and recurrent kernels of a CPU, products with a vector, bilinear products, deformable convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

OperatorFormula = Callable[[tuple[Any, ...], dict[str, Any], Any], int]
"""(arguments, keyword arguments, result) of an operator -> MACs."""


def _convolution(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    transposed = args[6]
    return (args[0] if transposed else result).numel() * prod(args[1].shape[1:])


def _product(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    return args[0].numel() * args[1].shape[-1]


def _added_product(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    return args[1].numel() * args[2].shape[-1]


def _vector_product(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    return args[0].numel()


def _added_vector_product(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    return args[1].numel()


def _attention(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    query, key, value = (tensor.shape for tensor in args[:3])
    return sdpa_flop_count(query, key, value) // 2


def _recurrent(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """One layer and direction: (steps, batch, inputs) with the weights of all gates (4 h, inputs) and (4 h, h)."""
    inputs, of_input, of_state = args[:3]
    return prod(inputs.shape[:-1]) * (of_input.numel() + of_state.numel())


def _bilinear(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    shapes = [list(tensor.shape) for tensor in args[:3]]
    for shape, added in zip(shapes, args[3:6], strict=True):
        for axis in added:
            shape.insert(axis, 1)
    return prod(torch.broadcast_shapes(*shapes))


def _deformable(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    return result.numel() * prod(args[1].shape[1:])


_aten = torch.ops.aten
# The operators that almost all networks use have short formulas here; others are asked of torch (`_of_torch`).
_FORMULAS: dict[Any, OperatorFormula] = {
    **dict.fromkeys((_aten.convolution, _aten._convolution), _convolution),
    **dict.fromkeys((_aten.mm, _aten.bmm, _aten._int_mm), _product),
    **dict.fromkeys((_aten.addmm, _aten.baddbmm, _aten.addbmm), _added_product),
    **dict.fromkeys((_aten.mv, _aten.dot, _aten.vdot), _vector_product),
    _aten.addmv: _added_vector_product,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten.mkldnn_rnn_layer: _recurrent,
    _aten._trilinear: _bilinear,
}
_NAMED_FORMULAS: dict[str, OperatorFormula] = {"torchvision::deform_conv2d": _deformable}
# Operators outside of aten that hold no convolution and no matrix product.
_FREE_NAMESPACES = frozenset({"prim", "prims", "profiler", "quantized_decomposed", "higher_order_free"})
_FREE = frozenset({f"torchvision::{name}" for name in ("nms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")})
# Operators of aten that multiply matrices, or do what matrices could do, and have no agreed count.
_COSTLY_PREFIXES = (
    *("_fft_", "fft_", "linalg_", "_linalg_", "_cdist", "cdist", "_euclidean_dist", "_sparse_", "sparse_", "sspaddmm"),
    *("_transformer_encoder", "_native_multi_head", "_thnn_fused", "_cudnn_rnn", "miopen_rnn", "_weight_int", "_dyn_"),
    *("_grouped_mm", "_scaled_grouped", "_scaled_mm", "_addmm_activation", "cholesky", "triangular_solve", "addr"),
    *("_linear", "mkldnn_", "_mkldnn", "_triton", "_wrapped", "hspmm", "_spdiags", "matrix_exp", "_compute_linear"),
)


def formula_of(operator: Any) -> OperatorFormula | None:
    """How the MACs of an operator are counted; None if it has none or if nobody knows (`is_unknown`)."""
    packet = getattr(operator, "overloadpacket", operator)
    if packet in _FORMULAS:
        return _FORMULAS[packet]
    if packet in flop_registry:
        return _of_torch(flop_registry[packet])
    return _NAMED_FORMULAS.get(name_of(operator))


def is_unknown(operator: Any) -> bool:
    """Whether an operator without a formula may hold MACs: those of other libraries, and costly ones of torch."""
    name = name_of(operator)
    space, _, short = name.partition("::")
    if space == "aten":
        return short.startswith(_COSTLY_PREFIXES)
    return space not in _FREE_NAMESPACES and name not in _FREE


def name_of(operator: Any) -> str:
    """An operator's name with its library's, such as ``aten::mm``, without its overload."""
    name = str(operator.name() if callable(operator.name) else operator.name)
    return (name if "::" in name else f"higher_order::{name}").partition(".")[0]


def _of_torch(flops: Callable[..., int]) -> OperatorFormula:
    """A formula registered with torch (`torch.utils.flop_counter.register_flop_formula`), of FLOPs."""

    def macs(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
        tensors = result if isinstance(result, Tensor) else tuple(result)
        return flops(*args, **kwargs, out_val=tensors) // 2

    return macs
