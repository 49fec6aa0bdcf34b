"""The benchmark of a search step compares before it measures, and measures real searches in turns."""

from __future__ import annotations

import json

import pytest

from benchmarks import search_step
from searchspaces.errors import ConfigError

TINY = {"width": 8, "layers": 3, "input_size": 16, "batch": 2, "steps": 1, "warmup": 0, "core": -1}


def test_a_step_of_nni_and_ours_side_by_side(capsys):
    search_step.main(searches=["nni_darts", "darts", "single_path"], json=True, **TINY)
    result = json.loads(capsys.readouterr().out)
    assert set(result["searches"]) == {"nni_darts", "darts", "single_path"}
    assert all(row["cpu"] > 0 and row["wall"] > 0 and row["peak_mib"] > 0 for row in result["searches"].values())
    searches = result["searches"]
    assert result["ratios"]["darts_speedup_over_nni"] == searches["nni_darts"]["cpu"] / searches["darts"]["cpu"]
    assert set(result["ratios"]) == {"darts_speedup_over_nni", "darts_memory_over_nni"}
    assert set(result["differences"]) == {"darts and nni_darts", "single_path and its plain layers"}
    assert all(max(distances.values()) < 1e-9 for distances in result["differences"].values())
    assert result["options"]["space_options"]["layout"] == "NRR"


def test_searches_that_differ_are_not_compared(monkeypatch):
    answers = iter([{"outputs": [1.0, 2.0], "gradients": [1.0]}, {"outputs": [1.0, 2.1], "gradients": [1.0]}])

    class Process:
        def kill(self):
            pass

    monkeypatch.setattr(search_step, "start", lambda options: Process())
    monkeypatch.setattr(search_step, "read_answer", lambda process: next(answers))
    with pytest.raises(ConfigError, match="not comparable"):
        search_step.differences(["nni_darts", "darts"], lambda name: {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"searches": ["dart"]}, "darts"),
        ({"searches": ["nni_darts"], "space": "pta"}, "autofas alone"),
        ({"layers": 2}, "at least 3"),
        ({"steps": 0}, "at least 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        search_step.main(**{**TINY, **options})
