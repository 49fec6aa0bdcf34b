"""Reading an ONNX file of unknown origin: as a graph in order of execution, without its weights' values.

Only sizes and types of weights are kept, and small integers (the sizes that a reshaping goes to). So a file of many
gigabytes is read as quickly as its graph, and weights in other files are looked at but not loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from math import prod
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, inliner

from searchspaces.errors import CostError

from .messages import failing_as

KEPT_VALUES = 4096
"""Entries of the largest tensor whose values are kept."""
_EXPORT_AGAIN = ". Export the network again."
_BITS = {
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32), 32),
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT64, TensorProto.COMPLEX64), 64),
    **dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT16, TensorProto.UINT16), 16),
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4, getattr(TensorProto, "FLOAT4E2M1", -1)), 4),
    **dict.fromkeys((getattr(TensorProto, "INT2", -2), getattr(TensorProto, "UINT2", -3)), 2),
    TensorProto.COMPLEX128: 128,
}
_VALUE_FIELDS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data")


def load(path: str | Path) -> Any:
    """The model of an ONNX file, its local functions put in where they are called.

    Raises:
        CostError: if the file is missing or damaged, its weights are missing or lie outside of its folder, or its
            graph has no output, uses what nothing makes, or goes in a circle.
    """
    path = Path(path)
    if not path.is_file():
        raise CostError(f"No file {path}.")
    with failing_as(f"{path} is not a readable ONNX file", then=_EXPORT_AGAIN):
        model = onnx.load(str(path), load_external_data=False)
    if not model.graph.node:
        raise CostError(f"{path} is not an ONNX file, or holds an empty graph{_EXPORT_AGAIN}")
    for node in (node for graph in all_graphs(model.graph) for node in graph.node):
        if not all(isinstance(text, str) for text in (node.op_type, node.domain, node.name, *node.input, *node.output)):
            raise CostError(f"{path} holds a name that is no text{_EXPORT_AGAIN}")  # protobuf gives it as bytes
    for tensor in [*_tensors(model.graph), *(t for f in model.functions for node in f.node for t in _of_node(node))]:
        _check_tensor(tensor, path)
    _check_functions(model, path)
    if model.functions:
        with failing_as(f"{path} has local functions that cannot be put in"):
            model = inliner.inline_local_functions(model)
    if not model.graph.output:
        raise CostError(f"{path} has a graph without outputs{_EXPORT_AGAIN}")
    sort_nodes(model.graph, set(), path)
    return model


def bytes_on_disk(path: str | Path) -> int:
    """Bytes of an ONNX file and of the files beside it that hold its weights; the file has been loaded before."""
    model = onnx.load(str(path), load_external_data=False)
    tensors = [tensor for tensor in _tensors(model.graph) if tensor.data_location == TensorProto.EXTERNAL]
    locations = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return Path(path).stat().st_size + sum((Path(path).parent / name).stat().st_size for name in locations)


def bytes_of(entries: int, data_type: int) -> int:
    """Bytes of a tensor; types of less than 8 bits are packed."""
    return -(-entries * _BITS.get(data_type, 8) // 8)


def subgraphs(node: Any) -> list[Any]:
    """The graphs inside a node: branches of an If, the body of a Loop or Scan."""
    found = [attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH]
    return found + [graph for attribute in node.attribute for graph in attribute.graphs]


def all_graphs(graph: Any) -> Iterator[Any]:
    """A graph and all graphs inside it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def reads(node: Any) -> set[str]:
    """Names of the tensors that a node reads, those that its subgraphs take from outside included."""
    return {name for name in node.input if name}.union(*(_captured(graph) for graph in subgraphs(node)))


def _captured(graph: Any) -> set[str]:
    own = {entry.name for entry in (*graph.input, *graph.initializer)}
    own |= {name for node in graph.node for name in node.output}
    return {name for node in graph.node for name in reads(node)}.union(entry.name for entry in graph.output) - own


