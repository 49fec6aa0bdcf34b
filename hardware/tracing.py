"""One forward pass, watched: which layers ran on which shapes, and how long each tensor was needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from searchspaces.errors import CostError

from .conventions import Shape, known_type
from .messages import reason


@dataclass(frozen=True)
class LayerCall:
    """One call of one layer: a module that has a formula, or one without children.

    Attributes:
        name: the layer's name in its model.
        layer: the module.
        inputs: shapes of its input tensors, with the batch axis.
        output: shape of its first output tensor.
        operator_macs: MACs of the convolution and matrix operators that ran inside the call.
    """

    name: str
    layer: nn.Module
    inputs: list[Shape]
    output: Shape
    operator_macs: int


class Lifetimes(TorchDispatchMode):
    """First and last operator that needs each storage; views and in-place results share one storage.

    Liveness is that of the operator graph, as an executor sees it that frees a tensor after its last use. The
    lifetimes of Python variables play no part (the caller of a block holds the block's input until it returns).
    A result that nothing reads, such as the indices of a max pooling, is not counted: an executor does not keep it.
    Storages that were there before the pass (weights, buffers, constants) are not counted; the input is.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        # a weak reference keeps the address of a freed storage from being given to the next one
        self._bytes: dict[StorageWeakRef, int] = {}
        self._first: dict[StorageWeakRef, int] = {}
        self._last: dict[StorageWeakRef, int] = {}

    def add(self, value: Any) -> None:
        """Register new tensors: the model's input, or an operator's results."""
        for tensor in _strided_tensors(value):
            storage = StorageWeakRef(tensor.untyped_storage())
            if storage not in self._bytes:
                elements = tensor.untyped_storage().nbytes() // tensor.element_size()
                self._bytes[storage] = elements * (4 if tensor.is_floating_point() else tensor.element_size())
                self._first[storage] = self.steps

    def use(self, value: Any) -> None:
        """The current step reads these tensors (the last step: the model returns them)."""
        for tensor in _strided_tensors(value):
            storage = StorageWeakRef(tensor.untyped_storage())
            if storage in self._bytes:
                self._last[storage] = self.steps

    def ignore(self, tensors: Sequence[Tensor]) -> None:
        """These are no intermediate tensors: weights and buffers."""
        for tensor in _strided_tensors(tensors):
            self._bytes[StorageWeakRef(tensor.untyped_storage())] = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = _strided_tensors((args, kwargs))
        result = func(*args, **kwargs)
        for tensor in before:
            if (storage := StorageWeakRef(tensor.untyped_storage())) not in self._bytes:
                self._bytes[storage] = 0  # read before anything wrote it: a constant
        self.use(before)
        self.add(result)
        self.steps += 1
        return result

    def bytes(self) -> dict[str, int]:
        """``peak``: most bytes needed at one operator; ``total``: bytes of all intermediate tensors. float32."""
        change = [0] * (self.steps + 2)
        for storage, last in self._last.items():
            if storage in self._first:
                change[self._first[storage]] += self._bytes[storage]
                change[last + 1] -= self._bytes[storage]
        return {
            "peak": max(accumulate(change)),
            "total": sum(self._bytes[storage] for storage in self._last),
        }


@dataclass
class Trace:
    """What one forward pass did.

    Attributes:
        calls: the layer calls, in order of execution.
        executed: every module that ran, by name, containers included; the parts of a layer count as run.
        outside: name of a container -> MACs of operators that it ran itself, outside of all layers.
        activations: the lifetimes of the intermediate tensors.
    """

    calls: list[LayerCall] = field(default_factory=list)
    executed: dict[str, nn.Module] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    activations: Lifetimes = field(default_factory=Lifetimes)


def _strided_tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.layout is torch.strided]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module has its own mode again."""
    modes = {module: module.training for module in model.modules()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        # the fused attention kernels of torch hide their operators from the counters and from the ONNX exporter
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, mode in modes.items():
            module.training = mode


def example_input(model: nn.Module, input_size: Sequence[int], seed: int | None = None) -> Tensor:
    """One input, batch size 1, on the model's device and in its number type.

    Args:
        model: the network.
        input_size: channels, height, width.
        seed: normal noise of this seed; zeros without it.

    Raises:
        CostError: if the size is not a size.
    """
    if not input_size or any(not isinstance(n, int) or n < 1 for n in input_size):
        raise CostError(f"The input size {tuple(input_size)} is not a size: it needs positive whole numbers.")
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    shape = (1, *input_size)
    if seed is None:
        return torch.zeros(shape, dtype=weight.dtype, device=weight.device)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return noise.to(dtype=weight.dtype, device=weight.device)


def run(model: nn.Module, x: Tensor) -> Any:
    """The model's output.

    Raises:
        CostError: if the model fails on this input.
    """
    try:
        return model(x)
    except Exception as error:
        size = "x".join(str(n) for n in x.shape[1:])
        raise CostError(
            f"{type(model).__name__} fails on an input of {size}: {reason(error)}. "
            "Give the input size that the network was made for."
        ) from error


def trace(model: nn.Module, input_size: Sequence[int]) -> Trace:
    """Watch one forward pass of a zero input in evaluation mode; the model is left as it was.

    Raises:
        CostError: if the model does not run on the input, or is TorchScript.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise CostError("A TorchScript module hides its layers: count the nn.Module that it was made from.")
    x = example_input(model, input_size)
    result = Trace()
    lifetimes = result.activations
    lifetimes.ignore([*model.parameters(), *model.buffers()])
    lifetimes.add(x)
    # torch counts attention products on a GPU only
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    flops = FlopCounterMode(display=False, custom_mapping={attention: _sdpa_flops})
    handles: list[Any] = []
    try:
        watcher = _Watcher(result, flops)
        for name, module, is_layer in _watched(model):
            handles += watcher.attach(name, module, is_layer)
        with evaluating(model), flops, lifetimes:
            output = run(model, x)
        lifetimes.use(output)
    finally:
        for handle in handles:
            handle.remove()
    return result


