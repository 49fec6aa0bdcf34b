"""ncnn on the CPU, float32: a .param text file, and its weights in a .bin file beside it.

Its int8 tools (ncnn2table, ncnn2int8) are not in the Python package, so there is no int8 here.
"""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from hardware.messages import failing_as, reason
from hardware.tracing import evaluating, example_input, run
from searchspaces.errors import CostError
from searchspaces.files import write_bytes

from . import PathLike
from .base import Array, FlatOutputs, LocalRuntime, existing
from .libraries import library

CONVERSION_SECONDS = 600
SHAPE_NOTE = "# facenas input "  # in the .param's last line: ncnn itself keeps no input size


class Ncnn(LocalRuntime):
    """By way of pnnx, its converter, from a traced network."""

    NAME = "ncnn"
    SUFFIX = ".param"

    def version(self) -> str:
        library(self.NAME, "ncnn")
        return metadata.version("ncnn")

    def load(self, path: PathLike, threads: int) -> _Loaded:
        ncnn, name = library(self.NAME, "ncnn"), existing(path)
        weights = existing(Path(path).with_suffix(".bin"))
        net = ncnn.Net()
        options = net.opt
        options.num_threads = threads
        # the defaults compute in half precision where the processor can, which is another network
        for setting in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(options, setting, False)
        if net.load_param(name) != 0 or net.load_model(weights) != 0:
            raise CostError(f"ncnn cannot load {path}. Export the network again.")
        return _Loaded(ncnn, net, _input_shape(path))

    def files(self, path: PathLike) -> list[Path]:
        return [Path(path), Path(path).with_suffix(".bin")]

    def _export(self, model: nn.Module, input_size: Sequence[int], path: Path) -> Path:
        program = library(self.NAME, "pnnx").EXEC_PATH
        x = example_input(model, input_size, seed=0)
        kind = type(model).__name__
        with tempfile.TemporaryDirectory() as folder, evaluating(model), warnings.catch_warnings():
            run(model, x)  # tells what is wrong with the network itself
            warnings.simplefilter("ignore")  # torch.jit says that it grows old
            shape = ",".join(str(n) for n in x.shape)
            with failing_as(f"Cannot export {kind} to ncnn"), StridedViewsAsPooling():
                torch.jit.trace(FlatOutputs(model), x, check_trace=False).save(str(Path(folder) / "net.pt"))
            # fp16=0: weights are otherwise stored in half precision
            command = [program, "net.pt", f"inputshape=[{shape}]f32", "fp16=0"]
            told = _convert(command, Path(folder), kind)
            param, weights = Path(folder) / "net.ncnn.param", Path(folder) / "net.ncnn.bin"
            if not (param.is_file() and weights.is_file()):
                raise CostError(f"Cannot export {kind} to ncnn: pnnx wrote no network. It said: {told}")
            _check_layers(param.read_text(), kind)
            write_bytes(path.with_suffix(".bin"), weights.read_bytes())
            return write_bytes(path, param.read_bytes() + f"{SHAPE_NOTE}{shape}\n".encode())


class StridedViewsAsPooling(TorchFunctionMode):
    """``x[:, :, ::s, ::s]`` becomes the same numbers by a max pooling of 1x1: ncnn has no layer for strided views."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__ and (strides := map_strides(args[0], args[1])):
            return F.max_pool2d(args[0], 1, strides)
        return func(*args, **(kwargs or {}))


def map_strides(x: Tensor, index: Any) -> tuple[int, int] | None:
    """The strides of an index that takes every n-th pixel of the maps (B, C, H, W) and all else; None of others."""
    if x.dim() != 4 or not isinstance(index, tuple) or len(index) != 4:
        return None
    if any(not isinstance(part, slice) or part.start not in (None, 0) or part.stop is not None for part in index):
        return None
    steps = [part.step or 1 for part in index]
    return (steps[2], steps[3]) if steps[:2] == [1, 1] and max(steps) > 1 else None


class _Loaded:
    """A network; every inference is a new extractor, as in an application."""

    def __init__(self, ncnn: Any, net: Any, input_shape: tuple[int, ...]) -> None:
        self.ncnn, self.net, self.input_shape = ncnn, net, input_shape
        # pnnx numbers the outputs (out0, out1, ...) as the network returns them, but writes them as they are computed
        outputs = sorted(net.output_names(), key=lambda name: int(name.removeprefix("out")))
        self.names = (net.input_names()[0], outputs)
        self.results: list[Any] = []

    def feed(self, x: Array) -> None:
        self.input = self.ncnn.Mat(np.ascontiguousarray(x[0], np.float32)).clone()

    def invoke(self) -> None:
        extractor = self.net.create_extractor()
        extractor.input(self.names[0], self.input)
        self.results = []
        for name in self.names[1]:
            code, result = extractor.extract(name)
            if code != 0:
                raise RuntimeError(f"ncnn's output {name} failed with code {code}")
            self.results.append(result)

    def outputs(self) -> list[Array]:
        return [np.array(result, np.float32)[None] for result in self.results]  # ncnn has no batch axis


def _convert(command: list[str], folder: Path, kind: str) -> str:
    """Run pnnx in a folder; its last line."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=CONVERSION_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CostError(f"Cannot export {kind} to ncnn: pnnx failed: {reason(error)}") from error
    lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    told = lines[-1].strip()[:200] if lines else "nothing"
    if done.returncode != 0:
        raise CostError(f"Cannot export {kind} to ncnn: pnnx ended with code {done.returncode}: {told}")
    return told


def _check_layers(text: str, kind: str) -> None:
    """Refuse a converted network with operators that pnnx passed through because ncnn has no layer for them."""
    layers = [line.split()[0] for line in text.splitlines()[2:] if line.split()]
    unknown = sorted({layer for layer in layers if "." in layer or "::" in layer or layer.startswith("pnnx")})
    if unknown:
        raise CostError(f"Cannot export {kind} to ncnn: it has no layer for {', '.join(unknown)}.")


def _input_shape(path: PathLike) -> tuple[int, ...]:
    """The input size that `Ncnn.export` noted in the .param file."""
    last = Path(path).read_text(errors="replace").rstrip().rpartition("\n")[2]
    if not last.startswith(SHAPE_NOTE):
        raise CostError(f"{path} lacks the input size that facenas notes in it: give the architecture instead.")
    return tuple(int(n) for n in last.removeprefix(SHAPE_NOTE).split(","))


RUNTIME = Ncnn()
