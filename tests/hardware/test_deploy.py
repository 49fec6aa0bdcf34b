"""The file of all configurations, the slim ones, latency tiers, and the command that writes them."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hardware import switchable
from hardware.deploy import choose, load_run, main
from hardware.runtimes import onnxruntime as runtime
from hardware.switchable import check_switchable, encode, export_slim, export_switchable, open_session
from hardware.tiers import make_tiers, pick, read_latencies, write_tiers
from searchspaces import Architecture, build_space
from searchspaces.cli import run_command
from searchspaces.errors import ArchitectureError, ConfigError, CostError, RunFolderError
from searchspaces.pta import CONFIGURATIONS, REPORTED, choices_of

from .cost_networks import save_architecture

OPTIONS = {"width": 0.25, "image_size": 64, "classes": 8}  # two logits of two configurations may agree by chance
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "switch_branches.py"


def trained_network(**options: Any) -> Any:
    """A network as if it were trained: its norms have random weights and the statistics of random pictures, so that
    folding is tested and every branch matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_space("pta", **{**OPTIONS, **options})
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.3)
        with torch.no_grad():
            network.configure("BBB").train()
            for _ in range(20):
                network(torch.rand(8, *network.input_size) * 2 - 1)
    return network.configure("HHH").eval()


@pytest.fixture(scope="module")
def network() -> Any:
    return trained_network()


