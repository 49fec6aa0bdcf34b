"""Counting an ONNX file of unknown origin: parameters, MACs and memory from its graph, without the network's source.

Weights may be quantised, and the file of any exporter: local functions, subgraphs, weights in other files and the
fused operators of ONNX Runtime are understood. An operator that is not known is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from searchspaces.errors import CostError

from .lifetimes import peak
from .onnx_file import all_graphs, bytes_of, load, reads, subgraphs
from .onnx_operators import (
    BIASES,
    COUNTED,
    SETTINGS,
    VIEWS,
    Product,
    Sized,
    UnknownSizeError,
    is_known,
    kind_of,
)
from .onnx_sizes import Sizes, sizes_of

_FLOATING = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_QUANTISED = tuple(
    value
    for name, value in TensorProto.DataType.items()
    if name in ("INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2") or name.startswith(("FLOAT8", "FLOAT4"))
)


def profile_onnx(path: str | Path, input_size: Sequence[int] | int | None = None) -> dict[str, Any]:
    """Parameters, operations and memory of an ONNX file, batch size 1.

    Args:
        path: the file.
        input_size: for a file that leaves sizes open: the axes after the batch (channels, height and width), or one
            number of pixels (of any other input: one size for all open axes).

    Returns:
        A value that JSON can hold:
        ``input``: the axes of the first input after the batch.
        ``parameters``: ``stored``, entries of the weights (exporters fold batch norms into convolutions, so there are
        fewer than in the network's source); ``active``, those that a result depends on.
        ``operations``: ``mac``, of products with a weight; ``flops``, twice those of all products, attention included.
        ``activation_bytes``: of the tensors that one pass needs, in the file's own types (see `_Memory`).
        ``weight_bytes``: ``stored`` (all constants as they are), ``float32`` and ``int8_estimate`` (of the parameters).
        ``layers``: a row for each node with MACs in `mac`. ``warnings``.

    Raises:
        CostError: if the file is damaged or hostile, or its sizes are open, contradict one another or ``input_size``,
            or depend on the input's values where they are counted.
    """
    model = load(path)
    sizes, size, warning = sizes_of(model, path, input_size)
    counter = _Counter(path, sizes, _Constants(model.graph, sizes))
    found = counter.graph(model.graph, {entry.name for entry in model.graph.output})
    memory = _Memory(sizes, counter.constants)
    stored, active = _parameters(model.graph, counter.constants.entries, found.used)
    return {
        "input": size,
        "parameters": {"stored": sum(stored.values()), "active": active},
        "operations": {"mac": found.macs, "flops": 2 * (found.macs + found.products)},
        "activation_bytes": memory.bytes(model.graph),
        "weight_bytes": _weight_bytes(model.graph, stored),
        "layers": found.layers,
        "warnings": [*filter(None, [warning]), *_warnings(found, memory)],
    }


@dataclass
class _Found:
    """What a graph costs, and what was met on the way."""

    macs: int = 0
    products: int = 0
    layers: list[dict[str, Any]] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    unused: int = 0

    def add(self, other: _Found, times: int = 1) -> None:
        """Put in a subgraph that runs several times."""
        self.macs += times * other.macs
        self.products += times * other.products
        self.layers += [{**row, "macs": times * row["macs"]} for row in other.layers]
        self.used |= other.used
        self.unknown |= other.unknown
        self.notes += other.notes
        self.unused += other.unused


class _Constants:
    """Tensors that do not depend on the input: ``entries`` holds how many numbers of the file each is made from."""

    def __init__(self, graph: Any, sizes: Sizes) -> None:
        self.entries: dict[str, int] = {}
        self.values: dict[str, Any] = {}
        for inner in all_graphs(graph):
            for tensor in inner.initializer:
                self.entries[tensor.name] = prod(tensor.dims)
                self.values[tensor.name] = tensor
            for sparse in inner.sparse_initializer:
                self.entries[sparse.values.name] = prod(sparse.values.dims)
            for node in inner.node:
                self._add(node)

    def _add(self, node: Any) -> None:
        if node.op_type == "Constant":
            tensors = list(_constant_tensors(node))
            self.entries[node.output[0]] = sum(prod(tensor.dims) for tensor in tensors)
            if len(tensors) == 1:
                self.values[node.output[0]] = tensors[0]
        elif node.input and not subgraphs(node) and all(name in self.entries for name in node.input if name):
            # a transposed or dequantised weight: its largest source holds the entries
            entries = max((self.entries.get(name, 0) for name in node.input), default=0)
            self.entries.update(dict.fromkeys(node.output, entries))

    def number(self, name: str) -> int | None:
        """The value of a constant of one whole number."""
        tensor = self.values.get(name)
        if tensor is None or prod(tensor.dims) != 1:
            return None
        value = onnx.numpy_helper.to_array(tensor)
        return int(value.reshape(-1)[0]) if value.dtype.kind in "iu" else None


def _constant_tensors(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.name == "value":
            yield attribute.t
        elif attribute.name == "sparse_value":
            yield attribute.sparse_tensor.values
        elif attribute.name == "value_floats":
            yield TensorProto(dims=[len(attribute.floats)], data_type=TensorProto.FLOAT)


class _Counter:
    """Adds up the nodes of a graph that a result depends on."""

    def __init__(self, path: str | Path, sizes: Sizes, constants: _Constants) -> None:
        self.path, self.sizes, self.constants = path, sizes, constants

    def graph(self, graph: Any, wanted: set[str]) -> _Found:
        found = _Found()
        needed = set(wanted)
        live = []
        for node in reversed(graph.node):
            if needed.isdisjoint(node.output):
                found.unused += 1
                continue
            inside = self._inside(node)
            # of an If only the counted branch is used, so its weights are active and the other's are not
            needed |= {name for name in node.input if name} | inside.used
            live.append((node, inside))
        for node, inside in reversed(live):
            found.add(inside)
            self._node(node, found)
        found.used = needed
        return found

    def _inside(self, node: Any) -> _Found:
        """The subgraphs of a node, as often as they run."""
        graphs = subgraphs(node)
        if not graphs:
            return _Found()
        found = [self.graph(graph, {entry.name for entry in graph.output}) for graph in graphs]
        if node.op_type == "If":
            found.sort(key=lambda branch: branch.macs + branch.products)
            macs = [branch.macs + branch.products for branch in found]
            result = found[-1]
            if macs[0] != macs[-1]:
                text = f"{macs[-1]:,} MACs against {macs[0]:,}"
                result.notes.append(f"If {_name(node)}: the costlier branch is counted ({text}).")
            return result
        times = self._times(node)
        result = _Found()
        for body in found:
            result.add(body, times or 1)
        if times is None and result.macs + result.products:
            result.notes.append(f"{node.op_type} {_name(node)}: one of an unknown number of rounds is counted.")
        return result

    def _times(self, node: Any) -> int | None:
        """Rounds of a loop, if the graph tells."""
        if node.op_type == "Loop":
            return self.constants.number(node.input[0])
        if node.op_type == "Scan":
            count = next((a.i for a in node.attribute if a.name == "num_scan_inputs"), 1)
            axes = next((list(a.ints) for a in node.attribute if a.name == "scan_input_axes"), [0])
            shape = self.sizes.shapes.get(node.input[len(node.input) - count])
            return shape[axes[0]] if shape else None
        return None

    def _node(self, node: Any, found: _Found) -> None:
        if not is_known(node):
            domain, name = kind_of(node)
            found.unknown.add(f"{domain}.{name}" if domain else name)
        formula = COUNTED.get(kind_of(node))
        if formula is None:
            return
        try:
            products = formula(Sized(node, self.sizes.shapes))
            output = list(self.sizes.shapes.get(next(filter(None, node.output)), ()))
        except UnknownSizeError as error:
            unsized = next((name for name in node.input if name and name not in self.sizes.shapes), error.args[0])
            raise CostError(
                f"{self.path}: the size of tensor {unsized!r} of {node.op_type} {node.name!r} depends on the "
                "input's values or on an unknown operator, so it cannot be counted. Export the network for a fixed "
                "input size."
            ) from error
        except (IndexError, ValueError, ZeroDivisionError) as error:
            raise CostError(
                f"{self.path}: {node.op_type} {node.name!r} has inputs that do not fit together."
            ) from error
        layer = sum(product.macs for product in products if self._has_weight(node, product))
        found.products += sum(product.macs for product in products) - layer
        if any(self._has_weight(node, product) for product in products):
            found.macs += layer
            weights = sum(self.constants.entries.get(name, 0) for name in node.input)
            name = node.name or node.output[0]
            found.layers.append(
                {"name": name, "type": node.op_type, "output": output, "parameters": weights, "macs": layer}
            )

    def _has_weight(self, node: Any, product: Product) -> bool:
        """Whether one factor is a constant; otherwise it is a product of two activations, as in attention."""
        return any(node.input[index] in self.constants.entries for index in product.factors)


def _name(node: Any) -> str:
    return repr(node.name or (node.output[0] if node.output else ""))


def _parameters(graph: Any, constants: dict[str, int], used: set[str]) -> tuple[dict[str, int], int]:
    """Entries of each weight, and the sum of those that are used.

    Weights are floating-point tensors of one axis or more, tensors of the small types of quantised weights, and the
    32-bit biases of quantised layers. Scales, zero points and the sizes of a resizing are settings, not weights.
    """
    learned: set[str] = set()
    settings: set[str] = set()
    biases: set[str] = set()
    for inner in all_graphs(graph):
        for node in inner.node:
            fixed = SETTINGS.get(node.op_type, ())
            settings.update(name for index, name in enumerate(node.input) if index in fixed)
            learned.update(name for index, name in enumerate(node.input) if index not in fixed)
            bias = BIASES.get(node.op_type, len(node.input))
            biases.update(node.input[bias : bias + 1])
    stored = {}
    for name, tensor in _stored(graph):
        known = tensor.data_type in (*_FLOATING, *_QUANTISED) or (
            tensor.data_type == TensorProto.INT32 and name in biases
        )
        if known and tensor.dims and not (name in settings and name not in learned):
            stored[name] = prod(tensor.dims)
    return stored, sum(entries for name, entries in stored.items() if name in used)


def _stored(graph: Any) -> Iterator[tuple[str, Any]]:
    """Name and tensor of every constant of a file."""
    for inner in all_graphs(graph):
        yield from ((tensor.name, tensor) for tensor in inner.initializer)
        yield from ((sparse.values.name, sparse.values) for sparse in inner.sparse_initializer)
        for node in inner.node:
            if node.op_type == "Constant":
                yield from ((node.output[0], tensor) for tensor in _constant_tensors(node))


def _weight_bytes(graph: Any, parameters: dict[str, int]) -> dict[str, int]:
    int8 = 0
    for name, tensor in _stored(graph):
        if name in parameters:
            entries = parameters[name]
            int8 += entries + 4 * tensor.dims[0] if len(tensor.dims) > 1 else 4 * entries
    return {
        "stored": sum(bytes_of(prod(tensor.dims), tensor.data_type) for _, tensor in _stored(graph)),
        "float32": 4 * sum(parameters.values()),
        "int8_estimate": int8,
    }


class _Memory:
    """Bytes of the input and all intermediate tensors, in the types of the file.

    Every operator writes a new tensor, except those that only give another shape; a tensor is freed after the last
    operator that reads it. A runtime that fuses operators or works in place needs less. A subgraph needs its own
    memory while its node runs (of an If, the larger branch).
    """

    def __init__(self, sizes: Sizes, constants: _Constants) -> None:
        self.sizes, self.constants = sizes, constants
        self.unknown: set[str] = set()

    def bytes(self, graph: Any) -> dict[str, int]:
        """``peak``: the most that is needed at once; ``total``: all together."""
        first: dict[str, int] = {entry.name: 0 for entry in graph.input if entry.name not in self.constants.entries}
        last: dict[str, int] = {}
        source: dict[str, str] = {}
        inside: list[tuple[int, int, int]] = []
        for step, node in enumerate(graph.node):
            for name in reads(node):
                last[source.get(name, name)] = step
            view = node.op_type in VIEWS and node.input and node.input[0] not in self.constants.entries
            for index, name in enumerate(filter(None, node.output)):
                if name in self.constants.entries:
                    continue
                if view and index == 0:
                    source[name] = source.get(node.input[0], node.input[0])
                else:
                    first[name] = step
            within = [self.bytes(inner)["peak"] for inner in subgraphs(node)]
            inside.append((step, step, max(within, default=0)))
        for entry in graph.output:
            last[source.get(entry.name, entry.name)] = len(graph.node)
        spans = [(start, last[name], self._size(name)) for name, start in first.items() if name in last]
        return {"peak": peak([*spans, *inside], len(graph.node)), "total": sum(size for *_, size in (*spans, *inside))}

    def _size(self, name: str) -> int:
        if name not in self.sizes.shapes:
            self.unknown.add(name)
            return 0
        return bytes_of(prod(self.sizes.shapes[name]), self.sizes.types.get(name, TensorProto.FLOAT))


def _warnings(found: _Found, memory: _Memory) -> list[str]:
    messages = list(found.notes)
    if found.unknown:
        messages.append(f"Operators of unknown cost are not counted: {', '.join(sorted(found.unknown))}.")
    if found.products:
        messages.append(f"mac misses {found.products:,} MACs of products of two activations (attention).")
    if memory.unknown:
        example = min(memory.unknown)
        messages.append(
            f"activation_bytes misses {len(memory.unknown)} tensors whose size is not known beforehand, "
            f"such as {example!r}."
        )
    if found.unused:
        messages.append(f"{found.unused} nodes that no result depends on are not counted.")
    return messages
