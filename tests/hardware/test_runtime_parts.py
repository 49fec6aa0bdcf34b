"""What the runtimes compute themselves; it needs none of their libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from hardware.runtimes import RUNTIMES, get_runtime, libraries
from hardware.runtimes.base import FlatOutputs, compare_with_network, quiet
from hardware.runtimes.calibration import picture_inputs, random_inputs, settle_norms, split
from hardware.runtimes.executorch import summary
from hardware.runtimes.litert import dequantised, operator_macs, quantised, undelegated
from hardware.runtimes.memory import last_line
from hardware.runtimes.ncnn import StridedViewsAsPooling, _check_layers, _input_shape, map_strides
from hardware.runtimes.timing import Latency
from searchspaces.errors import CostError

from .cost_networks import tiny_network

SIZE = (3, 16, 16)
MOBILE = ("executorch", "litert", "ncnn", "openvino")


@pytest.mark.parametrize("name", MOBILE)
def test_missing_library_is_one_line_with_its_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda module: None)
    runtime = get_runtime(name)
    (tmp_path / f"a{runtime.SUFFIX}").write_bytes(b"")
    actions: list[Any] = [
        lambda: runtime.export(tiny_network(), SIZE, tmp_path / "network"),
        lambda: runtime.measure(tmp_path / f"a{runtime.SUFFIX}"),
    ]
    for action in actions:
        with pytest.raises(
            libraries.MissingLibraryError, match=rf'needs the library .*: pip install "facenas\[{name}\]"'
        ):
            action()
    assert libraries.missing_libraries(name) == list(libraries.LIBRARIES[name])
    assert [path.name for path in tmp_path.iterdir()] == [f"a{runtime.SUFFIX}"]


def test_library_that_cannot_be_imported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library_of_a_test.py").write_text("raise ImportError('libc is too old')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CostError, match="libc is too old"):
        libraries.library("litert", "broken_library_of_a_test")


def test_every_runtime_has_an_extra() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert set(MOBILE) <= set(RUNTIMES.names())
    assert all(f"\n{name} = [" in text for name in MOBILE)


def test_openvino_is_kept_from_reporting_its_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    seen = []
    monkeypatch.setattr("hardware.runtimes.openvino.library", lambda *_: seen.append(sys.modules["openvino_telemetry"]))
    get_runtime("openvino")._library()  # type: ignore[attr-defined]
    assert seen == [None]  # to Python, a module that cannot be imported
    with pytest.raises(ImportError):
        __import__("openvino_telemetry")
    monkeypatch.delitem(sys.modules, "openvino_telemetry")


def operator(index: int, name: str, inputs: list[int], outputs: list[int]) -> dict[str, Any]:
    return {"index": index, "op_name": name, "inputs": np.array(inputs), "outputs": np.array(outputs)}


# tensors: 0 input, 1 to 5 maps, 10 and 11 weights; two partitions around a pooling that XNNPACK does not take
OPERATORS = [
    operator(0, "CONV_2D", [0, 10], [1]),
    operator(1, "RELU", [1], [2]),
    operator(2, "STABLEHLO_REDUCE_WINDOW", [2], [3]),
    operator(3, "DEPTHWISE_CONV_2D", [3, 11], [4]),
    operator(4, "ADD", [4, 3], [5]),
    operator(5, "DELEGATE", [0, 10], [2]),
    operator(6, "DELEGATE", [3, 11], [5]),
]
SHAPES = {0: [1, 8, 8, 3], 1: [1, 4, 4, 6], 4: [1, 2, 2, 6], 10: [6, 3, 3, 3], 11: [1, 5, 5, 6], 12: [7, 9], 13: [1, 7]}


def test_operators_outside_of_all_delegates_are_found() -> None:
    assert [entry["op_name"] for entry in undelegated(OPERATORS)] == ["STABLEHLO_REDUCE_WINDOW"]
    own = OPERATORS[:5]
    assert undelegated(own) == own
    assert undelegated([*own, operator(7, "DELEGATE", [0], [5])]) == []


def test_macs_of_litert_operators() -> None:
    assert operator_macs(OPERATORS[0], SHAPES) == 4 * 4 * 6 * 3 * 3 * 3
    assert operator_macs(OPERATORS[3], SHAPES) == 2 * 2 * 6 * 5 * 5
    assert operator_macs(operator(0, "FULLY_CONNECTED", [0, 12], [13]), SHAPES) == 7 * 9
    assert operator_macs(operator(0, "TRANSPOSE_CONV", [0, 10, 1], [4]), SHAPES) == 4 * 4 * 6 * 6 * 3 * 3
    assert operator_macs(operator(0, "RELU", [1], [4]), SHAPES) == 0


def test_int_8_values_and_back() -> None:
    tensor = {"dtype": np.int8, "quantization": (0.5, 3)}
    x = np.array([0.0, 1.0, -2.0, 1000.0], np.float32)
    assert quantised(x, tensor).tolist() == [3, 5, -1, 127]
    assert dequantised(quantised(x, tensor), tensor).tolist() == [0.0, 1.0, -2.0, 62.0]
    plain = {"dtype": np.float32, "quantization": (0.0, 0)}
    assert dequantised(quantised(x, plain), plain).tolist() == x.tolist()


def test_share_of_the_operators_that_were_not_delegated() -> None:
    found = summary([("convolution", 300), ("relu", 0)], [("avg_pool2d", 0), ("convolution", 100)])
    assert (found.operators, found.total, found.mac_share) == (2, 4, 0.25)
    assert found.names == ("avg_pool2d", "convolution")
    assert summary([], [("mean", 0)]).mac_share is None


@pytest.mark.parametrize("steps", [(2, 2), (3, 1), (1, 2)])
@pytest.mark.parametrize("size", [7, 8])
def test_strided_views_equal_their_pooling(steps: tuple[int, int], size: int) -> None:
    x = torch.randn(2, 3, size, size)
    with StridedViewsAsPooling():
        pooled = x[:, :, :: steps[0], :: steps[1]]
    assert torch.equal(pooled, x[:, :, :: steps[0], :: steps[1]])
    assert pooled.is_contiguous()  # a view would not be


def test_other_views_are_left_alone() -> None:
    x = torch.zeros(1, 4, 8, 8)
    full, two = slice(None), slice(None, None, 2)
    assert map_strides(x, (full, full, two, two)) == (2, 2)
    assert map_strides(x, (full, full, full, two)) == (1, 2)
    for index in [(full, two, full, full), (full, full, slice(1, None, 2), two), (full, full, slice(0, 4, 2), two)]:
        assert map_strides(x, index) is None
    assert map_strides(x, (full, full, full, full)) is None
    assert map_strides(x, (two, full)) is None
    assert map_strides(x[0], (full, two, two, full)) is None


def test_ncnn_files_tell_what_they_lack(tmp_path: Path) -> None:
    head = "7767517\n2 2\nInput in0 0 1 in0\n"
    _check_layers(head + "Convolution conv_0 1 1 in0 out0 0=8\n", "Net")
    with pytest.raises(CostError, match=r"no layer for Tensor\.slice"):
        _check_layers(head + "Tensor.slice slice_0 1 1 in0 out0\n", "Net")
    path = tmp_path / "a.param"
    path.write_text(head + "# facenas input 1,3,16,16\n")
    assert _input_shape(path) == (1, 3, 16, 16)
    path.write_text(head)
    with pytest.raises(CostError, match="lacks the input size"):
        _input_shape(path)


def test_comparison_tells_both_errors() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"a": x, "b": 2 * x}

    x = torch.tensor([[3.0, -4.0]])
    found = compare_with_network(Twice(), lambda a: [a, 2 * a + [[0.0, 1.0]]], [x], "file", tolerance=1)
    assert found.largest == 1.0 and found.relative == 1 / 8
    assert found.rms == pytest.approx(1 / np.hypot(6, 8))
    with pytest.raises(CostError, match="differs from the network by nan"):
        compare_with_network(Twice(), lambda a: [a, 2 * a + np.nan], [x], "file", tolerance=float("inf"))
    assert isinstance(FlatOutputs(Twice())(x), tuple)


def test_random_inputs_repeat() -> None:
    first, again = random_inputs(SIZE, 2), random_inputs(SIZE, 2)
    assert [x.shape for x in first] == [(1, *SIZE)] * 2 and first[0].dtype == np.float32
    assert np.array_equal(first[1], again[1]) and not np.array_equal(first[0], first[1])


def test_settled_norms_keep_outputs_from_vanishing() -> None:
    torch.manual_seed(0)
    blocks = [[nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()] for _ in range(12)]
    network = nn.Sequential(*[layer for block in blocks for layer in block]).eval()
    for parameter in network.parameters():
        parameter.data.mul_(0.3 if parameter.dim() > 1 else 1)
    inputs, x = random_inputs((4, 8, 8)), torch.from_numpy(random_inputs((4, 8, 8), 1, seed=1)[0])
    assert network(x).abs().max() < 1e-3
    weights = [parameter.clone() for parameter in network.parameters()]
    assert settle_norms(network, inputs)
    assert network(x).abs().max() > 0.1
    assert all(torch.equal(a, b) for a, b in zip(weights, network.parameters(), strict=True))
    assert not any(module.training for module in network.modules())
    assert {module.momentum for module in network.modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}


def test_norms_that_cannot_be_settled_stay() -> None:
    class OneAtATime(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x).reshape(1, -1)[:, : 4 * 64].reshape(x.shape)

    network = OneAtATime().train()
    assert not settle_norms(network, random_inputs((4, 8, 8), 2))
    assert torch.equal(network.norm.running_mean, torch.zeros(4)) and network.training
    assert network.norm.momentum == 0.1
    assert not settle_norms(nn.ReLU(), random_inputs((4, 8, 8), 2))


def test_pictures_become_inputs(tmp_path: Path) -> None:
    for index, colour in enumerate([(255, 0, 0), (0, 255, 255), (127, 127, 127)]):
        (tmp_path / "sub").mkdir(exist_ok=True)
        Image.new("RGB", (40, 20), colour).save(tmp_path / "sub" / f"{index}.png")
    Image.new("L", (9, 9), 255).save(tmp_path / "z.png")
    (tmp_path / "notes.txt").write_text("no picture")
    arrays = picture_inputs(tmp_path, (3, 8, 16))
    assert [array.shape for array in arrays] == [(1, 3, 8, 16)] * 4
    assert arrays[0][0, :, 0, 0].tolist() == [1.0, -1.0, -1.0]
    assert arrays[3].min() == 1.0
    assert len(picture_inputs(tmp_path, (3, 8, 16), count=2)) == 2
    learned, held_out = split(arrays)
    assert (len(learned), len(held_out)) == (3, 1)
    learned, held_out = split([np.full(1, n) for n in range(19)])
    assert (len(learned), len(held_out)) == (16, 3)
    assert {float(x[0]) for x in (*learned, *held_out)} == set(range(19))


def test_unusable_pictures_are_told(tmp_path: Path) -> None:
    with pytest.raises(CostError, match="holds 0 pictures"):
        picture_inputs(tmp_path, SIZE)
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"no picture")
    with pytest.raises(CostError, match=r"Cannot read the picture .*a\.png"):
        picture_inputs(tmp_path, SIZE)
    with pytest.raises(CostError, match="3 channels"):
        picture_inputs(tmp_path, (1, 16, 16))


def test_quiet_keeps_what_converters_print_from_the_user(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="stop"), quiet():
        print("python")
        os.write(2, b"C++\n")
        subprocess.run([sys.executable, "-c", "print('child')"], check=True)
        raise ValueError("stop")
    print("after")
    os.write(2, b"after too\n")
    assert capfd.readouterr() == ("after\n", "after too\n")


def test_last_line() -> None:
    assert last_line("a\n b \n\n") == "b"
    assert last_line(" \n") == "it said nothing."


def installed(name: str) -> bool:
    return not libraries.missing_libraries(name)


class TwoOutputs(nn.Module):
    """The first output is not the one that is computed first, and their sizes differ."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU6())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.stem(x)
        return {"score": self.head(maps), "maps": maps}


