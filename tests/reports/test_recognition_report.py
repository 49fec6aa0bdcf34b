"""Pages of recognition and of students: scores, stages, choices, teachers, and the tables of both papers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evaluators.evidence import score_evidence
from reports.choices import choices_figure, is_by_choice
from reports.drawing import architecture_figure
from reports.page import write_report
from reports.paper_faces import airface, attention_macs, hatfas
from reports.pictures import draw_figure
from reports.run import Run
from reports.scores import scores_figure
from reports.stages import has_stages, stages_figure
from reports.task_metrics import task_name
from searchspaces.airface import PUBLISHED, published
from searchspaces.hatfas import published as student

METRICS = {
    "eer": {"value": 0.1, "low": 0.05, "high": 0.16},
    "auc": {"value": 0.95, "low": 0.9, "high": 0.98},
    "tar_far_1e-2": {"value": 0.7, "low": 0.5, "high": 0.9},
    "rank1": {"value": 0.85, "low": 0.7, "high": 0.95},
    "accuracy_lfw": {"value": 0.97, "low": 0.96, "high": 0.98},
    "threshold": {"value": 0.43, "low": None, "high": None},
}


def evidence(shift: float = 2.0) -> dict:
    random = np.random.default_rng(0)
    scores, same = random.normal(size=400), np.arange(400) < 100
    return score_evidence(scores + shift * same, same, threshold=1.0)


@pytest.fixture
def run(tmp_path):
    """A run folder of a recognition network as a search writes it."""
    folder = tmp_path / "run"
    for each in (folder, folder / "baseline"):
        each.mkdir()
        (each / "config.yaml").write_text("space: airface\ndata: orl\nseed: 0\n")
        published("mobilefacenet-128").save(each / "architecture.json")
        (each / "metrics.json").write_text(json.dumps(METRICS))
        (each / "scores.json").write_text(json.dumps(evidence()))
        (each / "data.json").write_text(json.dumps({"name": "orl", "simulated": False, "pixels": {"eer": 0.176}}))
    choices = published("mobilefacenet-128").choices
    names = {"width": [128, 256], "attention": ["off", "sigmoid", "tanh"], "stage_1/repeats": [4, 8, 9]}
    lines = [
        {
            "epoch": epoch,
            "choices": dict(choices),
            "names": names,
            "probabilities": {label: [1 / len(values)] * len(values) for label, values in names.items()},
        }
        for epoch in range(3)
    ]
    (folder / "architectures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_page_speaks_of_people_and_not_of_attacks(run, tmp_path):
    page = write_report([run], tmp_path / "page.html").read_text()
    for text in ("EER", "Rank-1 identification", "TAR at FAR 1e-2", "Accuracy, lfw", "raw pixels", "people"):
        assert text in page
    for text in ("ACER", "APCER", "attacks", "collapsing"):
        assert text not in page
    assert (tmp_path / "scores.png").is_file() and (tmp_path / "cells.png").is_file()


def test_a_teacher_is_shown_beside_its_student(run, tmp_path):
    record = {"name": "airface of <b>big</b>", "sha256": "0" * 64, "parameters": 4_000_000, "metrics": METRICS}
    (run / "teacher.json").write_text(json.dumps(record))
    page = write_report([run], tmp_path / "page.html").read_text()
    assert "Beside its teacher" in page and "&lt;b&gt;big" in page and "4,000,000" in page
    (run / "teacher.json").write_text("{")
    damaged = write_report([run], tmp_path / "page.html").read_text()
    assert "Beside its teacher" not in damaged and "teacher.json" in damaged


def test_what_the_task_is_follows_from_the_metrics():
    assert task_name(METRICS) == "recognition"
    assert task_name({**METRICS, "acer": {"value": 0.1}}) == "antispoofing"
    assert task_name({"ap": {"value": 0.1}}) == "detection"


def test_scores_are_drawn_with_those_of_random_search(run):
    figure, caption = draw_figure(Run(run).read_all(), "scores")
    assert figure is not None and caption
    left, right = figure.axes
    assert {text.get_text() for text in right.get_legend().get_texts()} >= {"this network", "random search"}
    assert any("100" in text.get_text() for text in left.get_legend().get_texts())


@pytest.mark.parametrize("spoil", [{"histogram": None}, {"roc": {"far": [1], "frr": []}}, {"roc": {"far": ["x"]}}])
def test_damaged_scores_are_not_drawn(spoil):
    assert scores_figure({**evidence(), **spoil}) is None
    assert scores_figure({}) is None


def test_the_panels_of_choices_name_what_was_kept(run):
    found = Run(run)
    choices = found.architecture["choices"]
    assert is_by_choice(found.history, choices) and not is_by_choice([], choices)
    figure = choices_figure(found.history, choices)
    assert figure is not None
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.axison]
    assert "width:  128" in titles and "attention:  off" in titles and len(titles) == 3
    assert choices_figure([{"probabilities": {"width": [1]}}], choices) is None


@pytest.mark.parametrize("architecture", [*map(published, PUBLISHED), student("deit-tiny"), student("deit-base")])
def test_stages_are_drawn_within_their_figure(architecture):
    graph = architecture.graph()
    assert has_stages(graph)
    figure = architecture_figure(graph)
    (ax,) = figure.axes
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    for text in ax.texts:
        extent = text.get_window_extent().transformed(ax.transData.inverted())
        assert extent.x0 >= 0 and extent.x1 <= width and extent.y0 >= 0 and extent.y1 <= height, text.get_text()
    labels = {facts["label"] for _, facts in graph.nodes(data=True)}
    assert labels <= {text.get_text() for text in ax.texts}


def test_boxes_of_stages_hold_their_text():
    figure = stages_figure(student("deit-base").graph())
    (ax,) = figure.axes
    figure.draw_without_rendering()
    boxes = [patch.get_window_extent() for patch in ax.patches]
    for text in ax.texts:
        if "block" in text.get_text():
            extent = text.get_window_extent()
            assert any(box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 <= box.y1 for box in boxes)


def test_the_tables_of_both_papers_are_counted():
    rows = {row["row"]: row for row in airface().rows}
    assert rows["airface"]["ours"]["flops"] == 1_050_602_436 and rows["airface"]["remarks"]["flops"] == "+5.1 %"
    assert abs(rows["mobilefacenet-128"]["ours"]["macs"] / 1e6 - rows["mobilefacenet-128"]["paper"]["macs"]) < 1
    rows = {row["row"]: row for row in hatfas().rows}
    assert rows["deit-tiny"]["ours"]["parameters"] == 5_524_802
    assert attention_macs(student("deit-tiny")) == 178_831_872
    assert attention_macs(student("deit-base")) == 715_327_488
