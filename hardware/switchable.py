"""One ONNX file for a network whose branches are switched while it runs, and one file for each configuration.

The network may be any that has ``configure``, ``configuration``, ``configurations``, ``input_size`` and ``blocks``
with ``mode``, ``light`` and ``heavy`` (see `searchspaces.pta`). The single file takes the configuration as a second
input, one code a block. Each branch is the body of an ONNX ``If``, so a branch that is not chosen is not executed,
and its weights are stored inside that body: once, and where a runtime may lay them out for its convolutions.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper
from torch import Tensor, nn

from searchspaces.errors import ArchitectureError
from searchspaces.files import write_bytes

from .messages import failing_as
from .runtimes import REPETITIONS, WARMUP, PathLike, onnxruntime
from .runtimes.base import check_threads, compare_with_network
from .runtimes.onnxruntime import open_session, run_session
from .runtimes.timing import Latency, summarise, time_interleaved
from .tracing import evaluating, example_input, run

PICTURE, CONFIGURATION, OUTPUT = "input", "configuration", "output"  # names of the file's inputs and output
CODES = {"L": 0, "H": 1, "B": 2}  # of each entry of the input ``configuration``
DTYPE = "int64"  # of that input
NORMALISATION = "RGB, (N, C, H, W), (value / 255 - 0.5) / 0.5: from -1 to 1"
BAD_CODE = "configuration_must_hold_codes_0_light_1_heavy_2_both"  # a node's name: runtimes put it into their error
DOMAIN, SWITCH = "facenas", "Switch"  # the operator that stands for a block until its If nodes take its place


def export_switchable(network: Any, path: PathLike) -> Path:
    """Write one ONNX file that holds all configurations of a network.

    Inputs are ``input`` (1, C, H, W) float32 and ``configuration`` (blocks,) int64 with `CODES`; the output is
    ``output``. A code that is none of these makes ONNX Runtime fail with an error that names the rule; in runtimes
    that do not check the bounds of Gather, all outputs are NaN.

    Args:
        network: holds both branches of every block. It is left as it was.
        path: where to write; the file is replaced atomically.

    Raises:
        ArchitectureError: if a block lacks a branch.
        CostError: if the network cannot be exported.
    """
    _check_branches(network)
    with tempfile.TemporaryDirectory() as folder:
        trunk = _export_trunk(network, Path(folder))
        branches = [
            {name: _export_part(getattr(block, name), size, Path(folder)) for name in ("light", "heavy")}
            for block, size in zip(network.blocks, _branch_inputs(network), strict=True)
        ]
    model = _assemble(trunk, branches)
    _add_metadata(model, network, network.configurations())
    return write_bytes(path, _serialised(model, "the switchable network"))


def export_slim(network: Any, configuration: str, path: PathLike) -> Path:
    """Write one configuration as an ONNX file of its own, which holds only the branches that it uses.

    Raises:
        FacenasError: if the network does not hold the configuration or cannot be exported.
    """
    with keeping_configuration(network), tempfile.TemporaryDirectory() as folder:
        network.configure(configuration)
        file = onnxruntime.export(network, network.input_size, Path(folder) / "slim.onnx")
        model = onnx.load(file)
        _add_metadata(model, network, [configuration])
        return write_bytes(path, _serialised(model, configuration))


def check_switchable(
    network: Any, path: PathLike, *, samples: int = 2, tolerance: float = onnxruntime.TOLERANCE
) -> dict[str, float]:
    """Run every configuration of the one file and of the network on the same random inputs.

    Args:
        network: what the file was exported from. It is left as it was.
        path: the file of `export_switchable`.
        samples: number of random inputs.
        tolerance: largest difference allowed, as a fraction of the largest absolute value of the output.

    Returns:
        The largest absolute difference of each configuration.

    Raises:
        CostError: if the file cannot be run, or a configuration differs by more than the tolerance.
    """
    session, worst, configuration = open_session(path), {}, ""

    def outputs(picture: np.ndarray) -> list[np.ndarray]:
        return run_session(session, _feed(picture, configuration), path)

    with keeping_configuration(network), evaluating(network):
        inputs = [example_input(network, network.input_size, seed=seed + 1) for seed in range(samples)]
        for configuration in network.configurations():
            network.configure(configuration)
            found = compare_with_network(
                network, outputs, inputs, f"Configuration {configuration} of {path}", tolerance
            )
            worst[configuration] = found.largest
    return worst


def measure_switchable(
    path: PathLike,
    paths: Mapping[str, PathLike],
    threads: int = 1,
    repetitions: int = REPETITIONS,
    warmup: int = WARMUP,
    beside: Mapping[str, PathLike] | None = None,
) -> dict[str, tuple[Latency | None, Latency]]:
    """Latencies of configurations of the one file and of their slim files, interleaved: what switching costs.

    Args:
        path: the file of `export_switchable`.
        paths: slim files, by configuration.
        threads: threads of one inference.
        repetitions: timed runs of each.
        warmup: untimed runs of each before.
        beside: other files with the same input, by any name, to compare with.

    Returns:
        For each configuration the latency within the one file, and that of its slim file; for each other file None
        and its latency.

    Raises:
        CostError: if a file cannot be loaded or run.
    """
    check_threads(threads)
    switchable, files = open_session(path, threads), {**paths, **(beside or {})}
    picture = np.random.default_rng(0).standard_normal(switchable.get_inputs()[0].shape).astype(np.float32)
    runs = [_runner(switchable, _feed(picture, configuration), path) for configuration in paths]
    runs += [_runner(open_session(file, threads), {PICTURE: picture}, file) for file in files.values()]
    samples = time_interleaved(runs, warmup=warmup, repetitions=repetitions)
    facts: dict[str, Any] = {"runtime": onnxruntime.NAME, "version": onnxruntime.version(), "threads": threads}
    measured = [summarise(sample, **facts, dtype="float32", warmup=warmup) for sample in samples]
    within = dict(zip(paths, measured[: len(paths)], strict=True))
    return {name: (within.get(name), one) for name, one in zip(files, measured[len(paths) :], strict=True)}


def encode(configuration: str) -> np.ndarray:
    """A configuration as the value of the input ``configuration``.

    >>> encode("LHB")
    array([0, 1, 2])
    """
    return np.array([CODES[letter] for letter in configuration], DTYPE)


@contextmanager
def keeping_configuration(network: Any) -> Iterator[None]:
    """Whatever happens inside, the network runs the same branches afterwards as before."""
    before = network.configuration
    try:
        yield
    finally:
        network.configure(before)


# ---- the parts of the file


class _Switch(torch.autograd.Function):
    """The identity, which the exporter writes as one node of an operator of our own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: int) -> Tensor:
        return x.clone()

    @staticmethod
    def symbolic(graph: Any, x: Any, block: int) -> Any:
        return graph.op(f"{DOMAIN}::{SWITCH}", x, block_i=block).setType(x.type())


