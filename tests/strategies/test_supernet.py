"""Mixed cells compute the papers' formulas, and derive what the formulas say."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from searchspaces import Architecture, build_space
from searchspaces.autofas import OPERATION_NAMES
from searchspaces.cells import Cell, edges
from searchspaces.errors import ConfigError
from strategies import DARTS, PCDARTS
from strategies.pixels import channel_shuffle
from strategies.supernet import MixedCell, MixedEdge, PartialEdge, derive_cell, edge_softmax

from ..searchspaces.genotypes import TABLE_4, choices


def supernet(strategy, **options):
    torch.manual_seed(0)
    return strategy.mutate_model(build_space("autofas", **{"channels": 8, "layout": "RN", **options}))


def mixed_cells(network):
    return [module for module in network.modules() if isinstance(module, MixedCell)]


def test_mixed_edge_is_the_weighted_sum_of_all_operations():
    edge = MixedEdge(OPERATION_NAMES, 4, stride=1).double()
    weights = torch.softmax(torch.randn(6, dtype=torch.double), 0)
    x = torch.randn(2, 4, 9, 9, dtype=torch.double)
    expected = sum(weights[1 + index] * operation(x) for index, operation in enumerate(edge.operations))
    torch.testing.assert_close(edge(x, weights), expected)


def test_none_is_not_computed_but_takes_its_share():
    edge = MixedEdge(OPERATION_NAMES, 4, stride=1).double()
    alpha = torch.zeros(6, dtype=torch.double, requires_grad=True)
    x = torch.randn(2, 4, 9, 9, dtype=torch.double)
    (gradient,) = torch.autograd.grad(edge(x, alpha.softmax(0)).sum(), alpha)
    shifted = torch.zeros(6, dtype=torch.double)
    shifted[0] = 1e-6
    difference = (edge(x, shifted.softmax(0)).sum() - edge(x, (-shifted).softmax(0)).sum()) / 2e-6
    assert gradient[0].item() == pytest.approx(difference.item(), rel=1e-5) and gradient[0] != 0


@pytest.mark.parametrize("normalised", [False, True])
def test_mixed_cell_equals_equation_1_and_2_written_out(normalised):
    network = supernet(PCDARTS(partial_channels=1, edge_normalisation=normalised), nodes=3).double()
    cell = mixed_cells(network)[0]
    with torch.no_grad():
        for parameter in cell.arch_parameters():
            parameter.normal_()
    x = torch.randn(2, 24, 18, 18, dtype=torch.double)
    states = [cell.frame.preprocess_before(x), cell.frame.preprocess_previous(x)]
    for target in (2, 3, 4):
        total = 0.0
        incoming = [index for index, (_, to) in enumerate(cell.pairs) if to == target]
        for position, index in enumerate(incoming):
            weights = cell.alpha[index].exp() / cell.alpha[index].exp().sum()
            value = sum(
                weights[1 + number] * operation(states[cell.pairs[index][0]])
                for number, operation in enumerate(cell.mixed_edges[index].operations)
            )
            if normalised:
                value = value * cell.beta[incoming].exp()[position] / cell.beta[incoming].exp().sum()
            total = total + value
        states.append(total)
    torch.testing.assert_close(cell(x, x), torch.cat(states[2:], 1))


def test_cells_of_one_name_share_named_architecture_parameters():
    network = supernet(PCDARTS(), layout="RNRN")
    cells = mixed_cells(network)
    assert [cell.name for cell in cells] == ["reduce", "normal", "reduce", "normal"]
    assert cells[0].alpha is cells[2].alpha and cells[0].alpha is not cells[1].alpha
    assert dict(cells[0].named_arch_parameters()).keys() == {"alpha/reduce", "beta/reduce"}
    assert cells[0].alpha.shape == (14, 6) and cells[0].beta.shape == (14,)


def test_edge_softmax_normalises_over_the_edges_of_a_node():
    beta, targets = torch.randn(14, dtype=torch.double), [target for _, target in edges(4)]
    weights = edge_softmax(beta, targets)
    for target in range(2, 6):
        members = [index for index, other in enumerate(targets) if other == target]
        torch.testing.assert_close(weights[members], F.softmax(beta[members], 0))


@pytest.mark.parametrize("groups", [2, 4])
def test_channel_shuffle_interleaves_and_keeps_the_layout(groups):
    x = torch.arange(8.0).view(1, 8, 1, 1).expand(2, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    shuffled = channel_shuffle(x, groups)
    assert shuffled[0, :, 0, 0].tolist() == [g * (8 // groups) + i for i in range(8 // groups) for g in range(groups)]
    assert shuffled.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("stride", "size"), [(1, 8), (2, 8), (2, 27)])
def test_partial_edge_mixes_a_quarter_and_passes_the_rest(stride, size):
    edge = PartialEdge(OPERATION_NAMES, 8, stride, 4).double()
    x, weights = torch.randn(2, 8, size, size, dtype=torch.double), torch.softmax(torch.randn(6).double(), 0)
    y = edge(x, weights)
    assert y.shape == (2, 8, -(-size // stride), -(-size // stride))
    # channel 0 of every group of the shuffled output comes from the mixed quarter
    torch.testing.assert_close(y[:, ::4], edge.mixed(x[:, :2], weights))
    rest = x[:, 2:] if stride == 1 else F.max_pool2d(x[:, 2:], 2, 2, ceil_mode=True)
    torch.testing.assert_close(y[:, 1::4], rest[:, :2])


def test_width_that_k_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="cannot be split"):
        supernet(PCDARTS(partial_channels=3))


def test_derivation_equals_a_search_over_all_pairs_and_never_takes_none():
    pairs = edges(4)
    for seed in range(50):
        torch.manual_seed(seed)
        alpha = torch.randn(14, 6, dtype=torch.double)
        alpha[:, 0] += 3 * (seed % 2)  # every other time none dominates
        probabilities, beta = alpha.softmax(1), torch.rand(14, dtype=torch.double)
        found = derive_cell("normal", probabilities, beta, OPERATION_NAMES, 4)
        for target in range(2, 6):
            incoming = [index for index, (_, to) in enumerate(pairs) if to == target]
            best = max(
                itertools.combinations(incoming, 2),
                key=lambda two: sum(float(probabilities[e, 1:].max() * beta[e]) for e in two),
            )
            assert found[f"normal/input_{target}"] == [pairs[edge][0] for edge in best]
            for slot, edge in enumerate(best):
                operation = OPERATION_NAMES[1 + int(probabilities[edge, 1:].argmax())]
                assert found[f"normal/op_{target}_{slot}"] == operation != "none"


@pytest.mark.parametrize("strategy", [DARTS, PCDARTS])
def test_supernet_gives_gradients_and_exports_a_point_of_the_space(strategy):
    network = supernet(strategy(), layout="RNR")
    network(torch.randn(2, 3, 27, 27)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
    exported = {}
    for cell in mixed_cells(network):
        assert all(parameter.grad.abs().sum() > 0 for parameter in cell.arch_parameters())
        exported.update(cell.export({}))
        rows = cell.export_probs({})
        assert rows[f"{cell.name}/0_2"].keys() == set(OPERATION_NAMES)
        assert all(sum(row.values()) == pytest.approx(1.0, abs=1e-5) for row in rows.values())
    Architecture("autofas", {"channels": 8}, exported)  # refuses what is no point
    assert network.simplify().keys() == build_space("autofas").simplify().keys()
    frozen = network.freeze(exported)
    assert not mixed_cells(frozen) and sum(isinstance(m, Cell) for m in frozen.modules()) == 3


def test_partial_channels_change_the_supernet_only():
    sample = choices(TABLE_4)
    full = supernet(PCDARTS(), channels=48).freeze(sample)
    plain = build_space("autofas", channels=48, layout="RN").freeze(sample)
    assert [p.shape for p in full.parameters()] == [p.shape for p in plain.parameters()]