@pytest.fixture(scope="module")
def folder(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pta.onnx and the six slim files of the paper."""
    folder = tmp_path_factory.mktemp("deploy")
    export_switchable(network, folder / "pta.onnx")
    for configuration in REPORTED:
        export_slim(network, configuration, folder / f"{configuration}.onnx")
    return folder


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)


def graphs(graph: Any) -> Iterator[Any]:
    """A graph and all bodies inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


# ---- the files


def test_every_configuration_of_the_one_file_equals_the_network(network: Any, folder: Path) -> None:
    network.configure("LHB")
    differences = check_switchable(network, folder / "pta.onnx")
    assert tuple(differences) == CONFIGURATIONS
    assert 0 < max(differences.values()) < 1e-5
    assert network.configuration == "LHB"


def test_configurations_give_different_outputs(folder: Path, picture: np.ndarray) -> None:
    session = open_session(folder / "pta.onnx")
    outputs = [session.run(None, {"input": picture, "configuration": encode(name)})[0] for name in CONFIGURATIONS]
    distances = [np.abs(a - b).max() for index, a in enumerate(outputs) for b in outputs[:index]]
    assert min(distances) > 3 * runtime.TOLERANCE * np.abs(outputs).max()  # so the check tells them apart


def test_export_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network = trained_network().configure("HLB").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export_switchable(network, tmp_path / "new folder" / "pta.onnx")
    export_slim(network, "LLL", tmp_path / "LLL.onnx")
    assert network.configuration == "HLB"
    assert all(module.training for module in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any("forward" in vars(module) or module._forward_pre_hooks for module in network.modules())
    assert [entry.name for entry in (tmp_path / "new folder").iterdir()] == ["pta.onnx"]


def test_the_one_file_stores_every_weight_once(network: Any, folder: Path) -> None:
    stored = Counter[bytes]()
    elements = 0
    for graph in graphs(onnx.load(folder / "pta.onnx").graph):
        for tensor in graph.initializer:
            elements += int(np.prod(tensor.dims))
            stored[onnx.numpy_helper.to_array(tensor).tobytes()] += 1
    assert stored.most_common(1)[0][1] == 1
    # a folded norm leaves one bias for each of its channels instead of a weight and a bias
    norms = sum(module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    assert elements == sum(parameter.numel() for parameter in network.parameters()) - norms


def test_full_size_file_has_the_size_of_its_weights(tmp_path: Path) -> None:
    network = trained_network(width=1.0, classes=2)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size = export_switchable(network, tmp_path / "pta.onnx").stat().st_size
    assert 2.70e6 < parameters < 2.75e6
    assert abs(size / (4 * parameters) - 1) < 0.02


def test_norms_are_folded_and_branches_lie_in_ifs(folder: Path) -> None:
    model = onnx.load(folder / "pta.onnx")
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {
        entry.name: [axis.dim_value for axis in entry.type.tensor_type.shape.dim] for entry in inferred.graph.input
    }
    assert shapes == {"input": [1, 3, 64, 64], "configuration": [3]}
    assert [entry.name for entry in model.graph.output] == ["output"]
    assert [entry.domain for entry in model.opset_import] == [""]
    operators = Counter(node.op_type for graph in graphs(model.graph) for node in graph.node)
    assert "BatchNormalization" not in operators
    assert operators["If"] == 6
    inside = [graph for graph in graphs(model.graph) if graph is not model.graph]
    convolutions = sorted(sum(node.op_type == "Conv" for node in graph.node) for graph in inside)
    assert convolutions == [0] * 6 + [3] * 3 + [6] * 3


def test_metadata_tells_an_application_how_to_use_the_files(folder: Path) -> None:
    whole = {entry.key: entry.value for entry in onnx.load(folder / "pta.onnx").metadata_props}
    assert whole["facenas.space"] == "pta"
    assert json.loads(whole["facenas.codes"]) == {"L": 0, "H": 1, "B": 2}
    assert json.loads(whole["facenas.input_size"]) == [3, 64, 64]
    assert "RGB" in whole["facenas.normalisation"] and "-1 to 1" in whole["facenas.normalisation"]
    slim = {entry.key: entry.value for entry in onnx.load(folder / "LHH.onnx").metadata_props}
    assert json.loads(slim["facenas.configurations"]) == ["LHH"]
    assert "facenas.codes" not in slim


def test_slim_files_hold_their_own_branches_only(network: Any, folder: Path) -> None:
    for configuration in REPORTED:
        path = folder / f"{configuration}.onnx"
        architecture = Architecture("pta", OPTIONS, choices_of(configuration))
        parameters = sum(parameter.numel() for parameter in architecture.build(seed=0).parameters())
        assert 4 * parameters * 0.9 < path.stat().st_size < 4 * parameters * 1.1
        network.configure(configuration)
        assert runtime.check(network, path, network.input_size) < 1e-5
    sizes = {name: (folder / f"{name}.onnx").stat().st_size for name in REPORTED}
    assert sizes["LLL"] < sizes["HHL"] < sizes["LHH"] < sizes["HHH"] < sizes["BBB"]


@pytest.mark.parametrize("codes", [[0, 1, 3], [-1, 0, 0], [0, -3, 0], [2, 2, 2**62], [-(2**63), 0, 0]])
def test_codes_that_are_none_are_refused_by_the_runtime(folder: Path, picture: np.ndarray, codes: list[int]) -> None:
    session = open_session(folder / "pta.onnx")
    with pytest.raises(Exception, match="configuration_must_hold_codes_0_light_1_heavy_2_both"):
        session.run(None, {"input": picture, "configuration": np.array(codes, np.int64)})
    session.run(None, {"input": picture, "configuration": encode("LHB")})  # it goes on after the error


@pytest.mark.parametrize("codes", [[0, 1, 3], [-1, 0, 0], [2, 2, 2**62]])
def test_codes_that_are_none_give_nan_without_bounds_checks(
    folder: Path, tmp_path: Path, picture: np.ndarray, codes: list[int]
) -> None:
    model = onnx.load(folder / "pta.onnx")
    (outside,) = [node for node in model.graph.node if node.name == "outside"]
    outside.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.int64(1), "outside"))  # as if Gather let it pass
    onnx.save(model, tmp_path / "unchecked.onnx")
    session = open_session(tmp_path / "unchecked.onnx")
    assert np.isnan(session.run(None, {"input": picture, "configuration": np.array(codes, np.int64)})[0]).all()
    assert np.isfinite(session.run(None, {"input": picture, "configuration": encode("HHH")})[0]).all()


@pytest.mark.parametrize("shape", [(2,), (4,), (1, 3)])
def test_a_configuration_of_another_shape_is_refused(folder: Path, picture: np.ndarray, shape: tuple[int, ...]) -> None:
    session = open_session(folder / "pta.onnx")
    with pytest.raises(Exception, match="configuration"):
        session.run(None, {"input": picture, "configuration": np.zeros(shape, np.int64)})


def test_the_light_branch_is_not_executed_where_heavy_is_chosen(tmp_path: Path, picture: np.ndarray) -> None:
    network = trained_network()
    with torch.no_grad():
        network.blocks[1].light.conv[0][0].weight.fill_(torch.nan)
    session = open_session(export_switchable(network, tmp_path / "pta.onnx"))
    heavy = session.run(None, {"input": picture, "configuration": encode("HHH")})[0]
    assert np.isfinite(heavy).all()
    options = ort.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    profiled = ort.InferenceSession(str(tmp_path / "pta.onnx"), options, providers=["CPUExecutionProvider"])
    profiled.run(None, {"input": picture, "configuration": encode("HLH")})
    events = json.loads(Path(profiled.end_profiling()).read_text())
    ran = [event["name"] for event in events if "kernel_time" in event["name"]]
    branches = {
        name.split("/")[0] + "/" + name.split("/")[1] for name in ran if name.startswith("block_") and "Conv" in name
    }
    assert branches == {"block_1/heavy", "block_2/light", "block_3/heavy"}


def test_other_weights_are_noticed_in_the_one_branch_that_differs(folder: Path) -> None:
    other = trained_network()
    with torch.no_grad():
        other.blocks[2].light.conv[2].weight += 1
    with pytest.raises(CostError, match=r"Configuration LLL of .*pta\.onnx differs from the network by"):
        check_switchable(other, folder / "pta.onnx")


def test_a_slim_network_has_nothing_to_switch(tmp_path: Path) -> None:
    slim = Architecture("pta", OPTIONS, choices_of("LHB")).build(seed=0)
    with pytest.raises(ArchitectureError, match=r"Block 1 lacks its heavy branch.*slim LHB"):
        export_switchable(slim, tmp_path / "pta.onnx")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ArchitectureError, match="needs the light branch of block 2"):
        export_slim(slim, "LLB", tmp_path / "LLB.onnx")
    assert slim.configuration == "LHB"  # type: ignore[union-attr]
    export_slim(slim, "LHB", tmp_path / "LHB.onnx")


