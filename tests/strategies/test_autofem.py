"""Supernets of pyramids and trees, and the Gumbel single path on edges and on operations, against their formulas."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.single_path_memory import measure
from searchspaces import Architecture, build_space
from searchspaces.autofem import leaves, tree_edges, tree_parents
from searchspaces.errors import ConfigError
from searchspaces.sampling import random_choices
from strategies import DARTS, PCDARTS, GumbelSinglePath, SinglePath
from strategies.autofem import MixedPyramid, MixedTree
from strategies.fused import plain_arithmetic
from strategies.gumbel import (
    GumbelCell,
    GumbelModule,
    GumbelPyramid,
    GumbelTree,
    gdas_weight,
    gumbel_indices,
    gumbel_noise,
    straight_through_weight,
)
from strategies.paths import run_path

DETECTOR = {"backbone": "mobilenet_0.25", "width": 8, "nodes": 4, "head_layers": 1, "lowest_level": 3, "image_size": 64}
AUTOFAS = {"channels": 8, "layout": "RN", "image_size": 16, "stem_multiplier": 1}


def modules_of(strategy, name, kind, options=DETECTOR):
    torch.manual_seed(0)
    network = strategy.mutate_model(build_space(name, **options))
    return network, [module for module in network.modules() if isinstance(module, kind)]


def tree_of(sampled="edges", partial_channels=1, nodes=4):
    torch.manual_seed(0)
    declared = build_space("autofem-cpm", **{**DETECTOR, "nodes": nodes}).trees[0]
    tree = GumbelTree(declared, {}, sampled, partial_channels).double().eval()
    with torch.no_grad():
        for parameter in tree.arch_parameters():
            parameter.normal_()
    return tree


# ---- Eq. 4 and 5


def test_the_gradient_of_a_tree_is_that_of_eq_5():
    """For every node: L * <dL/dx_j, O_ij(x_i)> * p_i* (delta_ki* - p_k), computed from the tree's own parts."""
    tree, x = tree_of(), torch.randn(2, 8, 5, 5, dtype=torch.double)
    torch.manual_seed(3)
    output = tree(x)
    direction = torch.randn_like(output)
    (output * direction).sum().backward()

    # the same tree by hand, with every node's value a leaf of the graph
    states, values, start = [x], [], 0
    for node in range(1, 5):
        parent = tree.parents[node - 1]
        index = start + parent
        value = tree.mixed_edges[index](states[parent], F.softmax(tree.alpha[index], 0))
        value.retain_grad()
        values.append(value)
        states.append(value)
        start += node
    (tree.fuse(states, leaves(tree.parents)) * direction).sum().backward()
    start = 0
    for node, value in enumerate(values, start=1):
        p = F.softmax(tree.gamma[start : start + node].detach(), 0)
        chosen = tree.parents[node - 1]
        felt = (value.grad * value.detach()).sum()
        expected = torch.stack([node * felt * p[chosen] * (float(k == chosen) - p[k]) for k in range(node)])
        torch.testing.assert_close(tree.gamma.grad[start : start + node], expected, rtol=1e-6, atol=1e-9)
        start += node
    assert tree.gamma.grad[0] == 0  # one candidate: nothing to learn
    assert tree.gamma.grad[1:].abs().min() > 0


def test_the_gradient_grows_with_the_number_of_candidates():
    for number in (1, 2, 6):
        gamma = torch.zeros(number, dtype=torch.double, requires_grad=True)
        weight = straight_through_weight(gamma, 0)
        assert weight == 1
        (gradient,) = torch.autograd.grad(weight, gamma)
        p = 1 / number
        assert gradient[0].item() == pytest.approx(number * p * (1 - p))


def test_the_forward_pass_is_the_tree_that_was_sampled():
    tree, x = tree_of(), torch.randn(2, 8, 5, 5, dtype=torch.double)
    seen = set()
    for _ in range(20):
        found, states, start = tree(x), [x], 0
        for node, parent in enumerate(tree.parents, start=1):
            index = start + parent
            states.append(tree.mixed_edges[index](states[parent], F.softmax(tree.alpha[index], 0)))
            start += node
        torch.testing.assert_close(found, tree.fuse(states, leaves(tree.parents)))
        seen.add(tuple(tree.parents))
    assert len(seen) > 3


def test_only_the_sampled_edges_learn():
    tree, x = tree_of(), torch.randn(2, 8, 5, 5, dtype=torch.double)
    tree(x).sum().backward()
    for (parent, node), edge in zip(tree.pairs, tree.mixed_edges, strict=True):
        ran = tree.parents[node - 1] == parent
        assert all((p.grad is not None) == ran for p in edge.parameters())


