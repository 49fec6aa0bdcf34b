"""One forward pass, watched: which layers ran on which shapes, and how long each tensor was needed.

The pass is a run on shapes alone (see `hardware.shapes`), which takes a fraction of the time of computing. A network
that looks at values on its way (or does anything else that shapes do not tell) is run again with values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from searchspaces.errors import CostError

from .conventions import Shape, known_type
from .lifetimes import Lifetimes, strided_tensors, tensors_in
from .messages import reason
from .operators import OperatorFormula, formula_of, is_unknown, name_of
from .shapes import ShapeTensor, run_on_shapes, shape_tensor


@dataclass(frozen=True)
class LayerCall:
    """One call of one layer: a module that has a formula, or one without children.

    Attributes:
        name: the layer's name in its model.
        layer: the module.
        inputs: shapes of its input tensors, with the batch axis.
        output: shape of its first output tensor.
        operator_macs: MACs of the convolution and matrix operators that ran inside the call.
        opaque: whether operators ran inside the call that may hold MACs nobody can count.
    """

    name: str
    layer: nn.Module
    inputs: list[Shape]
    output: Shape
    operator_macs: int
    opaque: bool = False


@dataclass
class Trace:
    """What one forward pass did.

    Attributes:
        calls: the layer calls, in order of execution.
        executed: every module that ran, by name, containers included; the parts of a layer count as run.
        outside: name of a container -> MACs of operators that it ran itself, outside of all layers.
        unknown: name of an operator that may hold MACs nobody can count -> name of the first module that ran it.
            Those inside of a layer with a formula are the formula's affair.
        operator_macs: MACs of all operators.
        parameters: those that an operator read, by id; a layer's weights may be used without calling the layer.
        activations: the lifetimes of the intermediate tensors.
    """

    calls: list[LayerCall] = field(default_factory=list)
    executed: dict[str, nn.Module] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    operator_macs: int = 0
    parameters: dict[int, nn.Parameter] = field(default_factory=dict)
    activations: Lifetimes = field(default_factory=Lifetimes)


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
            if module.training != mode:
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


def trace(model: nn.Module, input_size: Sequence[int], memory: bool = True) -> Trace:
    """Watch one forward pass of a zero input in evaluation mode; the model is left as it was.

    Args:
        model: the network.
        input_size: channels, height, width.
        memory: whether to follow the lifetimes of tensors, which takes a third of the time.

    Raises:
        CostError: if the model does not run on the input, or is TorchScript.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise CostError("A TorchScript module hides its layers: count the nn.Module that it was made from.")
    x = example_input(model, input_size)
    try:
        result = _Watcher(model, memory).run(model, shape_tensor(x))
        if not _keeps_shape_tensors(model):
            return result
    except CostError:
        pass  # needs values, or fails with them as well
    return _Watcher(model, memory).run(model, x)


ATOMS = {bool, int, float, str, type(None)}  # types of most attributes of a module, which hold no tensor


def _keeps_shape_tensors(model: nn.Module) -> bool:
    """Whether the model has stored a tensor without values in one of its modules: a second run replaces it."""
    for module in model.modules():
        for name, value in module.__dict__.items():
            if value.__class__ in ATOMS or name in ("_modules", "_parameters"):
                continue
            entries = value.values() if isinstance(value, dict) else value
            if isinstance(entries, ShapeTensor):
                return True
            if value is not entries or isinstance(entries, list | tuple):
                for entry in entries:
                    if isinstance(entry, ShapeTensor):
                        return True
    return False


