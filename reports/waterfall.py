"""Where a network's time goes: its exported file kernel by kernel, as a device profile predicts them.

Nothing is measured here. The kernels are those that ONNX Runtime makes of ``network.onnx``; their times are of a table
of kernels that were measured alone, or told by its regression; the measured time of the whole network stands beside.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from searchspaces.errors import FacenasError
from searchspaces.features import convolution_kind

from .compact_svg import StyleSheet
from .numbers import NARROW, milliseconds, number, percent
from .palette import KERNELS
from .run import Run
from .tables import Row, conditions, device_name, latencies

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
        measured: whether a kernel of this shape was measured for the profile; else its regression tells.
        macs: multiply-accumulates.
    """

    layer: str
    kind: str
    ms: float
    measured: bool
    macs: float


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
        return sum(kernel.ms for kernel in self.kernels if kernel.measured) / total if total else 0.0

    @property
    def by_layer(self) -> dict[str, float]:
        """Milliseconds of each layer that kernels are of."""
        found: dict[str, float] = {}
        for kernel in self.kernels:
            found[kernel.layer] = found.get(kernel.layer, 0.0) + kernel.ms
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
    found = tuple(
        KernelTime(layer, _kind(kernel), ms, kernel.key in table.kernels, kernel.quantities[0])
        for kernel, layer, ms in zip(kernels, layers, times, strict=True)
    )
    whole = (float(told.ms[0]), float(told.low[0]), float(told.high[0]))
    foreign = table.space != run.config.get("space")
    return Waterfall(found, *whole, name, device_name(table.provenance), table.space, foreign)


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


# --- what the page shows ---------------------------------------------------------------------------------------------


def share_rows(found: Waterfall) -> list[Row]:
    """Kernels, predicted milliseconds and shares of each kind, the longest first."""
    total = sum(kernel.ms for kernel in found.kernels) or 1.0
    macs = sum(kernel.macs for kernel in found.kernels if kernel.kind in _COMPUTING) or 1.0
    rows = []
    for kind in sorted(KINDS, key=lambda kind: -_sum(found.kernels, kind)):
        own = [kernel for kernel in found.kernels if kernel.kind == kind]
        if own:
            ms = _sum(own, kind)
            share = percent(sum(kernel.macs for kernel in own) / macs) if kind in _COMPUTING else "none"
            rows.append(Row(KINDS[kind], (f"{len(own)}", milliseconds(ms), percent(ms / total), share)))
    return rows


SHARE_HEADINGS = ("kernels", "predicted", "share of the time", "share of the executed MACs")
_COMPUTING = ("conv", "pointwise", "depthwise", "linear")


def _sum(kernels: Iterable[KernelTime], kind: str) -> float:
    return sum(kernel.ms for kernel in kernels if kernel.kind == kind)


def sentence(found: Waterfall, cost: Mapping[str, Any]) -> str:
    """What was predicted, by what, and what was measured of the whole network."""
    shapes = "of shapes that were measured there, one by one"
    known = f"All of it is in kernels {shapes}."
    if found.known < 0.9995:
        known = f"{percent(found.known)} of it is in kernels {shapes}; the rest is told by a regression."
    text = (
        f"Predicted, not measured: {milliseconds(found.ms)} for the whole network (90{NARROW}% interval "
        f"{found.low:.3g} to {milliseconds(found.high)}), by the device profile {found.profile} ({found.device}, "
        f"ONNX Runtime, one thread). {known}"
    )
    if found.foreign:
        text += (
            f" The profile was learned on networks of {found.space}, not of this space: take the shares as a hint, and "
            "learn your device with python -m hardware.learn for more."
        )
    whole = measured_whole(cost)
    if whole is None:
        return f"{text} The whole network was not measured in ONNX Runtime with one thread."
    ms = whole["median_ms"]
    difference = found.ms / ms - 1
    away = "inside" if found.low <= ms <= found.high else "outside"
    side = f"{100 * abs(difference):.0f}{NARROW}% {'above' if difference > 0 else 'below'}"
    where = device_name(cost)
    machine = "" if where == found.device else f" That is another machine ({where}), so the two need not agree."
    return (
        f"{text} Measured: {milliseconds(ms)} ({conditions(whole)}); the prediction is {side} that, which lies {away} "
        f"the interval.{machine}"
    )


def measured_whole(cost: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The measurement that the prediction is of."""
    for latency in latencies(cost):
        told = (latency.get("runtime"), latency.get("dtype"), latency.get("threads"))
        if told == (RUNTIME, DTYPE, 1) and number(latency.get("median_ms")):
            return latency
    return None


def legend(found: Waterfall) -> list[tuple[str, str]]:
    """Name and colour of each kind that occurs."""
    return [(KINDS[kind], KERNELS[kind]) for kind in KINDS if any(kernel.kind == kind for kernel in found.kernels)]


@dataclass(frozen=True)
class Block:
    """The kernels of one part of the network: its milliseconds, and when each of them runs."""

    name: str
    ms: float
    bars: Markup


def blocks(found: Waterfall, styles: StyleSheet) -> list[Block]:
    """A row for each part of the network, in the order of their first kernels; a bar is 1000 wide.

    What the runtime puts in between belongs to what runs before it.
    """
    total = sum(kernel.ms for kernel in found.kernels) or 1.0
    parts: dict[str, list[tuple[float, KernelTime]]] = {}
    name, passed = "input", 0.0
    for kernel in found.kernels:
        name = _block(kernel.layer) if kernel.layer else name
        parts.setdefault(name, []).append((passed, kernel))
        passed += kernel.ms
    return [Block(name, sum(kernel.ms for _, kernel in own), _bars(own, total, styles)) for name, own in parts.items()]


def _block(layer: str) -> str:
    """
    >>> _block("cells.0.operations.2.1"), _block("backbone.blocks.0"), _block("head")
    ('cells.0', 'backbone', 'head')
    """
    match = re.match(r"[^.]+(\.\d+)?", layer)
    return match[0] if match else layer


def _bars(kernels: Sequence[tuple[float, KernelTime]], total: float, styles: StyleSheet) -> Markup:
    paths: dict[str, str] = {}
    for begun, kernel in kernels:
        left, right = round(1000 * begun / total), round(1000 * (begun + kernel.ms) / total)
        if right > left:
            paths[kernel.kind] = paths.get(kernel.kind, "") + f"M{left} 0h{right - left}v1h{left - right}z"
    drawn = (f'<path class="{styles.class_of(f"fill: {KERNELS[kind]}")}" d="{d}"/>' for kind, d in paths.items())
    return Markup(f'<svg viewBox="0 0 1000 1" preserveAspectRatio="none" aria-hidden="true">{"".join(drawn)}</svg>')


LONGEST_HEADINGS = ("kind", "predicted", "share of the time", "this shape was")


def longest_rows(found: Waterfall, most: int) -> list[Row]:
    """The kernels that take longest."""
    total = sum(kernel.ms for kernel in found.kernels) or 1.0
    longest = sorted(found.kernels, key=lambda kernel: -kernel.ms)[:most]
    return [
        Row(
            kernel.layer or "put in by the runtime",
            (
                KINDS[kernel.kind],
                milliseconds(kernel.ms),
                percent(kernel.ms / total),
                "measured" if kernel.measured else "not measured",
            ),
        )
        for kernel in longest
    ]
