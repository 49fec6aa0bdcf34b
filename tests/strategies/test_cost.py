"""The cost of a supernet: exact for every network, differentiable, and kept by what a search returns."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from hardware.counters import count, count_parameters
from searchspaces import Architecture, build_space
from searchspaces.errors import ConfigError
from searchspaces.pta import CONFIGURATIONS, choices_of
from searchspaces.sampling import random_choices
from strategies import DARTS, PCDARTS, GumbelSinglePath
from strategies.branches import MODES
from strategies.cost import Budget, CostTable, Option, best_within
from strategies.expected_cost import _kept_pairs
from strategies.paths import accepted_choices
from strategies.stand_in import StandIn

SPACES = {
    "autofas": {"channels": 8, "layout": "RRN", "image_size": 25, "nodes": 3},
    "pta": {"width": 0.1, "image_size": 32},
}
STRATEGIES = [
    ("autofas", DARTS()),
    ("autofas", PCDARTS(partial_channels=2)),
    ("pta", DARTS()),
    ("pta", GumbelSinglePath()),
]


def counted(space, choices):
    architecture = Architecture(space, SPACES[space], choices)
    network, size = architecture.build(), architecture.input_size
    return {"macs": count(network, size), "parameters": count_parameters(network, size)["stored"]}


@pytest.fixture(scope="module")
def tables():
    return {
        name: CostTable(build_space(name, **options), lambda choices, name=name: counted(name, choices))
        for name, options in SPACES.items()
    }


def modules_of(space, strategy):
    supernet = strategy.mutate_model(build_space(space, **SPACES[space]))
    found = [module for module in supernet.modules() if isinstance(module, StandIn)]
    named = {getattr(module, "name", None) or module.label: module for module in found}
    return list(named.values())


def alphas_of(modules):
    return [parameter for module in modules for parameter in module.arch_parameters()]


@pytest.mark.parametrize("space", SPACES)
def test_the_table_gives_what_counting_gives(space, tables):
    random, declared = np.random.RandomState(0), build_space(space, **SPACES[space])
    points = [choices_of(c) for c in CONFIGURATIONS] if space == "pta" else []
    points += [random_choices(declared, random) for _ in range(12)]
    for choices in points:
        assert tables[space].cost(choices) == counted(space, choices)


@pytest.mark.parametrize("space", SPACES)
def test_the_range_is_that_of_all_networks(space, tables):
    random, declared = np.random.RandomState(1), build_space(space, **SPACES[space])
    costs = [tables[space].cost(random_choices(declared, random))["macs"] for _ in range(300)]
    smallest, largest = tables[space].range()["macs"]
    assert smallest <= min(costs) and max(costs) <= largest
    if space == "pta":
        assert {smallest, largest} == {counted(space, choices_of(c))["macs"] for c in ("LLL", "BBB")}


def test_one_hot_parameters_cost_what_the_network_costs(tables):
    random = np.random.RandomState(0)
    for _ in range(5):
        modules = modules_of("autofas", DARTS())
        choices = random_choices(build_space("autofas", **SPACES["autofas"]), random)
        for module in modules:
            alpha = torch.full_like(module.alpha, -60.0)
            for index, (source, target) in enumerate(module.pairs):
                sources = choices[f"{module.name}/input_{target}"]
                name = "none"
                if source in sources:
                    name = choices[f"{module.name}/op_{target}_{sources.index(source)}"]
                alpha[index, module.candidates.index(name)] = 60.0
            module.alpha.data = alpha
        expected = tables["autofas"].expected(modules).tolist()
        assert expected == pytest.approx(list(counted("autofas", choices).values()), rel=1e-9)
    for configuration in ("LHB", "HHH"):
        modules = modules_of("pta", DARTS())
        for module in modules:
            mode = choices_of(configuration)[module.label]
            module.alpha.data = 60.0 * torch.tensor([float(mode == other) for other in MODES])
        expected = tables["pta"].expected(modules).tolist()
        assert expected == pytest.approx(list(counted("pta", choices_of(configuration)).values()), rel=1e-9)


def test_expected_cost_of_blocks_is_the_mean_over_all_configurations(tables):
    torch.manual_seed(0)
    modules = modules_of("pta", DARTS())
    for module in modules:
        module.alpha.data = torch.randn(3)
    rows = {module.label: dict(zip(MODES, module.probabilities().tolist(), strict=True)) for module in modules}
    mean = sum(
        math.prod(rows[label][mode] for label, mode in choices_of(c).items()) * counted("pta", choices_of(c))["macs"]
        for c in CONFIGURATIONS
    )
    assert float(tables["pta"].expected(modules)[0].detach()) == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize(("space", "strategy"), STRATEGIES)
def test_expected_cost_is_the_mean_over_all_networks(space, strategy, tables):
    """A network has the probability that the scores of its options give it; groups are independent."""
    torch.manual_seed(1)
    modules, table = modules_of(space, strategy), tables[space]
    for scale in (1.0, 8.0):
        for alpha in alphas_of(modules):
            alpha.data = scale * torch.randn_like(alpha)
        mean = np.array(table.fixed, dtype=float)
        for group in table.groups(modules):
            weights = np.exp([option.score for option in group])
            mean += weights @ np.array([option.cost for option in group]) / weights.sum()
        expected = table.expected(modules).tolist()
        assert expected == pytest.approx(mean.tolist(), rel=1e-5)
        for value, (smallest, largest) in zip(expected, table.range().values(), strict=True):
            assert smallest < value < largest


def pair_probabilities(strengths, targets):
    """Probability of each edge to be one of the two that its node keeps, the pair {d, e} with a probability
    proportional to ``exp(strengths[d] + strengths[e])``, left to autograd."""
    kept = torch.zeros_like(strengths)
    for node in dict.fromkeys(targets):
        entering = [edge for edge, target in enumerate(targets) if target == node]
        pairs = torch.tensor(list(itertools.combinations(entering, 2))).T
        probabilities = strengths[pairs].sum(dim=0).softmax(dim=0)
        kept = kept.index_add(0, pairs.flatten(), probabilities.repeat(2))
    return kept


def expected_by_autograd(table, cells):
    """`CostTable.expected` as its docstring says it, one operation after the other."""
    total = torch.tensor(table.fixed, dtype=torch.float64)
    for cell in cells:
        allowed = [cell.candidates.index(name) for name in table.operations]
        logs = cell.alpha.double().log_softmax(dim=1)[:, allowed]
        costs = [[table.part(cell.name, source, name) for name in table.operations] for source, _ in cell.pairs]
        of_edge = logs.softmax(dim=1).unsqueeze(-1).mul(torch.tensor(costs).double()).sum(dim=1)
        strengths = logs.logsumexp(dim=1) + (0 if cell.beta is None else cell.beta.double())
        total = total + pair_probabilities(strengths, [target for _, target in cell.pairs]) @ of_edge
    return total


@pytest.mark.parametrize("strategy", [DARTS(), PCDARTS(partial_channels=2)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 300.0])
def test_the_written_gradient_of_the_expected_cost_is_autograds(strategy, scale, tables):
    torch.manual_seed(4)
    modules, table = modules_of("autofas", strategy), tables["autofas"]
    for alpha in alphas_of(modules):
        alpha.data = scale * torch.randn_like(alpha, dtype=torch.float64)
    found, plain = table.expected(modules), expected_by_autograd(table, modules)
    torch.testing.assert_close(found, plain, rtol=1e-13, atol=0)
    for index in range(len(table.names)):
        ours = torch.autograd.grad(found[index], alphas_of(modules), retain_graph=True)
        theirs = torch.autograd.grad(plain[index], alphas_of(modules), retain_graph=True)
        assert any(gradient.any() for gradient in ours)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12 * plain[index].item())


def test_two_edges_of_a_node_are_kept_whatever_their_strengths():
    strengths = np.array([[-80.0, 3.0, 0.0, 90.0, -50.0, 1.0]])
    pairs, kept = _kept_pairs(strengths, (2, 2, 3, 3, 3, 3))
    assert kept[0].tolist() == pytest.approx([1, 1, 1 / (1 + math.e), 1, 0, math.e / (1 + math.e)])
    assert kept[0].tolist() == pytest.approx(
        pair_probabilities(torch.tensor(strengths[0]), [2, 2, 3, 3, 3, 3]).tolist()
    )
    assert np.array_equal(pairs, pairs.transpose(0, 2, 1)) and not pairs[0, :2, 2:].any()


@pytest.mark.parametrize(("space", "strategy"), STRATEGIES)
def test_gradient_against_finite_differences(space, strategy, tables):
    torch.manual_seed(0)
    modules = modules_of(space, strategy)
    for alpha in alphas_of(modules):
        alpha.data = torch.randn_like(alpha, dtype=torch.float64)
    start = float(tables[space].expected(modules)[0].detach())
    budget = Budget(tables[space], {"macs": 0.7 * start}, weight=2.0)
    penalty = budget.penalty(modules)
    assert float(penalty.detach()) == pytest.approx(2 * (1 / 0.7 - 1))
    gradients = torch.autograd.grad(penalty, alphas_of(modules))
    assert any(gradient.abs().max() > 0 for gradient in gradients)
    for alpha, gradient in zip(alphas_of(modules), gradients, strict=True):
        for place in list(np.ndindex(*alpha.shape))[:: max(1, alpha.numel() // 7)]:
            sides = []
            for step in (1e-5, -1e-5):
                alpha.data[place] += step
                sides.append(float(budget.penalty(modules).detach()))
                alpha.data[place] -= step
            assert float(gradient[place]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(("space", "strategy"), STRATEGIES)
def test_a_network_within_its_budget_feels_nothing(space, strategy, tables):
    modules = modules_of(space, strategy)
    largest = tables[space].range()["macs"][1]
    assert float(Budget(tables[space], {"macs": largest}).penalty(modules).detach()) == 0


@pytest.mark.parametrize(("space", "strategy"), STRATEGIES)
def test_without_need_the_usual_network_is_derived_and_else_the_likeliest_that_fits(space, strategy, tables):
    torch.manual_seed(3)
    modules, table = modules_of(space, strategy), tables[space]
    for alpha in alphas_of(modules):
        alpha.data = torch.randn_like(alpha)
    usual = {key: value for module in modules for key, value in module.export({}).items()}
    smallest, largest = table.range()["macs"]
    assert Budget(table, {"macs": largest}).derive(modules) == usual
    for share in (0.0, 0.2, 0.5, 0.8):
        budget = Budget(table, {"macs": smallest + share * (largest - smallest)})
        found = budget.derive(modules)
        assert budget.keeps(found) and counted(space, found)["macs"] <= budget.limits["macs"]


def test_the_search_for_the_best_options_is_exact():
    random = np.random.default_rng(0)
    for _ in range(30):
        groups = [
            [
                Option({f"g{g}": n}, tuple(random.integers(0, 20, 2).tolist()), float(random.normal()))
                for n in range(random.integers(2, 5))
            ]
            for g in range(4)
        ]
        budget = random.integers(5, 50, 2).tolist()
        fitting = [
            (sum(o.score for o in pick), {k: v for o in pick for k, v in o.choices.items()})
            for pick in itertools.product(*groups)
            if all(sum(o.cost[i] for o in pick) <= budget[i] for i in range(2))
        ]
        best = max(fitting, key=lambda each: each[0])[1] if fitting else None
        assert best_within(groups, budget) == best


def test_budgets_that_no_network_keeps_are_refused(tables):
    table = tables["pta"]
    smallest = table.range()["macs"][0]
    with pytest.raises(ConfigError, match="the smallest has") as error:
        Budget(table, {"macs": 0.5 * smallest}).check()
    assert f"{smallest:,}" in str(error.value)
    Budget(table, {"macs": smallest}).check()
    with pytest.raises(ConfigError, match="autofas or pta"):
        CostTable(torch.nn.Identity(), dict)


def test_costs_that_are_no_sum_are_told_and_the_budget_is_kept_all_the_same():
    """Milliseconds that grow where two blocks are alike, which no sum of parts can say."""

    def milliseconds(choices):
        modes = [choices[f"block_{number}"] for number in (1, 2, 3)]
        own = sum({"light": 1.0, "heavy": 2.0, "both": 3.0}[mode] for mode in modes)
        return {"latency_ms": own + 0.5 * (modes[0] == modes[1] == "heavy")}

    table = CostTable(build_space("pta", **SPACES["pta"]), milliseconds)
    residuals = np.array([table.residual(choices_of(c))["latency_ms"] for c in CONFIGURATIONS])
    best = best_sum([milliseconds(choices_of(c))["latency_ms"] for c in CONFIGURATIONS])
    assert abs(residuals.mean()) < 0.06 and np.abs(residuals).max() < 0.5  # single differences are off by 0.5 thrice
    assert best.std() <= residuals.std() < 1.5 * best.std()
    modules = modules_of("pta", DARTS())
    for module in modules:
        module.alpha.data = torch.tensor([0.0, 3.0, -3.0])
    assert Budget(table, {"latency_ms": 6.5}).derive(modules) == choices_of("HHH")
    budget = Budget(table, {"latency_ms": 6.2})  # by the table HHH would have 6.0
    assert not budget.keeps(choices_of("HHH"))
    found = budget.derive(modules)
    assert milliseconds(found)["latency_ms"] <= 6.2 and list(found.values()).count("heavy") == 2


def best_sum(costs):
    """Residuals of the least-squares sum of a part for each block and mode, over all configurations."""
    design = np.array([[configuration[b] == m for b in range(3) for m in "LHB"] for configuration in CONFIGURATIONS])
    return costs - design @ np.linalg.lstsq(design.astype(float), np.array(costs), rcond=None)[0]


def test_a_budget_in_milliseconds_that_no_network_keeps_names_the_nearest_that_one_does():
    def milliseconds(choices):
        return {"latency_ms": 3.0 + sum(mode == "both" for mode in choices.values()) + 0.1 * len(set(choices.values()))}

    table = CostTable(build_space("pta", **SPACES["pta"]), milliseconds)
    cheapest = milliseconds(table.cheapest("latency_ms"))["latency_ms"]
    assert cheapest <= 3.2 + 1e-9
    Budget(table, {"latency_ms": cheapest}).check()
    with pytest.raises(ConfigError, match=f"the smallest has {cheapest:.1f}"):
        Budget(table, {"latency_ms": 2.9}).check()


def test_counts_that_are_no_sum_are_refused():
    def macs(choices):
        return {"macs": 100 + sum(mode == "light" for mode in choices.values()) ** 2}

    budget = Budget(CostTable(build_space("pta", **SPACES["pta"]), macs), {"macs": 200})
    with pytest.raises(ConfigError, match="macs of this space's networks are no sum"):
        budget.check()


def test_paths_are_drawn_within_the_budget(tables):
    table = tables["autofas"]
    smallest, largest = table.range()["macs"]
    space, limit = build_space("autofas", **SPACES["autofas"]), 0.5 * (smallest + largest)
    budget, random = Budget(table, {"macs": limit}), np.random.RandomState(0)
    drawn = [accepted_choices(space, random, budget.keeps) for _ in range(10)]
    assert all(counted("autofas", choices)["macs"] <= limit for choices in drawn)
    free = [random_choices(space, random) for _ in range(100)]
    assert any(counted("autofas", choices)["macs"] > limit for choices in free[:20])
    with pytest.raises(ConfigError, match="None of 1000 random networks"):
        accepted_choices(space, random, lambda choices: False)
