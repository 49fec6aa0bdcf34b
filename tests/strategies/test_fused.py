"""The fused supernet computes what the plain one computes: results, gradients, running statistics."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from searchspaces import build_space
from searchspaces.operations import FactorizedReduce, SeparableConv
from strategies import DARTS, PCDARTS, GumbelSinglePath, composed, kernels
from strategies.bilevel import exact_product, frozen, mixed_product, mixed_product_forward
from strategies.fused import average_pool, is_fused, plain_arithmetic
from strategies.pixels import centre_, channel_shuffle, moments, sums_along
from strategies.supernet import MixedCell

STRATEGIES = {
    "all": lambda: DARTS(),
    "quarter": lambda: PCDARTS(),
    "half": lambda: PCDARTS(partial_channels=2),
    "unweighted edges": lambda: PCDARTS(edge_normalisation=False),
    "sampled edges": lambda: GumbelSinglePath(sampled="edges"),
    "sampled operations": lambda: GumbelSinglePath(sampled="operations"),
    "sampled operations of a quarter": lambda: GumbelSinglePath(sampled="operations", partial_channels=4),
    "both sampled": lambda: GumbelSinglePath(sampled="both"),
}
LAST = torch.channels_last


def network(strategy, memory=LAST, **options):
    torch.manual_seed(0)
    made = strategy.mutate_model(build_space("autofas", **{"channels": 8, "layout": "NRRN", "nodes": 3, **options}))
    for cell in cells_of(made):
        for parameter in cell.arch_parameters():
            nn.init.normal_(parameter)
    return made.double().to(memory_format=memory)


def cells_of(made):
    return [module for module in made.modules() if isinstance(module, MixedCell)]


def alphas_of(made):
    return list(dict.fromkeys(p for cell in cells_of(made) for p in cell.arch_parameters()))


def weights_of(made):
    alphas = set(map(id, alphas_of(made)))
    return [p for p in made.parameters() if id(p) not in alphas]


def passed(made, x, plain, wanted):
    """Outputs, gradients and running statistics of a pass, and the random numbers that it has used."""
    torch.manual_seed(7)
    with plain_arithmetic() if plain else nullcontext():
        outputs = made(x)
        gradients = torch.autograd.grad(outputs.sub(1).square().sum(), wanted, allow_unused=True)
    found = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, wanted, strict=True)]
    return outputs.detach(), found, [b.clone() for b in made.buffers()], torch.rand(1)


@pytest.mark.parametrize("size", [16, 21])  # odd sides: reductions round up
@pytest.mark.parametrize("name", STRATEGIES)
def test_fused_equals_plain(name, size):
    strategy = STRATEGIES[name]()
    made, reference = network(strategy), network(STRATEGIES[name](), torch.contiguous_format)
    reference.load_state_dict(made.state_dict())
    x = torch.randn(3, 3, size, size, dtype=torch.double)
    assert is_fused(cells_of(made)[0], x)
    ours = passed(made, x, False, list(made.parameters()))
    theirs = passed(reference, x, True, list(reference.parameters()))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert any(g.abs().sum() > 0 for g in ours[1])


@pytest.mark.parametrize("name", ["all", "quarter", "sampled operations"])
def test_either_group_of_parameters_can_be_frozen(name):
    made = network(STRATEGIES[name]())
    x = torch.randn(3, 3, 16, 16, dtype=torch.double)
    for wanted, idle in ((alphas_of(made), weights_of(made)), (weights_of(made), alphas_of(made))):
        expected = passed(made, x, True, wanted)[1]
        with frozen(idle):
            torch.testing.assert_close(passed(made, x, False, wanted)[1], expected, rtol=1e-9, atol=1e-9)


def test_single_precision_is_as_near_to_double_as_the_plain_layers_are():
    made = network(DARTS(), channels=16)
    x = torch.randn(4, 3, 32, 32, dtype=torch.double)
    with torch.no_grad():
        exact = made(x)
        made, x = made.float(), x.float()
        fused = made(x)
        with plain_arithmetic():
            plain = made(x)
    error, reference = ((each - exact).norm() / exact.norm() for each in (fused, plain))
    assert error < max(3 * reference, 1e-5)


def test_a_variance_beside_a_large_mean_is_not_lost():
    """Two passes: the mean of squares less the square of the mean would leave nothing in single precision."""
    rows = 1000 + torch.randn(4096, 16)
    exact = rows.double().var(0, correction=0)
    _, variance = centre_(rows.clone())
    torch.testing.assert_close(variance.double(), exact, rtol=1e-3, atol=0)


def test_statistics_are_left_alone_and_second_derivatives_refused():
    made = network(DARTS(), layout="NR")
    x = torch.randn(3, 3, 16, 16, dtype=torch.double)
    made.eval()
    assert not is_fused(cells_of(made)[0], x)  # in evaluation the running statistics count
    made.train()
    with pytest.raises(RuntimeError, match="plain_arithmetic"):
        torch.autograd.grad(made(x).sum(), alphas_of(made), create_graph=True)


@pytest.mark.parametrize("name", ["all", "quarter"])
def test_the_mixed_product_forward_over_reverse_is_that_of_two_reverse_passes(name):
    made = network(STRATEGIES[name](), layout="NR")
    x = torch.randn(3, 3, 16, 16, dtype=torch.double)
    weights, alphas = weights_of(made), alphas_of(made)
    before = [w.detach().clone() for w in weights], [b.clone() for b in made.buffers()]
    vector = [torch.randn_like(w) for w in weights]
    args = (lambda: made(x).sub(1).square().mean(), weights, alphas, vector)
    forward = mixed_product_forward(*args)
    after = [w.detach() for w in weights], list(made.buffers())
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    assert all(w.requires_grad for w in weights)
    torch.testing.assert_close(forward, mixed_product(*args), rtol=1e-9, atol=1e-12)


# ---- kernels beside their compositions and torch's own layers


def maps(*shape):
    return torch.randn(*shape, dtype=torch.double).contiguous(memory_format=LAST).requires_grad_()


def weights(number, *shape):
    return [torch.randn(shape, dtype=torch.double, requires_grad=True) for _ in range(number)]


def same(function, reference, *tensors):
    """Results, and gradients of a random product with them."""
    found = []
    for each in (function, reference):
        results = each(*tensors)
        results = results if isinstance(results, tuple) else (results,)
        smooth = [r for r in results if r.requires_grad and r.ndim == 4]
        torch.manual_seed(1)
        scalar = sum((r * torch.randn(r.shape, dtype=r.dtype)).sum() for r in smooth)
        wanted = [t for t in tensors if isinstance(t, torch.Tensor) and t.requires_grad]
        found.append(([r.detach() for r in results], torch.autograd.grad(scalar, wanted)))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sides", [(8, 8), (7, 9), (3, 5)])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("window", [(3, 3), (5, 5), (1, 5), (5, 1)])
def test_depthwise(window, stride, groups, sides):
    padding = tuple(side // 2 for side in window)

    def layers(x, *given):
        return torch.cat([F.conv2d(x, w, None, stride, padding, 1, 4) for w in given], dim=1)

    def ours(x, *given):
        return kernels.Depthwise.apply(x, ((stride, stride), padding, (1, 1)), *given)

    same(ours, layers, maps(2, 4, *sides), *weights(groups, 4, 1, *window))


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (4, 3), (4, 4), (8, 3), (16, 2), (6, 2)])
def test_middle(channels, groups):
    matrices, windows = weights(groups, channels, channels), weights(groups, channels, 1, 3, 3)

    def layers(x, *given):
        y = F.conv2d(x, torch.cat(given[:groups])[..., None, None], groups=groups)
        y = F.batch_norm(y, None, None, training=True).relu()
        return F.conv2d(y, torch.cat(given[groups:]), None, 1, 1, 1, groups * channels)

    x = maps(2, channels * groups, 6, 5)
    same(lambda *given: kernels.Middle.apply(*given)[0], layers, x, *matrices, *windows)
    same(kernels.Middle.apply, composed.middle, x, *matrices, *windows)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (4, 3), (16, 2)])
def test_last_and_the_sum_that_follows(channels, groups, shared):
    matrices, (shares,) = weights(groups, channels, 2 * channels), weights(1, groups)
    x, beside = maps(2, 2 * channels * (1 if shared else groups), 4, 6), maps(2, channels, 4, 6)

    def layers(x, beside, shares, *given):
        parts = [x] * groups if shared else x.chunk(groups, dim=1)
        rows = zip(parts, given, shares, strict=True)
        return beside + sum(
            w * F.batch_norm(F.conv2d(part, matrix[..., None, None]), None, None, training=True)
            for part, matrix, w in rows
        )

    def ours(x, beside, shares, *given):
        *results, factors, _, _ = kernels.Last.apply(x, shares, *given)
        return kernels.NodeSum.apply(list(factors), *results, beside)

    same(ours, layers, x, beside, shares, *matrices)


def test_maps_that_are_mixed_normalised_reduced_and_shuffled():
    x, other = maps(2, 4, 7, 6), maps(2, 4, 7, 6)
    (table,) = weights(1, 3, 2)
    same(kernels.Mixes.apply, composed.mixes, table, x, other)
    same(lambda x: kernels.Standardise.apply(x)[0], lambda x: F.batch_norm(x, None, None, training=True), x)
    same(kernels.Quarters.apply, composed.quarters, x)
    same(lambda x: kernels.Parted.apply(x, 4), lambda x: composed.parted(x, 4), x)
    rest = maps(2, 12, 7, 6)
    same(kernels.Woven.apply, lambda seen, rest: channel_shuffle(torch.cat([seen, rest], dim=1), 4), x, rest)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(8, 8), (7, 5)])
def test_the_average_of_the_pixels_that_exist(sides, stride):
    pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    same(lambda x: average_pool(x, stride), pool, maps(2, 4, *sides))


# ---- what torch 2.14 does wrong in channels-last layout on a CPU


def test_no_strided_convolution_of_1x1_and_no_scale_that_is_expanded():
    """Its backward pass corrupts memory with four output channels or fewer; a batch norm's reads beyond a weight of
    stride 0. A supernet has neither: pixels are taken by slicing, and its norms have no weight."""
    made = network(PCDARTS(), channels=16)
    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            assert module.kernel_size != (1, 1) or module.stride == (1, 1)
    frames = [norm for cell in cells_of(made) for norm in cell.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert frames and all(norm.weight is None for norm in frames)


def test_halving_four_channels_in_channels_last_layout_has_the_right_gradient():
    layer = FactorizedReduce(4, 4, affine=False).double()
    x = torch.randn(8, 4, 64, 64, dtype=torch.double)
    expected = torch.autograd.grad(layer(x).square().sum(), layer.parameters())
    layer.to(memory_format=LAST)
    found = torch.autograd.grad(layer(x.contiguous(memory_format=LAST)).square().sum(), layer.parameters())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("parts", [1, 4])
def test_a_cell_whose_edges_have_all_sampled_none(parts):
    strategy = GumbelSinglePath(sampled="operations", partial_channels=parts)
    made = network(strategy, layout="NR")
    for cell in cells_of(made):
        nn.init.constant_(cell.alpha, 0.0)
        with torch.no_grad():
            cell.alpha[:, cell.candidates.index("none")] = 100.0
    x = torch.randn(2, 3, 16, 16, dtype=torch.double)
    ours, theirs = (passed(made, x, plain, alphas_of(made)) for plain in (False, True))
    torch.testing.assert_close(ours[:2], theirs[:2], rtol=1e-9, atol=1e-9)


class Louder(SeparableConv):
    """A user's own convolution, which is more than the one it is made from."""

    def forward(self, x):
        return 3 * super().forward(x)


