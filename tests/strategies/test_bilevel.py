"""The architecture's gradient is the papers', first and second order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from searchspaces import build_space
from strategies import DARTS
from strategies.bilevel import frozen, quiet, unrolled_gradient
from strategies.budget import one_shot_macs
from strategies.fused import plain_arithmetic
from strategies.supernet import MixedCell


def exact_gradient(train_loss, val_loss, weights, alphas, lr, momentum, buffers, weight_decay):
    """Differentiates through the virtual step, with autograd's own second derivatives."""
    names, values = list(weights), list(weights.values())
    step = torch.autograd.grad(train_loss(weights), values, create_graph=True)
    moved = {
        name: w - lr * (momentum * buffer + g + weight_decay * w)
        for name, w, g, buffer in zip(names, values, step, buffers, strict=True)
    }
    return torch.autograd.grad(val_loss(moved), alphas)


@pytest.mark.parametrize(("hessian", "tolerance"), [("exact", 1e-12), ("difference", 1e-6)])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 1e-2)])
def test_second_order_equals_differentiation_through_the_step(momentum, weight_decay, hessian, tolerance):
    torch.manual_seed(0)
    weights = {name: torch.randn(shape).double().requires_grad_() for name, shape in [("a", (5, 4)), ("b", (3, 5))]}
    alpha = torch.randn(2, 3).double().requires_grad_()
    data = [(torch.randn(16, 4).double(), torch.randn(16, 3).double()) for _ in range(2)]

    def loss(which):
        x, y = data[which]

        def value(w):
            mixed = alpha.softmax(1)
            hidden = x @ w["a"].T
            hidden = mixed[0, 0] * hidden.tanh() + mixed[0, 1] * hidden.sin() + mixed[0, 2] * hidden
            output = hidden @ w["b"].T
            return (mixed[1, 0] * output + mixed[1, 1] * output.tanh() - y).square().mean()

        return value

    buffers = [torch.randn_like(w) for w in weights.values()]
    before = [w.detach().clone() for w in weights.values()]
    exact = exact_gradient(loss(0), loss(1), weights, [alpha], 0.1, momentum, buffers, weight_decay)
    found = unrolled_gradient(
        lambda: loss(0)(weights),
        lambda: loss(1)(weights),
        list(weights.values()),
        [alpha],
        learning_rate=0.1,
        momentum=momentum,
        buffers=buffers,
        weight_decay=weight_decay,
        hessian=hessian,
        epsilon=1e-4,
    )
    assert (found[0] - exact[0]).norm() <= tolerance * exact[0].norm()
    assert all(torch.equal(w, b) for w, b in zip(weights.values(), before, strict=True))
    # the Hessian term is there: without it the gradient is another one
    (direct,) = torch.autograd.grad(loss(1)(weights), alpha)
    assert (found[0] - direct).norm() > 0.01 * direct.norm()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-9), (torch.float, 1e-2)])
def test_hessian_term_of_a_supernet_is_exact_at_the_default_settings(dtype, tolerance):
    """Kinks of ReLU and max-pooling and batch norms included, judged on the Hessian's term alone."""
    torch.manual_seed(1)
    network = DARTS().mutate_model(build_space("autofas", channels=8, layout="RN", nodes=2)).to(dtype)
    cells = [module for module in network.modules() if isinstance(module, MixedCell)]
    alphas = list(dict.fromkeys(p for cell in cells for p in cell.arch_parameters()))
    weights = {n: p for n, p in network.named_parameters() if not any(p is a for a in alphas)}
    data = [(torch.randn(8, 3, 20, 20, dtype=dtype), torch.randint(0, 2, (8,)).to(dtype)) for _ in range(2)]

    def loss(which, w):
        x, y = data[which]
        output = torch.func.functional_call(network, w, (x,)).mean((1, 2, 3))
        return nn.functional.binary_cross_entropy_with_logits(output, y)

    zeros = [torch.zeros_like(w) for w in weights.values()]
    values = list(weights.values())
    with plain_arithmetic():
        exact = exact_gradient(lambda w: loss(0, w), lambda w: loss(1, w), weights, alphas, 0.05, 0.0, zeros, 0.0)
    found = unrolled_gradient(lambda: loss(0, weights), lambda: loss(1, weights), values, alphas, learning_rate=0.05)
    step = torch.autograd.grad(loss(0, weights), values)
    moved = {name: w - 0.05 * g for (name, w), g in zip(weights.items(), step, strict=True)}
    direct = torch.autograd.grad(loss(1, moved), alphas)
    for ours, reference, first in zip(found, exact, direct, strict=True):
        term = reference - first
        assert term.norm() > 0 and (ours - first - term).norm() <= tolerance * term.norm()


def test_no_validation_gradient_by_weights_leaves_the_direct_term():
    weight, alpha = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    found = unrolled_gradient(
        lambda: (weight * alpha).sum(), lambda: 3 * alpha.sum(), [weight], [alpha], learning_rate=1.0
    )
    assert found[0].item() == 3.0


def test_weights_are_restored_when_a_loss_fails():
    weight, alpha = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)

    def fail():
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError):
        unrolled_gradient(lambda: (weight * alpha).sum(), fail, [weight], [alpha], learning_rate=1.0)
    assert weight.item() == 1.0


def test_frozen_parameters_need_no_gradient_inside_the_block_only():
    parameter = nn.Parameter(torch.ones(1))
    with frozen([parameter]):
        assert not parameter.requires_grad
    assert parameter.requires_grad


def test_quiet_modules_log_nothing_and_get_their_logger_back():
    said = []

    class Module:
        def step(self):
            self.log("loss", 1)

    module = Module()
    module.log = lambda *args: said.append(args)
    with quiet(module):
        module.step()
    module.step()
    assert said == [("loss", 1)]


def test_budget_counts_the_passes():
    # a weight step: forward, and backward to inputs and weights; a first-order architecture step: one pass less
    assert one_shot_macs(100, batch_size=4, steps=5, searched_steps=2, gradient="first") == 400 * (3 * 5 + 2 * 2)
    assert one_shot_macs(100, batch_size=4, steps=5, searched_steps=5, gradient="exact") == 400 * 5 * (3 + 13)
    assert one_shot_macs(100, batch_size=4, steps=5, searched_steps=5, gradient="difference") == 400 * 5 * (3 + 10)
