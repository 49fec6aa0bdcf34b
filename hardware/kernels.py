"""A network as the fused kernels that a runtime executes, from one watched forward pass.

A batch norm, an activation or a bias that alone reads the result of a convolution, a linear layer or an addition is
part of that kernel. Views (reshape, slice, transpose) are free. Found by watching torch's operators, so additions,
concatenations and functions count as well as modules do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from searchspaces.features import FLOAT32, Features, Kernel, convolution_kind, feature_row, no_choices

from .tracing import evaluating, example_input, run

aten = torch.ops.aten
_NAMES = {
    "linear": ("mm", "addmm", "bmm", "baddbmm", "linear"),
    "pool": (
        *("max_pool2d_with_indices", "max_pool2d", "avg_pool2d", "mean", "_adaptive_avg_pool2d", "adaptive_avg_pool2d"),
        *("adaptive_max_pool2d", "amax"),
    ),
    "resize": ("upsample_nearest2d", "upsample_bilinear2d", "_upsample_nearest_exact2d", "upsample_bicubic2d"),
}
KIND_OF = {name: kind for kind, names in _NAMES.items() for name in names}
# operators of one map and constants, which runtimes append to the kernel that wrote the map
FUSED = frozenset(
    [
        *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"),
        *("relu", "relu_", "hardtanh", "hardtanh_", "clamp", "clamp_", "clamp_min", "clamp_min_", "leaky_relu"),
        *("leaky_relu_", "_prelu_kernel", "sigmoid", "sigmoid_", "hardsigmoid", "hardsigmoid_", "hardswish"),
        *("hardswish_", "silu", "silu_", "tanh", "tanh_", "elu", "elu_", "gelu", "mish"),
    ]
)
FUSING = ("conv", "grouped", "depthwise", "pointwise", "linear", "elementwise")  # kinds that take them up
FREE = frozenset(["detach", "alias", "lift_fresh", "lift_fresh_copy", "empty", "empty_like", "zeros", "_unsafe_view"])


@dataclass
class _Operator:
    """One operator that ran: its kernel if it is one of its own, and the maps that it read and wrote."""

    name: str
    kernel: Kernel
    read: list[int]
    written: int


@dataclass
class _Recorder(TorchDispatchMode):
    """All operators of a forward pass that compute something; each result is a new numbered version of a map."""

    constants: set[StorageWeakRef]
    operators: list[_Operator] = field(default_factory=list)
    versions: dict[StorageWeakRef, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        maps = [tensor for tensor in inputs if _storage(tensor) not in self.constants]
        output = next((leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)), None)
        if output is not None and maps and name not in FREE and not func.is_view:
            read = [self.versions.get(_storage(tensor), -1) for tensor in maps]
            kernel = _kernel(func, name, args, kwargs or {}, inputs, maps, output, result)
            self.versions[_storage(output)] = len(self.operators)
            self.operators.append(_Operator(name, kernel, read, len(self.operators)))
        elif output is not None and not maps and not func.is_view:
            self.constants.add(_storage(output))  # made of weights alone: folded before the network runs
        return result


def kernels_of(model: nn.Module, input_size: Sequence[int]) -> list[Kernel]:
    """The fused kernels of one forward pass, batch size 1, float32, in order; the model is left as it was.

    Raises:
        CostError: if the model does not run on the input.
    """
    x = example_input(model, input_size)
    recorder = _Recorder({_storage(tensor) for tensor in (*model.parameters(), *model.buffers())})
    with evaluating(model), recorder:
        run(model, x)
    return fuse(recorder.operators)


def fuse(operators: Sequence[_Operator]) -> list[Kernel]:
    """Append each norm and activation to the kernel that wrote its map, if nothing else reads the map."""
    readers: dict[int, int] = {}
    for operator in operators:
        for version in operator.read:
            readers[version] = readers.get(version, 0) + 1
    kernels: dict[int, Kernel] = {}
    home: dict[int, int] = {}  # version of a map -> the kernel that it leaves in the end
    for operator in operators:
        source = operator.read[0]
        target = home.get(source)
        alone = target is not None and readers[source] == 1
        if operator.name in FUSED and target is not None and alone and kernels[target].kind in FUSING:
            head = kernels[target]
            # of a norm's mean, variance, scale and shift only one bias is left
            more = operator.kernel.weights // (4 if "batch_norm" in operator.name else 1)
            kernels[target] = head._replace(weights=head.weights + more)
            home[operator.written] = target
        else:
            kernels[operator.written] = operator.kernel
            home[operator.written] = operator.written
    return list(kernels.values())


def features_of(space: str, networks: Iterable[tuple[nn.Module, Sequence[int]]]) -> Features:
    """Features of networks with their input sizes, traced one after the other (see `searchspaces.features`)."""
    rows = [feature_row(kernels_of(model, input_size)) for model, input_size in networks]
    return Features(space, {"executed": np.array(rows)}, no_choices(len(rows)))


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors) * FLOAT32


def _kernel(
    func: Any, name: str, args: Any, kwargs: Any, inputs: list[Tensor], maps: list[Tensor], output: Tensor, result: Any
) -> Kernel:
    weights = _bytes(tensor for tensor in inputs if not any(tensor is one for one in maps))
    read, written = _bytes(maps), _bytes([output])
    if name in ("convolution", "_convolution"):
        x, weight = args[0], args[1]
        groups = args[8]
        kind = convolution_kind(x.shape[1], max(weight.shape[2:]), groups)
    else:
        kind = KIND_OF.get(name, "elementwise")
    if kind == "pool":
        return Kernel(kind, _window(name, args) * output.numel() or maps[0].numel(), read, written, 0)
    formula = flop_registry.get(func._overloadpacket)
    macs = formula(*args, **kwargs, out_val=result) // 2 if formula else 0
    return Kernel(kind, macs, read, written, weights)


def _window(name: str, args: Any) -> int:
    """Elements of a pooling's window; 0 where it is the whole map."""
    if name not in ("max_pool2d_with_indices", "max_pool2d", "avg_pool2d"):
        return 0
    sides = list(args[1])
    return prod(sides * 2 if len(sides) == 1 else sides)