class _Operators(TorchDispatchMode):
    """Sees every operator: runs it (on shapes alone if there are no values) and adds up its MACs."""

    supports_higher_order_operators = True

    def __init__(self, lifetimes: Lifetimes | None) -> None:
        super().__init__()
        self.lifetimes = lifetimes
        self.on_shapes = True
        self.macs = 0
        self.unknown: list[str] = []
        self.parameters: dict[int, nn.Parameter] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for value in args:
            for entry in value if isinstance(value, list | tuple) else (value,):
                if type(entry) is nn.Parameter:
                    self.parameters[id(entry)] = entry
        # before the operator, which may change its arguments
        reads = strided_tensors((args, kwargs)) if self.lifetimes is not None else []
        result = run_on_shapes(func, args, kwargs) if self.on_shapes else func(*args, **kwargs)
        if self.lifetimes is not None:
            self.lifetimes.step(reads, result)
        formula, unknown = _looked_up(func)
        if formula is not None:
            self.macs += formula(args, kwargs, result)
        elif unknown is not None:
            self.unknown.append(unknown)
        return result


_looked_up_operators: dict[Any, tuple[OperatorFormula | None, str | None]] = {}


def _looked_up(operator: Any) -> tuple[OperatorFormula | None, str | None]:
    """An operator's formula, or its name if it has none and may hold MACs."""
    found = _looked_up_operators.get(operator)
    if found is None:
        formula = formula_of(operator)
        found = formula, name_of(operator) if formula is None and is_unknown(operator) else None
        _looked_up_operators[operator] = found
    return found


def _watched(model: nn.Module) -> Iterator[tuple[str, nn.Module, bool, bool]]:
    """All modules by name, whether each is a layer, and whether that has a formula; its insides are left out."""
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        known = known_type(module) is not None
        if known and module._modules:
            inside.update(module.modules())
        childless = not module._modules and not isinstance(module, nn.Sequential)
        yield name or type(model).__name__, module, known or childless, known


class _Watcher:
    """One watched run: hooks for all modules, which fill a `Trace`."""

    def __init__(self, model: nn.Module, memory: bool) -> None:
        self.result = Trace()
        self.operators = _Operators(self.result.activations if memory else None)
        self.modules = {module: (name, layer, known) for name, module, layer, known in _watched(model)}
        # for each module that is running: MACs when it began, those of the modules inside it, unknown operators then
        self.running: list[list[int]] = []

    def run(self, model: nn.Module, x: Tensor) -> Trace:
        """Watch the forward pass of one input.

        Raises:
            CostError: if the model fails on this input.
        """
        lifetimes = self.result.activations
        lifetimes.ignore([*model.parameters(), *model.buffers()])
        lifetimes.add(x)
        self.operators.on_shapes = isinstance(x, ShapeTensor)
        with ExitStack() as stack:
            stack.enter_context(evaluating(model))
            # the hooks of all modules of the process: registered once, and quicker than one for each of ours
            for handle in (
                register_module_forward_pre_hook(self._before),
                register_module_forward_hook(self._after, with_kwargs=True),
            ):
                stack.callback(handle.remove)
            stack.enter_context(self.operators)
            output = run(model, x)
        lifetimes.use(output)
        self.result.operator_macs, self.result.parameters = self.operators.macs, self.operators.parameters
        for name in self.operators.unknown:
            self.result.unknown.setdefault(name, type(model).__name__)
        return self.result

    def _before(self, module: nn.Module, args: Any) -> None:
        if module in self.modules:
            self.running.append([self.operators.macs, 0, len(self.operators.unknown)])

    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if module not in self.modules:
            return
        name, is_layer, known = self.modules[module]
        began, inside, unknown_before = self.running.pop()
        macs = self.operators.macs - began
        if self.running:
            self.running[-1][1] += macs
        unknown = self.operators.unknown[unknown_before:]
        del self.operators.unknown[unknown_before:]
        if not known:
            for operator in unknown:
                self.result.unknown.setdefault(operator, name)
        self.result.executed[name] = module
        if is_layer:
            outputs = _shapes(output)
            call = LayerCall(
                name, module, _shapes((args, kwargs)), outputs[0] if outputs else (), macs, opaque=bool(unknown)
            )
            self.result.calls.append(call)
        elif macs > inside:
            self.result.outside[name] = self.result.outside.get(name, 0) + macs - inside


def _shapes(value: Any) -> list[Shape]:
    return [tuple(tensor.shape) for tensor in tensors_in(value)]
