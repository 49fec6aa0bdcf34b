"""The bytes of a search step: counted in small ones, right for larger ones; and what is chosen to fit."""

from __future__ import annotations

import pytest
import torch

from searchspaces import build_space
from searchspaces.console import quiet_libraries
from searchspaces.errors import ConfigError
from strategies import DARTS, PCDARTS, CollapseGuard, GumbelSinglePath
from strategies.memory import HEAP, LOADED, Choice, StepBytes, choices, count_step, pick, process_bytes, trial

OFF = {"guard": CollapseGuard("off")}
STRATEGIES = {
    "darts": lambda **more: DARTS(**OFF, **more),
    "second order": lambda **more: DARTS(order="second", **OFF, **more),
    "pc_darts": lambda **more: PCDARTS(warmup_epochs=0, **OFF, **more),
    "single path": lambda **more: GumbelSinglePath(sampled="operations", **OFF, **more),
}


def space():
    return build_space("autofas", channels=8, layout="NRN", nodes=2, image_size=24)


@pytest.mark.parametrize(
    ("name", "recompute", "optimizer"),
    [
        *(("darts", False, "sgd"), ("darts", True, "adam"), ("second order", False, "sgd")),
        *(("pc_darts", False, "adam"), ("single path", True, "sgd")),
    ],
)
def test_a_larger_batch_takes_what_two_small_ones_tell(name, recompute, optimizer):
    build = lambda: (STRATEGIES[name](recompute=recompute), space())  # noqa: E731
    with quiet_libraries():
        told = count_step(build, optimizer)
        counted = trial(*build(), 6, optimizer)
    assert told.peak(6) == pytest.approx(max(counted.peaks.values()), rel=0.03)
    strategy, network = build()
    made = strategy.mutate_model(network)
    sizes = {name: 4 * p.numel() for name, p in made.named_parameters()}
    learnt = sum(size for name, size in sizes.items() if not name.endswith(("alpha", "beta")))
    assert told.gradients == learnt
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in made.buffers())
    assert told.weights == pytest.approx(sum(sizes.values()) + buffers, rel=1e-3)
    moments = {"sgd": 1, "adam": 2}[optimizer]
    alphas = sum(sizes.values()) - learnt  # whose optimizer is Adam
    most = moments * learnt + 2 * alphas
    if name == "single path":  # what was not sampled yet has no state
        assert 0.3 * most < told.optimizer < most
    else:
        assert told.optimizer == pytest.approx(most, rel=0.05)


def test_recomputation_and_a_larger_k_take_less_and_the_second_order_more():
    def peak(make):
        wide = lambda: build_space("autofas", channels=16, layout="NNRNN", nodes=3, image_size=16)  # noqa: E731
        with quiet_libraries():
            return count_step(lambda: (make(), wide())).peak(8)

    kept, again = (peak(lambda recompute=recompute: DARTS(recompute=recompute, **OFF)) for recompute in (False, True))
    second = peak(lambda: DARTS(order="second", **OFF))
    few, many = (peak(lambda k=k: PCDARTS(partial_channels=k, warmup_epochs=0, **OFF)) for k in (2, 8))
    assert again < 0.5 * kept and second > 1.5 * kept and many < few < kept


def test_counting_leaves_no_trace():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with quiet_libraries():
        count_step(lambda: (STRATEGIES["single path"](), space()))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_peak_is_that_of_the_larger_half():
    step = StepBytes(1, 1, 1, {"architecture": (100.0, 10.0), "weights": (300.0, 1.0)})
    assert [step.peak(batch) for batch in (1, 100)] == [301, 1100]
    assert process_bytes(1000, False, 7) == round(7 + LOADED + HEAP[False] * 1000)


def test_what_changes_no_result_is_preferred():
    order = list(choices(Choice(8, 4), [4, 8], True))
    assert order[:4] == [Choice(8, 4), Choice(8, 4, True), Choice(8, 8), Choice(8, 8, True)]
    assert order[4] == Choice(4, 4) and order[-1] == Choice(1, 8, True)
    assert list(choices(Choice(3, None, True), [None], True)) == [Choice(3, None, True), Choice(1, None, True)]
    assert all(not choice.recompute for choice in choices(Choice(4), [None], False))


def test_the_first_that_fits_is_taken_and_none_is_an_error_with_the_least():
    def needed(choice):
        return choice.batch * (50 if choice.recompute else 100)

    candidates = lambda: choices(Choice(8), [None], True)  # noqa: E731
    assert pick(candidates(), 800, needed)[0] == Choice(8)
    found, seen = pick(candidates(), 500, needed)
    assert found == Choice(8, None, True) and list(seen.values()) == [800, 400]
    assert pick(candidates(), 399, needed)[0] == Choice(4, None, True) or needed(Choice(4)) > 399
    assert pick(candidates(), 100, needed)[0] == Choice(2, None, True) or needed(Choice(1)) == 100
    with pytest.raises(ConfigError, match="the least that would do is 1 MiB, with batch 1, modules recomputed"):
        pick(candidates(), 10, lambda choice: needed(choice) * 10_000)
