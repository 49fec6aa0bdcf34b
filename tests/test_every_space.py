"""What every registered space must do; a new one is tested by being registered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hardware.counters import count, count_parameters
from hardware.runtimes import onnxruntime
from searchspaces import Architecture, build_space, list_spaces
from searchspaces.errors import ConfigError
from searchspaces.registry import find_space
from searchspaces.sampling import random_choices

DETECTOR = {"backbone": "mobilenet_0.25", "width": 8, "nodes": 3, "head_layers": 1, "lowest_level": 3, "image_size": 64}
# quick to test; a space that is not here is tested as it is
SMALL = {
    "autofas": {"channels": 4, "layout": "RNRN", "image_size": 36, "stem_multiplier": 1},
    "pta": {"width": 0.1, "image_size": 32},
    **dict.fromkeys(("autofem-fpn", "autofem-cpm", "asfd"), DETECTOR),
    "airface": {"image_size": 32, "channels": 16, "repeats": [[1, 2], [1, 3], [1, 2]], "embeddings": [16, 32]},
    "hatfas": {"image_size": 32, "embed": [64, 128], "depth": [1, 2], "mlp_ratio": [1, 2]},
}
POINTS = [(name, seed) for name in list_spaces() for seed in range(2)]


@pytest.fixture(params=POINTS, ids=lambda point: f"{point[0]}-{point[1]}")
def architecture(request):
    name, seed = request.param
    space = build_space(name, **SMALL.get(name, {}))
    return Architecture(name, SMALL.get(name, {}), random_choices(space, np.random.RandomState(seed)))


def pictures(architecture, n=4):
    return torch.randn(n, *architecture.input_size, generator=torch.Generator().manual_seed(0))


def test_every_parameter_of_a_network_learns(architecture):
    network = architecture.build(seed=0).train()
    network(pictures(architecture)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_network_survives_its_file(architecture, tmp_path):
    again = Architecture.load(architecture.save(tmp_path / "architecture.json"))
    assert again == architecture
    first, second = (each.build(seed=3).eval() for each in (architecture, again))
    with torch.no_grad():
        assert torch.equal(first(pictures(architecture)), second(pictures(architecture)))


def test_nni_freezes_to_the_same_network(architecture):
    frozen = architecture.model_space().freeze(dict(architecture.choices)).eval()
    built = architecture.build().eval()
    built.load_state_dict(frozen.state_dict())
    with torch.no_grad():
        assert torch.equal(frozen(pictures(architecture)), built(pictures(architecture)))


def test_a_network_is_counted_exported_and_equal_in_the_runtime(architecture, tmp_path):
    network = architecture.build(seed=0).eval()
    assert count(network, architecture.input_size) > 0
    stored = count_parameters(network, architecture.input_size)["stored"]
    assert stored == sum(parameter.numel() for parameter in network.parameters())
    path = onnxruntime.export(network, architecture.input_size, tmp_path / "network.onnx")
    assert onnxruntime.check(network, path, architecture.input_size) < 1e-4


def test_a_network_can_be_drawn(architecture):
    assert len(architecture.graph()) > 2


@pytest.mark.parametrize("name", list_spaces())
def test_a_space_says_what_its_paper_leaves_open_and_refuses_unknown_options(name):
    assert all(choice.why for choice in find_space(name).open_choices)
    with pytest.raises(ConfigError, match="no option 'colour'"):
        build_space(name, colour=1)
