"""Strategies on spaces whose choices are sizes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from searchspaces import build_space
from searchspaces.errors import ConfigError
from searchspaces.sampling import random_choices
from strategies import DARTS, PCDARTS, GumbelSinglePath
from strategies.elastic import MixedElastic, SampledElastic
from strategies.gumbel import GumbelElastic, nested_straight_through
from strategies.paths import run_path
from strategies.single_path import SinglePath

SPACES = {
    "airface": {"image_size": 32, "channels": 16, "repeats": [[1, 2], [1, 3], [1, 2]], "embeddings": [16, 32]},
    "hatfas": {"image_size": 32, "embed": [64, 128], "depth": [1, 2], "mlp_ratio": [1, 2]},
}


def supernet(strategy, name):
    torch.manual_seed(0)
    return strategy.mutate_model(build_space(name, **SPACES[name]))


def module_of(network, kind):
    return next(module for module in network.modules() if isinstance(module, kind))


def pictures(n=4):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def directed_loss(outputs):
    """A loss that knows the direction of the outputs only, as losses of normalised embeddings do."""
    target = torch.linspace(-1, 1, 32)[: outputs.shape[1]]
    return -F.cosine_similarity(outputs, target.expand_as(outputs)).mean()


@pytest.mark.parametrize("name", list(SPACES))
def test_every_architecture_parameter_and_weight_of_darts_learns(name):
    network = supernet(DARTS(), name)
    directed_loss(network(pictures())).backward()
    mixed = module_of(network, MixedElastic)
    assert {label for label, _ in mixed.alphas.items()} == set(SPACES_LABELS[name])
    assert all(alpha.grad is not None and alpha.grad.abs().sum() > 0 for alpha in mixed.alphas.values())
    assert all(parameter.grad is not None for parameter in network.parameters())


SPACES_LABELS = {
    name: [label for label, mutable in build_space(name, **options).simplify().items() if len(mutable.values) > 1]
    for name, options in SPACES.items()
}


@pytest.mark.parametrize("name", list(SPACES))
def test_the_gradient_of_the_architecture_is_the_difference_of_the_loss(name):
    network = supernet(DARTS(), name).double().eval()
    mixed, x = module_of(network, MixedElastic), pictures().double()
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data += 0.02 * torch.randn_like(parameter)
    directed_loss(network(x)).backward()
    for alpha in mixed.alphas.values():
        for index in range(len(alpha)):
            sides = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    alpha[index] += step
                    sides.append(directed_loss(network(x)).item())
                    alpha[index] -= step
            difference = (sides[0] - sides[1]) / 2e-5
            assert alpha.grad[index].item() == pytest.approx(difference, rel=1e-2, abs=1e-7)


@pytest.mark.parametrize("name", list(SPACES))
def test_the_derived_network_is_the_largest_weight_of_each_choice(name):
    mixed = module_of(supernet(DARTS(), name), MixedElastic)
    for label, alpha in mixed.alphas.items():
        with torch.no_grad():
            alpha.zero_()
            alpha[-1] = 1
        assert mixed.export({})[label] == mixed.candidates[label][-1]
        assert list(mixed.export_probs({})[label]) == mixed.candidates[label]
    build_space(name, **SPACES[name]).freeze(mixed.export({}))


def test_partial_channels_make_the_supernet_cheaper_and_its_choices_stay():
    from hardware.counters import count

    plain, partial = supernet(DARTS(), "airface"), supernet(PCDARTS(partial_channels=4), "airface")
    assert count(partial, (3, 32, 32)) < 0.7 * count(plain, (3, 32, 32))
    directed_loss(partial(pictures())).backward()
    assert all(alpha.grad.abs().sum() > 0 for alpha in module_of(partial, MixedElastic).alphas.values())


def test_pc_darts_refuses_a_transformer_by_name():
    with pytest.raises(ConfigError, match=r"strategies\.darts"):
        supernet(PCDARTS(), "hatfas")


@pytest.mark.parametrize("index", range(3))
def test_a_sampled_size_is_itself_with_the_gradient_of_a_mixture_that_is_cut_to_it(index):
    alpha, values = torch.randn(3, requires_grad=True), torch.tensor([2.0, -1.0, 5.0])
    weights = nested_straight_through(alpha, index)
    assert weights.tolist() == pytest.approx([0.0] * index + [1.0], abs=1e-6)
    (found,) = torch.autograd.grad((weights * values[: index + 1]).sum(), alpha)
    cut = torch.tensor([values[min(k, index)] for k in range(3)])
    (expected,) = torch.autograd.grad((F.softmax(alpha, 0) * cut).sum(), alpha)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", list(SPACES))
def test_a_gumbel_pass_is_the_pass_of_the_sampled_sizes(name):
    network = supernet(GumbelSinglePath(), name).eval()
    sampled, x = module_of(network, GumbelElastic), pictures()
    for seed in range(4):
        torch.manual_seed(seed)
        kept = {label: sampled.kept(label) for label in sampled.candidates}
        choices = {label: max(pairs, key=lambda pair: float(pair[1].detach()))[0] for label, pairs in kept.items()}
        torch.manual_seed(seed)
        with torch.no_grad():
            found = network(x)
            plain = sampled.network(x, {label: [(value, 1.0)] for label, value in choices.items()})
        assert torch.allclose(found, plain, atol=1e-5)


@pytest.mark.parametrize("name", list(SPACES))
def test_gumbel_learns_every_choice_within_some_steps(name):
    network = supernet(GumbelSinglePath(), name)
    sampled = module_of(network, GumbelElastic)
    torch.manual_seed(0)
    for _ in range(12):
        directed_loss(network(pictures())).backward()
    for label, alpha in sampled.alphas.items():
        assert alpha.grad is not None and alpha.grad.abs().max() > 1e-7, label


@pytest.mark.parametrize("name", list(SPACES))
def test_a_sampled_path_freezes_to_the_network_with_its_weights(name):
    network, x = supernet(SinglePath(), name), pictures()
    module_of(network, SampledElastic)
    for seed in range(3):
        choices = random_choices(build_space(name, **SPACES[name]), np.random.RandomState(seed))
        run_path(network, choices)
        network.train()(x)
        with torch.no_grad():
            assert torch.allclose(network.eval()(x), network.freeze(choices).eval()(x), atol=1e-6)


def test_a_sampled_path_leaves_the_statistics_of_other_channels_alone():
    network = supernet(SinglePath(), "airface").train()
    sampled = module_of(network, SampledElastic).network
    smallest = {
        label: mutable.values[0] for label, mutable in build_space("airface", **SPACES["airface"]).simplify().items()
    }
    norm = sampled.stages[2][0].project.norm
    before = norm.running_mean.clone()
    run_path(network, smallest)
    network(pictures())
    width = len(before) // 2
    assert not torch.equal(norm.running_mean[:width], before[:width])
    assert torch.equal(norm.running_mean[width:], before[width:])


def test_sizes_of_a_space_multiply():
    space = build_space("airface", **SPACES["airface"])
    sizes = [len(mutable.values) for mutable in space.simplify().values()]
    assert np.prod(sizes) == 2 * 3**6 * 2**3 * 2 * 3 * 2
    assert len(list(itertools.islice(iter(space.simplify()), 20))) == 13


@pytest.mark.parametrize("name", list(SPACES))
def test_a_space_counts_its_networks(name):
    space = build_space(name, **SPACES[name])
    assert space.sizes() == {"networks": np.prod([len(mutable.values) for mutable in space.simplify().values()])}
