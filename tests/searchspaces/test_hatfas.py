"""The students of HaTFAS: the paper's sizes, timm's own networks, bad options."""

from __future__ import annotations

import pytest
import timm
import torch

from hardware.counters import count
from searchspaces import Architecture, build_space
from searchspaces.errors import ConfigError, UnknownNameError
from searchspaces.hatfas import published


@pytest.mark.filterwarnings("ignore:mac misses")
def test_the_student_and_the_teacher_have_the_sizes_that_follow_from_the_paper():
    for name, parameters, macs in (("deit-tiny", 5_524_802, 1.075e9), ("deit-base", 85_800_194, 16.85e9)):
        architecture = published(name)
        with torch.device("meta"):
            network = architecture.build().eval()
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters
        assert count(network, architecture.input_size) == pytest.approx(macs, rel=1e-3)


def test_the_student_is_timms_deit_tiny():
    network = published("deit-tiny").build(seed=0).eval()
    theirs = timm.create_model("deit_tiny_patch16_224", num_classes=2).eval()
    theirs.load_state_dict(network.vit.state_dict())
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(network(x), theirs(x))
    thousand = Architecture("hatfas", {"classes": 1000}, dict(published("deit-tiny").choices))
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in thousand.build().parameters()) == 5_717_416


def test_an_unknown_network_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="deit-tiny"):
        published("deit-tyny")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 100}, "multiple of patch_size"),
        ({"patch_size": 1}, "patch_size 1"),
        ({"classes": 1}, "classes 1"),
        ({"embed": [100]}, "multiples of 64"),
        ({"depth": []}, "depth"),
        ({"mlp_ratio": [2, 2]}, "different"),
        ({"depth": [1.5]}, "depth"),
    ],
)
def test_options_that_make_no_network_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build_space("hatfas", **options)


def test_partial_channels_are_refused():
    with pytest.raises(ConfigError, match=r"strategies\.gumbel"):
        build_space("hatfas").vit.elastic(4)