def _check_branches(network: Any) -> None:
    for number, block in enumerate(network.blocks, start=1):
        for name in ("light", "heavy"):
            if getattr(block, name) is None:
                raise ArchitectureError(
                    f"Block {number} lacks its {name} branch: the network was built as a slim {network.configuration}, "
                    "so there is nothing to switch. Load all branches, or export the slim file only."
                )


def _branch_inputs(network: Any) -> list[tuple[int, ...]]:
    """What each block is given, without the batch, from one run of the network."""
    sizes: list[tuple[int, ...]] = [()] * len(network.blocks)

    def note(number: int) -> Any:
        def hook(block: nn.Module, inputs: tuple[Tensor]) -> None:
            sizes[number] = tuple(inputs[0].shape[1:])

        return hook

    handles = [block.register_forward_pre_hook(note(number)) for number, block in enumerate(network.blocks)]
    try:
        with evaluating(network):
            run(network, example_input(network, network.input_size, seed=0))
    finally:
        for handle in handles:
            handle.remove()
    return sizes


def _export_trunk(network: Any, folder: Path) -> Any:
    """The network with a Switch in place of each block."""

    def stand_in(number: int) -> Any:
        return lambda x: _Switch.apply(x, number)

    try:
        for number, block in enumerate(network.blocks):
            block.forward = stand_in(number)
        return onnx.load(onnxruntime.export(network, network.input_size, folder / "trunk.onnx"))
    finally:
        for block in network.blocks:
            block.__dict__.pop("forward", None)


def _export_part(module: nn.Module, size: Sequence[int], folder: Path) -> Any:
    return onnx.load(onnxruntime.export(module, size, folder / "part.onnx")).graph


def _assemble(trunk: Any, branches: Sequence[Mapping[str, Any]]) -> Any:
    """The trunk with the blocks' If nodes in it, and with the input that they depend on."""
    graph = trunk.graph
    nodes = _selectors(len(branches))
    for node in graph.node:
        if node.domain == DOMAIN:
            number = node.attribute[0].i
            nodes += _block_nodes(number, branches[number], node.input[0], node.output[0])
        else:
            nodes.append(node)
    _add_penalty(nodes, graph.output[0].name)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.name = "switchable"
    graph.input.append(helper.make_tensor_value_info(CONFIGURATION, TensorProto.INT64, [len(branches)]))
    standard = [entry for entry in trunk.opset_import if entry.domain != DOMAIN]
    del trunk.opset_import[:]
    trunk.opset_import.extend(standard)
    return trunk