def test_several_candidates_are_drawn_without_replacement():
    """Probabilities of a pair by enumeration of the two orders in which it can be drawn."""
    torch.manual_seed(0)
    gamma = torch.tensor([0.0, 1.0, 2.0])
    p = F.softmax(gamma, 0).tolist()
    draws = [tuple(gumbel_indices(gamma, 2)) for _ in range(6000)]
    for a, b in itertools.combinations(range(3), 2):
        expected = p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b])
        assert draws.count((a, b)) / len(draws) == pytest.approx(expected, abs=0.025)


# ---- operations, as GDAS


def test_the_gradient_of_a_sampled_operation_is_that_of_gdas():
    alpha, temperature = torch.tensor([0.3, -0.2, 0.5], dtype=torch.double, requires_grad=True), 0.7
    torch.manual_seed(5)
    noise = gumbel_noise(alpha.detach())
    torch.manual_seed(5)
    index, weight = gdas_weight(alpha, temperature)
    assert weight == 1 and index == int((alpha + noise).argmax())
    (gradient,) = torch.autograd.grad(weight, alpha)

    def probability(values):
        return F.softmax((values + noise) / temperature, 0)[index].item()

    for k in range(3):  # a finite difference
        step = torch.zeros(3, dtype=torch.double)
        step[k] = 1e-6
        slope = (probability(alpha.detach() + step) - probability(alpha.detach() - step)) / 2e-6
        assert gradient[k].item() == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("sampled", ["operations", "both"])
def test_one_operation_of_an_edge_is_computed(sampled):
    tree, ran = tree_of(sampled), []
    for edge in tree.mixed_edges:
        for operation in edge.operations:
            operation.register_forward_hook(lambda *_: ran.append(1))
    tree(torch.randn(2, 8, 5, 5, dtype=torch.double)).sum().backward()
    assert len(ran) == (len(tree.pairs) if sampled == "operations" else tree.nodes)
    learnt = tree.alpha.grad.abs().sum(1) > 0
    assert int(learnt.sum()) == len(ran)


def test_the_temperature_falls_with_the_epoch():
    _, trees = modules_of(GumbelSinglePath(sampled="operations"), "autofem-cpm", GumbelTree)
    for epoch, expected in ((0, 10.0), (2, 5.05), (4, 0.1)):
        trainer = SimpleNamespace(current_epoch=epoch, max_epochs=5)
        GumbelModule.set_temperature(SimpleNamespace(trainer=trainer, supernet_modules=lambda: trees))
        assert all(tree.temperature == pytest.approx(expected) for tree in trees)


# ---- on every space


@pytest.mark.parametrize("sampled", ["edges", "operations", "both"])
@pytest.mark.parametrize(("name", "kind"), [("autofem-cpm", GumbelTree), ("autofas", GumbelCell)])
def test_it_runs_on_trees_and_on_cells(name, kind, sampled):
    options = DETECTOR if name == "autofem-cpm" else AUTOFAS
    strategy = GumbelSinglePath(sampled=sampled)
    network, modules = modules_of(strategy, name, kind, options)
    assert modules and strategy.sampled == sampled
    x = torch.randn(2, *network.input_size)
    network.train()(x).square().sum().backward()
    assert any(module.alpha.grad.any() for module in modules)
    choices = {k: v for module in modules for k, v in module.export({}).items()}
    Architecture(name, options, choices)  # it is a point of the space


def test_a_node_of_a_cell_runs_two_edges():
    _, (cell, _) = modules_of(GumbelSinglePath(), "autofas", GumbelCell, AUTOFAS)
    ran = []
    for index, edge in enumerate(cell.mixed_edges):
        edge.register_forward_hook(lambda *_, index=index: ran.append(index))
    with plain_arithmetic():  # the fused one calls no edge
        cell(torch.randn(2, 8, 8, 8), torch.randn(2, 8, 8, 8))
    targets = [cell.pairs[index][1] for index in ran]
    assert {target: targets.count(target) for target in targets} == {2: 2, 3: 2, 4: 2, 5: 2}


def test_a_pyramid_samples_operations_only():
    strategy = GumbelSinglePath()
    network, pyramids = modules_of(strategy, "autofem-fpn", GumbelPyramid)
    assert len(pyramids) == 1 and strategy.sampled == "operations"
    network.train()(torch.randn(2, 3, 64, 64)).sum().backward()
    with pytest.raises(ConfigError, match="edges of a pyramid are given"):
        GumbelSinglePath(sampled="edges").mutate_model(build_space("autofem-fpn", **DETECTOR))
    both = GumbelSinglePath()
    both.mutate_model(build_space("asfd", **DETECTOR))
    assert both.sampled == "operations and edges"


