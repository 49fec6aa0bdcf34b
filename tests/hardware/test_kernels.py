"""Networks become the kernels that a runtime executes: fused where a runtime fuses, nothing missed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2

from hardware.counters import count
from hardware.kernels import features_of, kernels_of
from searchspaces.features import KINDS, feature_row
from searchspaces.reference import REFERENCE_SPACES
from tests.searchspaces.reference_networks import fbnet, nasbench201
from tests.searchspaces.test_reference import CELL, GROUPED, MIXED


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.conv(x)
        return F.interpolate(torch.cat([F.relu(self.norm(y)), y], 1), scale_factor=2.0)


def test_a_convolution_takes_up_its_norm_and_activation():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
    (kernel,) = kernels_of(model, (3, 10, 10))
    assert kernel == ("conv", 27 * 8 * 25, 3 * 100 * 4, 8 * 25 * 4, (27 * 8 + 8) * 4)


def test_an_activation_before_its_convolution_stands_alone():
    kinds = [kernel.kind for kernel in kernels_of(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 8, 1)), (3, 4, 4))]
    assert kinds == ["elementwise", "pointwise"]


def test_a_map_that_is_read_twice_is_not_fused_away():
    kinds = [kernel.kind for kernel in kernels_of(Branches(), (3, 4, 4))]
    # the norm cannot be folded: the concatenation reads the map before it; the activation joins the norm
    assert kinds == ["conv", "elementwise", "elementwise", "resize"]


def test_mobilenet_has_its_convolutions_and_additions_and_nothing_else():
    model = mobilenet_v2()
    kernels = kernels_of(model, (3, 224, 224))
    kinds = Counter(kernel.kind for kernel in kernels)
    expected = {"conv": 1, "depthwise": 17, "pointwise": 34, "elementwise": 10, "pool": 1, "linear": 1}
    assert kinds == expected
    assert sum(kernel.macs for kernel in kernels if kernel.kind != "pool") == count(model, (3, 224, 224))


@pytest.mark.parametrize(
    ("space", "architecture", "network", "size"),
    [
        ("nasbench201", CELL.format(*MIXED), nasbench201(MIXED), 32),
        ("fbnet", GROUPED, fbnet(GROUPED.split()), 224),
    ],
)
def test_traced_networks_are_the_described_ones(space, architecture, network, size):
    described = feature_row(REFERENCE_SPACES[space].kernels(architecture)).reshape(len(KINDS), -1)
    traced = features_of(space, [(network, (3, size, size))]).variants["executed"].reshape(len(KINDS), -1)
    if space == "nasbench201":
        # the second node is read by one activation only, which joins its addition; the description is of edges alone
        maps = [4 * channels * side**2 / 1e6 for channels, side in ((16, 32), (32, 16), (64, 8))]
        described[KINDS.index("elementwise")] -= (0, 5 * 2 * sum(maps), 15)
    np.testing.assert_allclose(traced, described, rtol=1e-9, atol=1e-3)


def test_the_model_keeps_its_mode_and_its_statistics():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kernels_of(model, (3, 4, 4))
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
