"""Readers of what says what a network is and what it costs: architectures, weights, profiles, measurements, ONNX."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.random import RandomState

from searchspaces.sampling import random_choices

from .readers import Reader

DEVICES = Path(__file__).parents[2] / "hardware/devices"
SPACES: Mapping[str, dict[str, Any]] = {
    "autofas": {"channels": 4},
    "pta": {"width": 0.25},
    "airface": {"image_size": 32, "channels": 16, "repeats": [[1], [1], [1]], "embeddings": [8, 16], "expansions": [2]},
    "autofem-fpn": {"backbone": "mobilenet_0.25", "width": 8, "nodes": 2, "head_layers": 1, "lowest_level": 3},
    "hatfas": {},
}


def architecture(space: str, **options: Any) -> Any:
    """Any point of a space."""
    from searchspaces import Architecture, build_space

    model_space = build_space(space, **options)
    return Architecture(space, options, random_choices(model_space, RandomState(0)))


def small() -> Any:
    return architecture("autofas", **SPACES["autofas"])


def _architectures(folder: Path) -> dict[str, str]:
    for space, options in SPACES.items():
        architecture(space, **options).save(folder / f"{space}.json")
    return {f"{space}.json": "json" for space in SPACES}


def _lines(folder: Path) -> dict[str, str]:
    line = json.dumps({"architecture": json.loads(small().to_json())})
    (folder / "a.jsonl").write_text(f"{line}\n{line}\n")
    return {"a.jsonl": "json lines"}


def _read_lines(folder: Path, file: Path) -> Any:
    from hardware.measurements import check_architecture, read_architectures

    for entry in read_architectures(file)[:3]:
        check_architecture("autofas", entry)


def _weights(folder: Path) -> dict[str, str]:
    from searchspaces.weights import write_weights

    own = small()
    own.save(folder / "architecture.json")
    write_weights(own.build(seed=0).state_dict(), folder / "weights.safetensors")
    return {"weights.safetensors": "safetensors"}


def _read_weights(folder: Path, file: Path) -> Any:
    from searchspaces import Architecture

    return Architecture.load(folder).build(weights=file)


def _profiles(folder: Path) -> dict[str, str]:
    """Shipped profiles of both kinds, the longest lists cut short."""
    table = json.loads((DEVICES / "epyc-pta-litert-float32.json").read_text())
    table["kernels"] = table["kernels"][:20]
    (folder / "table.json").write_text(json.dumps(table))
    model = json.loads((DEVICES / "essential_ph_1-nasbench201.json").read_text())
    (folder / "model.json").write_text(json.dumps(model))
    return {"table.json": "json", "model.json": "json"}


def _read_profile(folder: Path, file: Path) -> Any:
    from hardware.devices import load_profile

    return load_profile(str(file)).to_dict()


def _read_and_use_profile(folder: Path, file: Path) -> Any:
    """As ``hardware.predict`` does with a profile and a line of architectures."""
    from hardware.devices import load_profile
    from searchspaces.reference import REFERENCE_SPACES

    profile: Any = load_profile(str(file))
    features = REFERENCE_SPACES["nasbench201"].features(
        ["|avg_pool_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|"]
    )
    return profile.predict(features)


def _model(folder: Path) -> dict[str, str]:
    _profiles(folder)
    return {"model.json": "json"}


NETWORK = "|avg_pool_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"


def _measurements(folder: Path) -> dict[str, str]:
    rows = [
        ["architecture", "latency_ms", "device", "threads"],
        *[[NETWORK, f"{n}.5", "phone", "1"] for n in range(1, 9)],
    ]
    with (folder / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (folder / "m.csv.gz").write_bytes(gzip.compress((folder / "m.csv").read_bytes()))
    return {"m.csv": "table", "m.csv.gz": "gzip"}


def _read_measurements(folder: Path, file: Path) -> Any:
    from hardware.measurements import is_kernel_file, measured_features, read_measurements

    is_kernel_file(file)
    found = read_measurements(file)
    return measured_features("nasbench201", found, file)


def _own_measurements(folder: Path) -> dict[str, str]:
    """Of our own space, whose architectures are JSON in a cell."""
    with (folder / "m.csv").open("w", newline="") as file:
        text = json.dumps(json.loads(small().to_json()))
        csv.writer(file).writerows([["architecture", "latency_ms"], [text, "1.5"], [text, "1.6"]])
    return {"m.csv": "table"}


def _read_own_measurements(folder: Path, file: Path) -> Any:
    from hardware.measurements import check_architecture, read_measurements

    for row in read_measurements(folder / "m.csv").rows[:3]:
        check_architecture("autofas", row)


def _kernels(folder: Path) -> dict[str, str]:
    from hardware.measurements import KERNEL_COLUMNS
    from searchspaces.features import KINDS

    rows = [[*KERNEL_COLUMNS, "latency_us"], *[[kind, "1000", "64", "64", "32", "9.5"] for kind in KINDS]]
    with (folder / "k.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return {"k.csv": "table"}


def _read_kernels(folder: Path, file: Path) -> Any:
    from hardware.measurements import kernel_rows, read_kernels

    return kernel_rows(read_kernels(file).rows)


def _latencies(folder: Path) -> dict[str, str]:
    content = {"device": {"name": "phone"}, "unit": "ms", "latency_ms": {"HHH": 21.27, "LLL": 15}}
    (folder / "l.json").write_text(json.dumps(content))
    return {"l.json": "json"}


def _read_latencies(folder: Path, file: Path) -> Any:
    from hardware.tiers import read_latencies

    return read_latencies(file, ["HHH", "LLL"], ["HHH", "LLL", "BBB"])


def onnx_file(folder: Path, name: str = "network.onnx") -> Path:
    """A little network with a convolution and a reshape."""
    import numpy as np

    from tests.hardware.onnx_files import floats, model_of, node, save

    nodes = [
        node("Conv", "x w", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("GlobalAveragePool", "r", "g"),
        node("Reshape", "g shape", "f"),
        node("Gemm", "f m", "y"),
    ]
    weights = {"w": floats(4, 3, 3, 3), "shape": np.array([1, 4]), "m": floats(4, 2)}
    return save(folder / name, model_of(nodes, {"x": [1, 3, 32, 32]}, weights))


def _onnx(folder: Path) -> dict[str, str]:
    onnx_file(folder)
    return {"network.onnx": "onnx"}


def _onnx_with_weights_beside(folder: Path) -> dict[str, str]:
    import onnx

    from tests.hardware.onnx_files import external

    (folder / "weights.bin").write_bytes(bytes(64))
    model = onnx.load(external(folder / "network.onnx", "weights.bin"), load_external_data=False)
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    for _ in range(2):  # a picture
        sizes.insert(0, onnx.TensorShapeProto.Dimension(dim_value=1))
    (folder / "network.onnx").write_bytes(model.SerializeToString())
    return {"network.onnx": "onnx", "weights.bin": "bytes"}


def _read_onnx(folder: Path, file: Path) -> Any:
    from hardware.onnx_file import bytes_on_disk
    from hardware.onnx_graph import profile_onnx

    return profile_onnx(folder / "network.onnx"), bytes_on_disk(folder / "network.onnx")


def _read_onnx_teacher(folder: Path, file: Path) -> Any:
    import torch

    from evaluators.teachers import load_teacher

    teacher = load_teacher(str(file), (3, 32, 32), 2)
    with torch.no_grad():
        return teacher.network(torch.zeros(1, 3, 32, 32))


def _load_onnx_teacher(folder: Path, file: Path) -> Any:
    from evaluators.teachers import OnnxNetwork

    return OnnxNetwork(folder / "network.onnx")


def _tflite(folder: Path) -> dict[str, str]:
    from hardware.runtimes import get_runtime

    get_runtime("litert").export(small().build(seed=0).eval(), small().input_size, folder / "network.tflite")
    return {"network.tflite": "bytes"}


def _read_tflite(folder: Path, file: Path) -> Any:
    from hardware.runtimes import tflite

    return tflite.read(file)


def _teacher_states(folder: Path) -> dict[str, str]:
    import timm
    import torch

    state = timm.create_model("resnet10t", num_classes=2).state_dict()
    torch.save({"model": dict(list(state.items())[:6]), "epoch": 3}, folder / "s.pth")
    return {"s.pth": "zip"}


def _backbone_states(folder: Path) -> dict[str, str]:
    import torch

    torch.save({"layer1.0.conv1.weight": torch.zeros(3, 3), "bn1.weight": torch.ones(3)}, folder / "b.pth")
    return {"b.pth": "zip"}


def _read_teacher_state(folder: Path, file: Path) -> Any:
    from evaluators.teachers import _read_state

    return _read_state(file)


def _read_backbone(folder: Path, file: Path) -> Any:
    from searchspaces.backbones import _read_state

    return _read_state(file)


def _read_own_teacher(folder: Path, file: Path) -> Any:
    from evaluators.teachers import load_teacher

    return load_teacher(str(folder), (3, 108, 108), 2)


def _nni_space(folder: Path) -> dict[str, str]:
    from searchspaces import build_space
    from searchspaces.nni_space import to_parameters

    space = build_space("autofas", **SPACES["autofas"])
    (folder / "parameters.json").write_text(json.dumps(to_parameters(random_choices(space, RandomState(0)))))
    return {"parameters.json": "json"}


def _read_nni_parameters(folder: Path, file: Path) -> Any:
    from searchspaces import build_space
    from searchspaces.errors import ConfigError
    from searchspaces.files import read_json
    from searchspaces.nni_space import to_choices

    value = read_json(file)
    if not isinstance(value, dict):
        raise ConfigError("NNI gives trials an object")
    return to_choices(build_space("autofas", **SPACES["autofas"]), value)


def _phone_texts(folder: Path) -> dict[str, str]:
    (folder / "litert.txt").write_text(
        "INFO: Inference timings in us: Init: 1, First inference: 2, Warmup (avg): 3, Inference (avg): 4567.8\n"
        "INFO: Overall peak memory footprint (MB) via periodic monitoring: 12.5\n"
    )
    (folder / "perf.txt").write_text("".join(f"m.onnx,0.00{n}1,10485760,50,{n}\n" for n in range(1, 9)))
    (folder / "state.txt").write_text("  temperature: 315\nThermal Status: 0\n41000\n-12\n1800000 2000000\n")
    return {"litert.txt": "lines", "perf.txt": "table", "state.txt": "lines"}


def _read_phone_texts(folder: Path, file: Path) -> Any:
    from hardware import phone_output

    text = file.read_text(errors="replace")
    if file.name == "litert.txt":
        phone_output.litert_peak_bytes(text)
        phone_output.litert_placed(text)
        return phone_output.litert_average_us(text)
    if file.name == "perf.txt":
        return phone_output.perf_test_rows(text, 1)
    return phone_output.phone_state(text, text, text, text)


def _load_architecture(folder: Path, file: Path) -> Any:
    from searchspaces import Architecture

    found = Architecture.load(file)
    return found.graph(), found.to_json()


READERS = [
    Reader("architecture", _architectures, _load_architecture, 0.3),
    Reader("architectures.jsonl", _lines, _read_lines, 0.5),
    Reader("weights", _weights, _read_weights, 0.3),
    Reader("device profiles", _profiles, _read_profile),
    Reader("a device profile in use", _model, _read_and_use_profile, 0.5),
    Reader("measurements", _measurements, _read_measurements),
    Reader("measurements of a space", _own_measurements, _read_own_measurements, 0.5),
    Reader("measured kernels", _kernels, _read_kernels),
    Reader("latencies", _latencies, _read_latencies),
    Reader("onnx", _onnx, _read_onnx),
    Reader("onnx with weights beside it", _onnx_with_weights_beside, _read_onnx, 0.5),
    Reader("onnx teacher with weights beside it", _onnx_with_weights_beside, _load_onnx_teacher, 0.5),
    Reader("onnx teacher", _onnx, _read_onnx_teacher, 0.5),
    Reader("litert", _tflite, _read_tflite, 0.5),
    Reader("teacher's state", _teacher_states, _read_teacher_state),
    Reader("backbone's state", _backbone_states, _read_backbone),
    Reader("teacher's run", _weights, _read_own_teacher, 0.2),
    Reader("parameters of an nni trial", _nni_space, _read_nni_parameters, 0.3),
    Reader("output of phone programs", _phone_texts, _read_phone_texts),
]
