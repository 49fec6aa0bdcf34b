"""Several runtimes in one table: processes, failures, the table, the measurements file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hardware import bench, measure
from hardware.bench import Job, Row, measure_in_process, measure_job
from hardware.bench_table import COLUMNS, FIRST_COLUMNS, HEADINGS, append_csv, cells, csv_rows, notes
from hardware.measurements import read_measurements
from hardware.runtimes import RUNTIMES
from hardware.runtimes.libraries import LIBRARIES
from hardware.runtimes.memory import peak_memory
from hardware.runtimes.onnxruntime import export
from searchspaces import Architecture
from searchspaces.cli import run_command
from searchspaces.errors import ConfigError, CostError, UnknownNameError

from .cost_networks import save_architecture, tiny_network
from .fake_runtimes import MODE, Fake, Unloadable, Wrong

FAKE = "tests.hardware.fake_runtimes"
BOTH = ("float32", "int8")
RANDOM = "16 random inputs, random weights, so its difference from torch says little"


@pytest.fixture
def architecture(tmp_path: Path) -> Path:
    return save_architecture(tmp_path)


def job(architecture: Path, runtime: str = FAKE, dtypes: tuple[str, ...] = BOTH, **more: Any) -> Job:
    return Job(str(architecture), runtime, dtypes, str(architecture.parent / "out"), repetitions=3, **more)


def command(*argv: object) -> int:
    return run_command(measure.main, [str(value) for value in argv], prog="python -m hardware.measure")


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick: no processes of their own, so no peak memory."""
    monkeypatch.setattr(bench, "measure_in_process", measure_job)
    monkeypatch.setattr("hardware.runtimes.memory.peak_memory", lambda *_: None)


def latency(**more: Any) -> dict[str, Any]:
    known = {"median_ms": 2.0, "p25_ms": 1.5, "p75_ms": 2.5, "clock": "cpu", "threads": 1, "repetitions": 9}
    return {**known, "warmup": 10, "noisy": False, **more}


def test_rows_hold_what_was_found(architecture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardware.runtimes.memory.peak_memory", lambda *_: 5_000_000)
    plain, quantised = measure_job(job(architecture))
    for row in (plain, quantised):
        assert row.error is None
        assert (row.version, row.peak_memory_bytes) == ("1.2.3", 5_000_000)
        assert row.fallback == {"operators": 2, "total": 7, "mac_share": 0.25, "names": ("SLOW",)}
        assert row.latency is not None and row.latency["repetitions"] == 3
        assert row.latency["dtype"] == row.dtype
        assert row.difference is not None and row.difference < 1e-4
        assert Path(row.path).is_file() and row.file_bytes == Path(row.path).stat().st_size
    assert (plain.dtype, plain.calibration) == ("float32", "")
    assert (quantised.dtype, quantised.calibration) == ("int8", RANDOM)
    assert plain.path != quantised.path


@pytest.mark.parametrize(
    ("mode", "message"),
    [("fails", "this network cannot be quantised"), ("unforeseen", "KeyError: 'nobody thought of this'")],
)
def test_a_number_type_that_fails_hides_no_other(
    architecture: Path, mode: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODE, mode)
    monkeypatch.setattr("hardware.runtimes.memory.peak_memory", lambda *_: None)
    plain, quantised = measure_job(job(architecture))
    assert plain.error is None and plain.latency is not None
    assert quantised.error == message and quantised.latency is None


def test_a_process_that_dies_leaves_what_was_done(architecture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODE, "killed")
    plain, quantised = measure_in_process(job(architecture))
    assert plain.error is None and plain.latency is not None
    assert plain.peak_memory_bytes is None or plain.peak_memory_bytes > 0
    assert quantised.error == "its process was killed by signal 9"


def test_a_process_that_takes_too_long_is_told(architecture: Path) -> None:
    rows = measure_in_process(job(architecture), seconds=0.05)
    assert [row.error for row in rows] == ["took longer than 0.05 s"] * 2


def test_a_runtime_that_cannot_be_imported_is_told(architecture: Path) -> None:
    (row,) = measure_job(job(architecture, "tests.hardware.no_such_runtime", ("float32",)))
    assert row.error is not None and "Cannot import the runtime" in row.error


def save_weights(architecture: Path) -> dict[str, torch.Tensor]:
    """Weights beside an architecture, as a run folder holds them."""
    from safetensors.torch import save_file

    trained = Architecture.load(architecture).build(seed=5).state_dict()
    path = architecture.parent / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in trained.items()}, path)
    return trained


