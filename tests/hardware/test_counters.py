"""Parameters and operations: the papers' published integers, other people's counters, and the edges."""

from __future__ import annotations

import warnings
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import mobilenet_v2, resnet18, vit_b_16

import hardware
from hardware.conventions import (
    attention_projection_macs,
    batch_norm_nni,
    convolution_lfr,
    convolution_macs,
    free,
    linear_lfr,
    norm_ptflops,
)
from hardware.counters import count, count_parameters, profile_model, register_layer, weight_bytes
from reports.paper_structure import auxiliary_depth
from searchspaces import build_space
from searchspaces.errors import CostError, UnknownNameError
from searchspaces.operations import OPERATIONS

from .cost_networks import Y2_ROWS, Branches, mobilefacenet, tiny_network


@pytest.fixture(scope="module")
def mobilenet() -> nn.Module:
    return mobilenet_v2(num_classes=2)


# Published figures


def test_resnet18_is_the_row_of_auto_fas_table_4() -> None:
    network = resnet18()
    assert count(network) == 475_179_776  # 0.48 G at 3x108x108
    assert count_parameters(network)["stored"] == 11_689_512  # 11.69 M


def test_mobilenet_is_the_row_of_pta_table_4(mobilenet: nn.Module) -> None:
    profile = profile_model(mobilenet, (3, 128, 128))
    assert profile["parameters"]["stored"] == 2_226_434
    assert profile["operations"]["ptflops"] == 104_151_554
    assert profile["operations"]["nni"] == 108_512_770
    assert profile["operations"]["mac"] == 97_796_608
    assert profile["warnings"] == []


@pytest.mark.parametrize(
    ("network", "lfr", "parameters", "printed"),
    [
        (mobilefacenet(), 439_820_928, 1_003_136, "439.8 1.003"),  # AirFace: "440M"
        (mobilefacenet(embedding=512), 440_213_760, 1_200_512, "440.2 1.201"),
        (mobilefacenet(Y2_ROWS, 512, depthwise=False), 933_598_582, 2_127_616, "933.6 2.128"),  # InsightFace: 933M
    ],
)
def test_mobilefacenets_are_the_figures_of_airface(network: nn.Module, lfr: int, parameters: int, printed: str) -> None:
    counted, stored = count(network, (3, 112, 112), "lfr"), count_parameters(network, (3, 112, 112))["stored"]
    assert (counted, stored) == (lfr, parameters)
    assert f"{counted / 1e6:.1f} {stored / 1e6:.3f}" == printed


def test_depth_network_is_near_its_row_of_auto_fas_table_4() -> None:
    network = auxiliary_depth()
    macs = count(network)
    assert (macs, count_parameters(network)["stored"]) == (8_432_163_072, 2_245_018)
    assert 0.98 < macs / 8.50e9 < 1.01  # the table says 8.50 G and 2.20 M for its own rebuilding of it


# Other people's counters


