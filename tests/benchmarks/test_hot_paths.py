"""benchmarks/hot_paths.py: every part measures what it says, on little."""

from __future__ import annotations

import json

import pytest

from benchmarks import hot_paths, startup
from searchspaces.errors import ConfigError, UnknownNameError


def test_costs_counters_and_training_are_measured(capsys):
    hot_paths.main(parts="costs, counters,training", repetitions=1, people=8, steps=2, as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert list(result) == ["costs", "counters", "training"]
    assert min(result["costs"].values()) > 0 and "autofas_penalty_and_gradient" in result["costs"]
    assert result["counters"]["networks"]["autofas"]["macs"] > 1e6 and result["counters"]["onnx_file_ms"] > 0
    shares = [result["training"][f"{name}_share"] for name in ("forward", "backward", "optimizer", "rest")]
    assert sum(shares) == pytest.approx(1) and min(shares) > 0


def test_pictures_and_start_ups_are_measured(capsys, monkeypatch):
    monkeypatch.setattr(startup, "commands", lambda: [("hardware.fit", ()), ("facenas", ("train",))])
    monkeypatch.setattr(hot_paths, "IMPORTS", {"python": ""})
    hot_paths.main(parts="startup,pictures", repetitions=1, people=5, scenes=2, as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert list(result["startup"]["commands"]) == ["hardware.fit --help", "facenas train --help"]
    assert all(told["seconds"] > 0 and told["heavy"] == [] for told in result["startup"]["commands"].values())
    assert set(result["startup"]["imports_seconds"]) == {"python"}
    assert min(result["pictures"].values()) > 0
    text = hot_paths.table_of(result)
    assert "facenas train --help" in text and "portraits_per_second" in text


def test_wrong_parts_are_refused():
    with pytest.raises(UnknownNameError, match="counters"):
        hot_paths.main(parts="counter")
    with pytest.raises(ConfigError, match="at least 1"):
        hot_paths.main(steps=0)
