"""OpenVINO on the CPU: float32 and int8. A network is an .xml file and its weights in a .bin file beside it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from hardware.messages import failing_as
from searchspaces.files import write_bytes

from . import PathLike, onnxruntime
from .base import DAMAGED, Array, Fallback, LocalRuntime, existing, quiet
from .libraries import library

# the default hint computes in bfloat16 where the processor can, which is another network
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


class OpenVINO(LocalRuntime):
    """By way of ONNX, so what ONNX cannot express cannot be exported either."""

    NAME = "openvino"
    SUFFIX = ".xml"
    DTYPES = ("float32", "int8")

    def version(self) -> str:
        return str(self._library().__version__).split("-")[0]

    def load(self, path: PathLike, threads: int) -> _Loaded:
        return _Loaded(self._compile(path, threads))

    def files(self, path: PathLike) -> list[Path]:
        return [Path(path), Path(path).with_suffix(".bin")]

    def fallback(self, path: PathLike) -> Fallback | None:
        """Nodes of the executed graph that run on reference kernels (``ref`` in their type)."""
        nodes = self._compile(path, threads=1).get_runtime_model().get_ops()
        kinds = [(_told(node, "layerType"), _told(node, "execType")) for node in nodes]
        kinds = [(layer, kernel) for layer, kernel in kinds if kernel]  # constants and shapes have none
        slow = [layer for layer, kernel in kinds if kernel.startswith("ref")]
        return Fallback(len(slow), len(kinds), None, tuple(sorted(set(slow))))

    def _export(self, model: nn.Module, input_size: Sequence[int], path: Path) -> Path:
        return self._save(self._read_onnx(model, input_size), path)

    def _export_int8(
        self, model: nn.Module, input_size: Sequence[int], path: Path, calibration: Sequence[Array]
    ) -> Path:
        network = self._read_onnx(model, input_size)
        nncf = self._library("nncf")
        with failing_as(f"NNCF cannot make {type(model).__name__} int8"), quiet():
            data = nncf.Dataset(calibration, lambda x: x)
            network = nncf.quantize(network, data, subset_size=len(calibration))
        return self._save(network, path)

    def _library(self, module: str = "openvino") -> Any:
        # OpenVINO and NNCF report their use to their makers when this package can be imported; without it they do not
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        with quiet():
            return library(self.NAME, module)

    def _read_onnx(self, model: nn.Module, input_size: Sequence[int]) -> Any:
        core = self._library().Core()
        with tempfile.TemporaryDirectory() as folder:
            file = onnxruntime.export(model, input_size, Path(folder) / "network.onnx")
            with failing_as(f"OpenVINO cannot read {type(model).__name__}"):
                return core.read_model(file.read_bytes())

    def _save(self, network: Any, path: Path) -> Path:
        with tempfile.TemporaryDirectory() as folder, quiet():
            file = Path(folder) / "network.xml"
            self._library().save_model(network, file, compress_to_fp16=False)
            # the weights first: an .xml without them cannot be read, so the pair is never half new
            write_bytes(path.with_suffix(".bin"), file.with_suffix(".bin").read_bytes())
            return write_bytes(path, file.read_bytes())

    def _compile(self, path: PathLike, threads: int) -> Any:
        core, name = self._library().Core(), existing(path)
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, **EXACT}
        with failing_as(f"OpenVINO cannot load {path}", then=DAMAGED):
            return core.compile_model(core.read_model(name), "CPU", settings)


class _Loaded:
    """A compiled network and its one request."""

    def __init__(self, compiled: Any) -> None:
        self.request = compiled.create_infer_request()
        self.results = len(compiled.outputs)
        self.input_shape = tuple(int(n) for n in compiled.inputs[0].shape)

    def feed(self, x: Array) -> None:
        self.request.get_input_tensor(0).data[:] = x

    def invoke(self) -> None:
        self.request.infer()

    def outputs(self) -> list[Array]:
        return [np.array(self.request.get_output_tensor(index).data, np.float32) for index in range(self.results)]


def _told(node: Any, key: str) -> str:
    """What the executed graph tells of a node, "" if it does not."""
    told = node.get_rt_info()
    return str(told[key].astype(str) if hasattr(told[key], "astype") else told[key]) if key in told else ""


RUNTIME = OpenVINO()
