"""ExecuTorch on the CPU with XNNPACK: float32 and int8."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import metadata
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hardware.messages import failing_as
from hardware.tracing import evaluating, example_input, run
from searchspaces.files import write_bytes

from . import PathLike
from .base import DAMAGED, Array, Fallback, LocalRuntime, existing, output_tensors, quiet
from .libraries import library

NO_WORK = ("getitem", "executorch_call_delegate")  # nodes that compute nothing themselves


class ExecuTorch(LocalRuntime):
    """What XNNPACK does not take runs on portable kernels, which are slow."""

    NAME = "executorch"
    SUFFIX = ".pte"
    DTYPES = ("float32", "int8")

    def __init__(self) -> None:
        self._fallbacks: dict[Path, Fallback] = {}  # the files do not tell, so it is kept from the export

    def version(self) -> str:
        library(self.NAME, "executorch.runtime")
        return metadata.version("executorch")

    def load(self, path: PathLike, threads: int) -> _Loaded:
        with quiet():
            runtime = library(self.NAME, "executorch.runtime")
        name = existing(path)
        _set_threads(threads)
        with failing_as(f"ExecuTorch cannot load {path}", then=DAMAGED), quiet():
            program = runtime.Runtime.get().load_program(name)
            return _Loaded(program, program.load_method("forward"))

    def fallback(self, path: PathLike) -> Fallback | None:
        """Operators outside of XNNPACK; None for a file that was not exported by this process."""
        return self._fallbacks.get(Path(path).resolve())

    def _export(self, model: nn.Module, input_size: Sequence[int], path: Path) -> Path:
        x = example_input(model, input_size, seed=0)
        with evaluating(model):
            run(model, x)
            return self._lower(model, x, path, type(model).__name__)

    def _export_int8(
        self, model: nn.Module, input_size: Sequence[int], path: Path, calibration: Sequence[Array]
    ) -> Path:
        package = "executorch.backends.xnnpack.quantizer.xnnpack_quantizer"
        with quiet():
            xnnpack, pt2e = library(self.NAME, package), library(self.NAME, "torchao.quantization.pt2e.quantize_pt2e")
        x = example_input(model, input_size, seed=0)
        kind = type(model).__name__
        with evaluating(model):
            run(model, x)
            with failing_as(f"ExecuTorch's quantiser cannot make {kind} int8"), quiet():
                config = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
                quantizer = xnnpack.XNNPACKQuantizer().set_global(config)
                prepared = pt2e.prepare_pt2e(torch.export.export(model, (x,)).module(), quantizer)
                for sample in calibration:
                    prepared(torch.from_numpy(sample))
                quantised = pt2e.convert_pt2e(prepared)
            return self._lower(quantised, x, path, kind)

    def _lower(self, model: nn.Module, x: torch.Tensor, path: Path, kind: str) -> Path:
        """Export a network that is in evaluation mode, give to XNNPACK what it takes, and write the program."""
        with quiet():
            exir = library(self.NAME, "executorch.exir")
            partition = library(self.NAME, "executorch.backends.xnnpack.partition.xnnpack_partitioner")
        with failing_as(f"Cannot export {kind} to ExecuTorch"), quiet():
            exported = torch.export.export(model, (x,))
            lowered = exir.to_edge_transform_and_lower(exported, partitioner=[partition.XnnpackPartitioner()])
            outside = [_described(node) for node in lowered.exported_program().graph.nodes if _computes(node)]
            inside = [_described(node) for node in _delegated(lowered.exported_program().graph_module)]
            content = lowered.to_executorch().buffer
        write_bytes(path, content)
        self._fallbacks[path.resolve()] = summary(inside, outside)
        return path


class _Loaded:
    """A method of a program; the program must live as long."""

    def __init__(self, program: Any, method: Any) -> None:
        self.program, self.method = program, method
        self.input_shape = tuple(int(n) for n in method.metadata.input_tensor_meta(0).sizes())
        self.results: Any = ()

    def feed(self, x: Array) -> None:
        self.input = (torch.from_numpy(np.ascontiguousarray(x, np.float32)),)

    def invoke(self) -> None:
        self.results = self.method.execute(self.input)

    def outputs(self) -> list[Array]:
        return [tensor.numpy().astype(np.float32) for tensor in output_tensors(list(self.results))]


def summary(inside: Sequence[tuple[str, int]], outside: Sequence[tuple[str, int]]) -> Fallback:
    """From the operators that XNNPACK took and those it did not, each a name and its MACs."""
    macs = sum(count for _, count in (*inside, *outside))
    share = sum(count for _, count in outside) / macs if macs else None
    names = tuple(sorted({name for name, _ in outside}))
    return Fallback(len(outside), len(inside) + len(outside), share, names)


def _computes(node: Any) -> bool:
    return node.op == "call_function" and not any(name in str(node.target) for name in NO_WORK)


def _delegated(module: Any) -> list[Any]:
    """Operators inside of the delegates of a lowered graph."""
    parts = [getattr(module, node.name) for node in module.graph.nodes if node.op == "get_attr"]
    graphs = [part.original_module.graph for part in parts if hasattr(part, "original_module")]
    return [node for graph in graphs for node in graph.nodes if _computes(node)]


def _described(node: Any) -> tuple[str, int]:
    """An operator's name, and its MACs if it is a convolution or a linear layer."""
    name = str(getattr(node.target, "__name__", node.target)).partition(".default")[0].removeprefix("aten.")
    out = node.meta["val"][0] if isinstance(node.meta.get("val"), tuple | list) else node.meta.get("val")
    weight = node.args[1].meta.get("val") if name.startswith(("convolution", "linear")) else None
    return name, out.numel() * prod(weight.shape[1:]) if weight is not None and out is not None else 0


def _set_threads(threads: int) -> None:
    """The size of the thread pool of the whole process; older versions cannot be told."""
    bindings = library(ExecuTorch.NAME, "executorch.extension.pybindings.portable_lib")
    if hasattr(bindings, "_unsafe_reset_threadpool"):
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            bindings._unsafe_reset_threadpool(threads)


RUNTIME = ExecuTorch()