def test_an_unknown_kind_of_sampling_is_refused():
    with pytest.raises(ConfigError, match="expected auto"):
        GumbelSinglePath(sampled="nodes")


# ---- DARTS and PC-DARTS


@pytest.mark.parametrize("partial_channels", [1, 4])
def test_a_mixed_tree_is_eq_3(partial_channels):
    torch.manual_seed(0)
    declared = build_space("autofem-cpm", **{**DETECTOR, "nodes": 3}).trees[0]
    tree, x = MixedTree(declared, {}, partial_channels).eval(), torch.randn(2, 8, 5, 5)
    with torch.no_grad():
        tree.gamma.normal_()
        states = [x]
        for node in range(1, 4):
            rows = [index for index, (_, target) in enumerate(tree_edges(3)) if target == node]
            weights = F.softmax(tree.gamma[rows], 0)
            terms = [tree.mixed_edges[i](states[tree.pairs[i][0]], F.softmax(tree.alpha[i], 0)) for i in rows]
            states.append(sum(w * t for w, t in zip(weights, terms, strict=True)))
        torch.testing.assert_close(tree(x), tree.fuse(states, [1, 2, 3]))


def test_a_tree_keeps_the_strongest_parent_and_its_strongest_operation():
    _, (tree, *_) = modules_of(PCDARTS(), "autofem-cpm", MixedTree)
    with torch.no_grad():
        tree.gamma.copy_(torch.tensor([0.0, 1.0, 2.0, 5.0, 1.0, 1.0, 0.0, 0.0, 3.0, 0.0]))
        tree.alpha.zero_()
        for row, operation in ((0, 3), (2, 7), (3, 1), (8, 11)):
            tree.alpha[row, operation] = 1.0
    choices = tree.export({})
    assert tree_parents(choices, tree.name, 4) == [0, 1, 0, 2]
    kept = [choices[f"{tree.name}/op_{node}"] for node in range(1, 5)]
    assert kept == [tree.candidates[index] for index in (3, 7, 1, 11)]
    weights = tree.export_probs({})[f"{tree.name}/beta_4"]
    assert max(weights, key=weights.get) == 2 and sum(weights.values()) == pytest.approx(1)


@pytest.mark.parametrize(("strategy", "learned"), [(DARTS(), False), (PCDARTS(), True)])
def test_path_weights_are_searched_with_edge_normalisation(strategy, learned):
    _, (pyramid,) = modules_of(strategy, "autofem-fpn", MixedPyramid)
    names = [name for name, _ in pyramid.named_arch_parameters()]
    assert ("beta/fpn_5" in names) == learned and "alpha/fpn" in names
    with torch.no_grad():
        pyramid.alpha[2, 4] = 3.0
    assert pyramid.export({})[f"fpn/{pyramid.edges[2]}"] == pyramid.candidates[4]
    assert set(pyramid.export_probs({})["fpn/beta_5"]) == {"lateral", "top_down", "bottom_up"}


def test_repeated_pyramids_share_what_is_searched():
    _, (first, second) = modules_of(PCDARTS(), "autofem-fpn", MixedPyramid, {**DETECTOR, "fem_layers": 2})
    assert first.alpha is second.alpha and first.frame.betas["5"] is second.frame.betas["5"]
    assert first.mixed_edges["lateral_5"] is not second.mixed_edges["lateral_5"]


def test_the_search_of_half_a_tree_is_refused():
    for strategy in (DARTS(), GumbelSinglePath(), SinglePath()):
        with pytest.raises(ConfigError, match="half_nodes"):
            strategy.mutate_model(build_space("autofem-cpm", **{**DETECTOR, "half_nodes": True}))


# ---- sampled single path


@pytest.mark.parametrize("name", ["autofem-fpn", "autofem-cpm", "asfd"])
def test_a_sampled_path_is_the_network_that_it_freezes_to(name):
    torch.manual_seed(0)
    space = build_space(name, **DETECTOR)
    choices = random_choices(space, np.random.RandomState(1))
    supernet = SinglePath().mutate_model(space).eval()
    run_path(supernet, choices)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = supernet(x)
        frozen = supernet.freeze(dict(choices)).eval()
        torch.testing.assert_close(frozen(x), expected)
    again = Architecture(name, DETECTOR, choices).build().eval()
    again.load_state_dict(frozen.state_dict())


# ---- the claim about memory


@pytest.mark.parametrize(("nodes", "expected"), [(4, 2.5), (6, 3.5)])
def test_a_sampled_tree_keeps_as_much_less_as_it_has_fewer_edges(nodes, expected):
    assert measure(nodes, width=64, side=10, batch=1, partial_channels=4, samples=3)["ratio"] == pytest.approx(
        expected, rel=0.05
    )
