"""The page of a network whose branches are switched after training."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from reports import page, write_report
from reports.beside_paper import cost_beside_paper, paper_notes, quality_beside_paper
from reports.configurations import (
    against_reference,
    configurations_figure,
    has_recalibrated,
    introduction,
    ranking,
    table_lines,
    time_conditions,
)
from reports.curves import search_figure
from reports.pareto import Point, error_figure, pareto_front
from reports.run import Run

from .conftest import made_up_configurations, metric
from .test_report_page import JUNK, Document

REPORTED = ["HHH", "LHH", "HLH", "HHL", "LLL", "BBB"]


@pytest.fixture
def found() -> dict[str, Any]:
    return made_up_configurations()


def row_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in found["rows"] if row["configuration"] == name)


def words(text: str) -> str:
    return text.replace("\u00a0", " ")


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_complete_folder_has_no_problems(pta_folder: Path) -> None:
    run = Run(pta_folder).read_all()
    assert run.problems == [] and run.trained_once
    assert len(run.configurations["rows"]) == 27
    assert run.baseline is None and run.reference is not None and len(run.reference.training) == 20


def test_training_time_comes_from_the_provenance_where_the_table_has_none(pta_folder: Path) -> None:
    file = pta_folder / "configurations.json"
    file.write_text(json.dumps({key: value for key, value in made_up_configurations().items() if key != "seconds"}))
    assert Run(pta_folder).configurations["seconds"] == {"train": 345.0}


def test_missing_and_damaged_configurations_are_noted(pta_folder: Path) -> None:
    file = pta_folder / "configurations.json"
    file.write_text("{")
    assert [(p.file, p.kind) for p in Run(pta_folder).read_all().problems] == [("configurations.json", "damaged")]
    file.unlink()
    assert [(p.file, p.kind) for p in Run(pta_folder).read_all().problems] == [("configurations.json", "missing")]
    html = write_report([pta_folder], pta_folder / "report.html").read_text()
    assert "configurations.json is missing" in Document(html).words


def test_other_runs_need_no_configurations(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "draw_figure", lambda run, name: (None, ""))
    run = Run(run_folder).read_all()
    assert run.configurations == {} and run.problems == []
    document = Document(write_report([run_folder], run_folder / "report.html").read_text())
    assert "Against random search" in document.words and "Configurations" not in document.words
    (run_folder / "configurations.json").write_text("[]")
    assert [(p.file, p.kind) for p in Run(run_folder).read_all().problems] == [("configurations.json", "damaged")]


# --- the table -------------------------------------------------------------------------------------------------------


def test_reported_rows_come_first_and_the_plain_network_beside_hhh(found: dict[str, Any]) -> None:
    reported, others = table_lines(found)
    assert [line.name for line in reported] == ["HHH", "MobileNetV2", *REPORTED[1:]]
    assert len(others) == 21 and all(line.note == "never drawn in training" for line in others)
    notes = {line.name: line.note for line in reported}
    assert notes["HHL"] == "drawn in training; selected" and notes["BBB"] == "never drawn in training"
    values = [words(cell.text) for cell in reported[0].cells]
    assert values == ["2.23", "97.80", "104.15", "6.2 %", "8.1 %", "4.3 %", "93.8 %", "2.60", "1.00"]
    assert [words(text) for text in reported[0].cells[3].small] == ["3.4 to 9.0 %", "recal. 5.0 %", "2.2 to 7.8 %"]
    assert reported[0].cells[7].small == ("2.52 to 2.73",)
    assert others[0].cells[-1].text == "not measured"


def test_sentences_name_data_and_conditions(found: dict[str, Any]) -> None:
    assert "simulated data (portraits), 120 pictures of 40 people. Selected: HHL" in introduction(found)
    conditions = time_conditions(found)
    assert "onnxruntime 1.20.1, 1 thread, float32, CPU time" in conditions and "made-up processor" in conditions
    assert has_recalibrated(found)
    for row in found["rows"]:
        row["latency"] = row["recalibrated"] = None
    found["reference"]["latency"] = None
    assert time_conditions(found) == "No time was measured." and not has_recalibrated(found)


# --- verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "other", "code", "wording"),
    [
        (metric(0.05, 0.01), metric(0.09, 0.01), "better", "The sampled training beat the separately trained"),
        (metric(0.09, 0.01), metric(0.05, 0.01), "worse", "The sampled training did worse than the separately trained"),
        (metric(0.05, 0.03), metric(0.09, 0.03), "undecided", "did not beat the separately trained MobileNetV2"),
        (metric(0.05, 0.03), None, "impossible", "is not known"),
    ],
)
def test_whether_sampling_beat_the_plain_network(
    found: dict[str, Any], mine: Any, other: Any, code: str, wording: str
) -> None:
    row_of(found, "HHH")["metrics"]["acer"] = mine
    found["reference"]["metrics"]["acer"] = other
    verdict = against_reference(found)
    assert verdict.code == code and wording in verdict.sentence
    assert "140 s, that of MobileNetV2 151 s" in words(verdict.notes[-1])
    found["reference"] = None
    assert against_reference(found).code == "impossible"


def test_ranking_follows_the_intervals(found: dict[str, Any]) -> None:
    part = ranking(found)
    assert part.code == "partial" and "apart for 5 of 15 pairs (BBB is worse than HHH" in part.sentence
    row_of(found, "BBB")["metrics"]["acer"] = metric(0.06, 0.02)
    none = ranking(found)
    assert none.code == "undecided" and "No ranking of the 6 reported configurations is justified" in none.sentence
    assert "over people" in none.notes[0]
    row_of(found, "LLH")["metrics"]["acer"] = metric(0.9, 0.01)  # not a reported one
    assert ranking(found) == none
    for name in REPORTED[1:]:
        row_of(found, name)["metrics"]["acer"]["low"] = None
    assert ranking(found).code == "impossible"


# --- the figure ------------------------------------------------------------------------------------------------------


def at(name: str, x: float, y: float, **options: Any) -> Point:
    return Point(name, x, y, x - 0.1, x + 0.1, max(0.0, y - 0.03), y + 0.03, **options)


def test_no_point_beats_one_of_the_front() -> None:
    dice = np.random.default_rng(0)
    for _ in range(50):
        points = [at(str(i), x, y) for i, (x, y) in enumerate(dice.integers(1, 6, (12, 2)) / 10)]
        beaten = {
            a.name
            for a, b in itertools.permutations(points, 2)
            if b.x <= a.x and b.y <= a.y and (b.x, b.y) != (a.x, a.y)
        }
        assert {point.name for point in pareto_front(points)} == {point.name for point in points} - beaten


def test_labels_stay_in_the_figure_and_apart(found: dict[str, Any]) -> None:
    figure = configurations_figure(found)
    assert figure is not None
    ax, renderer = figure.axes[0], FigureCanvasAgg(figure).get_renderer()
    boxes = {text.get_text(): text.get_window_extent(renderer) for text in ax.texts}
    assert set(boxes) >= {*REPORTED, "MobileNetV2"}
    frame = figure.bbox
    for first, second in itertools.combinations(boxes.values(), 2):
        assert not first.overlaps(second)
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and box.y1 <= frame.y1 for box in boxes.values())
    assert "ms" in ax.get_xlabel()


def test_without_times_the_figure_is_over_macs(found: dict[str, Any]) -> None:
    for row in [*found["rows"], found["reference"]]:
        row["latency"] = None
    figure = configurations_figure(found)
    assert figure is not None and figure.axes[0].get_xlabel() == "MACs, millions"
    assert configurations_figure({}) is None and error_figure([], "x", "y", {}) is None


# --- beside the paper ------------------------------------------------------------------------------------------------


def test_paper_columns_carry_isos_names(found: dict[str, Any]) -> None:
    headings, rows = quality_beside_paper(found)
    table = {row.name: dict(zip(headings, map(words, row.cells), strict=True)) for row in rows}
    assert table["HHH"]["APCER, paper"] == "4.12 %" and table["HHH"]["BPCER, paper"] == "0.72 %"
    assert table["HHH"]["APCER, ours"] == "8.1 %" and table["MobileNetV2 (No PTA)"]["ACER, ours"] == "6.8 %"
    assert list(table)[1:] == REPORTED


def test_costs_beside_the_paper_keep_its_slips(found: dict[str, Any]) -> None:
    headings, rows = cost_beside_paper(found)
    table = {row.name: dict(zip(headings, row.cells, strict=True)) for row in rows}
    assert (table["BBB"]["parameters M, paper"], table["BBB"]["parameters M, ours"]) == ("2.73", "2.72")
    assert "2.72 by exact count" in next(row.note for row in rows if row.name == "BBB")
    assert "96.51 by exact count" in next(row.note for row in rows if row.name == "HLH")
    assert table["MobileNetV2 (No PTA)"]["relative, ours"] == "1.00"


def test_notes_say_what_cannot_be_compared(found: dict[str, Any]) -> None:
    text = words(" ".join(paper_notes(found)))
    assert "of CelebA-Spoof, ours of simulated data (portraits)" in text and "not the paper's" not in text
    assert "(12.5 % less); here 140 s instead of 151 s (7.3 % less)" in text
    found["options"]["width"] = 0.5
    assert "width 0.5 (paper: 1)" in " ".join(paper_notes(found))


# --- the page --------------------------------------------------------------------------------------------------------


def test_complete_page(pta_folder: Path) -> None:
    html = write_report([pta_folder], pta_folder / "report.html").read_text()
    document = Document(html)
    for phrase in (
        "Configurations", "The other 21 configurations", "MobileNetV2", "3.4 to 9.0 %", "recal. 5.0 %",
        "did not beat the separately trained MobileNetV2", "can be ranked in part only", "Pareto", "CelebA-Spoof",
        "changed places", "Snapdragon", "Simulated data.", "The sampled training", "Validation is of HHH",
        "python -m strategies.single_path --config", "The weights of this run are those of the sampled training",
        "None: every file is there",
    ):  # fmt: skip
        assert phrase in document.words, phrase
    for phrase in ("Against random search", "Where the search moved", "Guard:", "The cells that were found"):
        assert phrase not in document.words, phrase
    for name in ("cells", "configurations", "search", "training"):
        assert (pta_folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not (pta_folder / "distribution.png").exists()
    assert len(document.ids) == len(set(document.ids))


def test_curves_of_a_sampled_training(pta_folder: Path) -> None:
    run = Run(pta_folder)
    assert run.reference is not None
    figure = search_figure(run.search, [], run.reference.training)
    assert figure is not None
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert "How often each configuration was drawn" in titles and len(titles) == 6
    drawn = figure.axes[titles.index("How often each configuration was drawn")]
    totals = sum(np.asarray(line.get_ydata(), dtype=float) for line in drawn.get_lines())
    assert np.allclose(totals, 1)
    assert len(figure.axes[titles.index("Validation equal error rate")].get_lines()) == 2
    empty = run.search.assign(drawn_HHH=0, drawn_LHH=0, drawn_HLH=0, drawn_HHL=0, drawn_LLL=0)
    for table in (empty, run.search[["epoch", "drawn_HHH"]], run.search[["val_eer", "train_loss"]]):
        assert search_figure(table, [], pd.DataFrame({"loss": [1.0]})) is not None


@pytest.mark.parametrize("column", ["epoch", "train_loss", "train_accuracy", "val_eer", "learning_rate", "drawn_HHH"])
def test_a_missing_column_costs_only_its_curve(pta_folder: Path, column: str) -> None:
    table = pd.read_csv(pta_folder / "search.csv").drop(columns=column)
    assert search_figure(table) is not None


def test_wrong_values_anywhere_do_not_crash(pta_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "draw_figure", lambda run, name: (None, ""))
    for slow in ("architecture.json", "architectures.jsonl", "search.csv"):
        (pta_folder / slow).unlink()
    file = pta_folder / "configurations.json"
    original = made_up_configurations()
    original["rows"] = original["rows"][:3]
    places: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
        lambda value: value,
        lambda value: value["rows"][0],
        lambda value: value["rows"][0]["metrics"],
        lambda value: value["rows"][0]["latency"],
        lambda value: value["reference"],
        lambda value: value["data"],
    ]
    for place in places:
        for key in place(original):
            for junk in JUNK if place in places[:2] else JUNK[1:3]:
                changed = json.loads(json.dumps(original))
                place(changed)[key] = junk
                file.write_text(json.dumps(changed))
                run = Run(pta_folder).read_all()
                assert "How to rebuild" in page.render([page._view(run, pta_folder, "")]), (key, junk)
                if key in ("mac", "latency", "acer", "rows", "configuration", "reference", "median_ms"):
                    configurations_figure(run.configurations)
