"""cost.json and the commands ``python -m hardware.profile`` and ``python -m hardware.measure``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from hardware import measure as measure_command
from hardware.counters import count
from hardware.profile import cost_of, cost_of_onnx, cost_rows, load_network, main
from hardware.runtimes.onnxruntime import export
from searchspaces.cli import run_command
from searchspaces.errors import CostError

from .cost_networks import Chain, save_architecture, tiny_network

KEYS = {
    *("format", "input", "parameters", "operations", "activation_bytes", "weight_bytes", "layers", "warnings"),
    *("device", "latency", "export"),
}


@pytest.fixture
def architecture(tmp_path: Path) -> Path:
    return save_architecture(tmp_path)


def profile(*argv: Any) -> int:
    return run_command(main, [str(value) for value in argv], prog="python -m hardware.profile")


def test_cost_of_holds_what_cost_json_promises(tmp_path: Path) -> None:
    cost = cost_of(tiny_network(), (3, 16, 16), folder=tmp_path, repetitions=5)
    assert cost == json.loads(json.dumps(cost, allow_nan=False))
    assert set(cost) == {*KEYS, "kernels"}
    assert (cost["format"], cost["input"]) == (1, [3, 16, 16])
    assert set(cost["parameters"]) == {"stored", "trainable", "active"}
    assert set(cost["operations"]) >= {"mac", "ptflops", "lfr", "nni"}
    assert set(cost["activation_bytes"]) == {"peak", "total"}
    assert set(cost["weight_bytes"]) == {"float32", "int8_estimate"}
    assert all(set(row) == {"name", "type", "output", "parameters", "macs"} for row in cost["layers"])
    latency = cost["latency"][0]
    assert (latency["runtime"], latency["threads"], latency["repetitions"]) == ("onnxruntime", 1, 5)
    assert cost["export"]["onnx_bytes"] == (tmp_path / "network.onnx").stat().st_size
    assert 0 <= cost["export"]["max_abs_difference"] < 1e-5


def test_cost_without_measuring_exports_nothing(tmp_path: Path) -> None:
    cost = cost_of(Chain(), (3, 8, 8), folder=tmp_path, measure=False)
    assert set(cost) == {*KEYS, "kernels"}
    assert (cost["latency"], cost["kernels"], cost["export"]) == ([], None, None)
    assert not list(tmp_path.iterdir())


def test_cost_of_onnx_agrees_with_the_source(tmp_path: Path) -> None:
    path = export(tiny_network(), (3, 16, 16), tmp_path / "network.onnx")
    cost = cost_of_onnx(path, repetitions=3)
    assert cost == json.loads(json.dumps(cost))
    assert cost["operations"]["mac"] == count(tiny_network(), (3, 16, 16))
    assert cost["latency"][0]["repetitions"] == 3


def test_command_prints_the_cost_of_an_architecture(architecture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile(architecture, "--json", "--repetitions", 3) == 0
    cost = json.loads(capsys.readouterr().out)
    network, size = load_network(architecture)
    assert size == (3, 32, 32)
    assert cost["operations"]["mac"] == count(network, size)
    assert cost["warnings"] == []


def test_table_names_units_device_and_protocol(architecture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile(architecture, "--convention", "lfr", "--repetitions", 4) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for part in ("operations, mac", "operations, lfr", "M FLOP", "MiB", "1 thread", "cpu clock", "4 runs", "Device: "):
        assert part in text


def test_command_takes_another_input_size(architecture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(str(architecture), input_size=64, json=True, measure=False)
    cost = json.loads(capsys.readouterr().out)
    assert cost["input"] == [3, 64, 64]
    assert cost["latency"] == []


def test_command_takes_an_onnx_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = export(tiny_network(), (3, 16, 16), tmp_path / "network.ONNX")
    assert profile(path, "--json", "--no-measure") == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == {"stored": 242, "active": 242}
    assert profile(path, "--repetitions", 3) == 0
    assert "operations, mac" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--convention", "lrf"], "Did you mean 'lfr'"),
        (["--repetitons", "3"], "--repetitions"),
        (["--repetitions", "0"], "0 repetitions"),
        (["--repetitions", "many"], "many"),
    ],
)
def test_wrong_options_are_one_line(
    architecture: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert profile(architecture, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("facenas: ") and error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize(
    ("name", "content"), [("a.onnx", b"\x00\x01"), ("a.json", b"{"), ("a.json", b"{}"), ("missing.onnx", None)]
)
@pytest.mark.parametrize("command", [main, measure_command.main])
def test_broken_files_are_one_line(
    name: str, content: bytes | None, command: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert run_command(command, [str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("facenas: ") and error.count("\n") == 1
    assert name in error


def test_onnx_file_has_no_other_convention(tmp_path: Path) -> None:
    path = export(tiny_network(), (3, 16, 16), tmp_path / "network.onnx")
    with pytest.raises(CostError, match="mac and flops only"):
        main(str(path), convention="ptflops")


def test_size_must_be_positive(architecture: Path) -> None:
    with pytest.raises(CostError, match="input size -4"):
        main(str(architecture), input_size=-4, measure=False)


def test_warnings_reach_the_reader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Gram(nn.Module):
        def forward(self, x: Any) -> Any:
            return x @ x.transpose(2, 3)

    path = export(Gram(), (3, 100, 100), tmp_path / "network.onnx")
    main(str(path), measure=False)
    assert "Warning: mac misses 3,000,000 MACs" in " ".join(capsys.readouterr().out.split())


def test_rows_of_a_cost_read_from_a_file() -> None:
    cost = json.loads(json.dumps(cost_of(Chain(), (3, 8, 8), measure=False)))
    rows = {name: (value, conditions) for name, value, conditions in cost_rows(cost)}
    assert rows["operations, mac"] == ("0.008", "M MAC (7,552)")
    assert rows["activations, peak"] == ("0.002", "MiB, float32 (1,792 bytes)")


def test_measure_command(architecture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(measure_command.main, [str(architecture), "--threads", "2", "--repetitions", "3"]) == 0
    assert "2 threads" in " ".join(capsys.readouterr().out.split())
    path = export(tiny_network(), (3, 16, 16), tmp_path / "network.onnx")
    assert run_command(measure_command.main, [str(path), "--repetitions", "3"]) == 0
    assert run_command(measure_command.main, [str(path), "--runtime", "onnxruntim"]) == 2
    assert "Did you mean 'onnxruntime'" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["hardware.profile", "hardware.measure"])
def test_help_loads_nothing_heavy(module: str) -> None:
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module({module!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'nni') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert f"python -m {module}" in result.stdout