def _selectors(blocks: int) -> list[Any]:
    """Nodes that turn the codes into what each block needs: ``light/N`` and ``heavy/N`` (booleans), ``scale/N``.

    Gather counts negative indices from the end, so every code that is not allowed is replaced by one past the end,
    which it refuses. A runtime that does not check bounds gets a penalty of NaN instead; else the penalty is 0.
    """
    tables = {"light": [True, False, True], "heavy": [False, True, True], "scale": np.array([1, 1, 0.5], np.float32)}
    nodes = [
        _constant("lowest", np.int64(0)),
        _constant("highest", np.int64(len(CODES) - 1)),
        _constant("outside", np.int64(len(CODES))),
        _constant("nothing", np.float32(0)),
        _constant("nan", np.float32(np.nan)),
        _node("Clip", [CONFIGURATION, "lowest", "highest"], ["clipped"]),
        _node("Equal", [CONFIGURATION, "clipped"], ["allowed"]),
        _node("Where", ["allowed", CONFIGURATION, "outside"], ["codes"]),
        _node("Where", ["allowed", "nothing", "nan"], ["penalties"]),
        _node("ReduceSum", ["penalties"], ["penalty"], keepdims=0),
    ]
    for use, table in tables.items():
        nodes += [
            _constant(f"{use}/table", np.asarray(table)),
            helper.make_node("Gather", [f"{use}/table", "codes"], [use], name=f"{BAD_CODE}/{use}"),
            _node("Split", [use], [f"{use}/{number}" for number in range(blocks)]),
        ]
    return nodes


def _block_nodes(number: int, branches: Mapping[str, Any], source: str, target: str) -> list[Any]:
    """An If for each branch, which gives zeros where it is not chosen, and ``(light + heavy) * scale``."""
    nodes = []
    for use, graph in branches.items():
        name = f"block_{number + 1}/{use}"
        chosen = _body(graph, f"{name}/", source)
        sizes = [axis.dim_value for axis in chosen.output[0].type.tensor_type.shape.dim]
        other = _zeros(f"{name}/none", sizes)
        nodes.append(_node("If", [f"{use}/{number}"], [name], then_branch=chosen, else_branch=other))
    names = [f"block_{number + 1}/{use}" for use in branches]
    total = f"block_{number + 1}/sum"
    return [*nodes, _node("Add", names, [total]), _node("Mul", [total, f"scale/{number}"], [target])]


def _body(graph: Any, prefix: str, source: str) -> Any:
    """A branch as the body of an If: it reads the tensor ``source`` of the graph around it and has its own names."""
    body = compose.add_prefix_graph(graph, prefix)
    entry = body.input[0].name
    del body.input[:]
    for node in body.node:
        for index, name in enumerate(node.input):
            if name == entry:
                node.input[index] = source
    body.name = prefix.rstrip("/")
    return body


def _zeros(name: str, sizes: Sequence[int]) -> Any:
    shape = _constant(f"{name}/shape", np.array(sizes, np.int64))
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
    return helper.make_graph([shape, _node("ConstantOfShape", [shape.output[0]], [name])], name, [], [output])


def _add_penalty(nodes: list[Any], result: str) -> None:
    """Let what was the graph's output be called ``logits``, and the output be that plus the penalty."""
    for node in nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == result:
                    names[index] = "logits"
    nodes.append(_node("Add", ["logits", "penalty"], [result]))


def _constant(name: str, value: Any) -> Any:
    return helper.make_node("Constant", [], [name], name=name, value=numpy_helper.from_array(np.asarray(value), name))


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, outputs, name=f"{outputs[0]}/{kind}", **attributes)


# ---- around the file


def _add_metadata(model: Any, network: Any, configurations: Sequence[str]) -> None:
    """What an application has to know to use the file, as strings that any ONNX tool shows."""
    entries = {
        "producer": "facenas",
        "space": type(network).__name__.lower(),
        "configurations": json.dumps(list(configurations)),
        "input_size": json.dumps(list(network.input_size)),
        "normalisation": NORMALISATION,
    }
    if len(configurations) > 1:
        entries["codes"] = json.dumps(CODES)
    helper.set_model_props(model, {f"facenas.{key}": value for key, value in entries.items()})


def _serialised(model: Any, name: str) -> bytes:
    """A model's bytes, once ONNX itself finds nothing wrong with it."""
    with failing_as(f"Cannot export {name} to ONNX"):
        onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _feed(picture: np.ndarray, configuration: str) -> dict[str, np.ndarray]:
    return {PICTURE: picture, CONFIGURATION: encode(configuration)}


def _runner(session: Any, feed: dict[str, np.ndarray], path: PathLike) -> Callable[[], Any]:
    run_session(session, feed, path)  # tells a bad file before the clock starts
    return lambda: session.run(None, feed)
