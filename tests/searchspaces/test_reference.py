"""The reference spaces cost what torch counts and what their papers print."""

from __future__ import annotations

import time

import numpy as np
import pytest

from searchspaces.errors import ArchitectureError, UnknownNameError
from searchspaces.features import NAMES, feature_row
from searchspaces.reference import REFERENCE_SPACES
from tests.searchspaces.reference_networks import fbnet, macs_and_parameters, nasbench201

CELL = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
MIXED = ["nor_conv_3x3", "skip_connect", "nor_conv_1x1", "avg_pool_3x3", "nor_conv_3x3", "nor_conv_1x1"]
FBNET_C = (
    "k3_e1 k3_e6 skip k3_e1 k3_e1 k5_e6 k5_e3 k5_e6 k3_e6 k5_e6 k5_e3 k5_e6 k5_e6 k5_e6 k5_e6 k5_e6 k5_e3 k5_e6 k5_e6 "
    "k5_e6 k5_e6 k3_e6"
)
GROUPED = "skip skip k3_e1_g2 k5_e3 k5_e1_g2 k3_e1_g2 skip k3_e6 skip skip k5_e6 k3_e3 k5_e1 k3_e1 skip k5_e1_g2 " + (
    "k3_e3 skip k5_e6 skip k3_e1_g2 skip"
)


def test_the_dearest_cell_has_the_flops_of_the_benchmark():
    # NAS-Bench-201 lists 220.12 M for the cell of six 3x3 convolutions, the most of all
    features = REFERENCE_SPACES["nasbench201"].features([CELL.format(*["nor_conv_3x3"] * 6)])
    assert features.macs[0] == pytest.approx(220.12, abs=0.005)


def test_fbnet_c_has_the_flops_of_the_paper():
    # FBNet, Table 3: 375 M for FBNet-C
    assert REFERENCE_SPACES["fbnet"].features([FBNET_C]).macs[0] == pytest.approx(375, rel=0.005)


@pytest.mark.parametrize(
    ("space", "architecture", "network", "size"),
    [
        ("nasbench201", CELL.format(*MIXED), nasbench201(MIXED), 32),
        ("fbnet", FBNET_C, fbnet(FBNET_C.split()), 224),
        ("fbnet", GROUPED, fbnet(GROUPED.split()), 224),
    ],
)
def test_macs_and_weights_are_those_of_the_network_in_torch(space, architecture, network, size):
    kernels = REFERENCE_SPACES[space].kernels(architecture)
    macs, parameters = macs_and_parameters(network, size)
    assert sum(kernel.macs for kernel in kernels if kernel.kind != "pool") == macs
    assert sum(kernel.weights for kernel in kernels) == 4 * parameters


@pytest.mark.parametrize("space", REFERENCE_SPACES.names())
def test_features_of_many_are_the_sums_over_their_kernels(space):
    reference = REFERENCE_SPACES[space]
    architectures = reference.random(5, seed=1)
    expected = np.array([feature_row(reference.kernels(one)) for one in architectures])
    np.testing.assert_allclose(reference.features(architectures).variants["executed"], expected)


@pytest.mark.parametrize("space", REFERENCE_SPACES.names())
def test_an_architecture_survives_being_parsed_and_written(space):
    reference = REFERENCE_SPACES[space]
    for architecture in reference.random(20, seed=2):
        names = [reference.operations[code] for code in reference.parse(architecture)]
        assert reference.join(names) == architecture


@pytest.mark.parametrize("space", REFERENCE_SPACES.names())
def test_thousands_of_architectures_take_a_moment(space):
    reference = REFERENCE_SPACES[space]
    architectures = reference.random(5000, seed=3)
    _ = reference.features(architectures[:1])
    start = time.process_time()
    assert len(reference.features(architectures)) == 5000
    assert time.process_time() - start < 1


def test_an_operation_is_needed_if_a_path_leads_on_to_the_output():
    reference = REFERENCE_SPACES["nasbench201"]
    dead_node = CELL.format("nor_conv_3x3", "skip_connect", "none", "nor_conv_1x1", "none", "avg_pool_3x3")
    into_dead_node = CELL.format("skip_connect", "skip_connect", "nor_conv_3x3", "skip_connect", "none", "none")
    needed = reference.needed(reference.codes([dead_node, into_dead_node]))
    assert needed.tolist() == [[False, True, False, True, False, True], [False, False, False, True, False, False]]
    features = reference.features([dead_node])
    conv = NAMES.index("conv:mmac")
    saved = features.variants["executed"][0, conv] - features.variants["pruned"][0, conv]
    assert saved == pytest.approx(15 * 9 * 16 * 16 * 32 * 32 / 1e6)


@pytest.mark.parametrize(
    ("space", "architecture", "message"),
    [
        ("nasbench201", "|nor_conv_3x4~0|+|none~0|none~1|+|none~0|none~1|none~2|", "nor_conv_3x3"),
        ("nasbench201", "|none~0|+|none~0|none~0|+|none~0|none~1|none~2|", "no cell"),
        ("nasbench201", "", "no cell"),
        ("fbnet", "k3_e1 k3_e2", "k3_e"),
        ("fbnet", "k3_e1 k3_e1", "22"),
    ],
)
def test_what_is_no_architecture_is_refused_by_number(space, architecture, message):
    reference = REFERENCE_SPACES[space]
    with pytest.raises(ArchitectureError, match=f"Architecture 2 of 2.*{message}"):
        reference.features([reference.random(1, seed=0)[0], architecture])


def test_an_unknown_reference_space_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="nasbench201"):
        _ = REFERENCE_SPACES["nasbench-201"]
