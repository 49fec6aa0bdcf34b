"""Operators that a runtime executes far slower than their arithmetic, or not in its fast kernels at all.

A lint before exporting: one forward pass is watched, and each operator is held against `RULES`. The rules were found
by exporting and timing each operator (docs/runtimes.md says with which versions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from .tracing import evaluating, example_input, run

Arguments = Mapping[str, Any]  # an operator's arguments by the names of its schema


@dataclass(frozen=True)
class Rule:
    """A kind of operator that falls off in one runtime.

    Attributes:
        runtime: the runtime's name.
        operators: names of torch's operators (aten).
        applies: whether these arguments of the operator fall off.
        what: the operator in a user's words.
        why: what happens in the runtime.
        instead: what to use.
        dtypes: number types of files that are hit.
    """

    runtime: str
    operators: tuple[str, ...]
    applies: Callable[[Arguments], bool]
    what: str
    why: str
    instead: str
    dtypes: tuple[str, ...] = ("float32", "int8")


@dataclass(frozen=True)
class Cliff:
    """One operator of a network that falls off: the layer that runs it, and the rule's words."""

    runtime: str
    layer: str
    operator: str
    why: str
    instead: str

    def __str__(self) -> str:
        return f"{self.runtime}: {self.operator} in {self.layer}: {self.why}. Use {self.instead}."


def find_cliffs(model: nn.Module, input_size: Sequence[int], runtime: str, dtype: str = "float32") -> list[Cliff]:
    """The operators of a network that fall off in a runtime, in order; the model is left as it was.

    Args:
        model: the network.
        input_size: channels, height, width.
        runtime: a runtime's name; one that no rule knows has no cliffs.
        dtype: ``"float32"`` or ``"int8"``, of the exported file.

    Raises:
        CostError: if the model does not run on the input.
    """
    rules = [rule for rule in RULES if rule.runtime == runtime and dtype in rule.dtypes]
    if not rules:
        return []
    watcher = _Watcher(rules)
    handles: list[Any] = []
    try:
        for name, module in model.named_modules():
            handles += watcher.attach(name or type(model).__name__, module)
        x = example_input(model, input_size)
        with evaluating(model), watcher:
            run(model, x)
    finally:
        for handle in handles:
            handle.remove()
    return watcher.found


def messages(cliffs: Sequence[Cliff]) -> list[str]:
    """One line for each kind of cliff, with the number of its layers and the first of them."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for cliff in cliffs:
        groups.setdefault((cliff.runtime, cliff.operator, cliff.why, cliff.instead), []).append(cliff.layer)
    lines = []
    for (runtime, operator, why, instead), layers in groups.items():
        where = layers[0] if len(layers) == 1 else f"{len(layers)} places, first {layers[0]}"
        lines.append(f"{runtime}: {operator} in {where}: {why}. Use {instead}.")
    return lines


@dataclass
class _Watcher(TorchDispatchMode):
    """Holds every operator of a forward pass against rules; knows which layer is running."""

    rules: Sequence[Rule]
    found: list[Cliff] = field(default_factory=list)
    running: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def attach(self, name: str, module: nn.Module) -> list[Any]:
        def before(module: nn.Module, args: Any) -> None:
            self.running.append(name)

        def after(module: nn.Module, args: Any, output: Any) -> None:
            self.running.pop()

        return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        for rule in self.rules:
            if name in rule.operators:
                self._hold(rule, func, args, kwargs)
        return func(*args, **kwargs)

    def _hold(self, rule: Rule, func: Any, args: Any, kwargs: Any) -> None:
        arguments = {entry.name: entry.default_value for entry in func._schema.arguments}
        arguments |= dict(zip(arguments, args, strict=False)) | kwargs
        if rule.applies(arguments):
            layer = self.running[-1] if self.running else "the network"
            self.found.append(Cliff(rule.runtime, layer, rule.what, rule.why, rule.instead))


def _always(arguments: Arguments) -> bool:
    return True


def _padded(arguments: Arguments) -> bool:
    return any(arguments["padding"])


def _average_counted(arguments: Arguments) -> bool:
    return _padded(arguments) and arguments["count_include_pad"]


def _large_depthwise(arguments: Arguments) -> bool:
    weight: Tensor = arguments["weight"]
    return arguments["groups"] == weight.shape[0] > 1 and max(weight.shape[2:]) >= 7


def _reduces_map(arguments: Arguments) -> bool:
    """A mean over height and width that drops the two axes."""
    axes = {axis % arguments["self"].dim() for axis in arguments["dim"] or ()}
    return arguments["self"].dim() == 4 and axes == {2, 3} and not arguments["keepdim"]


def _strided_view(arguments: Arguments) -> bool:
    """A slice of the last axis by steps: a view of a map is one for each axis, and counts once."""
    return arguments["step"] > 1 and arguments["dim"] % arguments["self"].dim() == arguments["self"].dim() - 1


NEAREST = ("upsample_nearest2d", "_upsample_nearest_exact2d")
PRELU = ("_prelu_kernel", "prelu")
AVERAGE = ("avg_pool2d",)
STRIDED = ("slice",)
SMALLER = "two depthwise 3x3, or 5x5"
RULES = (
    Rule(
        *("onnxruntime", PRELU, _always, "PReLU"),
        "is not fused into the convolution and leaves the blocked memory layout",
        "ReLU or ReLU6",
    ),
    Rule(
        *("onnxruntime", AVERAGE, _always, "average pooling in int8"),
        "takes several times as long as in float32",
        "max pooling or a strided convolution, or stay with float32",
        ("int8",),
    ),
    Rule(
        *("litert", ("convolution",), _large_depthwise, "depthwise convolution of 7x7 or more"),
        "takes many times what its MACs suggest: XNNPACK has no kernel of that size",
        SMALLER,
    ),
    Rule(
        *("executorch", AVERAGE, _average_counted, "average pooling that counts its padding"),
        "is not taken by XNNPACK: a portable kernel runs it, hundreds of times slower",
        "count_include_pad=False",
    ),
    Rule(
        *("executorch", ("convolution",), _large_depthwise, "depthwise convolution of 7x7 or more"),
        "takes many times what its MACs suggest: XNNPACK has no kernel of that size",
        SMALLER,
    ),
    Rule(
        *("executorch", ("mean",), _reduces_map, "mean over the map that drops its axes"),
        "is not taken by XNNPACK: a portable kernel runs it, and the network is cut in two there",
        "nn.AdaptiveAvgPool2d(1), or keepdim=True",
    ),
    Rule(
        *("executorch", STRIDED, _strided_view, "strided view (x[:, :, ::2, ::2])"),
        "becomes copies outside of XNNPACK, and the network is cut there",
        "a convolution of that stride",
    ),
    Rule(
        *("executorch", NEAREST, _always, "nearest-neighbour resize"),
        "is not taken by XNNPACK: a portable kernel runs it, and the network is cut in two there",
        "bilinear resize",
    ),
)
