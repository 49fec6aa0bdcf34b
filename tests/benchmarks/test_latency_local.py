"""The benchmark of kernel tables on this machine: whole, on a few small networks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import latency_local
from searchspaces.errors import ConfigError, UnknownNameError


@pytest.fixture
def small(monkeypatch):
    spaces = [
        ("autofas", {"channels": 4, "layout": "RN", "image_size": 20, "nodes": 2}),
        ("pta", {"width": 0.25, "image_size": 48}),
    ]
    monkeypatch.setattr(latency_local, "SPACES", spaces)


def test_quick_mode_gives_every_figure(small, capsys):
    """Not how good they are: these networks take microseconds, and other tests may run beside them."""
    latency_local.main(quick=True, cases="litert-float32", json=True)
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["networks"] == 12 and row["kernels"] > 20
    assert 0 < row["mape"] < 1 and 0.5 < row["spearman"] <= 1 and row["share_of_known_kernels"] > 0.8
    assert {"flops_only", "parameters_only", "noise_within", "noise_between", "coverage_of_90"} <= set(row)
    assert "12 held-out networks" in latency_local.line_of(row)


def test_no_network_is_learnt_and_judged(small):
    learnt, judged = latency_local.mixture(12, 0)
    assert len(learnt) == len(judged) == 12
    assert not {one.to_json() for one in learnt} & {one.to_json() for one in judged}
    assert {one.space for one in learnt} == {"autofas", "pta"}


def test_a_straight_line_is_found():
    x = np.array([1e6, 2e6, 5e6])
    np.testing.assert_allclose(latency_local.straight_line(x, 0.3 + 2e-6 * x, np.array([4e6])), [8.3])


def test_wrong_arguments_are_refused():
    with pytest.raises(UnknownNameError, match="litert-float32"):
        latency_local.main(cases="litert-float23")
    with pytest.raises(ConfigError, match="At least 12"):
        latency_local.main(held_out=5)
