"""Networks of sizes: a part of the largest network is the smaller network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from searchspaces import Architecture, build_space
from searchspaces.elastic import (
    Convolution,
    channel_mask,
    depths,
    first_channels_norm,
    mixture,
    products,
    single,
    take_first_channels,
)
from searchspaces.hatfas import weighted_layer_norm
from searchspaces.sampling import random_choices

SMALL = {
    "airface": {"image_size": 32, "channels": 16, "repeats": [[1, 2], [1, 3], [1, 2]], "embeddings": [16, 32]},
    "hatfas": {"image_size": 32, "embed": [64, 128], "depth": [1, 2], "mlp_ratio": [1, 2]},
}


def declared(name):
    space = build_space(name, **SMALL[name])
    return space.trunk if name == "airface" else space.vit


def pictures(n=3):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def weights(*values):
    return [(size, torch.tensor(weight)) for size, weight in values]


def test_a_mask_is_the_weight_of_the_widths_that_reach_a_channel():
    mask = channel_mask(weights((2, 0.25), (3, 0.75)))
    assert mask is not None and mask.tolist() == [1.0, 1.0, 0.75]
    assert channel_mask([(4, 1.0)]) is None


def test_products_of_independent_choices_are_widths_with_weights_that_add_up_to_one():
    kept = products(weights((2, 0.25), (4, 0.75)), weights((8, 0.5), (16, 0.5)))
    assert [size for size, _ in kept] == [16, 32, 32, 64]
    assert sum(float(weight) for _, weight in kept) == pytest.approx(1)


def test_depths_mix_what_comes_out_of_the_blocks_and_run_no_further():
    ran = []

    def block(number):
        def run(x):
            ran.append(number)
            return x + 1

        return run

    result = depths(weights((1, 0.25), (3, 0.75)), torch.zeros(1), [block(n) for n in range(5)])
    assert result.item() == pytest.approx(0.25 * 1 + 0.75 * 3) and ran == [0, 1, 2]


def test_a_mixture_computes_only_what_is_kept():
    outputs = {"a": lambda: torch.ones(1), "b": lambda: 1 / 0}
    assert mixture([("a", 1.0)], outputs).item() == 1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_batch_norm_on_its_first_channels_is_a_smaller_batch_norm(training, momentum):
    large, small = (torch.nn.BatchNorm2d(n, momentum=momentum).train(training) for n in (5, 3))
    torch.nn.init.normal_(large.weight)
    take_first_channels(large, small)
    for seed in range(2):
        x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(first_channels_norm(large, x), small(x))
    assert large.running_mean is not None and small.running_mean is not None
    assert torch.allclose(large.running_mean[:3], small.running_mean)


@pytest.mark.parametrize("depthwise", [True, False])
def test_a_convolution_at_a_smaller_width_is_a_smaller_convolution(depthwise):
    large, small = (Convolution(n, n, 3, padding=1, depthwise=depthwise).eval() for n in (6, 4))
    take_first_channels(large, small)
    x = torch.randn(2, 4, 5, 5)
    assert torch.allclose(large(x, 4), small(x), atol=1e-6)


def test_a_weighted_layer_norm_with_weights_of_zero_and_one_is_the_layer_norm_of_a_part():
    norm = torch.nn.LayerNorm(6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x, mask = torch.randn(2, 3, 6), torch.tensor([1.0, 1, 1, 1, 0, 0])
    expected = F.layer_norm(x[..., :4], (4,), norm.weight[:4], norm.bias[:4], norm.eps)
    assert torch.allclose(weighted_layer_norm(norm, x, mask)[..., :4], expected, atol=1e-6)
    assert not weighted_layer_norm(norm, x, mask)[..., 4:].any()


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("seed", range(4))
def test_a_sampled_pass_is_the_pass_of_the_chosen_network(name, seed):
    space = declared(name)
    elastic = space.elastic()
    choices = random_choices(build_space(name, **SMALL[name]), np.random.RandomState(seed))
    kept = {label: [(value, 1.0)] for label, value in choices.items()}
    for _ in range(2):  # statistics that are not those of a new network
        elastic.train()(pictures(), kept)
    network = space.freeze(choices).eval()
    take_first_channels(space.weights_of(elastic), network)
    with torch.no_grad():
        assert torch.allclose(elastic.eval()(pictures(), kept), network(pictures()), atol=1e-6)


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("seed", range(3))
def test_a_mixture_whose_weights_are_one_hot_is_the_chosen_network(name, seed):
    space = declared(name)
    elastic = space.elastic().eval()
    choices = random_choices(build_space(name, **SMALL[name]), np.random.RandomState(seed))
    if name == "airface":
        # the attention of a mixture sees all widths; without it the two are equal
        choices |= {"attention": "off"}
    hot = {
        label: [(value, torch.tensor(float(value == choices[label]))) for value in values]
        for label, values in space.candidates.items()
    }
    network = space.freeze(choices).eval()
    take_first_channels(space.weights_of(elastic), network)
    with torch.no_grad():
        mixed, plain = elastic(pictures(), hot), network(pictures())
    mixed = mixed[:, : plain.shape[1]]
    assert torch.allclose(mixed, plain, atol=1e-5)


def test_without_kept_sizes_a_network_of_several_refuses_to_run():
    for name in SMALL:
        with pytest.raises(RuntimeError, match="several candidates"):
            declared(name).elastic()(pictures())
        with pytest.raises(RuntimeError, match="no forward pass"):
            build_space(name, **SMALL[name])(pictures())


def test_single_is_what_a_finished_network_keeps():
    assert single({"a": [3]}) == {"a": [(3, 1.0)]}


@pytest.mark.parametrize("name", list(SMALL))
def test_nni_counts_all_candidates(name):
    space = build_space(name, **SMALL[name])
    assert {label: mutable.values for label, mutable in space.simplify().items()} == declared(name).candidates
    architecture = Architecture(name, SMALL[name], random_choices(space, np.random.RandomState(0)))
    assert architecture.build()(pictures()).shape[0] == 3
