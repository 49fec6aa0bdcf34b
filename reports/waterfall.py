"""Where a network's time goes: its exported file kernel by kernel, as a device profile predicts them and as measured.

Nothing is measured here. The kernels are those that ONNX Runtime makes of ``network.onnx``. Their predicted times are
of a table of kernels that were measured alone, or told by its regression; their measured ones are of the run's
cost.json, by ONNX Runtime's profiler. The measured time of the whole network stands beside.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from searchspaces.errors import FacenasError
from searchspaces.features import convolution_kind

from .numbers import entry, number
from .run import Run
from .tables import device_name

if TYPE_CHECKING:
    from hardware.kernel_table import KernelTable

NETWORK, RUNTIME, DTYPE = "network.onnx", "onnxruntime", "float32"
LEVEL = 0.9  # of the interval of the whole
ACTIVATIONS = frozenset({"Relu", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Sigmoid", "Tanh", "PRelu", "Mul"})
KINDS = {
    "conv": "convolution", "pointwise": "pointwise convolution", "depthwise": "depthwise or grouped convolution",
    "linear": "linear", "pool": "pooling", "layout": "change of layout",
    "elementwise": "addition, concatenation, slicing",
}  # fmt: skip


@dataclass(frozen=True)
class KernelTime:
    """A kernel of the exported file.

    Attributes:
        layer: the module that it is of, such as ``cells.0.head``; "" for what the runtime put in.
        kind: one of `KINDS`.
        ms: predicted milliseconds inside of the network.
        is_known: whether a kernel of this shape was measured for the profile; else its regression tells.
        macs: multiply-accumulates.
        own_ms: milliseconds measured in the run's own network, on its device; None if they were not.
    """

    layer: str
    kind: str
    ms: float
    is_known: bool
    macs: float
    own_ms: float | None = None


Time = Callable[[KernelTime], float]  # milliseconds of a kernel, of either kind


def predicted(kernel: KernelTime) -> float:
    """A kernel's predicted milliseconds."""
    return kernel.ms


def measured(kernel: KernelTime) -> float:
    """A kernel's measured milliseconds."""
    return kernel.own_ms or 0.0


@dataclass(frozen=True)
class Waterfall:
    """A network's predicted time.

    Attributes:
        kernels: in order of execution.
        ms: of the whole, with the ends of its 90 % interval ``low`` and ``high``.
        profile: name of the device profile, ``device`` its device, ``space`` the space that it was learned on.
        foreign: whether that is another space than the network's.
    """

    kernels: tuple[KernelTime, ...]
    ms: float
    low: float
    high: float
    profile: str
    device: str
    space: str
    foreign: bool

    @property
    def known(self) -> float:
        """Share of the kernels' time in shapes that were measured."""
        total = sum(kernel.ms for kernel in self.kernels)
        return sum(kernel.ms for kernel in self.kernels if kernel.is_known) / total if total else 0.0

    @property
    def own_ms(self) -> float | None:
        """Milliseconds of all kernels, measured in the run's own network; None unless each was."""
        times = [kernel.own_ms for kernel in self.kernels]
        return None if None in times else sum(ms for ms in times if ms is not None)

    def by_layer(self, time: Time) -> dict[str, float]:
        """Milliseconds of each layer that kernels are of."""
        found: dict[str, float] = {}
        for kernel in self.kernels:
            found[kernel.layer] = found.get(kernel.layer, 0.0) + time(kernel)
        return found


