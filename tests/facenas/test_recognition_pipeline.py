"""Searches of recognition networks and of students as a user runs them, on small folders of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from evaluators.checkpoint import EpochCheckpoint
from facenas.__main__ import main as facenas
from facenas.options import PCDartsOptions, resolve
from facenas.pipeline import search_command
from searchspaces import Architecture
from tests.evaluators.test_datasets_hatfas import layout
from tests.evaluators.test_recognition import stripes

SPACE = {"image_size": 32, "channels": 16, "repeats": [[1, 2], [1], [1]], "embeddings": [16, 32], "expansions": [2, 4]}
STUDENT = {"image_size": 32, "patch_size": 16, "embed": [64, 128], "depth": [1, 2], "mlp_ratio": [1, 2]}
SHORT = [
    *("--search-epochs", "2", "--search-batch", "6", "--train-epochs", "1", "--train-batch", "6"),
    *("--accelerator", "cpu", "--no-baseline"),
]
TINY = ["--space-options", json.dumps(SPACE), *SHORT]
WARM = ["--warmup-epochs", "1", "--partial-channels", "2"]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Ten people of six pictures each, a pattern for each person."""
    root, random = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    for person in range(10):
        for shot in range(6):
            path = root / f"p{person}" / f"{shot}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(stripes(person, shot, 112, random).transpose(1, 2, 0)).save(path)
    return ["--data", "identities", "--data-root", str(root)]


