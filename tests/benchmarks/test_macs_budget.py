"""The benchmark searches within budgets on a small set and says which were kept."""

from __future__ import annotations

import json

import pytest

from benchmarks import macs_budget
from evaluators.antispoofing import AntiSpoofing
from searchspaces.errors import ConfigError, UnknownNameError

from ..faces import texture_data


def test_every_budget_is_searched_counted_and_judged(monkeypatch, capsys):
    tiny = {"channels": 4, "layout": "RN", "image_size": 20, "nodes": 2}
    monkeypatch.setitem(macs_budget.SPACE_OPTIONS, "autofas", tiny)
    monkeypatch.setattr(
        "facenas.pipeline.build_task", lambda options: AntiSpoofing(texture_data(people=12), image_size=20)
    )
    macs_budget.main(budgets=10, search_epochs=1, train_epochs=1, json=True)
    result = json.loads(capsys.readouterr().out)
    free, *rows = result["rows"]
    assert free["budget"] is None and len(rows) == result["kept"] == 10
    assert all(row["macs"] <= row["budget"] and 0 <= row["val_auc"] <= 1 for row in rows)
    assert rows[0]["macs"] == rows[0]["budget"]  # the smallest network is the only one that keeps the first budget
    assert rows[-1]["budget"] == round(max(free["macs"], free["expected_macs"]))
    text = macs_budget.table_of({**result, "rows": [free, {**rows[0], "kept": False}], "kept": 0})
    assert "NO" in text and "0 of 1 budgets kept; portraits of 60 people" in text


def test_wrong_arguments_are_refused():
    with pytest.raises(ConfigError, match="at least 10"):
        macs_budget.main(budgets=9)
    with pytest.raises(UnknownNameError):
        macs_budget.main(strategy="dart")
