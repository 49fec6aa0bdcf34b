"""`python -m hardware.fit` and `python -m hardware.predict`: from a CSV to milliseconds, and what they refuse."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from hardware.devices import find_profile, list_devices, load_profile
from hardware.fit import main as fit
from hardware.latency import LatencyModel
from hardware.learn import draw
from hardware.measurements import measured_features, read_kernels, read_measurements
from hardware.predict import main as predict
from searchspaces import Architecture
from searchspaces.cli import run_command
from searchspaces.errors import CostError, UnknownNameError
from searchspaces.reference import REFERENCE_SPACES
from tests.hardware.synthetic_devices import measure
from tests.searchspaces.genotypes import TABLE_4, choices

SPACE = REFERENCE_SPACES["nasbench201"]
OPERATIONS = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5")


def write_csv(path, architectures, column="latency_ms", **more):
    latency = measure(SPACE.features(architectures), "slow_start")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["architecture", column, *more])
        writer.writerows([[one, f"{ms:.4f}", *more.values()] for one, ms in zip(architectures, latency, strict=True)])
    return path


def edit(path, line, old, new):
    lines = path.read_text().splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_device_is_fitted_and_predicted_from_files(tmp_path, capsys):
    told = {"device": "board", "runtime": "litert", "threads": 1, "dtype": "float32", "repetitions": 50, "iqr_ms": 0.1}
    path = write_csv(tmp_path / "m.csv", SPACE.random(60, seed=0), **told)
    out = tmp_path / "board.json"
    assert run_command(fit, [str(path), "--space", "nasbench201", "--out", str(out)]) == 0
    assert "60 networks" in capsys.readouterr().out
    profile = json.loads(out.read_text())
    assert profile["device"] == "board" and profile["runtime"] == "litert" and profile["accuracy"]["spearman"] > 0.9
    unseen = SPACE.random(200, seed=1)
    lines = tmp_path / "a.jsonl"
    lines.write_text(
        "".join(json.dumps(one if i % 2 else {"architecture": one}) + "\n" for i, one in enumerate(unseen))
    )
    arguments = [str(lines), "--device-profile", str(out), "--json", "--runtime", "litert"]
    assert run_command(predict, arguments) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    truth = measure(SPACE.features(unseen), "slow_start", noise=0)
    assert [entry["architecture"] for entry in found] == unseen
    assert np.mean([abs(entry["latency_ms"] / ms - 1) for entry, ms in zip(found, truth, strict=True)]) < 0.05
    assert np.mean([e["low_ms"] <= ms <= e["high_ms"] for e, ms in zip(found, truth, strict=True)]) > 0.9
    assert run_command(predict, [str(lines), "--device-profile", str(out)]) == 0
    assert "board with litert" in capsys.readouterr().out
    assert run_command(predict, [str(lines), "--device-profile", str(out), "--runtime", "ncnn"]) == 2


@pytest.mark.parametrize(("column", "factor"), [("latency_us", 1e-3), ("latency_s", 1e3)])
def test_the_unit_is_that_of_the_column(tmp_path, column, factor):
    path = tmp_path / "m.csv"
    path.write_text(f"architecture,{column}\n{SPACE.example},25\n")
    assert read_measurements(path).latency_ms.tolist() == pytest.approx([25 * factor])


@pytest.mark.parametrize(
    ("line", "old", "new", "message"),
    [
        (1, "latency_ms", "latency", "exactly one of latency_ms, latency_us, latency_s"),
        (1, "architecture", "network", "no column 'architecture'"),
        (1, "runtime", "runtme", "unknown column 'runtme'.*'runtime'"),
        (4, ",litert", ",ncnn", "line 4: runtime is 'ncnn', but 'litert' in line 2"),
        (5, ",board", ",phone", "line 5: device is 'phone'"),
        (3, "nor_conv_1x1", "conv_1x1", "line 3: .*conv_1x1.*nor_conv_1x1"),
        (6, ",board", "", "line 6: .*as many fields"),
    ],
)
def test_a_bad_row_is_refused_by_its_line(tmp_path, line, old, new, message):
    cell = "|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    path = write_csv(tmp_path / "m.csv", [cell] * 8, device="board", runtime="litert")
    edit(path, line, old, new)
    with pytest.raises(CostError, match=message):
        measured_features("nasbench201", read_measurements(path), path)


@pytest.mark.parametrize("value", ["-3", "0", "nan", "inf", "fast", "", "1e9"])
def test_a_value_that_is_no_latency_is_refused_by_its_line(tmp_path, value):
    path = tmp_path / "m.csv"
    path.write_text(f"architecture,latency_ms\n{SPACE.example},3\n{SPACE.example},{value}\n")
    with pytest.raises(CostError, match=r"line 3: latency_ms"):
        read_measurements(path)


def test_kernels_are_read_fitted_and_checked(tmp_path):
    path = tmp_path / "k.csv"
    rows = [f"conv,{n}00000,{n}000,{n}000,500,{n}0,board" for n in range(1, 12)]
    path.write_text("kind,macs,read_bytes,written_bytes,weight_bytes,latency_us,device\n" + "\n".join(rows) + "\n")
    fit(str(path), space="nasbench201", out=str(tmp_path / "p.json"))
    model = LatencyModel.load(tmp_path / "p.json", space="nasbench201")
    assert model.kernels == 11 and model.provenance["accuracy"]["method"].startswith("none")
    assert model.predict(SPACE.features([SPACE.example])).ms[0] > 0
    edit(path, 3, "conv", "cnov")
    with pytest.raises(CostError, match="line 3: kind 'cnov'"):
        read_kernels(path)
    networks = write_csv(tmp_path / "m.csv", SPACE.random(10, seed=0), device="phone")
    edit(path, 3, "cnov", "conv")
    with pytest.raises(CostError, match=r"device is 'board'.*'phone'"):
        fit(str(networks), space="nasbench201", out=str(tmp_path / "p.json"), kernels=str(path))


def test_a_space_of_facenas_is_traced(tmp_path, capsys):
    entries = []
    for seed in range(12):
        drawn = choices(TABLE_4)
        rng = np.random.default_rng(seed)
        drawn.update({label: str(rng.choice(OPERATIONS)) for label in drawn if "/op_" in label})
        entries.append(Architecture("autofas", {"channels": 8, "layout": "NRN"}, drawn).to_json())
    path = tmp_path / "m.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["architecture", "latency_ms"], *([e, 2 + i] for i, e in enumerate(entries))])
    fit(str(path), space="autofas", out=str(tmp_path / "p.json"), device="this", runtime="onnxruntime")
    assert "cpu" in json.loads((tmp_path / "p.json").read_text())["device"]
    lines = tmp_path / "a.jsonl"
    lines.write_text("\n".join(json.dumps(json.loads(entry)) for entry in entries[:2]))
    capsys.readouterr()
    predict(str(lines), device_profile=str(tmp_path / "p.json"), json=True)
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (fit, ["m.csv", "--space", "fbnett", "--out", "p.json"], "fbnet"),
        (fit, ["m.csv", "--space", "fbnet", "--out", "p.json"], "m.csv"),
        (fit, ["m.csv", "--space", "fbnet"], "--out"),
        (predict, ["a.jsonl"], "--device-profile"),
        (predict, ["a.jsonl", "--device-profile", "pixel3-fbnett"], "pixel3-fbnet"),
    ],
)
def test_commands_say_what_is_wrong_on_one_line(tmp_path, monkeypatch, capsys, command, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run_command(command, arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


PHONES = [name for name in list_devices() if not name.startswith("epyc-")]
TABLES = [name for name in list_devices() if name.startswith("epyc-")]


@pytest.mark.parametrize("name", TABLES)
def test_shipped_kernel_tables_say_what_they_are_of_and_how_good(name):
    table = load_profile(name)
    assert (
        f"epyc-{table.space}-{table.runtime}-{table.dtype}" == name
        and "measured by facenas" in table.provenance["source"]
    )
    accuracy = table.provenance["accuracy"]
    assert accuracy["mape"] < 0.05 and accuracy["within_10"] >= 0.9 and accuracy["share_of_known_kernels"] > 0.99


def test_a_shipped_kernel_table_knows_the_kernels_of_its_space():
    """The quick recipe's networks, in LiteRT as this machine has it."""
    (one,) = draw("autofas", {"channels": 16, "layout": "RRNRN", "stem_multiplier": 1}, 1, 7)
    table = load_profile("epyc-autofas-litert-float32")
    assert table.covered(table.kernels_of(one.build(seed=0), one.input_size)) > 0.97


@pytest.mark.parametrize("name", PHONES)
def test_shipped_profiles_name_their_source_and_predict_with_intervals(name):
    model = LatencyModel.load(find_profile(name))
    device, _, space = name.rpartition("-")
    assert (model.space, model.provenance["device"]) == (space, device)
    assert "HELP" in model.provenance["source"] and model.measurements == 900
    assert model.provenance["accuracy"]["spearman"] > 0.7
    reference = REFERENCE_SPACES[space]
    found = model.predict(reference.features(reference.random(100, seed=0)))
    assert (found.low < found.ms).all() and (found.ms < found.high).all()


def test_four_phones_are_shipped_and_an_unknown_one_is_answered_with_the_nearest():
    assert {name.rpartition("-")[0] for name in PHONES} == {
        "pixel3",
        "samsung_a50",
        "samsung_s7",
        "essential_ph_1",
    }
    with pytest.raises(UnknownNameError, match="pixel3-nasbench201"):
        find_profile("pixel3-nasbench")
