"""The Auto-FAS space is the paper's: its integers, its sizes, its odd-size traps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from nni.nas.space import model_context

from searchspaces import build_space
from searchspaces.autofas import OPERATION_NAMES, map_size
from searchspaces.cells import derived_cells, edges
from searchspaces.errors import ConfigError, UnknownNameError
from searchspaces.operations import OPERATIONS, FactorizedReduce
from searchspaces.registry import OpenChoice, list_spaces, register_space

from .genotypes import TABLE_4, TABLE_4_DEEP, choices


@pytest.mark.parametrize(
    ("options", "genotype", "parameters"),
    [({}, TABLE_4, 266_737), ({"channels": 36, "layout": "RNNNNRNNRNN"}, TABLE_4_DEEP, 270_397)],
)
def test_genotype_has_the_papers_parameters_and_map(options, genotype, parameters):
    network = build_space("autofas", **options).freeze(choices(genotype))
    assert sum(p.numel() for p in network.parameters()) == parameters
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 108, 108)).shape == (1, 1, 14, 14)


def test_head_has_193_parameters():
    assert sum(p.numel() for p in build_space("autofas").head.parameters()) == 193


def test_sizes_of_the_papers_space():
    sizes = build_space("autofas").sizes()
    assert sizes == {"alpha_entries": 168, "relaxed": 6**28, "derived": 70_312_500**2}
    assert derived_cells(4, 5) == 70_312_500
    assert len(edges(4)) == 14


def test_derived_size_equals_enumeration_of_a_small_sibling():
    space = build_space("autofas", channels=2, layout="N", nodes=2)
    mutables = space.simplify()
    domains = []
    for label, mutable in mutables.items():
        if "input" in label:
            domains.append([list(pair) for pair in itertools.combinations(mutable.values, 2)])
        else:
            domains.append(list(mutable.values))
    seen = set()
    for values in itertools.product(*domains):
        sample = dict(zip(mutables, values, strict=True))
        space.validate(sample)
        network = space.freeze(sample)
        seen.add(tuple(sorted(network.cells[0].wiring)))
    assert len(seen) == space.sizes()["derived"] == (1 * 25) * (3 * 25)


def test_random_samples_are_points_that_run_forward_and_backward():
    space = build_space("autofas", channels=4, layout="RNRNRN")
    for seed in range(5):
        sample = {}
        space.random(memo=sample, random_state=np.random.RandomState(seed))
        assert "none" not in sample.values()
        network = space.freeze(sample)
        output = network(torch.randn(2, 3, 108, 108))
        assert output.shape == (2, 1, 14, 14)
        output.square().mean().backward()
        # the last cell's concatenation reaches the head, so only nodes that nothing follows could lack a gradient
        assert all(p.grad is not None for p in network.parameters())


def test_frozen_networks_share_no_weights():
    space, sample = build_space("autofas", channels=4), choices(TABLE_4)
    first, second = space.freeze(sample), space.freeze(sample)
    assert not set(map(id, first.parameters())) & set(map(id, second.parameters()))
    assert not {p.data_ptr() for p in first.parameters()} & {p.data_ptr() for p in second.parameters()}


def test_freeze_equals_construction_in_nnis_context():
    sample = choices(TABLE_4)
    frozen = build_space("autofas", channels=4).freeze(sample).eval()
    with model_context(sample):
        built = build_space("autofas", channels=4).eval()
    built.load_state_dict(frozen.state_dict())
    x = torch.randn(1, 3, 108, 108)
    assert torch.equal(frozen(x), built(x))


@pytest.mark.parametrize("size", [8, 27])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATION_NAMES)
def test_operations_round_odd_sizes_up(name, stride, size):
    operation = OPERATIONS[name](8, stride, affine=True)
    x = torch.randn(2, 8, size, size, requires_grad=True)
    y = operation(x)
    assert y.shape == (2, 8, -(-size // stride), -(-size // stride))
    y.sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()
    if name == "none":
        assert not y.any()


@pytest.mark.parametrize("channels", [2, 4, 8])
@pytest.mark.parametrize("size", [26, 27])
def test_channels_last_equals_the_default_layout(channels, size):
    """Guards the two memory errors of torch 2.14 on a CPU: strided 1x1 convolutions, expanded norm weights."""
    torch.manual_seed(0)
    for name in OPERATION_NAMES[1:]:
        operation = OPERATIONS[name](channels, 2, affine=True).double()
        x = torch.randn(3, channels, size, size, dtype=torch.double)
        results = []
        for layout in (torch.contiguous_format, torch.channels_last):
            operation.to(memory_format=layout).zero_grad()
            y = x.clone(memory_format=layout).requires_grad_()
            output = operation(y)
            (output * torch.linspace(-1, 1, output.numel(), dtype=torch.double).view_as(output)).sum().backward()
            results.append([output, y.grad, *(p.grad.clone() for p in operation.parameters())])
        for plain, last in zip(*results, strict=True):
            torch.testing.assert_close(plain, last)


def test_factorized_reduce_sees_even_and_odd_pixels():
    reduce = FactorizedReduce(2, 2).eval()
    for convolution in (reduce.even, reduce.odd):
        convolution.weight.data.fill_(1.0)
    x = torch.zeros(1, 2, 5, 5)
    x[0, 0, 2, 2], x[0, 1, 3, 1] = 3.0, 7.0
    y = reduce(x) * (1 + 1e-5) ** 0.5  # undo the norm's epsilon
    assert y[0, 0, 1, 1].item() == pytest.approx(3.0) and y[0, 1, 1, 0].item() == pytest.approx(7.0)


def test_map_size_follows_the_reductions():
    assert [map_size(108, "R" * n) for n in range(4)] == [108, 54, 27, 14]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chanels": 8}, "Did you mean 'channels'"),
        ({"channels": "8"}, "must be of type int"),
        ({"channels": 3}, "even number"),
        ({"layout": "RXN"}, "one letter a cell"),
        ({"image_size": 4}, "does not fit"),
        ({"nodes": 0}, "at least 1"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        build_space("autofas", **options)


def test_unknown_space_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'autofas'"):
        build_space("autofaz")


def test_a_users_own_class_is_a_space_and_a_duplicate_name_is_refused():
    own = build_space("searchspaces.autofas:AutoFas", channels=4)
    assert own.sizes() == build_space("autofas", channels=4).sizes()
    assert list_spaces("autofa*") == ["autofas"]
    with pytest.raises(ValueError, match="already registered"):
        register_space("autofas", [OpenChoice("a", 1, "b")])(type(own))
    for name, words in [("searchspaces.autofas:Nothing", "Cannot import"), ("pathlib:Path", "not a subclass")]:
        with pytest.raises(ConfigError, match=words):
            build_space(name)
