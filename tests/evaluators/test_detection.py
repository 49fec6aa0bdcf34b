"""The task of face detection on small pictures with bright squares for faces."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from evaluators import tasks
from evaluators.datasets.detection import BoxSplit, DetectionData, clean_boxes, make_detection_card
from evaluators.detect import find_faces
from evaluators.detection import Detection, Predictions, anchors_of
from evaluators.detection_batches import DetectionBatches, DetectionJudging, detection_training_loader
from evaluators.recipes import RECIPES, deviations, find_recipe
from evaluators.task import WeightSchedule
from evaluators.train import fit
from evaluators.trial import CandidateTrial
from searchspaces import Architecture, build_space
from searchspaces.errors import ArchitectureError, ConfigError, DatasetError
from tests.faces import texture_data

SPACE = {"backbone": "mobilenet_0.25", "width": 8, "nodes": 2, "head_layers": 1, "lowest_level": 3, "image_size": 64}
PLAIN = {**SPACE, "fpn": False, "cpm": False}


class Squares:
    """Pictures of a row: noise with bright squares at the boxes."""

    def __init__(self, boxes, size):
        self.boxes, self.size = boxes, size

    def read(self, row):
        random = np.random.default_rng(row)
        picture = random.integers(0, 60, (3, self.size, self.size), dtype=np.uint8)
        for x0, y0, x1, y1 in self.boxes[row].astype(int):
            picture[:, y0:y1, x0:x1] = 230
        return picture


def squares(number=12, size=80, groups=4) -> DetectionData:
    random = np.random.default_rng(0)
    boxes = []
    for _ in range(number):
        corners = random.integers(0, size - 40, (2, 2))
        sides = random.integers(24, 40, 2)
        own = [[x, y, x + side, y + side] for (x, y), side in zip(corners, sides, strict=True)]
        boxes.append(np.array(own[: int(random.integers(1, 3))], dtype=np.float32))
    boxes[3] = np.zeros((0, 4), np.float32)  # a picture without a face
    source = Squares(boxes, size)

    def split(rows):
        own = [boxes[row] for row in rows]
        return BoxSplit(
            own,
            [np.zeros(len(each), bool) for each in own],
            [f"group {row % groups}" for row in rows],
            [f"picture {row}" for row in rows],
            np.tile([size, size], (len(rows), 1)),
            source,
            rows,
        )

    rows = list(range(number))
    splits = {"train": split(rows), "val": split(rows[:6]), "test": split(rows[6:])}
    card = make_detection_card("squares", splits, simulated=True, image_size=size)
    return DetectionData("squares", splits, size, card)


@pytest.fixture
def task():
    return Detection(squares(), 64, range(3, 8), augmentation="crop")


def detector(seed=0, **options):
    return Architecture("asfd", {**PLAIN, **options}, {}).build(seed=seed)


def test_a_detector_learns_to_find_what_is_there(task):
    network = detector()
    before = task.validation(network, task.data.splits["val"])
    schedule = WeightSchedule(25, 4, learning_rate=0.01, optimizer="adam", weight_decay=0.0)
    fit(network, task, schedule, task.data.splits["train"], 0)
    after = task.validation(network, task.data.splits["val"])
    assert after["loss"] < before["loss"] and after["ap"] > 0.5 > before["ap"]
    metrics = task.metrics(network)
    assert metrics["ap"]["low"] <= metrics["ap"]["value"] <= metrics["ap"]["high"]
    assert task.headline(metrics).startswith("AP ")


def test_predictions_keep_the_order_of_the_pictures_and_the_mode_of_the_network(task):
    network, split = detector().train(), task.data.splits["test"]
    found = task.predict(network, split, batch_size=4)
    assert isinstance(found, Predictions) and len(found.found) == len(split) and network.training
    alone = task.predict(network, split.subset([2]))
    for both in zip(found.found[2], alone.found[0], strict=True):
        np.testing.assert_allclose(*both, rtol=1e-4, atol=1e-4)


def test_the_loss_is_that_of_both_shots(task):
    network = detector().train()
    pictures, targets = next(iter(task.loader(task.data.splits["train"], 4, 0)))
    outputs = network(pictures)
    loss = task.losses(outputs, targets)["loss"]
    one = Detection(squares(), 64, range(3, 8), augmentation="crop", first_shot_weight=0.0)
    assert loss > one.losses(outputs, targets)["loss"] > 0
    loss.backward()


def test_every_option_of_the_loss_counts(task):
    network = detector().train()
    batch = next(iter(task.loader(task.data.splits["train"], 4, 0)))
    outputs = network(batch[0])
    losses = {}
    for options in ({}, {"margin": 1.0}, {"regression_weight": 2.0}, {"first_shot_weight": 2.0}, {"negatives": 5.0}):
        changed = Detection(squares(), 64, range(3, 8), augmentation="crop", **options)
        losses[str(options)] = changed.losses(outputs, batch[1])["loss"].item()
    assert len({round(value, 6) for value in losses.values()}) == len(losses)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -1}, "margin of face detection is -1"),
        ({"overlap": 2.0}, "overlap"),
        ({"confidence": True}, "confidence"),
        ({"margins": 1.0}, "Did you mean 'margin'"),
    ],
)
def test_task_options_that_cannot_be_used_are_refused(monkeypatch, options, message):
    monkeypatch.setattr(tasks, "build_dataset", lambda *_, **__: squares())
    space = build_space("asfd", **PLAIN)
    with pytest.raises(ConfigError, match=message):
        tasks.build_task(space, {"data": "squares", "task_options": options})


def test_data_of_another_task_are_refused(monkeypatch):
    space = build_space("asfd", **PLAIN)
    monkeypatch.setattr(tasks, "build_dataset", lambda *_, **__: texture_data())
    with pytest.raises(ConfigError, match="no boxes of faces"):
        tasks.build_task(space, {"data": "textures"})
    monkeypatch.setattr(tasks, "build_dataset", lambda *_, **__: squares())
    with pytest.raises(ConfigError, match="for another task"):
        tasks.build_task(SimpleNamespace(input_size=(3, 64, 64)), {"data": "squares"})


def test_a_network_that_is_no_detector_is_refused(task):
    with pytest.raises(ConfigError, match="outputs of shape"):
        task.check(torch.nn.Conv2d(3, 1, 3))
    task.check(detector())


def test_weights_of_a_backbone_are_loaded_before_the_training(tmp_path):
    from safetensors.torch import save_file

    source = detector(seed=5)
    save_file(source.backbone.state_dict(), tmp_path / "backbone.safetensors")
    file = str(tmp_path / "backbone.safetensors")
    task = Detection(squares(), 64, range(3, 8), augmentation="crop", backbone_weights=file)
    network = detector(seed=0)
    assert not torch.equal(network.backbone.conv_stem.weight, source.backbone.conv_stem.weight)
    task.prepare(network)
    assert torch.equal(network.backbone.conv_stem.weight, source.backbone.conv_stem.weight)
    missing = Detection(squares(), 64, range(3, 8), augmentation="crop", backbone_weights="nowhere.pth")
    with pytest.raises(ArchitectureError, match="nowhere"):
        missing.prepare(network)


def test_a_candidate_is_judged_by_its_average_precision(task):
    trial = CandidateTrial(task, WeightSchedule(1, 4, 0.01), seed=0)
    result = trial.judge(detector(), seed=0)
    assert result["default"] == result["val_ap"] and result["macs_spent"] > result["macs"] > 0


def test_epochs_are_ranked_by_precision_then_loss(task):
    rows = [{"val_ap": 0.5, "val_loss": 1.0}, {"val_ap": 0.6, "val_loss": 3.0}, {"val_ap": 0.6, "val_loss": 2.0}]
    assert min(rows, key=task.rank) is rows[2]


# ---- data


def test_halves_share_no_group():
    first, second = squares().splits["train"].halves(0)
    assert not set(first.groups) & set(second.groups) and len(first) + len(second) == 12
    again = squares().splits["train"].halves(0)[0]
    assert again.names.tolist() == first.names.tolist()
    with pytest.raises(DatasetError, match="one group"):
        squares(groups=1).splits["train"].halves(0)


def test_boxes_without_an_area_or_outside_are_dropped():
    boxes = [[0, 0, 10, 10], [5, 5, 5, 9], [-5, 2, 4, 6], [90, 90, 120, 130], [200, 0, 210, 9], [0, 0, np.nan, 4]]
    kept, mask = clean_boxes(np.array(boxes), (100, 100))
    assert mask.tolist() == [True, False, True, True, False, False]
    assert kept.tolist() == [[0, 0, 10, 10], [0, 2, 4, 6], [90, 90, 100, 100]]


def test_batches_depend_on_the_seed_the_epoch_and_their_number_only():
    split = squares().splits["train"]
    batches = [list(detection_training_loader(split, 64, 4, seed, 0, "dsfd")) for seed in (0, 0, 1)]
    same = [torch.equal(a[0], b[0]) for a, b in zip(*batches[:2], strict=True)]
    assert all(same) and not torch.equal(batches[0][0][0], batches[2][0][0])
    dataset = DetectionBatches(split, 64, 0, "dsfd")
    key = next(iter(detection_training_loader(split, 64, 4, 0, 0).sampler))
    assert torch.equal(dataset[key][0], batches[0][0][0])
    assert not torch.equal(dataset[key._replace(epoch=1)][0], batches[0][0][0])


def test_pictures_of_one_size_are_judged_together_in_their_order():
    data = squares().splits["train"]
    data.sizes[5:8] = [96, 64]
    batches = DetectionJudging(data, 4).batches
    assert batches == [[0, 1, 2, 3], [4], [5, 6, 7], [8, 9, 10, 11]]


# ---- recipes


def test_the_paper_recipe_is_the_papers():
    paper = find_recipe("autofem-cpm", "paper")  # section 4.1
    assert (paper.train_batch, paper.train_learning_rate, paper.weight_decay) == (48, 0.015, 5e-4)
    assert (paper.train_epochs, paper.decay, paper.warmup_steps) == (50, "steps", 500)
    assert (paper.search_epochs, paper.warmup_epochs, paper.arc_learning_rate) == (50, 20, 0.01)
    assert paper.arc_weight_decay == 5e-4 and paper.data == "scenes"
    assert RECIPES["asfd"] is not RECIPES["autofas"] and find_recipe("autofas", "quick").data == "portraits"
    rows = deviations({"space": "autofem-cpm", "data": "scenes", "train_epochs": 3, "search_batch": 8})
    assert {row["option"]: row["paper"] for row in rows} == {"train_epochs": 50, "search_batch": "not given"}


# ---- the command


def test_faces_are_found_in_the_pixels_of_the_picture(task):
    """Boxes of a scaled picture are those of the picture, and inside of it."""
    network = detector().eval()
    picture = np.random.default_rng(0).integers(0, 255, (3, 200, 400), dtype=np.uint8)
    found = find_faces(network, picture, threshold=0.0, longest_side=100)
    assert found and all(0 <= f["box"][0] < f["box"][2] <= 400 and 0 <= f["box"][1] < f["box"][3] <= 200 for f in found)
    assert [f["score"] for f in found] == sorted((f["score"] for f in found), reverse=True)
    assert max(f["box"][2] for f in found) > 300  # not the 100 pixels that the network saw
    assert find_faces(network, picture[:, :20, :30], threshold=0.0)  # smaller than the smallest picture
    assert len(anchors_of((64, 64), (3, 4), 4.0)) == 64 + 16


def test_the_command_writes_json_and_drawings(tmp_path):
    architecture = Architecture("asfd", PLAIN, {}).save(tmp_path / "architecture.json")
    from evaluators.train import save_weights

    save_weights(detector(), tmp_path / "weights.safetensors")
    (tmp_path / "other").mkdir()
    for name in ("a.png", "other/a.png"):
        Image.fromarray(np.zeros((90, 120, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    command = [sys.executable, "-m", "evaluators.detect", architecture, tmp_path / "weights.safetensors"]
    pictures = [tmp_path / "a.png", tmp_path / "other" / "a.png", tmp_path / "broken.jpg"]
    out = ["--threshold", "0.1", "--out", tmp_path / "out"]
    done = subprocess.run([*map(str, [*command, *pictures, *out])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "left out" in done.stdout and "broken.jpg" in done.stdout
    result = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [row["width"] for row in result["pictures"]] == [120, 120]
    drawings = [row["drawing"] for row in result["pictures"]]
    assert drawings == ["a-faces.png", "a-2-faces.png"]
    assert Image.open(tmp_path / "out" / "a-2-faces.png").size == (120, 90)
    wrong = Architecture("autofas", {"channels": 4, "layout": "R"}, _autofas()).save(tmp_path / "cell.json")
    command[3] = wrong
    done = subprocess.run([*map(str, [*command, *pictures])], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "not a detector" in done.stderr


def _autofas():
    from searchspaces.sampling import random_choices

    return random_choices(build_space("autofas", channels=4, layout="R"), np.random.RandomState(0))
