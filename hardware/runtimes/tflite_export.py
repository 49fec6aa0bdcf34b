"""A network as a LiteRT file, operator by operator, in milliseconds and without LiteRT's converter of 1 GB.

Batch norms become part of the convolution before them, and activations part of the operator that wrote their map, where
nothing else reads it. Written from TensorFlow's definitions of its operators (padding "SAME" puts the odd pixel at the
end, where torch pads both sides alike).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .recording import Call, UnknownOperatorError, Value, record
from .tflite import to_bytes
from .tflite_lowering import (
    AXIS,
    LAST,
    RELU,
    RELU6,
    SAME,
    VALID,
    Array,
    Lowering,
    Shape,
    array,
    shape_of,
    stored,
)


def network_bytes(model: nn.Module, x: Tensor, for_int8: bool = False) -> bytes:
    """The network in evaluation mode as a LiteRT file of batch size 1; an input map has its channels last, outputs
    keep torch's layout.

    Args:
        model: the network; left as it was.
        x: (1, C, H, W) or (1, F), an input.
        for_int8: write it as it is best quantised (see `Lowering`); the function is the same.

    Raises:
        UnknownOperatorError: if it uses an operator that is not known here.
        CostError: if it does not run on the input.
    """
    return to_bytes(Lowering(record(model, x), RULES, for_int8).graph)


# ---- convolutions and what follows them


def convolution(to: Lowering, call: Call) -> int:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = call.args
    if transposed or len(x.shape) != 4:
        raise UnknownOperatorError(call.name, " (transposed, or not of maps)" if transposed else " of rank 3 or 5")
    kernel, out = array(weight), shape_of(call)[2:]
    window = Window(kernel.shape[2:], both(stride), both(padding), both(dilation))
    tensor, same = window.add_padding(to, to.tensor(x), x, out)
    options = {"padding": SAME if same else VALID, "strideH": stride[0], "strideW": stride[-1]}
    options |= {"dilationHFactor": dilation[0], "dilationWFactor": dilation[-1]}
    channels = x.shape[1]
    bias_tensor = to.graph.constant(array(bias) if bias is not None else np.zeros(len(kernel), np.float32))
    if groups == channels and groups > 1:  # weights (outputs, 1, height, width) -> (1, height, width, outputs)
        name, weights = "DEPTHWISE_CONV_2D", kernel.transpose(1, 2, 3, 0)
        options["depthMultiplier"] = len(kernel) // channels
    else:
        name, weights = "CONV_2D", kernel.transpose(LAST)
    inputs = [tensor, to.graph.constant(weights), bias_tensor]
    return to.graph.add(name, inputs, (1, *out, len(kernel)), **options)


@dataclass(frozen=True)
class Window:
    """A convolution's or pooling's window on maps: rows and columns each."""

    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape = (1, 1)

    def add_padding(self, to: Lowering, tensor: int, x: Value, out: Shape, value: float = 0.0) -> tuple[int, bool]:
        """The map with torch's padding, and whether the operator is to pad by itself as TensorFlow's "SAME"."""
        pads, same = [], True
        for n, o, k, s, p, d in zip(
            x.shape[2:], out, self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            extent = d * (k - 1) + 1
            missing = max((-(-n // s) - 1) * s + extent - n, 0)  # what "SAME" adds, the smaller half in front
            same &= o == -(-n // s) and missing // 2 == p and p > 0
            pads.append((p, max(0, (o - 1) * s + extent - n - p)))
        return (tensor, True) if same else (to.pad_map(tensor, pads[0], pads[1], value), False)


def both(numbers: Sequence[int]) -> Shape:
    """One number for rows and columns, or two."""
    return (numbers[0], numbers[-1])


def batch_norm(to: Lowering, call: Call) -> int:
    """Scale and shift; part of the convolution's weights if nothing else reads its map."""
    x, gamma, beta, mean, variance = call.args[:5]
    training, epsilon = (False, call.args[-1]) if "no_training" in call.name else (call.args[5], call.args[7])
    if training or mean is None or isinstance(gamma, Value) or len(x.shape) not in (2, 4):
        raise UnknownOperatorError(call.name, " with the statistics of the batch, or of rank 3 or 5")
    scale = 1 / np.sqrt(array(variance).astype(np.float64) + epsilon)
    if gamma is not None:
        scale = scale * array(gamma)
    shift = -array(mean) * scale + (0 if beta is None else array(beta))
    tensor = to.tensor(x)
    last = to.writer(tensor)
    if (
        last is not None
        and last.name in ("CONV_2D", "DEPTHWISE_CONV_2D")
        and to.alone(tensor)
        and "fusedActivationFunction" not in last.options
    ):
        _, weight, bias = last.inputs
        kernel = to.graph.constants[weight] * (scale if last.name[0] == "D" else scale[:, None, None, None])
        to.strided.pop(tensor, None)
        to.graph.constants[weight] = np.ascontiguousarray(kernel, np.float32)
        to.graph.constants[bias] = (to.graph.constants[bias] * scale + shift).astype(np.float32)
        return tensor
    return _affine(to, tensor, scale, shift)