def test_nni_convention_is_what_nnis_own_profiler_says(mobilenet: nn.Module) -> None:
    flops = pytest.importorskip("nni.nas.profiler.pytorch.flops")
    x = torch.zeros(1, 3, 128, 128)
    assert flops.FlopsProfiler(mobilenet, x).profile({}) == count(mobilenet, (3, 128, 128), "nni")
    bare = flops.FlopsProfiler(mobilenet, x, count_normalization=False, count_activation=False).profile({})
    assert bare == 97_796_610 == count(mobilenet, (3, 128, 128)) + 2  # the biases of the classifier

    plain = nn.Sequential(nn.Conv2d(3, 6, 3, 2, groups=3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(54, 5))
    assert flops.FlopsProfiler(plain, torch.zeros(1, 3, 8, 8)).profile({}) == count(plain, (3, 8, 8), "nni")


@settings(max_examples=40, deadline=None)
@given(
    dims=st.integers(1, 3),
    transposed=st.booleans(),
    inputs=st.sampled_from([2, 4, 6]),
    outputs=st.sampled_from([2, 4, 8]),
    groups=st.sampled_from([1, 2]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    bias=st.booleans(),
)
def test_every_convolution_has_the_macs_of_its_operator(
    dims: int, transposed: bool, inputs: int, outputs: int, groups: int, kernel: int, stride: int, bias: bool
) -> None:
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{dims}d")
    layer = kind(inputs, outputs, kernel, stride, groups=groups, bias=bias)
    size = (inputs, 7, 6, 5)[: dims + 1]
    with FlopCounterMode(display=False) as flops:
        layer(torch.zeros(1, *size))
    assert 2 * count(layer, size) == flops.get_total_flops()


def test_linear_over_tokens_counts_every_token() -> None:
    assert count(nn.Linear(4, 5), (7, 4)) == 7 * 4 * 5
    assert count(nn.Linear(4, 5), (7, 4), "nni") == 7 * 4 * 5 + 7 * 5
    assert count(nn.Linear(4, 5), (7, 4), "ptflops") == 7 * 4 * 5 + 5  # ptflops adds the bias once
    assert count(nn.Linear(4, 5), (7, 4), "lfr") == 7 * 2 * 4 * 5


def test_attention_products_are_told_but_are_no_part_of_mac() -> None:
    profile = profile_model(vit_b_16(), (3, 224, 224))
    products = 12 * 2 * 197 * 197 * 768
    assert profile["operations"]["mac"] == 16_848_500_736
    assert profile["warnings"] == [
        f"mac misses {products:,} MACs inside of MultiheadAttention layers "
        "(12 places, first encoder.layers.encoder_layer_0.self_attention)."
    ]


# The formulas by themselves


def test_formulas() -> None:
    assert convolution_macs(6, 4, (3, 5), groups=2, positions=10) == 3 * 15 * 4 * 10
    assert convolution_lfr(3, 64, (3, 3), 1, 100, bias=False) == (2 * 27 - 1) * 64 * 100
    assert convolution_lfr(3, 64, (3, 3), 1, 100, bias=True) == 2 * 27 * 64 * 100
    # divided after the subtraction: not (2 * 9 - 1) * 64 * 100
    assert convolution_lfr(64, 64, (3, 3), 64, 100, bias=False) == (2 * 64 * 9 - 1) * 100
    assert linear_lfr(10, 4, 1, bias=False) == 2 * 40 - 4
    assert (batch_norm_nni(5, affine=True), batch_norm_nni(5, affine=False)) == (20, 10)
    assert (norm_ptflops(5, affine=True), norm_ptflops(5, affine=False)) == (10, 5)
    assert attention_projection_macs(2, 3, embed=4, key_dim=5, value_dim=6) == 2 * 2 * 16 + 3 * 4 * 11


# Edges


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class KnownScale(Scale):
    pass


class OwnConv(nn.Conv2d):
    pass


def test_unknown_layer_with_parameters_is_refused_by_name() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Sequential(Scale()))
    with pytest.raises(CostError, match=r"'1\.0'.*Scale.*register_layer"):
        count(network)
    with pytest.raises(CostError, match=r"'1\.0'"):
        profile_model(network)


def test_registered_layer_is_counted_in_every_convention() -> None:
    register_layer(KnownScale, mac=free, ptflops=lambda layer, inputs, output: prod(output))
    network = nn.Sequential(KnownScale(), nn.Conv2d(3, 2, 1, bias=False))
    operations = profile_model(network, (3, 4, 4))["operations"]
    assert operations == {"mac": 96, "ptflops": 48 + 96, "nni": 96, "lfr": (2 * 3 - 1) * 2 * 16, "flops": 192}
    with pytest.raises(ValueError, match="KnownScale"):
        register_layer(KnownScale, mac=free)


def test_registered_subclass_leaves_its_base_behind_in_every_convention() -> None:
    layer = OwnConv(3, 2, 1)
    assert count(layer, (3, 4, 4), "ptflops") == 96 + 32
    register_layer(OwnConv, mac=lambda layer, inputs, output: 7)
    with pytest.warns(UserWarning, match="inside of OwnConv"):  # and the operators are still compared
        assert [count(layer, (3, 4, 4), name) for name in ("mac", "ptflops", "lfr")] == [7, 7, 14]


def test_register_layer_knows_its_conventions() -> None:
    with pytest.raises(UnknownNameError, match="ptflops"):
        register_layer(Branches, mac=free, ptflop=free)
    assert count(Branches(), (2, 4, 4)) == 16 * (16 + 8 + 32)  # nothing was registered halfway


def test_unknown_convention_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'ptflops'"):
        count(tiny_network(), (3, 8, 8), "ptflop")


def test_functional_operators_are_told() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.kernel = nn.Parameter(torch.ones(2, 4, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            x = F.conv2d(self.conv(x), self.kernel, padding=1).flatten(2)
            return x @ x.transpose(1, 2)

    network = nn.Sequential(Functional())
    missing = 100 * 4 * 9 * 2 + 2 * 100 * 2
    assert profile_model(network, (3, 10, 10))["warnings"] == [
        f"mac misses {missing:,} MACs run by Functional outside of layers (0)."
    ]
    with pytest.warns(UserWarning, match=f"misses {missing:,} MACs"):
        assert count(network, (3, 10, 10)) == 1200


def test_layers_taken_for_free_are_named() -> None:
    class Shuffle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flip(1)

    profile = profile_model(nn.Sequential(Shuffle(), nn.ReLU()), (3, 4, 4))
    assert profile["uncounted"] == ["Shuffle"]
    assert "Shuffle" in profile["warnings"][0]


def test_layers_of_the_spaces_are_known() -> None:
    profile = profile_model(nn.Sequential(OPERATIONS["none"](3, 2, True), OPERATIONS["skip_connect"](3, 1, True)))
    assert profile["warnings"] == [] and profile["operations"]["mac"] == 0


def test_meta_device_counts_without_computing() -> None:
    with torch.device("meta"):
        network = tiny_network()
    assert profile_model(network, (3, 16, 16)) == profile_model(tiny_network(), (3, 16, 16))


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_torchscript_is_refused() -> None:
    with pytest.raises(CostError, match="TorchScript"):
        count(torch.jit.trace(tiny_network().eval(), torch.zeros(1, 3, 16, 16)), (3, 16, 16))


def test_space_that_is_not_frozen_is_refused() -> None:
    with pytest.raises(CostError, match=r"AutoFas fails.*freeze"):
        count(build_space("autofas", channels=8, layout="R", image_size=16), (3, 16, 16))


def test_shared_layer_counts_each_call_but_its_parameters_once() -> None:
    shared = nn.Conv2d(3, 3, 1, bias=False)
    network = nn.Sequential(shared, nn.ReLU(), shared)
    profile = profile_model(network, (3, 4, 4))
    assert profile["operations"]["mac"] == 2 * 9 * 16
    assert profile["parameters"] == {"stored": 9, "trainable": 9, "active": 9}


def test_active_parameters_are_those_that_run() -> None:
    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.light, self.heavy = nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(3, 2, 3, padding=1, bias=False)
            self.scales = nn.ParameterList([nn.Parameter(torch.ones(1))])
            self.light.weight.requires_grad_(False)
            self.use_heavy = False

        def forward(self, x: Tensor) -> Tensor:
            return (self.heavy if self.use_heavy else self.light)(x) * self.scales[0]

    network = Branched()
    assert count_parameters(network, (3, 4, 4)) == {"stored": 61, "trainable": 55, "active": 7}
    network.use_heavy = True
    assert count_parameters(network, (3, 4, 4)) == {"stored": 61, "trainable": 55, "active": 55}


def test_layer_table_adds_up_to_the_totals(mobilenet: nn.Module) -> None:
    profile = profile_model(mobilenet, (3, 128, 128))
    assert sum(row["macs"] for row in profile["layers"]) == profile["operations"]["mac"]
    assert sum(row["parameters"] for row in profile["layers"]) == profile["parameters"]["active"]
    first = {"name": "features.0.0", "type": "Conv2d", "output": [1, 32, 64, 64], "parameters": 864, "macs": 3538944}
    assert profile["layers"][0] == first


def test_weight_bytes() -> None:
    layer = nn.Conv2d(3, 8, 3)
    assert weight_bytes(layer) == {"float32": 4 * (216 + 8), "int8_estimate": 216 + 8 * 4 + 8 * 4}


def test_model_is_left_as_it_was() -> None:
    network = tiny_network()
    network.train()
    network[1].eval()  # a frozen batch norm in a training network
    state = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    calls: list[int] = []
    network[0].register_forward_hook(lambda *_: calls.append(1))
    fast_path = torch.backends.mha.get_fastpath_enabled()
    profile_model(network, (3, 16, 16))
    assert [module.training for module in network.modules()] == modes
    assert sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()) == 1
    assert calls == [1]
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.is_grad_enabled() and torch.backends.mha.get_fastpath_enabled() == fast_path


def test_model_is_left_as_it_was_after_a_failure() -> None:
    network = tiny_network().train()
    with pytest.raises(CostError, match=r"Sequential fails on an input of 5x16x16.*input size"):
        count(network, (5, 16, 16))
    assert all(module.training and not module._forward_hooks for module in network.modules())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("size", [(), (3, 0, 8), (3, 8.0, 8)])
def test_bad_input_size_is_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(CostError, match="not a size"):
        count(tiny_network(), size)


@pytest.mark.parametrize("change", ["channels_last", "double"])
def test_layout_and_number_type_change_nothing(change: str) -> None:
    network = tiny_network()
    expected = profile_model(network, (3, 16, 16))
    changed = network.double() if change == "double" else network.to(memory_format=torch.channels_last)
    assert profile_model(changed, (3, 16, 16)) == expected


def test_public_names_are_there() -> None:
    assert set(dir(hardware)) == set(hardware.__all__)
    for name in hardware.__all__:
        assert getattr(hardware, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hardware.nothing  # noqa: B018


def test_counting_a_known_network_is_silent(mobilenet: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count(mobilenet, (3, 128, 128))