def followed_by_norm(pool, **options):
    return nn.Sequential(pool, nn.BatchNorm2d(8, **{"affine": False, **options}))


OWN_OPERATIONS = {
    "a convolution": lambda stride: nn.Conv2d(8, 8, 3, stride, 1),
    "a subclass": lambda stride: Louder(8, 3, stride, False),
    "norms with scales": lambda stride: SeparableConv(8, 3, stride, True),
    "a reduction with scales": lambda stride: nn.Identity() if stride == 1 else FactorizedReduce(8, 8, True),
    "a larger pool": lambda stride: followed_by_norm(nn.MaxPool2d(5, stride, 2)),
    "an average with zeros": lambda stride: followed_by_norm(nn.AvgPool2d(3, stride, 1)),
    "a pool without a norm": lambda stride: nn.AvgPool2d(3, stride, 1),
    "a pool with another norm": lambda stride: followed_by_norm(nn.MaxPool2d(3, stride, 1), eps=0.1, momentum=0.5),
    "a pool and more": lambda stride: nn.Sequential(*followed_by_norm(nn.MaxPool2d(3, stride, 1)), nn.Tanh()),
    "one of a kind that is there": lambda stride: SeparableConv(8, 5, stride, False),
    "a second skip": lambda stride: nn.Identity() if stride == 1 else FactorizedReduce(8, 8, False),
    "a second pool": lambda stride: followed_by_norm(nn.AvgPool2d(3, stride, 1, count_include_pad=False)),
}