def sort_nodes(graph: Any, outside: set[str], path: Path) -> None:
    """Put the nodes of a graph and of its subgraphs into an order of execution.

    Raises:
        CostError: if there is none, or a tensor is made by nothing or twice.
    """
    makers: dict[str, int] = {}
    given = outside | {entry.name for entry in (*graph.input, *graph.initializer)}
    given |= {tensor.values.name for tensor in graph.sparse_initializer}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in makers:
                raise CostError(f"{path}: two nodes make the tensor {name!r}{_EXPORT_AGAIN}")
            makers[name] = index
    needed = [reads(node) for node in graph.node]
    wanted = set().union(*needed) | {entry.name for entry in graph.output}
    if missing := sorted(wanted - given - makers.keys()):
        raise CostError(f"{path}: the tensor {missing[0]!r} is used, but nothing makes it{_EXPORT_AGAIN}")
    before = {index: {makers[n] for n in names - given if n in makers} for index, names in enumerate(needed)}
    if any(earlier >= index for index, others in before.items() for earlier in others):
        try:
            nodes = [graph.node[index] for index in TopologicalSorter(before).static_order()]
        except CycleError as error:
            name = graph.node[error.args[1][0]].output[0]
            raise CostError(f"{path}: the tensor {name!r} depends on itself{_EXPORT_AGAIN}") from error
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)
    for node in graph.node:
        for inner in subgraphs(node):
            sort_nodes(inner, given | makers.keys(), path)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            yield attribute.t
        yield from attribute.tensors
    for graph in subgraphs(node):
        yield from _tensors(graph)


def _check_functions(model: Any, path: Path) -> None:
    """A function that calls itself has no end."""
    calls = {
        (function.domain, function.name): {
            (node.domain, node.op_type) for top in function.node for node in _nested(top)
        }
        for function in model.functions
    }
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        name = error.args[1][0][1]
        raise CostError(f"{path}: the function {name!r} calls itself{_EXPORT_AGAIN}") from error


def _nested(node: Any) -> Iterator[Any]:
    yield node
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from _nested(inner)


def _check_tensor(tensor: Any, path: Path) -> None:
    """Compare a weight's size with its data, then drop the data unless it may be a size that others depend on."""
    if any(size < 0 for size in tensor.dims):
        raise CostError(f"{path}: the weight {tensor.name!r} has a negative size{_EXPORT_AGAIN}")
    entries = prod(tensor.dims)
    wanted = bytes_of(entries, tensor.data_type)
    small = entries <= KEPT_VALUES
    if tensor.data_location == TensorProto.EXTERNAL:
        _check_external(tensor, wanted, path)
        if small and tensor.data_type in (TensorProto.INT64, TensorProto.INT32):
            with failing_as(f"{path}: the values of {tensor.name!r} cannot be read"):
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
            tensor.data_location = TensorProto.DEFAULT
            tensor.ClearField("external_data")
            return
    elif tensor.data_type != TensorProto.STRING:
        listed = any(len(getattr(tensor, field)) for field in _VALUE_FIELDS[1:-1])
        if entries and not listed and len(tensor.raw_data) != wanted:
            held = len(tensor.raw_data)
            raise CostError(
                f"{path}: the weight {tensor.name!r} of {list(tensor.dims)} needs {wanted:,} bytes and holds {held:,}"
                f"{_EXPORT_AGAIN}"
            )
        if small:
            return
    for field in _VALUE_FIELDS:
        tensor.ClearField(field)
    tensor.data_location = TensorProto.DEFAULT


def _check_external(tensor: Any, wanted: int, path: Path) -> None:
    """Weights in another file: it lies in the folder of the ONNX file, and is long enough."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not isinstance(location, str):  # protobuf gives bytes that are no UTF-8 as they are
        raise CostError(f"{path} names a file of weights that is no text{_EXPORT_AGAIN}")
    folder = Path(os.path.realpath(path.parent))
    if not location or "\0" in location or not Path(os.path.realpath(folder / location)).is_relative_to(folder):
        raise CostError(
            f"{path} takes the weight {tensor.name!r} from {location!r}, which is not in its folder. "
            "Only weights beside the file are read."
        )
    file = folder / location
    if not os.path.isfile(file):  # of a circle of links too
        raise CostError(
            f"{path} is not a readable ONNX file: its weights {location!r} are missing. Put them beside it."
        )
    offset, length = entries.get("offset", "0"), entries.get("length", str(wanted))
    valid = offset.isdecimal() and length.isdecimal()
    if not valid or int(length) < wanted or int(offset) + int(length) > file.stat().st_size:
        raise CostError(f"{path}: the weight {tensor.name!r} is not whole in {location!r}{_EXPORT_AGAIN}")
