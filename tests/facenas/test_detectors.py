"""Searches of detectors as a user runs them, on a small folder in the layout of WIDER FACE."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from evaluators.checkpoint import EpochCheckpoint
from facenas.__main__ import main as facenas
from facenas.options import GumbelOptions, PCDartsOptions, resolve, to_dict
from facenas.pipeline import search_command
from reports.progress import Watched
from searchspaces import Architecture

TINY = [
    "--space-options",
    '{"width": 8, "nodes": 3, "image_size": 64}',
    *("--search-epochs", "2", "--warmup-epochs", "1", "--search-batch", "4"),
    *("--train-epochs", "1", "--train-batch", "4", "--accelerator", "cpu"),
]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Bright squares on noise, four events for training."""
    root, random = tmp_path_factory.mktemp("wider"), np.random.default_rng(0)
    (root / "wider_face_split").mkdir()
    for part, events in (("train", range(4)), ("val", range(4, 6))):
        lines = []
        for event in events:
            for number in range(4):
                name = f"{event}--Event/{event}_{number}.jpg"
                pixels = random.integers(0, 60, (80, 100, 3), dtype=np.uint8)
                x, y, side = (int(value) for value in random.integers((0, 0, 26), (60, 40, 40)))
                pixels[y : y + side, x : x + side] = 230
                path = root / f"WIDER_{part}/images" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
                lines += [name, "1", f"{x} {y} {side} {side} 0 0 0 0 0 0"]
        (root / f"wider_face_split/wider_face_{part}_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    return ["--data", "wider-face", "--data-root", str(root)]


@pytest.fixture(scope="module")
def finished(faces, tmp_path_factory):
    """A finished search of trees with its two references."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert search_command("gumbel", ["--space", "autofem-cpm", *faces, *TINY, "--out", str(folder)]) == 0
    return folder


def test_a_run_has_the_same_detector_without_and_with_a_random_autofem(finished):
    for name in ("random", "without"):
        metrics = json.loads((finished / name / "metrics.json").read_text())
        assert metrics["ap"]["value"] is not None and (finished / name / "cost.json").exists()
    found, drawn, plain = (Architecture.load(finished / name) for name in ("", "random", "without"))
    assert drawn.space == found.space and drawn.options == found.options and drawn.choices != found.choices
    assert plain.space == "asfd" and not plain.choices
    networks = [each.build() for each in (found, plain)]
    sizes = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert sizes[1] < sizes[0] and len(networks[1].trees) == 0
    provenance = json.loads((finished / "provenance.json").read_text())
    assert provenance["task"] == "detection" and found.found_by["sampled"] == "edges"
    assert {"margin", "anchors"} <= {row["option"] for row in provenance["deviations"]}
    page = (finished / "report.html").read_text()
    assert "without AutoFEM" in page and "random AutoFEM" in page and "ACER" not in page


def test_who_watches_it_knows_its_stages(finished):
    seen = Watched(finished).look(0)
    assert seen.status == "finished"
    told = ["search", "training", "random AutoFEM", "without AutoFEM"]
    assert [course.stage.title for course in seen.courses if course.done == course.total] == told


def test_a_killed_search_of_trees_ends_as_if_it_had_not_stopped(faces, finished, tmp_path, monkeypatch):
    folder = tmp_path / "killed"
    original = EpochCheckpoint.on_train_epoch_end

    def kill(self, trainer, module):
        original(self, trainer, module)
        raise KeyboardInterrupt

    command = ["--space", "autofem-cpm", *faces, *TINY, "--out", str(folder), "--no-baseline"]
    monkeypatch.setattr(EpochCheckpoint, "on_train_epoch_end", kill)
    assert search_command("gumbel", command) == 130
    monkeypatch.undo()
    assert search_command("gumbel", [*command, "--resume"]) == 0
    lines = [(each / "architectures.jsonl").read_text().splitlines() for each in (folder, finished)]
    for ours, theirs in zip(*(map(json.loads, each) for each in lines), strict=True):
        assert ours["choices"] == theirs["choices"] and ours["probabilities"] == theirs["probabilities"]
    first, second = (load_file(each / "weights.safetensors") for each in (folder, finished))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("strategy", "space", "more"),
    [
        ("pc_darts", "autofem-fpn", ["--partial-channels", "2"]),
        ("gumbel", "autofem-fpn", []),
        ("darts", "asfd", []),
        ("single_path", "autofem-cpm", ["--judged-paths", "2"]),
        ("random_search", "autofem-fpn", ["--max-candidates", "2", "--candidate-epochs", "1"]),
        ("evolution", "autofem-cpm", ["--max-candidates", "3", "--population", "2", "--tournament", "1"]),
    ],
)
def test_every_strategy_searches_detectors(strategy, space, more, faces, tmp_path):
    tiny = TINY if strategy in ("pc_darts", "gumbel", "darts") else [x for x in TINY if x != "--warmup-epochs"]
    if tiny is not TINY:
        tiny.remove("1")  # the value of --warmup-epochs; that of --train-epochs follows
    command = ["--space", space, *faces, *tiny, *more, "--no-baseline", "--out", str(tmp_path / "run")]
    assert search_command(strategy, command) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["ap"]["value"] is not None
    assert (tmp_path / "run" / "report.html").exists()


def test_a_plan_is_told_without_a_run(faces, tmp_path, capsys):
    command = ["--space", "autofem-cpm", *faces, *TINY, "--plan", "--out", str(tmp_path / "run")]
    assert search_command("gumbel", command) == 0
    assert "search" in capsys.readouterr().out and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("strategy", "more", "words"),
    [
        ("gumbel", ["--space", "autofem-fpn", "--sampled", "edges"], "edges of a pyramid are given"),
        ("gumbel", ["--space", "autofem-cpm", "--partial-channels", "3"], "partial_channels is 3"),
        ("pc_darts", ["--space", "autofem-cpm", "--space-options", '{"half_nodes": true}'], "half_nodes"),
        ("gumbel", ["--space", "autofem-cpm", "--task-options", '{"margn": 1}'], "Did you mean 'margin'"),
        ("gumbel", ["--space", "autofem-cpm", "--macs-budget", "10M"], "budget needs a space"),
        ("darts", ["--space", "autofas", "--data", "scenes"], "is for another task"),
        ("gumbel", ["--space", "autofem-cpm", "--data", "portraits"], "no boxes of faces"),
        ("gumbel", ["--space", "autofem-cpm", "--augmentation", "colour"], "augmentation of face detection"),
    ],
)
def test_wrong_options_are_answered_on_one_line(strategy, more, words, faces, tmp_path, capsys):
    data = [] if "--data" in more else faces
    assert search_command(strategy, [*data, *more, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and "Traceback" not in error and error.count("\n") <= 1
    assert not (tmp_path / "run").exists()


def test_a_found_detector_is_trained_and_used_by_itself(finished, faces, tmp_path, capsys):
    out = tmp_path / "alone"
    wide = '{"width": 16}'
    assert facenas(["train", str(finished), "--epochs", "1", "--space-options", wide, "--out", str(out)]) == 0
    assert Architecture.load(out).options["width"] == 16
    picture = next((tmp_path.parent.parent).rglob("*.jpg"), None) or finished / "cells.png"
    drawings = str(tmp_path / "faces")
    command = ["detect", str(out), str(out / "weights.safetensors"), str(picture), "--out", drawings]
    assert facenas([*command, "--threshold", "0.2"]) == 0
    assert "detections.json" in capsys.readouterr().out
    assert facenas(["profile", str(out)]) == 0


def test_options_of_a_detector_survive_their_file():
    from searchspaces.cli import parse_values

    for kind, space in ((GumbelOptions, "autofem-cpm"), (PCDartsOptions, "autofem-fpn")):
        options = resolve(kind(space=space, task_options={"margin": 0.5}))
        assert options.data == "scenes" and options.warmup_epochs == 2
        assert parse_values(kind, to_dict(options)) == options