def waterfall(run: Run) -> Waterfall | None:
    """The predicted time of a run's exported network; None without the file, or if it cannot be taken apart."""
    path = run.path / NETWORK
    if not path.is_file():
        return None
    try:
        name, table = _profile(str(run.config.get("device_profile") or ""), str(run.config.get("space")))
        from hardware.kernel_table import kernel_runtime

        kernels = kernel_runtime(RUNTIME).kernels(path)
        told = table.predict([kernels], LEVEL)
        layers = _layers(path, kernels)
        times = [table.factor * table.time_of(kernel) + table.gap_ms for kernel in kernels]
    except (FacenasError, ImportError, OSError, ValueError) as error:
        run.note(NETWORK, "damaged", f"cannot be taken apart into kernels: {' '.join(str(error).split())[:300]}")
        return None
    own = own_times(run.cost)
    found = tuple(
        KernelTime(
            *(layer, _kind(kernel), ms, kernel.key in table.kernels, kernel.quantities[0]),
            own.get(kernel.source.node.name),
        )
        for kernel, layer, ms in zip(kernels, layers, times, strict=True)
    )
    whole = (float(told.ms[0]), float(told.low[0]), float(told.high[0]))
    foreign = table.space != run.config.get("space")
    return Waterfall(found, *whole, name, device_name(table.provenance), table.space, foreign)


def own_times(cost: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds of each kernel by its node's name, as cost.json has measured them."""
    told = entry(cost, "kernels", "ms")
    pairs = told.items() if isinstance(told, Mapping) else ()
    return {str(name): ms for name, value in pairs if (ms := number(value)) is not None and ms >= 0}


def sides_of(found: Waterfall) -> dict[str, Time]:
    """What is known of each kernel."""
    return {"predicted": predicted} if found.own_ms is None else {"predicted": predicted, "measured": measured}


@functools.cache
def _profile(wanted: str, space: str) -> tuple[str, KernelTable]:
    """The run's own profile if it is such a table; else the shipped one of its space, or of another.

    Raises:
        FacenasError: if none is shipped.
    """
    from hardware.devices import list_devices, load_profile
    from hardware.kernel_table import KernelTable
    from searchspaces.errors import CostError

    shipped = [name for name in list_devices() if name.endswith(f"-{RUNTIME}-{DTYPE}")]
    of_space = [name for name in shipped if f"-{space}-" in name]
    for name in [wanted, *of_space, *shipped]:
        try:
            profile = load_profile(name) if name else None
        except FacenasError:
            continue  # the file of the run's own profile may be gone
        if isinstance(profile, KernelTable) and (profile.runtime, profile.dtype) == (RUNTIME, DTYPE):
            return name, profile
    raise CostError("No device profile of kernels in ONNX Runtime is shipped.")


# --- kernels of a file -----------------------------------------------------------------------------------------------


def _kind(kernel: Any) -> str:
    operator = kernel.kind.rpartition(".")[2]
    if "Conv" in operator:
        weight = next(iter(kernel.source.constants.values()))
        groups = next((one.i for one in kernel.source.node.attribute if one.name == "group"), 1)
        kind = convolution_kind(weight.shape[1] * groups, max(weight.shape[2:], default=1), groups)
        return "depthwise" if kind == "grouped" else kind
    if "MatMul" in operator or "Gemm" in operator:
        return "linear"
    if "Pool" in operator:
        return "pool"
    return "layout" if operator.startswith("Reorder") or operator == "Transpose" else "elementwise"


def _layers(path: Any, kernels: Sequence[Any]) -> list[str]:
    """The module of each kernel, from the names that the exporter gave to the nodes of the file."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    producers = {name: node for node in graph.node for name in node.output}
    named = {node.name: node for node in graph.node}
    return [_layer(kernel, producers, named) for kernel in kernels]


def _layer(kernel: Any, producers: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    """Behind an activation that was fused into the kernel stands the layer itself."""
    own, wanted = kernel.source.node, kernel.kind.rpartition(".")[2].removeprefix("Fused")
    if wanted.startswith("Reorder"):
        return ""  # put in by the runtime
    told = re.sub(r"_nchwc$", "", own.name)  # the runtime calls its blocked kernels by their results
    node = named.get(own.name) or producers.get(told) or producers.get(own.output[0])
    for _ in range(4):
        if node is None or node.op_type == wanted or node.op_type not in ACTIVATIONS:
            break
        node = next((producers[name] for name in node.input if name in producers), None)
    return "" if node is None else module_path(node.name)


def module_path(node: str) -> str:
    """The module in the name of an exported node.

    >>> module_path("/cells.0/before/before.1/Conv")
    'cells.0.before.1'
    """
    parts: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)
