"""The benchmark searches within budgets on a small set and says which were kept."""

from __future__ import annotations

import json

import pytest

from benchmarks import budgets
from evaluators.antispoofing import AntiSpoofing
from hardware import kernel_timing
from searchspaces.errors import ConfigError, UnknownNameError

from ..faces import texture_data


@pytest.fixture
def tiny(monkeypatch):
    options = {"channels": 4, "layout": "RN", "image_size": 20, "nodes": 2}
    monkeypatch.setitem(budgets.SPACE_OPTIONS, "autofas", options)
    monkeypatch.setattr(
        "facenas.pipeline.build_task", lambda options: AntiSpoofing(texture_data(people=12), image_size=20)
    )


def test_every_budget_is_searched_counted_and_judged(tiny, capsys):
    budgets.main(budgets=10, search_epochs=1, train_epochs=1, json=True)
    result = json.loads(capsys.readouterr().out)
    free, *rows = result["rows"]
    assert free["budget"] is None and len(rows) == result["kept"] == 10
    assert all(row["cost"] <= row["budget"] and 0 <= row["val_auc"] <= 1 for row in rows)
    assert rows[0]["cost"] == rows[0]["budget"]  # the smallest network is the only one that keeps the first budget
    assert rows[-1]["budget"] == round(max(free["cost"], free["expected"]))
    text = budgets.table_of({**result, "rows": [free, {**rows[0], "kept": False}], "kept": 0})
    assert "NO" in text and "0 of 1 budgets kept; portraits of 60 people" in text


def test_a_latency_is_measured_by_itself(tiny, monkeypatch, capsys):
    """A small profile, so the budgets may be missed: what is tested is that results are told and measured apart."""
    monkeypatch.setattr(budgets, "NETWORKS", 12)
    # instead of a process for each
    monkeypatch.setattr(kernel_timing, "time_networks", kernel_timing.time_networks_here)
    budgets.main(cost="latency", budgets=10, search_epochs=1, train_epochs=1, json=True)
    result = json.loads(capsys.readouterr().out)
    free, *rows = result["rows"]
    assert result["runtime"] == "litert" and free["budget"] is None
    assert all(row["told"] <= row["budget"] * (1 + 1e-9) for row in rows)  # the search kept to what it was told
    assert all(0.001 < row["cost"] < 10 and row["cost"] != row["told"] for row in rows)
    assert all(row["kept"] == (row["cost"] <= row["budget"]) for row in rows)
    assert "ms:" in budgets.table_of(result)


def test_wrong_arguments_are_refused():
    with pytest.raises(ConfigError, match="at least 10"):
        budgets.main(budgets=9)
    for wrong in ({"strategy": "dart"}, {"cost": "mac"}, {"space": "ptaa"}):
        with pytest.raises(UnknownNameError):
            budgets.main(**wrong)