@pytest.mark.parametrize("name", MOBILE)
def test_a_real_runtime_exports_runs_and_quantises(name: str, tmp_path: Path) -> None:
    if not installed(name):
        pytest.skip(f'needs pip install "facenas[{name}]"; its own logic is tested above and in test_bench.py')
    torch.manual_seed(0)
    network, runtime = TwoOutputs().eval(), get_runtime(name)
    path = runtime.export(network, SIZE, tmp_path / f"network{runtime.SUFFIX}")
    assert runtime.check(network, path, SIZE) < 1e-5
    with torch.no_grad():
        network.head[2].bias.add_(1)
    with pytest.raises(CostError, match="differs from the network"):
        runtime.check(network, path, SIZE)
    latency: Latency = runtime.measure(path, warmup=1, repetitions=3)
    assert (latency.runtime, latency.repetitions) == (name, 3) and latency.median_ms > 0
    assert latency.version and set(runtime.files(path)) == set(tmp_path.iterdir())  # type: ignore[attr-defined]
    if "int8" in runtime.DTYPES:  # type: ignore[attr-defined]
        file = tmp_path / f"int8{runtime.SUFFIX}"
        runtime.export_int8(network, SIZE, file, random_inputs(SIZE))  # type: ignore[attr-defined]
        difference = runtime.check(network, file, SIZE, tolerance=0.2)  # type: ignore[call-arg]
        assert difference > 1e-5  # it is int8 indeed
    path.write_bytes(b"damaged")
    with pytest.raises(CostError, match=r"load|lacks"):
        runtime.measure(path)
