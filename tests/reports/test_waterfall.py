"""Where the time goes: kernels of an exported network, their layers, and the device profile's prediction."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hardware.bench import Row as Measured
from hardware.bench_table import append_csv, csv_rows
from hardware.devices import load_profile
from hardware.profile import cost_of
from reports.compact_svg import StyleSheet
from reports.layers import joined_layers, layer_rows, longest
from reports.run import Run
from reports.tables import slow_operators
from reports.waterfall import waterfall
from reports.waterfall_view import blocks, longer, longest_rows, sentence, share_headings, share_rows
from searchspaces import Architecture

from .conftest import random_choices

PROFILE = "epyc-autofas-onnxruntime-float32"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its exported network, of the shapes that the shipped profile has measured."""
    path = tmp_path_factory.mktemp("runs") / "run"
    path.mkdir()
    (path / "config.yaml").write_text("space: autofas\n")
    options = {"channels": 16, "layout": "RRNRN", "stem_multiplier": 1}
    found = Architecture("autofas", options, random_choices(3))
    found.save(path / "architecture.json")
    network = found.build(seed=0).eval()
    cost = cost_of(network, found.input_size, folder=path, repetitions=5)
    (path / "cost.json").write_text(json.dumps(cost))
    return path


def test_the_whole_is_what_the_profile_predicts(folder: Path) -> None:
    found = waterfall(Run(folder))
    assert found is not None and found.profile == PROFILE and not found.foreign
    architecture = Architecture.load(folder)
    told = load_profile(PROFILE).predict_networks([(architecture.build(seed=1).eval(), architecture.input_size)])
    assert found.ms == pytest.approx(told.ms[0], rel=1e-6) and found.low == pytest.approx(told.low[0], rel=1e-6)
    assert sum(kernel.ms for kernel in found.kernels) == pytest.approx(found.ms, rel=0.01)  # all but the overhead
    assert found.known > 0.99 and all(kernel.ms > 0 for kernel in found.kernels)


def test_convolutions_are_told_by_kind_and_keep_their_macs(folder: Path) -> None:
    run = Run(folder)
    found = waterfall(run)
    assert found is not None
    macs = sum(kernel.macs for kernel in found.kernels if kernel.kind in ("conv", "pointwise", "depthwise", "linear"))
    assert 1 <= macs / run.cost["operations"]["mac"] < 1.15  # blocked kernels fill their last block of channels
    shares = {row.name: row.cells for row in share_rows(found)}
    headings = share_headings(found)
    assert headings[1:5] == ["predicted", "share of it", "measured", "share of it"]
    for column in (2, 4):
        assert sum(float(cells[column].split()[0]) for cells in shares.values()) == pytest.approx(100, abs=0.5)
    assert sum(int(cells[0]) for cells in shares.values()) == len(found.kernels)


def test_layers_have_the_times_of_their_kernels(folder: Path) -> None:
    run = Run(folder)
    found = waterfall(run)
    assert found is not None
    rows = layer_rows(run.cost, found)
    assert found.own_ms is not None
    for column, whole in ((-2, found.ms), (-1, found.own_ms)):
        times = [float(row.cells[column].replace(",", "")) for row in rows if row.cells[column]]
        assert sum(times) / 1e3 > 0.9 * whole  # the rest is in rows too short to be shown
        assert sum(times) / 1e3 <= whole * 1.001
    joined = joined_layers(run.cost)
    assert sum(layer.parameters or 0 for layer in joined) == run.cost["parameters"]["active"]
    assert any(layer.kinds[:2] == ("Conv2d", "BatchNorm2d") for layer in joined)
    timed = {row.name for row in rows if row.cells[-1]}
    assert {layer.name for layer in joined if layer.kinds[0] == "Conv2d"} <= timed
    assert len(longest(rows, 10)) == 10 and longest(rows, None) == rows


def test_blocks_fill_the_time_once(folder: Path) -> None:
    found = waterfall(Run(folder))
    assert found is not None
    made = blocks(found, StyleSheet())
    assert made[0].name == "stem.0" and {"cells.0", "cells.4", "head"} < {block.name for block in made}
    assert sum(block.ms for block in made) == pytest.approx(sum(kernel.ms for kernel in found.kernels))
    assert sum(block.own_ms or 0 for block in made) == pytest.approx(found.own_ms)
    ends = []
    for side in ("bars", "own_bars"):
        drawn = "".join(getattr(block, side) for block in made)
        spans = sorted((int(left), int(left) + int(wide)) for left, wide in re.findall(r"M(\d+) 0h(\d+)", drawn))
        assert spans[0][0] == 0 and all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
        ends.append(spans[-1][1])
    assert max(ends) == 1000  # both on one scale
    assert min(ends) / 1000 == pytest.approx(
        min(sum(k.ms for k in found.kernels), found.own_ms or 0) / longer(found), abs=2e-3
    )
    assert len(longest_rows(found, 5)) == 5


