"""An architecture survives its file and a new process, and a damaged file is answered with a clear line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from searchspaces import Architecture
from searchspaces.errors import ArchitectureError, FacenasError

from .genotypes import TABLE_4, choices


@pytest.fixture
def architecture():
    return Architecture("autofas", {"channels": 4}, choices(TABLE_4), {"strategy": "by hand"})


def test_json_round_trip(architecture, tmp_path):
    loaded = Architecture.load(architecture.save(tmp_path / "a.json"))
    assert loaded == architecture and loaded.found_by == {"strategy": "by hand"}
    assert loaded.input_size == (3, 108, 108)


def test_equal_networks_have_equal_choices(architecture):
    swapped = dict(architecture.choices)
    swapped["normal/input_2"] = swapped["normal/input_2"][::-1]
    swapped["normal/op_2_0"], swapped["normal/op_2_1"] = swapped["normal/op_2_1"], swapped["normal/op_2_0"]
    assert Architecture("autofas", {"channels": 4}, swapped) == architecture


def test_a_new_process_builds_the_same_network_weights_included(architecture, tmp_path):
    path = architecture.save(tmp_path / "a.json")
    network = architecture.build(seed=3)
    for module in network.modules():  # statistics that training would have changed
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
    weights = tmp_path / "w.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, weights)
    code = (
        "import sys, torch; from searchspaces import Architecture; a = Architecture.load(sys.argv[1]); "
        "x = torch.linspace(-1, 1, 3 * 108 * 108).view(1, 3, 108, 108); "
        "nets = a.build(weights=sys.argv[2]).eval(), a.build(seed=3).eval(); "
        "print(repr([float(n(x).double().sum()) for n in nets]))"
    )
    done = subprocess.run([sys.executable, "-c", code, path, weights], capture_output=True, text=True, check=True)
    x = torch.linspace(-1, 1, 3 * 108 * 108).view(1, 3, 108, 108)
    with torch.no_grad():
        expected = [float(n(x).double().sum()) for n in (network.eval(), architecture.build(seed=3).eval())]
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(expected, rel=1e-6)
    assert expected[0] != expected[1]


def test_seed_leaves_the_global_generator_alone(architecture):
    before = torch.random.get_rng_state()
    architecture.build(seed=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_other_widths_keep_the_choices(architecture):
    wide = architecture.with_options(channels=48)
    assert wide.choices == architecture.choices
    assert sum(p.numel() for p in wide.build().parameters()) == 266_737


def test_graph_holds_the_cells(architecture):
    graph = architecture.graph()
    assert graph.edges["normal/c_{k-2}", "normal/2", 0] == {"operation": "sep_conv_3x3", "stride": 1}
    assert graph.edges["reduce/c_{k-2}", "reduce/2", 0]["stride"] == 2
    assert graph.in_degree("normal/out") == 4
    assert all(graph.in_degree(f"{cell}/{node}") == 2 for cell in ("normal", "reduce") for node in range(2, 6))


def _edit(**changes):
    def edit(value):
        for key, new in changes.items():
            if new is None:
                value.pop(key)
            else:
                value[key] = new

    return edit


def _choice(label, new):
    def edit(value):
        if new is None:
            value["choices"].pop(label)
        else:
            value["choices"][label] = new

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_edit(format=2), "reads format 1"),
        (_edit(space="autofs"), "Did you mean 'autofas'"),
        (_edit(space=None), "'space' is missing"),
        (_edit(choises={}), "Did you mean 'choices'"),
        (_edit(options={"chanels": 4}), "Did you mean 'channels'"),
        (_edit(found_by=[]), "found_by"),
        (_edit(space="antigravity:Space"), "may not import code"),
        (_choice("normal/op_2_0", "sep_conv_3x4"), "Did you mean 'sep_conv_3x3'"),
        (_choice("normal/op_2_0", "none"), "allowed are"),
        (_choice("normal/op_2_0", ["sep_conv_3x3"]), "is a list"),
        (_choice("normal/op_2_0", {"a": 1}), "allowed are"),
        (_choice("normal/op_2_9", "none"), "does not exist"),
        (_choice("normal/op_2_0", None), "is missing"),
        (_choice("normal/input_3", [0, 3]), "allowed are"),
        (_choice("normal/input_3", [1, 1]), "different values"),
        (_choice("normal/input_3", [1]), "different values"),
        (_choice("normal/input_3", 1), "list of 2"),
        (_choice("normal/input_3", [True, 2]), "allowed are"),
    ],
)
def test_a_hand_edited_file_is_answered_with_the_entry(architecture, tmp_path, edit, words):
    value = json.loads(architecture.to_json())
    edit(value)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(value))
    with pytest.raises(ArchitectureError, match=words) as caught:
        Architecture.load(path)
    assert "broken.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1}', b"[" * 100_000])
def test_files_that_are_no_architecture(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ArchitectureError):
        Architecture.load(path)


def test_missing_and_huge_files(tmp_path):
    with pytest.raises(ArchitectureError, match="No file"):
        Architecture.load(tmp_path / "nowhere.json")
    huge = tmp_path / "huge.json"
    huge.write_bytes(b" " * (2 << 20))
    with pytest.raises(ArchitectureError, match="too large"):
        Architecture.load(huge)


def test_weights_of_another_network_and_damaged_weights(architecture, tmp_path):
    weights = tmp_path / "w.safetensors"
    save_file(dict(architecture.with_options(channels=8).build().state_dict()), weights)
    with pytest.raises(ArchitectureError, match="another network"):
        architecture.build(weights=weights)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(FacenasError, match="Cannot read the weights"):
        architecture.build(weights=weights)
    with pytest.raises(FacenasError, match="Cannot read the weights"):
        architecture.build(weights=tmp_path / "none.safetensors")