@pytest.mark.parametrize("own", OWN_OPERATIONS)
@pytest.mark.parametrize("layout", ["N", "R"])
def test_operations_of_ones_own_run_as_they_are(own, layout):
    made = network(DARTS(), layout=layout)
    for edge in cells_of(made)[0].mixed_edges:
        position = [type(o) for o in edge.operations].index(SeparableConv)
        edge.operations[position] = OWN_OPERATIONS[own](edge.stride).double()
    made.to(memory_format=LAST)
    reference = copy.deepcopy(made)
    x = torch.randn(2, 3, 16, 16, dtype=torch.double)
    ours, theirs = (
        passed(each, x, plain, list(each.parameters())) for each, plain in ((made, False), (reference, True))
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_single_value_a_channel_is_refused_as_torch_does():
    made = network(DARTS(), layout="R")
    x = torch.randn(1, 3, 2, 2, dtype=torch.double)
    for arithmetic in (nullcontext, plain_arithmetic):
        with arithmetic(), pytest.raises(ValueError, match="more than 1 value per channel"):
            made(x)


class Doubled(torch.autograd.Function):
    """A user's own operation, which has a gradient and no tangent."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def test_a_loss_without_tangents_is_differentiated_twice_instead():
    made = network(DARTS(), layout="NR")
    x = torch.randn(3, 3, 16, 16, dtype=torch.double)
    weights, alphas = weights_of(made), alphas_of(made)
    vector = [torch.randn_like(w) for w in weights]
    args = (lambda: Doubled.apply(made(x)).sub(1).square().mean(), weights, alphas, vector)
    with pytest.raises(NotImplementedError):
        mixed_product_forward(*args)
    assert all(w.requires_grad for w in weights)
    torch.testing.assert_close(exact_product(*args), mixed_product(*args), rtol=0, atol=0)


def test_what_was_frozen_before_stays_so():
    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1), requires_grad=False)
    with frozen([first, second]):
        assert not first.requires_grad
    assert first.requires_grad and not second.requires_grad


@pytest.mark.parametrize(("count", "channels"), [(6, 3), (1030, 12), (2**15, 4), (2**14, 16), (2**13, 32), (2**12, 64)])
def test_statistics_in_one_call_are_those_of_the_numbers(count: int, channels: int) -> None:
    """Small and large maps take different ways, and narrow pixels are taken several at a time."""
    generator = torch.Generator().manual_seed(count)
    rows, gradient = (torch.randn(count, channels, generator=generator).double() + 3 for _ in range(2))
    mean, variance = moments(rows)
    torch.testing.assert_close(mean, rows.mean(0))
    torch.testing.assert_close(variance, rows.var(0, unbiased=False))
    along, plain = sums_along(gradient, rows)
    torch.testing.assert_close(along, torch.einsum("nc,nc->c", gradient, rows))
    torch.testing.assert_close(plain, gradient.sum(0))
