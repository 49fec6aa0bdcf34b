"""Numbers, tables, and the wording of a comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports import numbers, tables
from reports.comparison import compare_metric, compare_runs
from reports.run import Run


def plain(text: str) -> str:
    return text.replace(numbers.NARROW, " ")


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (numbers.percent, 0.1184, "11.8 %"),
        (numbers.percent, 0, "0.0 %"),
        (numbers.percent, True, "not given"),
        (numbers.percent, float("nan"), "not given"),
        (numbers.percent, "0.1", "not given"),
        (numbers.interval, {"low": 0.083, "high": 0.153}, "8.3 to 15.3 %"),
        (numbers.interval, {"low": None, "high": None}, "no interval"),
        (numbers.interval, 3, "no interval"),
        (numbers.scaled, 266737, "267 k"),
        (numbers.scaled, 532955232, "533 M"),
        (numbers.scaled, 999999, "1.00 M"),
        (numbers.scaled, 9.3e12, "9.30 T"),
        (numbers.scaled, 193, "193"),
        (numbers.scaled, 123456, "123 k"),
        (numbers.exact, 266737, "266,737"),
        (numbers.size, 127748, "125 KiB"),
        (numbers.size, 6718464, "6.41 MiB"),
        (numbers.milliseconds, 11.84, "11.8 ms"),
        (numbers.milliseconds, 0.01234, "0.0123 ms"),
        (numbers.milliseconds, 1234.5, "1234 ms"),
        (numbers.duration, 4.12, "4.1 s"),
        (numbers.duration, 345, "6 min"),
        (numbers.duration, 7500, "2 h 5 min"),
        (numbers.plain, {"a": [1, None], "b": True}, "a: 1, not given, b: yes"),
    ],
)
def test_numbers(function: Callable[[Any], str], value: Any, text: str) -> None:
    assert plain(function(value)) == text


def rate(value: float, low: float | None, high: float | None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("mine", "other", "code", "wording"),
    [
        (
            rate(0.05, 0.03, 0.07),
            rate(0.12, 0.09, 0.15),
            "better",
            "Better than random search: the 95 % intervals do not",
        ),
        (
            rate(0.20, 0.17, 0.23),
            rate(0.12, 0.09, 0.15),
            "worse",
            "Worse than random search: the 95 % intervals do not",
        ),
        (
            rate(0.10, 0.07, 0.13),
            rate(0.12, 0.09, 0.15),
            "undecided",
            "No ranking is justified: the 95 % intervals overlap",
        ),
        (rate(0.05, 0.03, 0.09), rate(0.12, 0.09, 0.15), "undecided", "No ranking is justified"),  # they touch
        (rate(0.10, 0.07, 0.13), rate(0.10, 0.07, 0.13), "undecided", "No ranking is justified"),
        (rate(0.10, None, None), rate(0.12, 0.09, 0.15), "impossible", "this run has no ACER with an interval"),
        (rate(0.10, 0.07, 0.13), None, "impossible", "random search has no ACER with an interval"),
        (rate(0.0, 0.0, 0.0), rate(0.12, 0.09, 0.15), "better", "ACER 0.0 % (0.0 to 0.0 %) against 12.0 %"),
    ],
)
def test_verdict_follows_the_intervals(mine: Any, other: Any, code: str, wording: str) -> None:
    verdict = compare_metric(mine, other)
    assert verdict.code == code
    assert wording in plain(verdict.sentence)
    if code == "undecided":
        assert any("does not show that the two are equal" in note for note in verdict.notes)
    if code != "impossible":
        assert any("one seed" in note for note in verdict.notes)


def test_comparison_states_the_budgets(run_folder: Path) -> None:
    run = Run(run_folder)
    assert run.baseline is not None
    notes = " ".join(map(plain, compare_runs(run, run.baseline).notes))
    assert "9.30 T and 9.36 T MACs." in notes and "not the same budget" not in notes
    run.baseline.search["macs_spent"] *= 2
    assert "not the same budget" in " ".join(compare_runs(run, run.baseline).notes)


def test_runs_on_different_data_are_not_compared(run_folder: Path) -> None:
    run = Run(run_folder)
    assert run.baseline is not None
    run.baseline.config["data"] = "oulu"
    verdict = compare_runs(run, run.baseline)
    assert verdict.code == "impossible"
    assert "portraits against oulu" in verdict.sentence


def test_metric_table_names_each_attack_type_and_definition(run_folder: Path) -> None:
    rows = {row.name: row for row in tables.metric_rows(Run(run_folder).metrics)}
    assert plain(rows["APCER, print"].cells[0]) == "9.4 %"
    assert plain(rows["APCER, replay"].cells[1]) == "9.7 to 23.7 %"
    assert "ISO/IEC 30107-3" in rows["ACER (ISO)"].note and "pooled" in rows["ACER (paper)"].note
    assert rows["Threshold"].cells[0] == "0.4231"
    assert rows["AUC"].cells == ("0.948", "0.928 to 0.968")
    assert next(iter(rows)) == "ACER (paper)" and list(rows)[-1] == "Threshold"


def test_unknown_metrics_are_shown_too() -> None:
    assert [row.name for row in tables.metric_rows({"mystery": {"value": 0.5}})] == ["mystery"]


def test_latency_rows_carry_conditions_and_spread(run_folder: Path) -> None:
    quiet, noisy = tables.latency_rows(Run(run_folder).cost)
    assert quiet.name == "onnxruntime 1.20.1, 1 thread, float32, CPU time"
    assert [plain(cell) for cell in quiet.cells] == [
        "11.8 ms", "11.5 to 12.4 ms", "11.2 to 14.9 ms", "12.1 ms", "55 after 10 to warm up",
    ]  # fmt: skip
    assert len(quiet.cells) == len(tables.LATENCY_HEADINGS)
    assert "noisy" in noisy.note and not quiet.note
    assert "2 threads" in noisy.name


def test_cost_rows_name_every_convention(run_folder: Path) -> None:
    rows = {row.name: plain(row.cells[0]) for row in tables.cost_rows(Run(run_folder).cost)}
    assert rows["MACs"] == "61.2 M" and rows["ptflops convention"] == "69.8 M" and rows["NNI convention"] == "88.1 M"
    assert rows["At 48 channels"] == "267 k parameters, 533 M MACs"
    assert rows["ONNX against PyTorch"] == "2.4e-06"


def test_splits_with_different_kinds(run_folder: Path) -> None:
    data = json.loads((run_folder / "data.json").read_text())
    data["splits"]["test"]["mask"] = 12
    headings, rows = tables.split_rows(data)
    assert headings == ["people", "live", "print", "replay", "mask"]
    assert rows[0].cells[-1] == "not given" and rows[-1].cells[-1] == "12"
