"""Export, check and measuring with ONNX Runtime."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from hardware.runtimes import RUNTIMES, get_runtime, register_runtime
from hardware.runtimes import onnxruntime as runtime
from hardware.runtimes.onnxruntime import fixed_shape
from searchspaces.errors import CostError, RunFolderError, UnknownNameError

from .cost_networks import Branches, tiny_network

SIZE = (3, 16, 16)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return runtime.export(tiny_network(), SIZE, tmp_path / "network.onnx")


def test_export_is_silent_and_equals_the_network(tmp_path: Path) -> None:
    network = tiny_network().train()
    network[1].running_mean.add_(0.5)  # a norm whose evaluation differs from its training
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = runtime.export(network, SIZE, tmp_path / "new folder" / "network.onnx")
    assert all(module.training for module in network.modules())
    assert runtime.check(network, path, SIZE) < 1e-5
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 17
    assert [entry.name for entry in (*model.graph.input, *model.graph.output)] == ["input", "output"]
    assert [entry.name for entry in path.parent.iterdir()] == ["network.onnx"]  # no temporary file is left


def test_other_warnings_of_an_export_are_passed_on(tmp_path: Path) -> None:
    class Suspicious(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if bool(x.sum() > 0) else -x

    with pytest.warns(torch.jit.TracerWarning):
        runtime.export(Suspicious(), SIZE, tmp_path / "network.onnx")


def test_several_outputs_and_channels_last(tmp_path: Path) -> None:
    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            a = self.a(x)
            return {"a": a, "b": self.b(a)}

    network = Pyramid().to(memory_format=torch.channels_last)
    path = runtime.export(network, SIZE, tmp_path / "network.onnx")
    assert [entry.name for entry in onnx.load(path).graph.output] == ["output_0", "output_1"]
    assert runtime.check(network, path, SIZE) < 1e-5


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_attention_can_be_exported(tmp_path: Path) -> None:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    network = Attend()
    path = runtime.export(network, (6, 8), tmp_path / "network.onnx")
    assert runtime.check(network, path, (6, 8)) < 1e-5


def test_other_weights_are_noticed(exported: Path) -> None:
    other = tiny_network()
    with torch.no_grad():
        other[5].bias[0] += 0.01
    with pytest.raises(CostError, match=r"network\.onnx differs from the network by 0\.01"):
        runtime.check(other, exported, SIZE)


def test_not_a_number_is_noticed(exported: Path) -> None:
    other = tiny_network()
    with torch.no_grad():
        other[5].bias[0] = torch.nan
    with pytest.raises(CostError, match="differs from the network by nan"):
        runtime.check(other, exported, SIZE)


def test_other_outputs_are_noticed(exported: Path) -> None:
    other = nn.Sequential(*tiny_network(), nn.Unflatten(1, (2, 1)))
    with pytest.raises(CostError, match=r"sizes \[\[1, 2\]\], but the network \[\[1, 2, 1\]\]"):
        runtime.check(other, exported, SIZE)


def test_what_onnx_cannot_express_is_a_cost_error(tmp_path: Path) -> None:
    class Inverse(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.eigvalsh(x)

    with pytest.raises(CostError, match=r"Cannot export Inverse.*eigvalsh"):
        runtime.export(Inverse(), SIZE, tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())


def test_unwritable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError):
        runtime.export(tiny_network(), SIZE, tmp_path / "file" / "network.onnx")


def test_measure_fills_the_protocol(exported: Path) -> None:
    latency = runtime.measure(exported, warmup=2, repetitions=7)
    assert (latency.runtime, latency.threads, latency.clock, latency.dtype) == ("onnxruntime", 1, "cpu", "float32")
    assert (latency.warmup, latency.repetitions) == (2, 7)
    assert 0 < latency.p10_ms <= latency.p25_ms <= latency.median_ms <= latency.p75_ms <= latency.p90_ms
    assert latency.wall_median_ms > 0
    assert runtime.measure(exported, threads=2, warmup=1, repetitions=3).clock == "wall"


def test_interleaved_latencies_come_in_the_order_of_the_files(tmp_path: Path) -> None:
    single = runtime.export(nn.Linear(8, 4), (8,), tmp_path / "single.onnx")
    double = runtime.export(nn.Linear(8, 4).double(), (8,), tmp_path / "double.onnx")
    latencies = runtime.measure_interleaved([double, single, double], warmup=1, repetitions=11)
    assert [latency.repetitions for latency in latencies] == [11, 11, 11]
    assert [latency.dtype for latency in latencies] == ["float64", "float32", "float64"]


@pytest.mark.parametrize(
    "action",
    [
        lambda path: runtime.measure(path),
        lambda path: runtime.check(tiny_network(), path, SIZE),
    ],
)
def test_damaged_or_missing_file_is_a_cost_error(
    tmp_path: Path, exported: Path, action: Callable[[Path], object]
) -> None:
    with pytest.raises(CostError, match="No file"):
        action(tmp_path / "nothing.onnx")
    damaged = tmp_path / "damaged.onnx"
    for content in (b"", b"not a network", exported.read_bytes()[:400]):
        damaged.write_bytes(content)
        with pytest.raises(CostError, match=r"cannot load .*damaged\.onnx"):
            action(damaged)


def test_zero_threads_are_refused(exported: Path) -> None:
    with pytest.raises(CostError, match="0 threads"):
        runtime.measure(exported, threads=0)


def test_file_of_open_size_needs_the_input_size(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    sizes = ["N", 3, "H", "W"]
    entries = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in ("x", "y")]
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(
        helper.make_graph([node], "g", entries[:1], entries[1:]), opset_imports=[opset], ir_version=8
    )
    onnx.save(model, tmp_path / "open.onnx")
    with pytest.raises(CostError, match="'x' open"):
        runtime.measure(tmp_path / "open.onnx")
    assert runtime.measure(tmp_path / "open.onnx", warmup=0, repetitions=1, input_size=(3, 8, 8)).repetitions == 1


def test_fixed_shape() -> None:
    assert fixed_shape([1, 3, 8, 8], None) == [1, 3, 8, 8]
    assert fixed_shape(["N", 3, 8, 8], None) == [1, 3, 8, 8]
    assert fixed_shape([None, 3, "H", "W"], (3, 5, 6)) == [1, 3, 5, 6]
    assert fixed_shape([1, 3, "H", "W"], None) is None


def test_random_numbers_of_the_caller_are_left_alone(tmp_path: Path) -> None:
    network, state = tiny_network(), torch.random.get_rng_state()
    path = runtime.export(network, SIZE, tmp_path / "network.onnx")
    runtime.check(network, path, SIZE)
    runtime.measure(path, warmup=0, repetitions=1)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_runtimes_are_found_by_name_and_can_be_added() -> None:
    assert get_runtime("onnxruntime") is runtime
    with pytest.raises(UnknownNameError, match="Did you mean 'onnxruntime'"):
        get_runtime("onnx_runtime")
    own = object()
    register_runtime("own runtime of this test")(lambda: own)
    assert get_runtime("own runtime of this test") is own
    assert "own runtime of this test" in RUNTIMES


def test_failing_network_is_a_cost_error(tmp_path: Path) -> None:
    with pytest.raises(CostError, match="Branches fails on an input of 3x16x16"):
        runtime.export(Branches(), SIZE, tmp_path / "network.onnx")