@pytest.fixture(scope="module")
def finished(people, tmp_path_factory):
    """A finished search with its random search."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    command = ["--space", "airface", *people, *TINY, *WARM, "--out", str(folder)]
    command.remove("--no-baseline")
    assert search_command("pc_darts", [*command, "--candidate-epochs", "1"]) == 0
    return folder


def test_a_run_tells_how_well_people_are_told_apart(finished):
    for folder in (finished, finished / "baseline"):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert {"eer", "auc", "rank1", "threshold"} <= metrics.keys()
        assert json.loads((folder / "scores.json").read_text())["negative"] == "different people"
    provenance = json.loads((finished / "provenance.json").read_text())
    told = {row["option"] for row in provenance["deviations"]}
    assert {"losses", "scale", "flip", "halves of the search"} <= told
    assert 0 < json.loads((finished / "data.json").read_text())["pixels"]["eer"] <= 0.5
    page = (finished / "report.html").read_text()
    assert "raw pixels" in page and "embedding" in page and "ACER" not in page
    line = json.loads((finished / "architectures.jsonl").read_text().splitlines()[-1])
    assert line["names"]["stage_1/repeats"] == [1, 2] and len(line["probabilities"]["embedding"]) == 2


def test_a_killed_search_ends_as_if_it_had_not_stopped(people, finished, tmp_path, monkeypatch):
    folder = tmp_path / "killed"
    original = EpochCheckpoint.on_train_epoch_end

    def kill(self, trainer, module):
        original(self, trainer, module)
        raise KeyboardInterrupt

    command = ["--space", "airface", *people, *TINY, *WARM, "--out", str(folder)]
    monkeypatch.setattr(EpochCheckpoint, "on_train_epoch_end", kill)
    assert search_command("pc_darts", command) == 130
    monkeypatch.undo()
    assert search_command("pc_darts", [*command, "--resume"]) == 0
    lines = [(each / "architectures.jsonl").read_text().splitlines() for each in (folder, finished)]
    for ours, theirs in zip(*(map(json.loads, each) for each in lines), strict=True):
        assert ours["choices"] == theirs["choices"] and ours["probabilities"] == theirs["probabilities"]
    first, second = (load_file(each / "weights.safetensors") for each in (folder, finished))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("strategy", "more"),
    [
        ("darts", ["--order", "second"]),
        ("gumbel", []),
        ("single_path", ["--judged-paths", "2"]),
        ("evolution", ["--max-candidates", "3", "--population", "2", "--tournament", "1", "--candidate-epochs", "1"]),
    ],
)
def test_every_strategy_searches_recognition_networks(strategy, more, people, tmp_path):
    if strategy in ("darts", "gumbel"):
        more = [*more, "--warmup-epochs", "1"]
    command = ["--space", "airface", *people, *TINY, *more, "--out", str(tmp_path / "run")]
    assert search_command(strategy, command) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["eer"]["value"] is not None
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("strategy", "more"),
    [
        ("darts", ["--warmup-epochs", "1"]),
        ("single_path", ["--judged-paths", "2"]),
    ],
)
def test_students_are_searched_on_frames_of_videos(strategy, more, tmp_path):
    data = ["--data", "hatfas", "--data-root", str(layout(tmp_path / "frames"))]
    options = ["--space-options", json.dumps(STUDENT), "--decay", "cosine", *SHORT, *more]
    assert search_command(strategy, ["--space", "hatfas", *data, *options, "--out", str(tmp_path / "run")]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"acer", "video_eer", "hter_argmax"} <= metrics.keys()


def test_any_network_is_taught_by_a_run(tmp_path):
    data = ["--data", "hatfas", "--data-root", str(layout(tmp_path / "frames"))]
    for name, embed in (("big", 128), ("small", 64)):
        choices = {"embed": embed, "depth": 2, "mlp_ratio": 2}
        Architecture("hatfas", STUDENT, choices).save(tmp_path / f"{name}.json")
    short = [*data, "--epochs", "1", "--batch", "6", "--accelerator", "cpu"]
    teacher = tmp_path / "teacher"
    assert facenas(["train", str(tmp_path / "big.json"), *short, "--out", str(teacher)]) == 0
    taught = [*short, "--teacher", str(teacher), "--distillation", '{"alpha": 0.5}', "--out", str(tmp_path / "taught")]
    assert facenas(["train", str(tmp_path / "small.json"), *taught]) == 0
    record = json.loads((tmp_path / "taught" / "teacher.json").read_text())
    assert record["name"] == "hatfas of teacher" and record["metrics"]["acer"]["value"] is not None


@pytest.mark.parametrize(
    ("strategy", "more", "words"),
    [
        ("pc_darts", ["--space", "hatfas"], "layer norms of a transformer"),
        ("pc_darts", ["--space", "airface", "--partial-channels", "5"], "partial_channels is 5"),
        ("darts", ["--space", "airface", "--macs-budget", "10M"], "budget needs a space"),
        ("darts", ["--space", "airface", "--task-options", '{"losses": [["arcfaces", 1]]}'], "arcface"),
        ("darts", ["--space", "airface", "--data", "portraits"], "who is who"),
        ("darts", ["--space", "autofas", "--data", "orl"], "live and attack"),
        ("darts", ["--space", "airface", "--teacher", "nowhere"], "is no teacher"),
        ("darts", ["--space", "airface", "--distillation", '{"alpha": 1}'], "--teacher"),
        ("darts", ["--space", "airface", "--data", "lfw", "--data-root", "/"], "pairs.txt"),
    ],
)
def test_wrong_options_are_answered_on_one_line(strategy, more, words, tmp_path, capsys):
    assert search_command(strategy, [*more, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and "Traceback" not in error and error.count("\n") <= 1
    assert not (tmp_path / "run").exists()


def test_pictures_are_embedded_and_pairs_judged_with_a_finished_run(finished, people, tmp_path, capsys):
    from evaluators.embed import main as embed
    from evaluators.verify import main as verify

    root = people[-1]
    pictures = [f"{root}/p{person}/{shot}.png" for person in (0, 1) for shot in (0, 1)]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    embed(str(finished), [*pictures, str(tmp_path / "broken.png")], out=str(tmp_path / "e.csv"))
    shown = capsys.readouterr().out
    assert "left out" in shown and shown.count("p0/0.png") == 3 and "threshold" in shown
    rows = [line.split(",") for line in (tmp_path / "e.csv").read_text().splitlines()]
    assert len(rows) == 5 and rows[0][:2] == ["picture", "e0"]
    assert np.linalg.norm(np.array(rows[1][1:], dtype=float)) == pytest.approx(1, abs=1e-4)
    for number, picture in enumerate(pictures):
        (tmp_path / f"{number}.png").write_bytes(Path(picture).read_bytes())
    (tmp_path / "pairs.txt").write_text("0.png 1.png 1\n2.png 3.png 1\n0.png 2.png 0\n1.png 3.png 0\n")
    verify(str(finished), data="pairs", data_root=str(tmp_path))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["accuracy_pairs"]["value"] is not None


def test_options_of_recognition_come_from_the_recipe():
    options = resolve(PCDartsOptions(space="airface"))
    assert (options.data, options.supervision, options.augmentation) == ("orl", "identity", "pose")
    assert resolve(PCDartsOptions(space="airface", recipe="paper", data="packed")).decay == "late_steps"