def _sdpa_flops(query: Shape, key: Shape, value: Shape, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _watched(model: nn.Module) -> Iterator[tuple[str, nn.Module, bool]]:
    """All modules by name, and whether each is a layer; the insides of a layer with a formula are left out."""
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        known = known_type(module) is not None
        if known:
            inside.update(module.modules())
        childless = next(module.children(), None) is None and not isinstance(module, nn.Sequential)
        yield name or type(model).__name__, module, known or childless


class _Watcher:
    """The hooks that fill a `Trace`."""

    def __init__(self, result: Trace, flops: FlopCounterMode) -> None:
        self.result, self.flops = result, flops
        # for each module that is running: FLOPs when it began, and those of the modules inside it so far
        self.running: list[list[int]] = []

    def attach(self, name: str, module: nn.Module, is_layer: bool) -> list[Any]:
        def before(module: nn.Module, args: Any) -> None:
            self.running.append([self.flops.get_total_flops(), 0])

        def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            began, inside = self.running.pop()
            flops = self.flops.get_total_flops() - began
            if self.running:
                self.running[-1][1] += flops
            self.result.executed[name] = module
            if is_layer:
                inputs = [tuple(tensor.shape) for tensor in _tensors((args, kwargs))]
                outputs = [tuple(tensor.shape) for tensor in _tensors(output)]
                call = LayerCall(name, module, inputs, outputs[0] if outputs else (), flops // 2)
                self.result.calls.append(call)
            elif flops > inside:
                self.result.outside[name] = self.result.outside.get(name, 0) + (flops - inside) // 2

        return [module.register_forward_pre_hook(before), module.register_forward_hook(after, with_kwargs=True)]


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