def test_a_file_that_differs_is_refused_as_float32_only(architecture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.hardware.fake_runtimes.RUNTIME", Wrong())
    monkeypatch.setattr("hardware.runtimes.memory.peak_memory", lambda *_: None)
    save_weights(architecture)
    plain, quantised = measure_job(job(architecture))
    assert plain.error is not None and "differs from the network" in plain.error
    assert quantised.error is None and quantised.rms == pytest.approx(1.0, rel=1e-3)
    assert any("changes the outputs by 100%" in warning for warning in quantised.warnings)


def test_trained_weights_of_a_run_folder_are_used(
    architecture: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = save_weights(architecture)
    seen = []
    monkeypatch.setattr(Fake, "_export", lambda self, model, *_: seen.append(model.state_dict()) or pytest.fail("seen"))
    for path in (architecture, architecture.parent):
        with pytest.raises(pytest.fail.Exception):
            measure_job(job(path, dtypes=("float32",)))
    assert len(seen) == 2
    for state in seen:
        assert all(torch.equal(value, trained[name]) for name, value in state.items())


def test_a_file_that_cannot_be_loaded_is_not_left(tmp_path: Path) -> None:
    with pytest.raises(CostError, match=r"fake converts Sequential to float32, but cannot load the result.*prepare"):
        Unloadable().export(tiny_network(), (3, 16, 16), tmp_path / "a.fake")
    assert not list(tmp_path.iterdir())


def test_no_int_8_is_told(architecture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "DTYPES", ("float32",))
    (row,) = measure_job(job(architecture, dtypes=("int8",)))
    assert row.error is not None and "no int8 here" in row.error


def test_peak_memory_holds_the_weights(tmp_path: Path) -> None:
    from torch import nn

    path = export(nn.Linear(2000, 5000, bias=False), (2000,), tmp_path / "large.onnx")
    weights = 4 * 2000 * 5000
    needed = peak_memory("onnxruntime", path)
    if needed is None:
        pytest.skip("this system has no /proc")
    assert 0.9 * weights < needed < 5 * weights
    path.write_bytes(b"")
    with pytest.raises(CostError, match=r"measures the memory of .* cannot load"):
        peak_memory("onnxruntime", path)


def test_cells_and_notes() -> None:
    fallback = {"operators": 2, "total": 7, "mac_share": 0.25, "names": ("SLOW",)}
    row = Row("litert", "int8", "2.3", "p", 2**20, 0.5, 0.2, 0.01, latency(), 3 * 2**20, fallback, "8 pictures")
    row.warnings = ["litert: hot"]
    found = dict(zip(HEADINGS, cells(row), strict=True))
    assert found["runtime"] == "litert 2.3"
    assert found["file, MiB"] == "1.00" and found["memory, MiB"] == "3.00"
    assert found["differs from torch"] == "5.0e-01 (1.0e-02 rms)"
    assert found["median, ms"] == "2.000" and found["p25 to p75, ms"] == "1.500 to 2.500"
    assert found["slow operators"] == "2 of 7 (25% of MACs)"
    told = notes([row, Row("ncnn", "int8", error="why")])
    assert told == [
        "litert int8: calibrated on 8 pictures",
        "litert int8: slow operators are SLOW",
        "litert int8: hot",
        "ncnn int8 failed: why",
    ]
    assert set(cells(Row("ncnn", "int8", error="why"))[2:]) == {"-"}


def test_a_file_from_before_slow_operators_is_appended_to_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text(",".join(FIRST_COLUMNS) + "\n")
    fallback = {"operators": 2, "total": 7, "mac_share": 0.25, "names": ("SLOW",)}
    rows = csv_rows([Row("a", "float32", "1", latency=latency(), fallback=fallback)], {"space": "autofas"}, "x")
    append_csv(path, rows)
    with open(path, newline="") as file:
        (line,) = csv.DictReader(file)
    assert tuple(line) == FIRST_COLUMNS and line["latency_ms"] == "2"
    append_csv(tmp_path / "new.csv", rows)
    with open(tmp_path / "new.csv", newline="") as file:
        (line,) = csv.DictReader(file)
    assert [line[name] for name in COLUMNS[-4:]] == ["2", "7", "0.25", "SLOW"]


def test_measurements_file_is_appended_to_and_can_be_read(architecture: Path, tmp_path: Path) -> None:
    content = json.loads(Architecture.load(architecture).to_json())
    rows = [Row("a", "float32", "1", latency=latency()), Row("a", "float32", error="failed")]
    path = tmp_path / "m" / "{runtime}-{dtype}.csv"
    for _ in range(2):
        assert append_csv(path, csv_rows(rows, content, "a phone, new")) == [tmp_path / "m" / "a-float32.csv"]
    with open(tmp_path / "m" / "a-float32.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 and tuple(lines[0]) == COLUMNS
    assert lines[0]["device"] == "a phone, new" and lines[0]["noisy"] == "false"
    assert "found_by" not in json.loads(lines[0]["architecture"])
    read = read_measurements(tmp_path / "m" / "a-float32.csv")
    assert read.latency_ms.tolist() == [2.0, 2.0]
    assert read.conditions["runtime"] == "a"


def test_another_file_is_not_appended_to(architecture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = architecture.parent / "notes.csv"
    other.write_text("my,notes\n1,2\n")
    assert command(architecture, "--runtime", FAKE, "--csv", other) == 2
    assert "is no measurements file" in capsys.readouterr().err
    assert other.read_text() == "my,notes\n1,2\n"


def test_command_measures_all_that_are_installed(
    architecture: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(LIBRARIES, "ncnn", ("no_such_module_of_ncnn",))
    monkeypatch.setattr(RUNTIMES, "names", lambda: ["ncnn", "onnxruntime", FAKE])
    monkeypatch.setenv(MODE, "fails")
    file = architecture.parent / "m.csv"
    argv = (architecture, "--runtime", "all", "--dtype", "all", "--repetitions", 3, "--csv", file)
    assert command(*argv) == 0
    out = capsys.readouterr().out
    assert 'Not installed: ncnn. pip install "facenas[ncnn]"' in out
    assert f"{FAKE} int8 failed: this network cannot be quantised" in out
    assert "onnxruntime int8: calibrated on 16 random inputs" in out
    assert len(read_lines(file)) == 3


def read_lines(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_command_keeps_the_exported_files(architecture: Path, in_this_process: None) -> None:
    out = architecture.parent / "kept"
    assert command(architecture, "--runtime", "onnxruntime", "--dtype", "int8", "--repetitions", 2, "--out", out) == 0
    assert [path.name for path in out.iterdir()] == ["network-onnxruntime-int8.onnx"]


def test_command_fails_if_nothing_could_be_measured(
    architecture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "measure_in_processes", lambda jobs: [Row("fake", "int8", error="why")])
    assert command(architecture, "--runtime", FAKE, "--dtype", "int8") == 2
    assert "fake int8 failed: why" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runtime", "onxruntime"], "Did you mean 'onnxruntime'"),
        (["--runtime", "onnxruntime,litrt"], "Did you mean 'litert'"),
        (["--dtype", "int9"], "Did you mean 'int8'"),
        (["--runtime", "all", "--threads", "0"], "0 threads"),
        (["--runtime", "all", "--repetitions", "0"], "--repetitions is 0"),
        (["--adb", "SERIAL"], "--benchmark-binary"),
        (["--adb", "SERIAL", "--benchmark-binary", "b", "--runtime", "litert,onnxruntime"], "one runtime at a time"),
        (["--adb", "a b; reboot", "--benchmark-binary", "b"], "not 'a b; reboot'"),
    ],
)
def test_wrong_options_are_one_line(
    architecture: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(architecture, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("facenas: ") and error.count("\n") == 1
    assert message in error


def test_exported_file_is_of_one_number_type_and_runtime(tmp_path: Path) -> None:
    path = export(tiny_network(), (3, 16, 16), tmp_path / "network.onnx")
    with pytest.raises(ConfigError, match="of one number type"):
        measure.main(str(path), dtype="all")
    with pytest.raises(CostError, match="not an architecture: litert cannot be made from it"):
        measure.main(str(path), runtime="litert", dtype="int8")


def test_names_of_runtimes() -> None:
    assert measure.runtime_names("all") == RUNTIMES.names()
    assert {"executorch", "litert", "ncnn", "onnxruntime", "openvino"} <= set(RUNTIMES.names())
    assert measure.runtime_names("ncnn, my.own") == ["ncnn", "my.own"]
    with pytest.raises(UnknownNameError):
        measure.runtime_names("")