def _affine(to: Lowering, tensor: int, scale: Array, shift: Array) -> int:
    shape = to.graph.shapes[tensor]
    factors, terms = (to.graph.constant(numbers.astype(np.float32)) for numbers in (scale, shift))
    scaled = to.graph.add("MUL", [tensor, factors], shape)
    return to.graph.add("ADD", [scaled, terms], shape)


def linear(to: Lowering, call: Call) -> int:
    if call.name == "addmm":
        bias, x, weight = call.args[:3]
    else:
        x, weight, bias = call.args[0], call.args[1], None
    plain = bias is None or (isinstance(bias, Tensor) and bias.shape == weight.shape[1:])
    if call.kwargs or not isinstance(x, Value) or not isinstance(weight, Tensor) or not plain:
        raise UnknownOperatorError(call.name, " of two activations, or scaled")
    kernel = np.ascontiguousarray(array(weight).T)
    terms = array(bias) if bias is not None else np.zeros(len(kernel), np.float32)
    inputs = [to.tensor(x), to.graph.constant(kernel), to.graph.constant(terms)]
    return to.graph.add("FULLY_CONNECTED", inputs, (x.shape[0], len(kernel)), keepNumDims=False)


# ---- pools and resizing


def max_pool(to: Lowering, call: Call) -> int:
    x, window, rest = _pool(call)
    dilation, ceil = _filled(rest, (1,), False)
    if ceil or max(dilation) > 1:
        raise UnknownOperatorError(call.name, " with ceil_mode or dilation")
    tensor, same = window.add_padding(to, to.tensor(x), x, shape_of(call)[2:], float(np.finfo(np.float32).min))
    return _pooled(to, "MAX_POOL_2D", tensor, shape_of(call), window, same)


def average_pool(to: Lowering, call: Call) -> int:
    x, window, rest = _pool(call)
    ceil, include, divisor = _filled(rest, False, True, None)
    if ceil or divisor:
        raise UnknownOperatorError(call.name, " with ceil_mode or a divisor")
    tensor, same = window.add_padding(to, to.tensor(x), x, shape_of(call)[2:])
    if include and same:  # "SAME" counts the picture's own pixels only
        rows, columns = ((p, p) for p in window.padding)
        tensor, same = to.pad_map(to.tensor(x), rows, columns), False
    if to.for_int8:
        if same:
            rows, columns = ((p, p) for p in window.padding)
            tensor, same = to.pad_map(tensor, rows, columns), False
        kernel, weight = window.kernel, 1 / prod(window.kernel)
        pooled = to.window_sum(tensor, stored(shape_of(call)), kernel, window.stride, weight, padding=VALID)
    else:
        pooled = _pooled(to, "AVERAGE_POOL_2D", tensor, shape_of(call), window, same)
    if same or include or not any(window.padding):
        return pooled
    ones = torch.ones(1, 1, *x.shape[2:])
    share = nn.functional.avg_pool2d(ones, list(window.kernel), list(window.stride), list(window.padding))
    correction = to.graph.constant((1 / share).numpy().transpose(LAST))
    return to.graph.add("MUL", [pooled, correction], to.graph.shapes[pooled])


def _pooled(to: Lowering, name: str, tensor: int, shape: Shape, window: Window, same: bool) -> int:
    options = {"padding": SAME if same else VALID, "strideH": window.stride[0], "strideW": window.stride[1]}
    options |= {"filterHeight": window.kernel[0], "filterWidth": window.kernel[1]}
    return to.graph.add(name, [tensor], stored(shape), **options)


