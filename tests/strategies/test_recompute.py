"""Recomputed modules: the same numbers to the last bit, with less memory."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from facenas.pipeline import search_command
from searchspaces import build_space
from searchspaces.errors import ConfigError
from strategies import DARTS, PCDARTS, GumbelSinglePath
from strategies.fused import plain_arithmetic
from strategies.live_bytes import LiveBytes
from strategies.recompute import run_recomputed
from strategies.stand_in import StandIn

from .test_fused import STRATEGIES

DETECTOR = {"backbone": "mobilenet_0.25", "width": 8, "nodes": 3, "head_layers": 1, "image_size": 64}
SPACES = {
    "autofem-fpn": DETECTOR, "autofem-cpm": DETECTOR, "pta": {"image_size": 32, "width": 0.25},
    "airface": {"image_size": 32}, "hatfas": {"image_size": 32},
}  # fmt: skip


def pair(strategy, name, **options):
    """A supernet, and a copy of it whose modules are recomputed."""
    torch.manual_seed(0)
    kept = strategy.mutate_model(build_space(name, **options)).to(memory_format=torch.channels_last)
    again = copy.deepcopy(kept)
    for module in again.modules():
        if isinstance(module, StandIn):
            module.recompute = True
    return kept, again


def tensors_of(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [each for part in (value.values() if isinstance(value, dict) else value) for each in tensors_of(part)]


def a_step(network, x, plain=False):
    """All that a step computes and leaves behind."""
    torch.manual_seed(1)
    with plain_arithmetic() if plain else nullcontext():
        outputs = tensors_of(network(x))
        sum(output.square().mean() for output in outputs).backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    return outputs, gradients, buffers, torch.get_rng_state()


def assert_same_steps(kept, again, x, plain=False):
    for _ in range(2):
        ours, theirs = a_step(again, x, plain), a_step(kept, x, plain)
        assert ours[1].keys() == theirs[1].keys() and len(ours[1]) > 5
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", STRATEGIES)
def test_cells_compute_the_same_to_the_last_bit(name, plain):
    kept, again = pair(STRATEGIES[name](), "autofas", channels=8, layout="NRN", nodes=3, image_size=16)
    assert_same_steps(kept, again, torch.randn(3, 3, 16, 16).to(memory_format=torch.channels_last), plain)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", [DARTS, GumbelSinglePath])
def test_modules_of_other_spaces_compute_the_same_to_the_last_bit(space, kind):
    kept, again = pair(kind(), space, **SPACES[space])
    assert_same_steps(kept, again, torch.randn(4, *kept.input_size))


def test_one_half_of_the_parameters_frozen_computes_the_same():
    kept, again = pair(DARTS(), "autofas", channels=8, layout="NRN", nodes=3, image_size=16)
    x = torch.randn(3, 3, 16, 16)
    for learns in ("alpha", "weights"):
        for network in (kept, again):
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(name.endswith("alpha") == (learns == "alpha"))
                parameter.grad = None
        ours, theirs = a_step(again, x), a_step(kept, x)
        assert ours[1].keys() == theirs[1].keys() and ours[1]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_running_statistics_are_noted_once_and_evaluation_is_as_ever():
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    twin, x = copy.deepcopy(layer), torch.randn(2, 3, 8, 8, requires_grad=True)
    torch.manual_seed(3)
    run_recomputed(layer, layer.forward, x).sum().backward()
    torch.manual_seed(3)
    twin(x).sum().backward()
    assert layer[1].num_batches_tracked == 1
    torch.testing.assert_close(layer.state_dict(), twin.state_dict(), rtol=0, atol=0)
    kept, again = pair(PCDARTS(), "autofas", channels=8, layout="NR", nodes=2, image_size=16)
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(again.eval()(x), kept.eval()(x), rtol=0, atol=0)


def test_less_is_kept():
    peaks = []
    for network in pair(DARTS(), "autofas", channels=8, layout="NNNNN", image_size=32):
        with LiveBytes([*network.parameters(), *network.buffers()]) as live:
            network(torch.randn(4, 3, 32, 32)).square().mean().backward()
            peaks.append(live.peak)
    assert peaks[1] < 0.5 * peaks[0]


def test_live_bytes_are_those_of_storages():
    held = torch.zeros(1000)
    with LiveBytes([held]) as live:
        assert live.now == 4000
        a = torch.ones(500)
        view = a.view(5, 100)[1:]
        assert live.now == 6000
        b = a + 1
        assert live.now == 8000
        del a
        assert live.now == 8000  # the view still needs it
        del view
        assert live.now == 6000 and live.peak == 8000
        live.reset_peak()
        assert live.peak == 6000
        b.add_(1)
        assert live.now == live.peak == 6000


def test_the_second_order_refuses_it(tmp_path, capsys):
    with pytest.raises(ConfigError, match="first order"):
        DARTS(order="second", recompute=True)
    assert search_command("darts", ["--order", "second", "--recompute", "--out", str(tmp_path / "a")]) != 0
    assert "first order" in capsys.readouterr().err and not (tmp_path / "a").exists()