# ---- latencies


def test_latencies_of_slim_files_and_a_reference(folder: Path) -> None:
    paths, beside = {name: folder / f"{name}.onnx" for name in ("BBB", "LLL")}, {"MobileNetV2": folder / "HHH.onnx"}
    measured = switchable.measure_switchable(folder / "pta.onnx", paths, threads=1, repetitions=40, beside=beside)
    assert list(measured) == ["BBB", "LLL", "MobileNetV2"] and measured["MobileNetV2"][0] is None
    assert all(slim.repetitions == 40 and slim.clock == "cpu" for _, slim in measured.values())
    assert measured["LLL"][1].p25_ms < measured["MobileNetV2"][1].p25_ms < measured["BBB"][1].p25_ms


def test_latencies_within_the_one_file_depend_on_the_configuration(folder: Path) -> None:
    paths = {name: folder / f"{name}.onnx" for name in ("LLL", "BBB")}
    measured = switchable.measure_switchable(folder / "pta.onnx", paths, repetitions=40)
    assert list(measured) == ["LLL", "BBB"]
    assert measured["LLL"][0].p25_ms < measured["BBB"][0].p25_ms
    assert measured["LLL"][1].p25_ms < measured["BBB"][1].p25_ms
    with pytest.raises(CostError, match="0 threads"):
        switchable.measure_switchable(folder / "pta.onnx", paths, threads=0)
    with pytest.raises(CostError, match=r"No file .*none\.onnx"):
        switchable.measure_switchable(folder / "none.onnx", paths)


