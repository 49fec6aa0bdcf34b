"""The strips of a search, and when its genotype changed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.compact_svg import StyleSheet
from reports.evolution_of_search import Change, Strip, evolution, strip_svg
from reports.run import Run

from .made_up_detector import write_detector_run


def heights(d: str) -> list[int]:
    """The height of each epoch in an area of a strip."""
    found: list[int] = []
    height = 0
    for command, number in re.findall(r"([hV])(\d+)", d):
        if command == "V":
            height = 50 - int(number)
        else:
            found += [height] * int(number)
    return found


def test_a_strip_shows_the_shares_of_each_epoch() -> None:
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], size=17)
    strip = Strip("edge", "b", ("a", "b", "c"), ("#111111", "#222222", "#333333"), shares)
    paths = re.findall(r' d="([^"]*)"', strip_svg(strip, StyleSheet(), 50))
    sums = np.array([heights(d) for d in reversed(paths)]).T / 50
    assert sums.shape == shares.shape
    assert np.abs(sums - np.cumsum(shares, axis=1)).max() <= 0.5 / 50 + 1e-9
    lost = Strip("edge", "", ("a",), ("#111111",), np.array([[np.nan], [1.0]]))
    assert heights(re.findall(r' d="([^"]*)"', strip_svg(lost, StyleSheet(), 50))[0]) == [0, 50]


def test_every_edge_of_the_cells_has_a_strip(run_folder: Path) -> None:
    run = Run(run_folder)
    found = evolution(run, 120)
    assert [len(group.strips) for group in found.groups] == [14, 4, 14, 4]
    kept = [strip for group in found.groups for strip in group.strips if strip.kept]
    assert len(kept) == 16 and all(strip.kept in strip.names for strip in kept)
    assert found.epochs == tuple(range(30)) and found.groups[0].names == tuple(run.history[0]["operations"])
    assert len(evolution(run, 10).epochs) == 10


@pytest.mark.parametrize(("space", "strips"), [("autofem-fpn", 16 + 6), ("autofem-cpm", 6 * (6 + 5))])
def test_detectors_have_strips_of_pyramids_and_trees(tmp_path: Path, space: str, strips: int) -> None:
    found = evolution(Run(write_detector_run(tmp_path / "run", space)), 120)
    assert sum(len(group.strips) for group in found.groups) == strips
    assert not any(np.isnan(strip.shares).any() for group in found.groups for strip in group.strips)


def test_changes_of_the_genotype_are_found(run_folder: Path) -> None:
    result = json.loads((run_folder / "architecture.json").read_text())["choices"]
    other = {**result, "normal/op_2_0": "none", "normal/input_3": [0, 1]}
    states = [other, other, {**other, "normal/op_2_0": result["normal/op_2_0"]}, result, result]
    lines = "".join(json.dumps({"epoch": i, "choices": state}) + "\n" for i, state in enumerate(states))
    (run_folder / "architectures.jsonl").write_text(lines)
    found = evolution(Run(run_folder), 120)
    first, *rest = found.changes
    assert first == Change(2, "normal/op_2_0", "none", result["normal/op_2_0"])
    differing = sum(other[key] != result[key] for key in result)
    assert found.differs == {0: differing, 1: differing, 2: differing - 1, 3: 0, 4: 0} and len(rest) == differing - 1
    assert found.groups == () and f"changed at {1 + bool(rest)} of 4 epochs" in found.sentence


def test_candidates_of_a_random_search_are_no_changes(run_folder: Path) -> None:
    found = evolution(Run(run_folder / "baseline"), 120)
    assert found.changes == () and found.sentence == "" and found.groups == ()


JUNK: list[Any] = [
    {"epoch": "x", "choices": {"a": [1]}, "probabilities": {"normal/0_2": [1, 2]}, "operations": ["none"]},
    {"probabilities": {"normal/0_2": "abc", "normal/beta_2": None}, "operations": 5},
    {"epoch": 1, "choices": [], "probabilities": {"fpn/lateral_3": [1], "cpm_1/0_1": []}},
    {"epoch": 2, "choices": {"a": {}}, "names": {"a": 3}, "probabilities": {"a": [0.5]}},
]


@pytest.mark.parametrize("line", JUNK)
def test_wrong_lines_do_not_crash(run_folder: Path, line: Any, tmp_path: Path) -> None:
    for folder in (run_folder, write_detector_run(tmp_path / "detector")):
        (folder / "architectures.jsonl").write_text((json.dumps(line) + "\n") * 2)
        found = evolution(Run(folder), 120)
        assert isinstance(found.sentence, str)
        for group in found.groups:
            for strip in group.strips:
                assert strip_svg(strip, StyleSheet(), 50).startswith("<svg")
