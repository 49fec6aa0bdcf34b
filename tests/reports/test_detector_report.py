"""The report of a detector: its own figures in every part, and the two detectors that it is shown beside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from reports import page, pictures, rivals, write_report
from reports.curves import candidates_figure, search_figure, training_figure
from reports.pareto import Point, pareto_front
from reports.run import Run
from reports.sentences import sampling_sentence, summary, undecided_sentence
from reports.shares import shares_figure
from reports.tables import comparison_rows, cost_rows, metric_rows
from reports.task_metrics import ANTISPOOFING, DETECTION, TASKS, task_name, task_of

from .made_up_detector import detector_choices, detector_history, detector_metrics, write_detector_run
from .test_report_page import JUNK, Document

SPACES = ["autofem-fpn", "autofem-cpm", "asfd"]


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """A complete run of a search for trees."""
    return write_detector_run(tmp_path / "detector")


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "draw_figure", lambda run, name: (None, ""))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# --- which task


def test_metrics_decide_the_task_before_the_provenance() -> None:
    assert task_name({"ap": {}}, ANTISPOOFING) == DETECTION and task_name({"acer": {}}, DETECTION) == ANTISPOOFING
    assert task_name({}, DETECTION) == DETECTION and task_name({}, ["detection"]) == task_name({}) == ANTISPOOFING


def test_metrics_of_a_detector_are_in_order_and_explained() -> None:
    wider = {"threshold": 0, "ap_width_32_64": 0, "ap_hard": 0, "novel": 0, "recall": 0, "ap_width_18_32": 0, "ap": 0}
    task = task_of(wider)
    assert task.order(wider) == ["ap", "ap_hard", "ap_width_32_64", "ap_width_18_32", "recall", "threshold", "novel"]
    assert task.describe("ap_width_18_32")[0] == "AP, faces 18 to 32 px wide"
    assert task.describe("ap_hard")[0] == "AP, hard" and task.describe("novel") == ("novel", "")
    assert TASKS[ANTISPOOFING].describe("apcer_print") == (
        "APCER, print",
        "share of print attacks that were accepted as live",
    )


def test_a_figure_without_a_face_is_undefined_not_forgotten() -> None:
    rows = {row.name: row.cells for row in metric_rows(detector_metrics(0.64))}
    assert rows["AP, faces 64 to 150 px wide"] == ("not defined here", "no interval")
    assert rows["AP, all faces"][1].replace("\u00a0", " ") == "61.0 to 67.0 %"
    assert rows["Threshold"] == ("0.5", "a score, not a rate")


# --- reading the folder


def test_complete_folder_has_no_problems(detector: Path) -> None:
    run = Run(detector).read_all()
    assert run.problems == [] and run.baseline is None and set(run.rivals) == {"random", "without"}
    assert run.finds_faces and all(rival.finds_faces for rival in run.rivals.values())


def test_other_tasks_have_no_rivals(run_folder: Path) -> None:
    run = Run(run_folder).read_all()
    assert run.rivals == {} and not run.finds_faces and run.problems == []


@pytest.mark.parametrize("name", ["random", "without"])
def test_missing_or_damaged_rival_is_one_problem(detector: Path, name: str, no_figures: None) -> None:
    (detector / name / "config.yaml").unlink()
    assert [(p.file, p.kind) for p in Run(detector).read_all().problems] == [(name, "damaged")]
    (detector / name).rename(detector / "elsewhere")
    assert [(p.file, p.kind) for p in Run(detector).read_all().problems] == [(name, "missing")]
    words = Document(write_report([detector], detector / "report.html").read_text()).words
    other = ({"random", "without"} - {name}).pop()
    assert f"{name} is missing" in words and rivals.NAMES[other] in words


def test_missing_metrics_are_told_as_a_detectors(detector: Path) -> None:
    (detector / "metrics.json").unlink()
    run = Run(detector).read_all()
    assert "how well the final network finds faces" in str(run.problem("metrics.json")) and run.finds_faces


# --- against the rivals


@pytest.mark.parametrize(
    ("random_ap", "without_ap", "code", "wording"),
    [
        (0.50, 0.45, "better", "better than a random AutoFEM and the detector without AutoFEM"),
        (0.63, 0.65, "undecided", "cannot be ranked against a random AutoFEM or the detector without AutoFEM"),
        (0.63, 0.45, "undecided", "It cannot be ranked against a random AutoFEM: the 95 % intervals overlap"),
        (0.75, 0.45, "worse", "It is worse than a random AutoFEM"),
    ],
)
def test_verdict(tmp_path: Path, random_ap: float, without_ap: float, code: str, wording: str) -> None:
    run = Run(write_detector_run(tmp_path / "run", ap=0.64, random_ap=random_ap, without_ap=without_ap))
    verdict = rivals.compare_rivals(run)
    assert verdict is not None and verdict.code == code and wording in verdict.sentence
    assert verdict.sentence.startswith("The found detector ")
    assert any("one training from one seed" in note for note in verdict.notes)


def test_rivals_on_other_data_are_not_compared(detector: Path) -> None:
    for name in ("random", "without"):
        path = detector / name / "config.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"data": "wider"}))
    verdict = rivals.compare_rivals(Run(detector))
    assert verdict is not None and verdict.code == "impossible"
    assert any("data: scenes against wider" in note for note in verdict.notes)


def test_table_shows_all_three(detector: Path) -> None:
    headings, rows = rivals.rival_table(Run(detector))
    cells = {row.name: [cell.replace("\u00a0", " ") for cell in row.cells] for row in rows}
    assert headings == ["found", "random AutoFEM", "without AutoFEM"]
    assert [cell.split(" (")[0] for cell in cells["AP, all faces"]] == ["64.0 %", "61.0 %", "52.0 %"]
    assert [cell.split(" (")[0] for cell in cells["AP, faces 18 to 32 px wide"]] == ["44.0 %", "41.0 %", "32.0 %"]
    assert cells["Parameters"] == ["408,000", "405,000", "258,000"]
    assert [cell.split(" (")[0] for cell in cells["Median time"]] == ["21.3 ms", "22.0 ms", "14.1 ms"]


def test_times_under_other_conditions_are_not_to_be_compared(detector: Path) -> None:
    assert "small differences" in rivals.time_note(Run(detector))
    change(detector / "random" / "cost.json", device={"cpu": "another"})
    assert "do not compare" in rivals.time_note(Run(detector))


def test_comparison_of_error_rates_is_as_before(run_folder: Path) -> None:
    run = Run(run_folder)
    assert run.baseline is not None
    names = [row.name for row in comparison_rows(run, run.baseline)]
    assert names[:4] == ["ACER (paper)", "ACER (ISO)", "APCER, worst type (ISO)", "BPCER"]


def test_front_of_merits() -> None:
    points = [Point(str(i), x, y, x, x, y, y) for i, (x, y) in enumerate([(1, 0.5), (2, 0.4), (3, 0.7), (3, 0.6)])]
    assert [point.name for point in pareto_front(points, higher=True)] == ["0", "2"]
    assert [point.name for point in pareto_front(points)] == ["0", "1"]


def test_size_at_the_papers_width_names_the_options(detector: Path) -> None:
    row = next(row for row in cost_rows(Run(detector).cost) if row.name.startswith("At the paper"))
    assert "32.3" in row.cells[0] and "backbone: resnet50" in row.note


# --- figures


def test_curves_of_a_detector(detector: Path) -> None:
    run = Run(detector)
    figure = search_figure(run.search, can_collapse=False)
    usual = search_figure(run.search)
    assert figure is not None and usual is not None and len(usual.axes) == len(figure.axes) + 1
    assert not any("collaps" in ax.get_title(loc="left") for ax in figure.axes)
    training = training_figure(run.training, {name: rival.training for name, rival in run.rivals.items()})
    assert training is not None
    precision = next(ax for ax in training.axes if "precision" in ax.get_title(loc="left"))
    assert [line.get_label() for line in precision.get_lines()] == ["this network", "random AutoFEM", "without AutoFEM"]
    assert [line.get_ydata()[-1] for line in precision.get_lines()] == pytest.approx(
        [side.training["val_ap"].iloc[-1] for side in (run, *run.rivals.values())]
    )


def test_candidates_are_followed_by_their_precision() -> None:
    table = pd.DataFrame({"candidate": [0, 1, 2], "val_ap": [0.2, 0.5, 0.3], "macs": [1e8, 2e8, 3e8]})
    figure = candidates_figure(table)
    assert figure is not None and figure.axes[0].get_ylabel().startswith("validation AP")
    assert list(figure.axes[1].get_lines()[0].get_ydata()) == [0.2, 0.5, 0.5]


@pytest.mark.parametrize(("space", "panels"), [("autofem-fpn", 16 + 6), ("autofem-cpm", 6 * 11), ("asfd", 22 + 66)])
def test_shares_have_a_panel_for_every_edge(space: str, panels: int) -> None:
    choices = detector_choices(space)
    figure = shares_figure(detector_history(space, 3), choices)
    assert figure is not None
    shown = [ax for part in figure.subfigs for ax in part.axes if ax.axison]
    assert len(shown) == panels
    titles = " ".join(ax.get_title(loc="left") for ax in shown)
    for label, choice in choices.items():
        assert (f"from node {choice}" if "/input_" in label else str(choice)) in titles


@pytest.mark.parametrize(
    "line",
    [
        {"probabilities": {"fpn/lateral_5": "x", "fpn/beta_5": None, "cpm_5/0_1": [1]}},
        {"probabilities": {"fpn/lateral_5": [0.5, float("nan")], "cpm_x/0_1": []}, "epoch": "y"},
        {"probabilities": {}},
    ],
)
def test_wrong_shares_do_not_crash(line: dict[str, Any]) -> None:
    figure = shares_figure([line], {"cpm_5/input_1": [3], "fpn/lateral_5": {}})
    assert figure is None or figure.subfigs


# --- the page


@pytest.mark.parametrize("space", SPACES)
def test_page_speaks_of_faces_alone(tmp_path: Path, space: str) -> None:
    folder = write_detector_run(tmp_path / "run", space)
    document = Document(write_report([folder], folder / "report.html").read_text())
    for phrase in (
        "Simulated data.", "not how well the network finds faces in photographs", "64.0 %",
        "95 % interval 61.0 to 67.0 %",
        "Against a random AutoFEM and none", "cannot be ranked against a random AutoFEM", "AP, faces 18 to 32 px wide",
        "intersection over union", "Boxes that were left out: outside: 3", "python -m evaluators.detect",
        "None: every file is there",
    ):  # fmt: skip
        assert phrase in document.words, phrase
    for phrase in ("ACER", "APCER", "EER", "attack", "live face", "random search", "Shortcut", "collapse"):
        assert phrase not in document.words, phrase
    assert ("Sampled were edges" in document.words) == (space == "autofem-cpm")
    for name in ("cells", "rivals", "search", "distribution", "training"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_drawing_that_fails_costs_the_drawing_alone(detector: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: Any) -> None:
        raise KeyError("stride")

    monkeypatch.setattr(pictures, "architecture_figure", fail)
    monkeypatch.setattr(page, "ALL_FIGURES", ("cells",))
    words = Document(write_report([detector], detector / "report.html").read_text()).words
    assert "cannot be drawn: KeyError: 'stride'" in words and "AP, all faces" in words


@pytest.mark.parametrize("file", ["metrics.json", "cost.json", "provenance.json", "architecture.json"])
@pytest.mark.parametrize("side", ["", "random"])
def test_wrong_values_do_not_crash(detector: Path, file: str, side: str, no_figures: None) -> None:
    path = detector / side / file
    if not path.exists():  # a rival has no provenance
        path.write_text("{}")
    original = json.loads(path.read_text())
    for key in original or ["task"]:
        for junk in JUNK:
            path.write_text(json.dumps(original | {key: junk}))
            run = Run(detector).read_all()
            view = page._view(run, detector, "")
            rivals.rival_figure(run)
            assert "How to rebuild" in page.render([view]), (key, junk)


def test_runs_of_two_tasks_share_a_page(
    detector: Path, make_run: Callable[..., Path], tmp_path: Path, no_figures: None
) -> None:
    words = Document(write_report([detector, make_run("faces")], tmp_path / "both.html").read_text()).words
    assert "AP or ACER (95 % interval)" in words and "AP 64.0 %" in words and "ACER 11.8 %" in words
    assert "average precisions and error rates only between runs on the same data" in words


def test_what_was_sampled_is_told(detector: Path) -> None:
    path = detector / "architecture.json"
    for sampled, wording in (
        ("operations", "Sampled were operations: of every edge"),
        ("edges and operations", "; operations: of every edge"),
        ({"a": 1}, "Sampled were"),
    ):
        change(path, found_by={"sampled": sampled})
        assert wording in (sampling_sentence(Run(detector)) or "")
    change(path, found_by={})
    assert sampling_sentence(Run(detector)) is None


def test_a_search_that_has_not_decided_says_so(detector: Path, run_folder: Path, no_figures: None) -> None:
    assert undecided_sentence(Run(detector)) is None  # 45 % at its end
    for folder in (detector, run_folder):
        table = pd.read_csv(folder / "search.csv")
        table.assign(entropy=0.99).to_csv(folder / "search.csv", index=False)
    words = Document(write_report([detector], detector / "report.html").read_text()).words
    assert "hardly decided: the entropy of its operations ends at 99.0 %" in words
    assert undecided_sentence(Run(run_folder)) is None
    table.drop(columns="entropy").to_csv(detector / "search.csv", index=False)
    assert undecided_sentence(Run(detector)) is None


def test_summary_without_metrics(detector: Path) -> None:
    (detector / "metrics.json").write_text("{}")
    assert summary(Run(detector))[0] == ("AP", "not given", "no interval")