# ---- tiers


def row(configuration: str, latency: Any, error: Any, **more: Any) -> dict[str, Any]:
    return {"configuration": configuration, "latency_ms": latency, "error": error, **more}


ROWS = [
    row("HHH", 2.5, 0.05, spread_ms=0.1),
    row("LHH", 2.4, 0.06),
    row("HLH", 2.3, 0.06),  # as good as LHH and faster
    row("BBB", 3.0, 0.07),  # slow and bad
    row("LLL", 2.0, 0.10),
]


def test_tiers_are_the_pareto_front() -> None:
    tiers = make_tiers(ROWS)
    assert [(tier["budget_ms"], tier["configuration"]) for tier in tiers] == [(2.0, "LLL"), (2.3, "HLH"), (2.5, "HHH")]
    assert tiers[-1] == {"budget_ms": 2.5, "switchable_ms": None, **ROWS[0]}
    for budget in np.linspace(2.0, 3.5, 40):  # by exhaustion
        fitting = [entry for entry in ROWS if entry["latency_ms"] <= budget]
        best = min(entry["error"] for entry in fitting)
        chosen = next(entry for entry in ROWS if entry["configuration"] == pick(tiers, float(budget)))
        assert chosen in fitting and chosen["error"] == best


def test_equal_rows_and_a_better_one_that_is_faster() -> None:
    assert [tier["configuration"] for tier in make_tiers([row("LLL", 2.0, 0.1), row("HHH", 2.0, 0.05)])] == ["HHH"]
    assert [tier["configuration"] for tier in make_tiers([row("LLL", 2.0, 0.0), row("HHH", 2.5, 0.0)])] == ["LLL"]


def test_a_budget_holds_for_both_files() -> None:
    tiers = make_tiers([row("LLL", 2.0, 0.1, switchable_ms=2.2), row("HHH", 2.5, 0.05, switchable_ms=2.4)])
    assert [tier["budget_ms"] for tier in tiers] == [2.2, 2.5]


