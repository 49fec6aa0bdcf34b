"""Kernels timed inside of their network by ONNX Runtime's profiler."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from torch import nn

from hardware.kernel_table import kernel_runtime
from hardware.profile import cost_of
from hardware.runtimes import onnxruntime
from hardware.runtimes.onnx_profile import measure_kernels
from searchspaces.errors import CostError


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution with many operations, and one with few."""
    network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.MaxPool2d(8))
    return onnxruntime.export(network.eval(), (3, 64, 64), tmp_path_factory.mktemp("files") / "network.onnx")


def test_every_kernel_has_a_time_by_the_name_of_its_node(file: Path) -> None:
    told = measure_kernels(file, repetitions=5)
    kernels = kernel_runtime("onnxruntime").kernels(file)
    assert set(told["ms"]) == {kernel.source.node.name for kernel in kernels}
    assert told["repetitions"] == 5 and told["threads"] == 1 and told["runtime"] == "onnxruntime"
    by_macs = {kernel.source.node.name: kernel.quantities[0] for kernel in kernels}
    assert max(told["ms"], key=told["ms"].__getitem__) == max(by_macs, key=by_macs.__getitem__)


def test_together_they_are_about_the_whole(file: Path) -> None:
    whole = onnxruntime.measure(file, repetitions=20)
    assert 0.4 * whole.median_ms < sum(measure_kernels(file)["ms"].values()) < 2.5 * whole.median_ms


def test_nothing_is_left_in_the_folder(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(file.parent.iterdir())
    measure_kernels(file, repetitions=1)
    assert sorted(file.parent.iterdir()) == before and not list(tmp_path.iterdir())


def test_cost_json_has_them_when_it_measures() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    assert cost_of(network, (3, 16, 16), repetitions=2)["kernels"]["ms"]
    assert cost_of(network, (3, 16, 16), measure=False)["kernels"] is None


def test_bad_input_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(CostError, match="at least 1"):
        measure_kernels(file, repetitions=0)
    with pytest.raises(CostError, match="missing"):
        measure_kernels(tmp_path / "missing.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CostError, match="cannot load"):
        measure_kernels(damaged)
    model = onnx.load(str(file))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, str(tmp_path / "open.onnx"))
    with pytest.raises(CostError, match="give the input size"):
        measure_kernels(tmp_path / "open.onnx")
