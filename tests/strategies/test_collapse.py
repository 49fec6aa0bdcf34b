"""The guard sees a collapse, and only a collapse."""

from __future__ import annotations

import math

import pytest

from strategies.collapse import CollapseGuard, none_share, normalised_entropy, operation_shares, skip_share


def cell(name, skips, edges=8):
    operations = ["skip_connect"] * skips + ["sep_conv_3x3"] * (edges - skips)
    return {f"{name}/op_{2 + i // 2}_{i % 2}": operation for i, operation in enumerate(operations)}


def row(**weights):
    return weights


HEALTHY = {"normal/0_2": row(none=0.2, skip_connect=0.3, sep_conv_3x3=0.5)}
EMPTY = {"normal/0_2": row(none=0.6, skip_connect=0.1, sep_conv_3x3=0.3)}


def test_shares_count_derived_edges():
    choices = {**cell("normal", 6), **cell("reduce", 1), "normal/input_2": [0, 1]}
    assert operation_shares(choices)["skip_connect"] == 7 / 16
    assert skip_share(choices) == 6 / 8  # the worse of the two cells
    assert skip_share({}) == 0.0


def test_none_share_counts_edges_that_none_leads():
    assert none_share({**{f"a/{i}": r for i, r in enumerate([*EMPTY.values(), *HEALTHY.values()])}}) == 0.5


@pytest.mark.parametrize(("weights", "expected"), [([1.0, 0.0], 0.0), ([0.5, 0.5], 1.0), ([0.9, 0.1], None)])
def test_entropy_is_relative_to_the_uniform_distribution(weights, expected):
    found = normalised_entropy({"a": dict(zip("ab", weights, strict=True))})
    if expected is None:
        expected = -sum(w * math.log2(w) for w in weights)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("mode", "skips", "rows", "stops", "speaks"),
    [
        ("stop", 4, HEALTHY, False, None),
        ("stop", 5, HEALTHY, True, "62% of the derived edges"),
        ("warn", 5, HEALTHY, False, "skip connections"),
        ("off", 8, EMPTY, False, None),
        ("stop", 0, EMPTY, False, "'none' has the largest weight"),
    ],
)
def test_verdicts(mode, skips, rows, stops, speaks):
    stop, reason = CollapseGuard(mode).judge(cell("normal", skips), rows)
    assert stop is stops
    assert (reason is None) if speaks is None else (speaks in reason)