def test_no_configuration_is_fast_enough() -> None:
    with pytest.raises(CostError, match=r"No configuration runs within 1\.5 ms: the fastest, LLL, takes 2\.000 ms"):
        pick(make_tiers(ROWS), 1.5)
    with pytest.raises(CostError, match="No configuration runs within nan ms"):
        pick(make_tiers(ROWS), float("nan"))
    with pytest.raises(CostError, match="no tiers"):
        pick([], 1.5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no configurations"),
        ([row("LLL", 2.0, 0.1), row("LLL", 2.1, 0.1)], "LLL appears twice"),
        ([row("LLL", 0, 0.1)], "latency_ms of LLL is 0"),
        ([row("LLL", float("nan"), 0.1)], "latency_ms of LLL is nan"),
        ([row("LLL", 2.0, float("nan"))], "error of LLL is nan"),
        ([row("LLL", 2.0, None)], "error of LLL is None"),
        ([row("LLL", 2.0, -0.1)], "error of LLL is -0.1"),
    ],
)
def test_rows_that_make_no_tiers(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(CostError, match=message):
        make_tiers(rows)


def test_tiers_json_holds_what_it_promises(tmp_path: Path) -> None:
    path = write_tiers(
        tmp_path / "tiers.json",
        make_tiers(ROWS),
        network="pta.onnx",
        slim={"HHH": "HHH.onnx"},
        device={"name": "a phone"},
        protocol={"threads": 1},
        simulated=True,
    )
    value = json.loads(path.read_text())
    expected = {"format", "network", "slim", "configuration_input", "device", "error", "tiers"}
    assert set(value) == expected | {
        *("runtime", "version", "threads", "dtype", "clock", "statistic", "repetitions"),
    }
    assert value["configuration_input"] == {
        "name": "configuration",
        "dtype": "int64",
        "codes": {"L": 0, "H": 1, "B": 2},
    }
    assert value["error"] == {"name": "val_eer", "simulated": True}
    assert (value["threads"], value["runtime"]) == (1, None)
    assert pick(value["tiers"], 2.4) == "HLH"


PHONE: dict[str, Any] = {"device": "a phone", "unit": "ms", "latency_ms": {"HHH": 21.27, "LLL": 17}, "threads": 1}


def test_latencies_of_another_device(tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    path.write_text(json.dumps(PHONE))
    assert read_latencies(path, ["HHH", "LLL"], CONFIGURATIONS) == {**PHONE, "device": {"name": "a phone"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "s"}, "unit is 's'"),
        ({"unit": None}, "unit is None"),
        ({"device": ""}, "'device' must say"),
        ({"latency_ms": [1]}, "'latency_ms' must be an object"),
        ({"latency_ms": {"HHH": 21.0}}, "lacks LLL"),
        ({"latency_ms": {"HHH": 21.0, "LLL": -1}}, "latency_ms of LLL is -1"),
        ({"latency_ms": {"HHH": 21.0, "LLL": True}}, "latency_ms of LLL is True"),
        ({"latency_ms": {"HHH": 21.0, "LLL": "17"}}, "latency_ms of LLL is '17'"),
        ({"latency_ms": {"HHH": 21.0, "LLL": 17, "LLLL": 3}}, "LLLL: no such configuration"),
        ({"devise": "x"}, "unknown entry 'devise'. Did you mean 'device'"),
    ],
)
def test_latencies_that_cannot_be_used(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "phone.json"
    path.write_text(json.dumps({**PHONE, **change}))
    with pytest.raises(CostError, match=message) as caught:
        read_latencies(path, ["HHH", "LLL"], CONFIGURATIONS)
    assert "phone.json" in str(caught.value)


# ---- the command


@pytest.fixture(scope="module")
def finished(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as a finished search leaves it, as far as it is read here."""
    run = tmp_path_factory.mktemp("run")
    save_file(network.state_dict(), run / "weights.safetensors")
    Architecture("pta", OPTIONS, choices_of("HHL")).save(run / "architecture.json")
    errors = {name: 0.05 + 0.01 * name.count("L") for name in CONFIGURATIONS}
    rows = [
        {"configuration": name, "parameters": 1000, "mac": 2000, "val": {"eer": errors[name], "auc": 0.9, "loss": 0.1}}
        for name in CONFIGURATIONS
    ]
    content = {"format": 1, "space": "pta", "options": OPTIONS, "data": {"simulated": True}, "rows": rows}
    (run / "configurations.json").write_text(json.dumps(content))
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def deploy(*argv: Any) -> int:
    return run_command(main, [str(value) for value in argv], prog="python -m hardware.deploy")


def test_the_command_writes_files_tiers_and_a_table(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert deploy(run, "--repetitions", 10) == 0
    names = {f"{name}.onnx" for name in REPORTED}
    assert {path.name for path in (run / "deploy").iterdir()} == names | {"pta.onnx", "tiers.json"}
    value = json.loads((run / "deploy" / "tiers.json").read_text())
    assert value["slim"] == {name: f"{name}.onnx" for name in REPORTED}
    assert (value["network"], value["runtime"], value["statistic"]) == ("pta.onnx", "onnxruntime", "median_ms")
    assert (value["threads"], value["clock"], value["repetitions"]) == (1, "cpu", 10)
    assert value["error"]["simulated"] is True and value["device"]["cpu"]
    assert [tier["error"] for tier in value["tiers"]] == sorted((t["error"] for t in value["tiers"]), reverse=True)
    for tier in value["tiers"]:
        assert tier["budget_ms"] == max(tier["latency_ms"], tier["switchable_ms"]) and tier["spread_ms"] > 0
    lines = capsys.readouterr().out.splitlines()
    for name in REPORTED:
        (line,) = [line.split() for line in lines if line.split()[:1] == [name]]
        assert len(line) == 9 and all(float(line[index]) > 0 for index in (3, 4, 6, 7))
    (heavy,) = [line.split() for line in lines if line.split()[:1] == ["HHH"]]
    assert heavy[6] == "1.00"


def test_tiers_of_a_phone_are_made_without_measuring(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switchable, "measure_switchable", None)
    (tmp_path / "phone.json").write_text(json.dumps(PHONE))
    out = tmp_path / "out"
    assert deploy(run, "--configurations", "HHH,LLL", "--latencies", tmp_path / "phone.json", "--out", out) == 0
    value = json.loads((out / "tiers.json").read_text())
    assert (value["device"], value["threads"], value["clock"]) == ({"name": "a phone"}, 1, None)
    assert [(tier["budget_ms"], tier["configuration"]) for tier in value["tiers"]] == [(17.0, "LLL"), (21.27, "HHH")]
    assert {path.name for path in out.iterdir()} == {"pta.onnx", "HHH.onnx", "LLL.onnx", "tiers.json"}
    assert not (run / "deploy").exists()


@pytest.mark.parametrize(
    ("argument", "message"),
    [("LLL,HXH", "letter 2 is 'X'"), ("HH", "must have 3 letters"), (",", "names none")],
)
def test_configurations_that_are_none(
    run: Path, capsys: pytest.CaptureFixture[str], argument: str, message: str
) -> None:
    assert deploy(run, "--configurations", argument) == ConfigError.exit_code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (run / "deploy").exists()


def test_all_configurations_of_the_network(run: Path) -> None:
    network, _ = load_run(run)
    assert choose(network, "all") == list(CONFIGURATIONS)
    assert choose(network, "LLL, HHH,LLL") == ["LLL", "HHH"]
    assert network.configuration == "HHH"


def test_a_missing_validation_error_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((run / "configurations.json").read_text())
    content["rows"] = [entry for entry in content["rows"] if entry["configuration"] != "HLH"]
    (run / "configurations.json").write_text(json.dumps(content))
    assert deploy(run) == RunFolderError.exit_code
    assert "no validation error of HLH" in capsys.readouterr().err
    assert not (run / "deploy").exists()


def break_nothing_there(run: Path) -> str:
    shutil.rmtree(run)
    return "is no run folder: it has no architecture.json"


def break_another_space(run: Path) -> str:
    save_architecture(run)
    return "of the space 'autofas', which has no branches to switch"


def break_weights_of_another_space(run: Path) -> str:
    save_file({"weight": torch.zeros(3)}, run / "weights.safetensors")
    return "belong to another network"


def break_slim_weights(run: Path) -> str:
    slim = Architecture("pta", OPTIONS, choices_of("HHL")).build(seed=0)
    save_file(slim.state_dict(), run / "weights.safetensors")
    return "lack the light branch of block 1"


def break_no_weights(run: Path) -> str:
    (run / "weights.safetensors").unlink()
    return "Cannot read the weights"


def break_no_rows(run: Path) -> str:
    (run / "configurations.json").unlink()
    return "has no configurations.json"


def break_rows(run: Path) -> str:
    (run / "configurations.json").write_text('{"format": 1, "space": "pta", "rows": [1]}')
    return "has no list of rows"


def break_rows_of_another_space(run: Path) -> str:
    (run / "configurations.json").write_text('{"format": 1, "space": "autofas", "rows": []}')
    return "is not of format 1 and space 'pta'"


BREAKERS = [
    break_nothing_there,
    break_another_space,
    break_weights_of_another_space,
    break_slim_weights,
    break_no_weights,
    break_no_rows,
    break_rows,
    break_rows_of_another_space,
]


@pytest.mark.parametrize("breaker", BREAKERS)
def test_a_folder_that_cannot_be_deployed_is_told_on_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], breaker: Any
) -> None:
    message = breaker(run)
    assert deploy(run) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


# ---- the example


@pytest.fixture
def example() -> Any:
    specification = importlib.util.spec_from_file_location("switch_branches", EXAMPLE)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def deployed(folder: Path, tmp_path: Path) -> Path:
    """The files and tiers of invented latencies."""
    target = Path(shutil.copytree(folder, tmp_path / "deploy"))
    rows = [row("LLL", 2.0, 0.1), row("HLH", 4.0, 0.08), row("HHH", 5.0, 0.05)]
    slim = {name: f"{name}.onnx" for name in REPORTED}
    facts: dict[str, Any] = {"device": {"name": "invented"}, "protocol": {}, "simulated": True}
    write_tiers(target / "tiers.json", make_tiers(rows), network="pta.onnx", slim=slim, **facts)
    return target


def test_the_example_needs_numpy_and_onnxruntime_only() -> None:
    lines = [line.split()[1] for line in EXAMPLE.read_text().splitlines() if line.startswith(("import ", "from "))]
    outside = {name.partition(".")[0] for name in lines} - set(sys.stdlib_module_names)
    assert outside == {"numpy", "onnxruntime"}


def test_a_hundred_switches_under_load_give_the_slim_files_outputs(
    example: Any, deployed: Path, picture: np.ndarray
) -> None:
    switcher = example.Switcher(deployed, budget_ms=5.0)
    expected = {name: open_session(deployed / f"{name}.onnx").run(None, {"input": picture})[0] for name in REPORTED}
    done = threading.Event()

    def load() -> None:
        matrix = np.random.default_rng(0).standard_normal((64, 64))
        while not done.is_set():
            matrix @ matrix

    worker = threading.Thread(target=load)
    worker.start()
    try:
        order = [REPORTED[number % len(REPORTED)] for number in range(101)]  # a hundred changes
        outputs = [switcher.run(picture, configuration) for configuration in order]
    finally:
        done.set()
        worker.join()
    for configuration, output in zip(order, outputs, strict=True):
        np.testing.assert_allclose(output, expected[configuration], rtol=1e-5, atol=1e-6)


def test_the_example_keeps_to_its_budget(example: Any, deployed: Path) -> None:
    switcher = example.Switcher(deployed, budget_ms=5.0)
    assert switcher.configuration == "HHH"

    def measured(milliseconds: float) -> str:
        switcher.times = [milliseconds] * example.WINDOW
        return switcher.decide()

    assert "switching to HLH" in measured(6.0)
    assert "switching to LLL" in measured(5.5)
    assert "nothing is faster" in measured(5.1)
    for _ in range(example.PATIENCE - 1):
        assert measured(1.0) == ""  # it waits before it tries what was too slow
    assert "switching to HLH" in measured(1.0)
    assert measured(3.9) == ""  # HHH would take 4.9 ms: it fits, but without room
    assert "switching to HHH" in measured(3.0)
    switcher.times = [9.0] * (example.WINDOW - 1)
    assert switcher.decide() == ""  # too few to judge


def test_the_example_runs(example: Any, deployed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "pictures.npy", np.zeros((2, 3, 64, 64), np.float32))
    example.main([str(deployed), "--budget-ms", "1000", "--frames", "40", "--pictures", str(tmp_path / "pictures.npy")])
    text = capsys.readouterr().out
    assert "starting with HHH" in text and "HHH 40" in text
    example.main([str(deployed), "--budget-ms", "0.0001", "--frames", "40"])
    assert "nothing is faster" in capsys.readouterr().out
