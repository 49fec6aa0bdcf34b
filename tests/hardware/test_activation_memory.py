"""Peak activation memory against sums made by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardware.counters import activation_bytes, profile_model

from .cost_networks import Branches, Chain, mobilefacenet


def test_chain_frees_each_tensor_after_its_last_use() -> None:
    # the convolution needs its input and output; in-place ReLU and view add nothing; the pool's indices are unread
    assert activation_bytes(Chain(), (3, 8, 8)) == {"peak": 768 + 1024, "total": 768 + 1024 + 256 + 40}


def test_result_that_is_not_in_place_needs_both_tensors() -> None:
    network = Chain()
    network[1] = nn.ReLU()
    assert activation_bytes(network, (3, 8, 8)) == {"peak": 1024 + 1024, "total": 768 + 2 * 1024 + 256 + 40}


def test_branch_stays_alive_until_the_join() -> None:
    assert activation_bytes(Branches(), (2, 4, 4)) == {"peak": 3 * 512, "total": 128 + 512 + 256 + 512 + 512}


def test_join_in_place_needs_no_new_tensor() -> None:
    # now the step before is the largest: c is made from b while a waits
    assert activation_bytes(Branches(in_place=True), (2, 4, 4)) == {"peak": 512 + 256 + 512, "total": 128 + 1280}


def test_caller_that_still_holds_a_tensor_does_not_keep_it() -> None:
    """In Python the outer block's variable x lives until the inner block returns; in the graph it does not."""

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 4, 1)
            self.inner = nn.Sequential(nn.Conv2d(4, 1, 1), nn.Conv2d(1, 4, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.inner(x)

    unit = 16 * 4  # bytes of one 4x4 channel
    assert activation_bytes(Outer(), (1, 4, 4)) == {"peak": 5 * unit, "total": (1 + 4 + 1 + 4) * unit}


def test_weights_buffers_and_constants_are_not_activations() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shift", torch.ones(1, 3, 4, 4))
            self.constant = torch.ones(1, 3, 4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return (x + self.shift) * self.constant

    assert activation_bytes(Shifted(), (3, 4, 4)) == {"peak": 2 * 192, "total": 3 * 192}


def test_identity_needs_its_input_only() -> None:
    assert activation_bytes(nn.Identity(), (3, 4, 4)) == {"peak": 192, "total": 192}


def test_peak_of_a_real_network_is_between_its_largest_layer_and_the_total() -> None:
    profile = profile_model(mobilefacenet(), (3, 112, 112))
    largest = max(4 * torch.Size(row["output"]).numel() for row in profile["layers"])
    assert largest < profile["activation_bytes"]["peak"] < profile["activation_bytes"]["total"]
