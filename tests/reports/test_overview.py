"""The rows of an overview: every architecture that runs tell of, with what is known of each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware.bench import Row as BenchRow
from hardware.bench_table import append_csv, csv_rows
from reports.overview import Time, judged_on, rows
from reports.run import Run

from .made_up_detector import write_detector_run


def test_a_search_and_its_baseline(run_folder: Path) -> None:
    found, random = rows([Run(run_folder)])
    assert (found.name, found.kind, random.name, random.kind) == ("first", "found", "first: random search", "random")
    assert (found.value, found.low, found.high) == pytest.approx((0.118, 0.083, 0.153))
    assert (found.metric, found.label, found.higher, found.task) == ("acer", "ACER", False, "antispoofing")
    assert (found.space, found.strategy, random.strategy) == ("autofas", "pc_darts", "random_search")
    assert (found.parameters, found.macs, found.size_bytes, found.search_seconds) == (31937, 61236736, 151234, 345.0)
    cpu = "Intel(R) Xeon(R) Processor @ 2.60GHz: onnxruntime 1.20.1, 1 thread, float32, CPU time"
    assert found.times[cpu] == Time(11.84, 11.5, 12.4) and len(found.times) == 2
    assert any(time.noisy for time in found.times.values())
    assert found.simulated is True and found.test_set == random.test_set


def test_measurements_on_more_devices_are_read(run_folder: Path) -> None:
    architecture = json.loads((run_folder / "architecture.json").read_text())
    latency = {"threads": 1, "clock": "wall", "repetitions": 50, "median_ms": 7.5, "p25_ms": 7.0, "p75_ms": 8.0}
    row = BenchRow("litert", "int8", "2.3.0", latency={**latency, "noisy": True})
    lines = csv_rows([row], architecture, "a phone")
    other = csv_rows([row], {**architecture, "choices": {}}, "another phone")
    lost = [{**lines[0], "runtime": "lost", "p75_ms": "nan"}, {**lines[0], "runtime": "torn", "threads": "x"}]
    append_csv(run_folder / "measurements.csv", [*lines, *other, *lost])
    found = rows([Run(run_folder)])[0]
    device = "a phone: litert 2.3.0, 1 thread, int8, wall-clock time"
    assert found.times[device] == Time(7.5, 7.0, 8.0, noisy=True) and len(found.times) == 3
    (run_folder / "measurements.csv").write_bytes(b"\xff\xfe")
    run = Run(run_folder).read_all()
    assert len(rows([run])[0].times) == 2 and run.problem("measurements.csv") is not None


def test_configurations_are_rows_and_the_selected_one_is_the_found(pta_folder: Path) -> None:
    made = rows([Run(pta_folder)])
    assert Counter(row.kind for row in made) == {"found": 1, "configuration": 26, "reference": 1}
    found = made[0]
    assert found.what == "configuration HHL, selected" and found.value == pytest.approx(0.055)
    assert len({row.name for row in made}) == len(made)
    shared = set.intersection(*(set(row.times) for row in made if row.times))
    assert len(shared) == 1  # the times of all configurations were taken under one condition
    assert made[-1].search_seconds == 151.2 and made[1].search_seconds == 345.0


def test_detectors_have_their_rivals(tmp_path: Path) -> None:
    made = rows([Run(write_detector_run(tmp_path / "run"))])
    assert [(row.kind, row.strategy) for row in made] == [
        ("found", "gumbel"), ("random", "random"), ("reference", "none")
    ]  # fmt: skip
    assert [row.value for row in made] == pytest.approx([0.64, 0.61, 0.52]) and made[0].higher


def test_a_teacher_is_a_reference(run_folder: Path) -> None:
    teacher = {"name": "timm:vit", "parameters": 5_500_000, "metrics": {"acer": {"value": 0.04, "low": 0.01}}}
    (run_folder / "teacher.json").write_text(json.dumps(teacher))
    row = rows([Run(run_folder)])[-1]
    assert (row.kind, row.what, row.value, row.high) == ("reference", "its teacher, timm:vit", 0.04, None)


def test_runs_on_other_people_have_another_test_set(make_run: Callable[..., Path]) -> None:
    first, second = make_run("one"), make_run("two")
    data = json.loads((second / "data.json").read_text())
    data["splits"]["test"]["people"] = 31
    (second / "data.json").write_text(json.dumps(data))
    assert judged_on(Run(first)) != judged_on(Run(second))
    assert [row.index for row in rows([Run(first), Run(second)])] == [0, 1]


@pytest.mark.parametrize("file", ["metrics.json", "cost.json", "data.json", "provenance.json", "configurations.json"])
@pytest.mark.parametrize("junk", ["[]", "{", '{"latency": [{"median_ms": "x"}], "acer": 3, "splits": {"test": 1}}'])
def test_damaged_files_cost_figures_not_rows(pta_folder: Path, file: str, junk: str) -> None:
    (pta_folder / file).write_text(junk)
    made = rows([Run(pta_folder)])
    assert made[0].kind == "found" and made[0].run == "pta"