def test_prediction_and_measurement_stand_beside_each_other(folder: Path) -> None:
    run = Run(folder)
    found = waterfall(run)
    assert found is not None
    text = sentence(found, run.cost).replace("\u00a0", " ")
    assert text.startswith("Predicted, not measured: ") and "All of it is in kernels" in text and "Measured: " in text
    latency = {**run.cost["latency"][0], "median_ms": found.ms / 1.1}
    other = sentence(found, {**run.cost, "latency": [latency]}).replace("\u00a0", " ")
    assert "10 % above that" in other
    assert "was not measured in ONNX Runtime" in sentence(found, {**run.cost, "latency": [{**latency, "threads": 4}]})


def test_kernels_are_measured_inside_of_their_network(folder: Path) -> None:
    run = Run(folder)
    found = waterfall(run)
    assert found is not None and found.own_ms is not None
    whole = run.cost["latency"][0]["median_ms"]
    assert 0.5 * whole < found.own_ms < 2 * whole  # the same work, at two moments of a busy machine
    assert "the profiler of ONNX Runtime" in sentence(found, run.cost)


@pytest.mark.parametrize("kernels", [None, 3, {"ms": 5}, {"ms": {"x": "y"}}, {"ms": {"x": float("nan")}}, "old"])
def test_without_measured_kernels_the_predicted_ones_stand_alone(folder: Path, tmp_path: Path, kernels: Any) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    cost = json.loads((folder / "cost.json").read_text())
    if kernels == "old":
        cost.pop("kernels")
    else:
        cost["kernels"] = kernels
    (tmp_path / "cost.json").write_text(json.dumps(cost))
    run = Run(tmp_path)
    found = waterfall(run)
    assert found is not None and found.own_ms is None
    assert "measured" not in share_headings(found) and "profiler" not in sentence(found, run.cost)
    assert all(block.own_ms is None for block in blocks(found, StyleSheet()))
    assert len(layer_rows(run.cost, found)[0].cells) == 5


def test_a_profile_of_another_space_is_called_that(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("space: hatfas\n")
    (tmp_path / "network.onnx").write_bytes((folder / "network.onnx").read_bytes())
    found = waterfall(Run(tmp_path))
    assert found is not None and found.foreign and f"learned on networks of {found.space}" in sentence(found, {})


@pytest.mark.parametrize("content", [b"", b"not a network"])
def test_a_damaged_network_is_a_problem_not_a_crash(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.yaml").write_text("space: autofas\n")
    assert waterfall(Run(tmp_path)) is None
    (tmp_path / "network.onnx").write_bytes(content)
    run = Run(tmp_path)
    assert waterfall(run) is None and run.problem("network.onnx") is not None


@pytest.mark.parametrize(
    "layers", [None, 5, [None, 3], [{"name": 1}], [{"output": "x", "macs": "y", "type": None}] * 2]
)
def test_wrong_layers_do_not_crash(layers: Any) -> None:
    assert isinstance(longest(layer_rows({"layers": layers}, None), 1), list)


def test_operators_that_a_runtime_fell_back_on(tmp_path: Path) -> None:
    fallback = {"operators": 3, "total": 120, "mac_share": 0.02, "names": ["RESHAPE", "PAD"]}
    latency = {
        "threads": 1,
        "clock": "cpu",
        "repetitions": 9,
        "median_ms": 2.0,
        "p25_ms": 1.9,
        "p75_ms": 2.1,
        "noisy": False,
    }
    content = {"space": "pta", "options": {}, "choices": {"a": "b"}}
    rows = [
        Measured("litert", "int8", "2", latency=latency, fallback=fallback),
        Measured("ncnn", "int8", "1", latency=latency),
    ]
    (tmp_path / "config.yaml").write_text("space: pta\n")
    (tmp_path / "architecture.json").write_text(json.dumps(content))
    append_csv(tmp_path / "measurements.csv", csv_rows(rows, content, "a phone"))
    append_csv(tmp_path / "measurements.csv", csv_rows(rows, {**content, "choices": {"a": "c"}}, "another's"))
    (row,) = slow_operators(Run(tmp_path).own_measurements)
    assert row.name.startswith("a phone: litert 2, 1 thread, int8")
    assert row.cells == ("3 of 120", "2.0\u00a0%", "RESHAPE, PAD")