def adaptive_pool(to: Lowering, call: Call) -> int:
    x, size = call.args[:2]
    if any(n % out for n, out in zip(x.shape[2:], size, strict=True)):
        raise UnknownOperatorError(call.name, " to a size that does not divide the map's")
    sides = tuple(n // out for n, out in zip(x.shape[2:], size, strict=True))
    return _pooled(to, "AVERAGE_POOL_2D", to.tensor(x), shape_of(call), Window(sides, sides, (0, 0)), False)


def adaptive_max(to: Lowering, call: Call) -> list[int]:
    """The largest of each map; where it is, the second result, is not written."""
    x, size = call.args[:2]
    if tuple(size) != (1, 1):
        raise UnknownOperatorError(call.name, " to more than one value a map")
    axes = to.graph.constant(np.array([1, 2], np.int32))
    found = to.graph.add("REDUCE_MAX", [to.tensor(x), axes], (x.shape[0], 1, 1, x.shape[1]), keepDims=True)
    return [found, found]


def mean(to: Lowering, call: Call) -> int:
    return _reduced(to, "MEAN", call)


def amax(to: Lowering, call: Call) -> int:
    return _reduced(to, "REDUCE_MAX", call)


def _reduced(to: Lowering, name: str, call: Call) -> int:
    x, axes, keep = _filled(call.args, None, None, call.kwargs.get("keepdim", False))
    rank = len(x.shape)
    tensor = to.tensor(x)
    axes = [axis % rank for axis in (axes or range(rank))]
    here = [AXIS[axis] if rank == 4 else axis for axis in axes]
    # with one axis left of a map, channels are last in both layouts
    if not keep and rank == 4 and sorted(axes) not in ([2, 3], [1, 2, 3], [0, 1, 2, 3], [0, 2, 3]):
        raise UnknownOperatorError(call.name, f" over the axes {axes} of a map")
    shape = stored(shape_of(call)) if keep else shape_of(call)
    return to.graph.add(name, [tensor, to.graph.constant(np.array(here, np.int32))], shape, keepDims=bool(keep))


def resize(to: Lowering, call: Call) -> int:
    bilinear = "bilinear" in call.name
    shape = shape_of(call)
    corners = bool(call.args[2]) if bilinear and len(call.args) > 2 else False
    if not bilinear and any(out % n for out, n in zip(shape[2:], call.args[0].shape[2:], strict=True)):
        raise UnknownOperatorError(call.name, " to a size that is no multiple of the map's")
    scales = [scale for scale in tree_leaves(list(call.args[2 + bilinear :])) if isinstance(scale, float)]
    if any(scale * n != out for scale, n, out in zip(scales, call.args[0].shape[2:], shape[2:], strict=False)):
        raise UnknownOperatorError(call.name, " by a scale that is not that of the sizes")
    size = to.graph.constant(np.array(shape[2:], np.int32))
    name = "RESIZE_BILINEAR" if bilinear else "RESIZE_NEAREST_NEIGHBOR"
    options = {"alignCorners": corners, "halfPixelCenters": bilinear and not corners}
    return to.graph.add(name, [to.tensor(call.args[0]), size], stored(shape), **options)


# ---- element by element


def binary(to: Lowering, name: str, call: Call) -> int:
    first, second = call.args[:2]
    if call.kwargs.get("alpha", 1) != 1 or set(call.kwargs) - {"alpha"} or len(call.args) > 2:
        raise UnknownOperatorError(call.name, " with a factor")
    shape = shape_of(call)
    sides = [_broadcast(to, side, len(shape)) for side in (first, second)]
    return to.graph.add(name, sides, stored(shape))


def _broadcast(to: Lowering, side: Any, rank: int) -> int:
    """An operand of a result of this rank: channels last needs all axes of what is not a single number."""
    shape = tuple(getattr(side, "shape", ()))
    if rank != 4 or len(shape) in (0, 4):
        return to.tensor(side)
    full = (1,) * (4 - len(shape)) + shape
    if isinstance(side, Value):
        return to.from_torch(to.reshape(to.tensor(side), full))
    return to.tensor(array(side).reshape(full))


def clamp(to: Lowering, call: Call) -> int:
    low, high = ([*call.args[1:3], None, None])[:2]
    low, high = call.kwargs.get("min", low), call.kwargs.get("max", high)
    if call.name == "hardtanh":
        low, high = (-1.0, 1.0) if low is None else (low, high)
    if low == 0 and high is None:
        return to.activate(call.args[0], "RELU", RELU)
    if low == 0 and high == 6:
        return to.activate(call.args[0], "RELU6", RELU6)
    tensor = to.tensor(call.args[0])
    for name, limit in (("MAXIMUM", low), ("MINIMUM", high)):
        if limit is not None:
            bound = to.graph.constant(np.array(limit, np.float32))
            tensor = to.graph.add(name, [tensor, bound], to.graph.shapes[tensor])
    return tensor


def hard_sigmoid(to: Lowering, call: Call) -> int:
    tensor = to.tensor(call.args[0])
    shape = to.graph.shapes[tensor]
    three, sixth = (to.graph.constant(np.array(value, np.float32)) for value in (3.0, 1 / 6))
    raised = to.graph.add("ADD", [tensor, three], shape, fusedActivationFunction=RELU6)
    return to.graph.add("MUL", [raised, sixth], shape)


def silu(to: Lowering, call: Call) -> int:
    tensor = to.tensor(call.args[0])
    shape = to.graph.shapes[tensor]
    return to.graph.add("MUL", [tensor, to.graph.add("LOGISTIC", [tensor], shape)], shape)


def prelu(to: Lowering, call: Call) -> int:
    tensor = to.tensor(call.args[0])
    if len(call.args[0].shape) not in (2, 4):
        raise UnknownOperatorError(call.name, f" of rank {len(call.args[0].shape)}")
    slopes = array(call.args[1]).reshape(-1)
    shape = to.graph.shapes[tensor]
    per_map = np.broadcast_to(slopes, shape[-1:]).reshape((1,) * (len(shape) - 2) + shape[-1:])
    return to.graph.add("PRELU", [tensor, to.graph.constant(np.ascontiguousarray(per_map))], shape)


def gelu(to: Lowering, call: Call) -> int:
    tensor = to.tensor(call.args[0])
    about = call.kwargs.get("approximate", "none") == "tanh"
    return to.graph.add("GELU", [tensor], to.graph.shapes[tensor], approximate=about)


def softmax(to: Lowering, call: Call) -> int:
    x, axis = call.args[:2]
    rank = len(x.shape)
    if (AXIS[axis % rank] if rank == 4 else axis % rank) != rank - 1:
        raise UnknownOperatorError(call.name, f" over axis {axis}")
    return to.graph.add("SOFTMAX", [to.tensor(x)], stored(x.shape), beta=1.0)


# ---- shapes


def concatenate(to: Lowering, call: Call) -> int:
    axis = (call.args[1] if len(call.args) > 1 else 0) % len(shape_of(call))
    here = AXIS[axis] if len(shape_of(call)) == 4 else axis
    parts = [to.tensor(part) for part in call.args[0]]
    return to.graph.add("CONCATENATION", parts, stored(shape_of(call)), axis=here)


def view(to: Lowering, call: Call) -> int:
    x = call.args[0]
    return to.from_torch(to.reshape(to.as_torch(x), shape_of(call)))


def permute(to: Lowering, call: Call) -> int:
    x, rank = call.args[0], len(call.args[0].shape)
    order = list(range(rank))
    if call.name == "permute":
        order = [axis % rank for axis in call.args[1]]
    elif call.name == "t":
        order = order[::-1]
    else:
        i, j = (axis % rank for axis in call.args[1:3])
        order[i], order[j] = order[j], order[i]
    return to.from_torch(to.transpose(to.as_torch(x), order))


def cut(to: Lowering, call: Call) -> int:
    """x[..., start:end:step] of one axis."""
    x = call.args[0]
    axis, start, end, step = _filled(call.args[1:], 0, None, None, 1)
    rank = len(x.shape)
    axis %= rank
    n = x.shape[axis]
    begin, until = (min(max(i + n if i < 0 else i, 0), n) for i in (start or 0, n if end is None else end))
    here = AXIS[axis] if rank == 4 else axis
    shape = stored(x.shape)
    if (begin, until, step) == (0, n, 1):
        return to.tensor(x)
    begins, ends, steps = [0] * rank, list(shape), [1] * rank
    begins[here], ends[here], steps[here] = begin, until, step
    tensor = to.tensor(x)
    if (begin, until) != (0, n):
        tensor = to.slice(tensor, begins, ends)
    return tensor if step == 1 else _strided(to, call, tensor, steps)


def _strided(to: Lowering, call: Call, tensor: int, steps: list[int]) -> int:
    """Every so many; two axes one after the other become one operator."""
    last = to.writer(tensor)
    if tensor in to.strided and to.alone(tensor) and last is not None and steps[3:] == [1]:
        source, before = to.strided.pop(tensor)
        steps = [a * b for a, b in zip(steps, before, strict=True)]
        to.graph.operators.remove(last)
        tensor = source
    found = to.every(tensor, steps)
    to.strided[found] = (tensor, steps)
    return found


def split(to: Lowering, call: Call) -> list[int]:
    x, sizes = call.args[0], call.args[1]
    axis = (call.args[2] if len(call.args) > 2 else call.kwargs.get("dim", 0)) % len(x.shape)
    here = AXIS[axis] if len(x.shape) == 4 else axis
    shape, begin, parts = stored(x.shape), 0, []
    pieces = sizes if not isinstance(sizes, int) else [value.shape[axis] for value in call.results if value]
    for size in pieces:
        begins, ends = [0] * len(shape), list(shape)
        begins[here], ends[here] = begin, begin + size
        parts.append(to.slice(to.tensor(x), begins, ends))
        begin += size
    return parts


def pad_constant(to: Lowering, call: Call) -> int:
    x, amounts = call.args[:2]
    value = call.args[2] if len(call.args) > 2 else 0
    rank = len(x.shape)
    before, after = [0] * rank, [0] * rank
    for number in range(len(amounts) // 2):
        axis = rank - 1 - number
        here = AXIS[axis] if rank == 4 else axis
        before[here], after[here] = amounts[2 * number : 2 * number + 2]
    tensor, shape = to.tensor(x), stored(x.shape)
    if min((*before, *after)) < 0:  # torch cuts there
        begins = [max(-b, 0) for b in before]
        ends = [n - max(-a, 0) for n, a in zip(shape, after, strict=True)]
        tensor = to.slice(tensor, begins, ends)
    return to.pad(tensor, [max(b, 0) for b in before], [max(a, 0) for a in after], value)


def keep(to: Lowering, call: Call) -> int:
    return to.tensor(call.args[0])


def _pool(call: Call) -> tuple[Value, Window, Sequence[Any]]:
    """The map, the window, and the arguments after kernel, stride and padding."""
    x, kernel, *rest = call.args
    if len(x.shape) != 4:
        raise UnknownOperatorError(call.name, f" of rank {len(x.shape)}")
    stride = rest[0] if rest and rest[0] else kernel
    padding = rest[1] if len(rest) > 1 else (0,)
    return x, Window(both(kernel), both(stride), both(padding)), rest[2:]


def _filled(given: Sequence[Any], *defaults: Any) -> list[Any]:
    """Arguments with the defaults of those that were left out."""
    return [*given, *defaults[len(given) :]]


def _unary(name: str) -> Callable[[Lowering, Call], int]:
    return lambda to, call: to.activate(call.args[0], name)


def _binary(name: str) -> Callable[[Lowering, Call], int]:
    return lambda to, call: binary(to, name, call)


# torch's operator -> what writes it
RULES: dict[str, Callable[[Lowering, Call], Any]] = {
    **dict.fromkeys(("convolution", "_convolution"), convolution),
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"), batch_norm
    ),
    **dict.fromkeys(("addmm", "mm"), linear),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool2d"), max_pool),
    "avg_pool2d": average_pool,
    **dict.fromkeys(("_adaptive_avg_pool2d", "adaptive_avg_pool2d"), adaptive_pool),
    "adaptive_max_pool2d": adaptive_max,
    "mean": mean,
    "amax": amax,
    **dict.fromkeys(("upsample_bilinear2d", "upsample_nearest2d"), resize),
    "relu": lambda to, call: to.activate(call.args[0], "RELU", RELU),
    **dict.fromkeys(("clamp", "clamp_min", "hardtanh"), clamp),
    "hardsigmoid": hard_sigmoid,
    "silu": silu,
    "_prelu_kernel": prelu,
    "gelu": gelu,
    "_softmax": softmax,
    **{
        torchs: _unary(name)
        for torchs, name in (("sigmoid", "LOGISTIC"), ("tanh", "TANH"), ("hardswish", "HARD_SWISH"))
    },
    **{torchs: _binary(name) for torchs, name in (("add", "ADD"), ("sub", "SUB"), ("mul", "MUL"), ("div", "DIV"))},
    "cat": concatenate,
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze"), view),
    **dict.fromkeys(("permute", "transpose", "t"), permute),
    "slice": cut,
    **dict.fromkeys(("split", "split_with_sizes"), split),
    "constant_pad_nd": pad_constant,
    **dict.fromkeys(("clone", "detach", "alias", "contiguous", "_to_copy", "lift_fresh", "dropout"), keep),
}
