"""WIDER FACE and FDDB in small folders of their published layouts, with everything that can be wrong with them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from evaluators import tasks
from evaluators.datasets import build_dataset
from evaluators.datasets.fddb import ellipse_boxes
from evaluators.datasets.wider_face import read_annotations, validation_events
from evaluators.detection_batches import DetectionBatches, detection_training_loader
from evaluators.train import save_weights
from searchspaces import Architecture, build_space
from searchspaces.errors import ConfigError, DatasetError
from searchspaces.files import write_text

TINY = {"backbone": "mobilenet_0.25", "width": 8, "nodes": 2, "head_layers": 1, "lowest_level": 3, "image_size": 64}
PLAIN = {**TINY, "fpn": False, "cpm": False}
FACE = "{} {} {} {} 0 0 0 {} 0 0"


def picture(path, size=(120, 90)):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture
def wider(tmp_path):
    """Three events; one picture without faces, one with odd boxes, one missing, one damaged."""
    labels = tmp_path / "wider_face_split"
    labels.mkdir()
    train, val = [], []
    for event in range(3):
        for number in range(4):
            name = f"{event}--Event/{event}_Event_{number}.jpg"
            picture(tmp_path / "WIDER_train/images" / name)
            train += [name, "2", FACE.format(10, 10, 30, 40, 0), FACE.format(60, 20, 20, 20, 1)]
    picture(tmp_path / "WIDER_train/images/0--Event/empty.jpg")
    train += ["0--Event/empty.jpg", "0", FACE.format(0, 0, 0, 0, 0)]
    for number in range(2):
        picture(tmp_path / f"WIDER_val/images/5--Val/5_Val_{number}.jpg")
    odd = [FACE.format(10, 10, 30, 40, 0), FACE.format(20, 20, 0, 9, 0), FACE.format(100, 50, 60, 30, 0)]
    val += ["5--Val/5_Val_0.jpg", "3", *odd]
    val += ["5--Val/5_Val_1.jpg", "1", FACE.format(500, 500, 10, 10, 0)]
    val += ["5--Val/missing.jpg", "1", FACE.format(1, 1, 10, 10, 0)]
    (tmp_path / "WIDER_val/images/5--Val/broken.jpg").write_bytes(b"no picture")
    val += ["5--Val/broken.jpg", "1", FACE.format(1, 1, 10, 10, 0)]
    (labels / "wider_face_train_bbx_gt.txt").write_text("\n".join(train) + "\n")
    (labels / "wider_face_val_bbx_gt.txt").write_text("\n".join(val) + "\n")
    return tmp_path


def cells(values):
    array = np.empty((len(values), 1), dtype=object)
    for index, value in enumerate(values):
        array[index, 0] = value
    return array


def write_ground_truth(root):
    """As the evaluation tools have it: cells of events of cells of pictures."""
    folder = root / "eval_tools" / "ground_truth"
    folder.mkdir(parents=True)
    for level, kept in (("easy", [1]), ("medium", [1, 3]), ("hard", [1, 2, 3])):
        names = cells([np.array(["5_Val_0"]), np.array(["5_Val_1"])])
        lists = cells([np.array([[k] for k in kept]), np.zeros((0, 1))])
        content = {"event_list": cells([np.array(["5--Val"])]), "file_list": cells([names]), "gt_list": cells([lists])}
        savemat(folder / f"wider_{level}_val.mat", content)


def test_wider_face_is_read_as_published(wider, capsys):
    write_ground_truth(wider)
    data = build_dataset("wider-face", root=wider, progress=False)
    test = data.splits["test"]
    assert test.names.tolist() == ["5--Val/5_Val_0.jpg", "5--Val/5_Val_1.jpg"]
    assert test.boxes[0].tolist() == [[10, 10, 40, 50], [100, 50, 120, 80]]  # the empty box is gone, the other is cut
    assert test.boxes[1].shape == (0, 4)
    assert {level: masks[0].tolist() for level, masks in test.subsets.items()} == {
        "easy": [True, False],
        "medium": [True, True],
        "hard": [True, True],
    }
    train, val = data.splits["train"], data.splits["val"]
    assert len(train) + len(val) == 13 and not set(train.groups) & set(val.groups)
    both = [own for split in (train, val) for own in split.ignored]
    assert sum(len(own) for own in both) == 24 and sum(int(own.sum()) for own in both) == 12
    assert data.card["skipped"] == {"boxes": 2, "missing_pictures": 1, "damaged_pictures": 1}
    assert "2 boxes, 1 missing pictures, 1 damaged pictures" in capsys.readouterr().out
    assert test.picture(0).shape == (3, 90, 120) and test.sizes[0].tolist() == [90, 120]


def test_wider_face_without_the_lists_of_difficulty_says_so(wider, capsys):
    data = build_dataset("wider-face", root=wider, progress=False)
    assert data.splits["test"].subsets == {}
    assert "wider_{easy,medium,hard}_val.mat" in capsys.readouterr().out


def test_whole_events_are_held_out():
    groups = np.repeat([f"event {index}" for index in range(20)], 10)
    chosen = validation_events(groups, 0)
    assert len(chosen) == 2 and validation_events(groups, 0) == chosen != validation_events(groups, 1)


def test_a_wrong_line_of_the_annotations_is_named(wider):
    file = wider / "wider_face_split" / "wider_face_train_bbx_gt.txt"
    for text in ("a.jpg\nmany\n", "a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n", "a.jpg\n1\n1 2 3\n", "a.jpg"):
        file.write_text(text)
        with pytest.raises(DatasetError, match="line 1"):
            list(read_annotations(file))


def test_what_is_missing_is_named(wider):
    with pytest.raises(DatasetError, match="--data-root"):
        build_dataset("wider-face", progress=False)
    with pytest.raises(DatasetError, match="does not exist"):
        build_dataset("wider-face", root=wider / "nowhere", progress=False)
    with pytest.raises(ConfigError, match="people"):
        build_dataset("wider-face", root=wider, people=3, progress=False)
    write_ground_truth(wider)
    write_text(wider / "eval_tools/ground_truth/wider_easy_val.mat", "no matrix")
    with pytest.raises(DatasetError, match=r"wider_easy_val\.mat cannot be read"):
        build_dataset("wider-face", root=wider, progress=False)
    (wider / "eval_tools/ground_truth/wider_easy_val.mat").unlink()
    (wider / "WIDER_val").rename(wider / "elsewhere")
    with pytest.raises(DatasetError, match="annotated pictures are not below"):
        build_dataset("wider-face", root=wider, progress=False)
    (wider / "wider_face_split" / "wider_face_val_bbx_gt.txt").unlink()
    with pytest.raises(DatasetError, match="has no file"):
        build_dataset("wider-face", root=wider, progress=False)


def test_a_picture_that_breaks_later_does_not_end_the_training(wider, capsys):
    split = build_dataset("wider-face", root=wider, progress=False).splits["train"]
    path = split.source.paths[split.rows[0]]
    path.write_bytes(path.read_bytes()[:600])
    batches = DetectionBatches(split, 64, 0, "crop")
    keys = list(detection_training_loader(split, 64, len(split), 0, 0, "crop").sampler)
    for _ in range(2):
        _, (_, ignored) = batches[keys[0]]
    place = keys[0].indices.index(0)
    assert ignored[place].all()
    words = capsys.readouterr().err
    assert words.count(path.name) == 1 and "1 of 13 pictures" in words


# ---- FDDB


@pytest.fixture
def fddb(tmp_path):
    folds = tmp_path / "FDDB-folds"
    folds.mkdir()
    for fold in range(1, 11):
        name = f"2002/08/11/big/img_{fold}"
        picture(tmp_path / "originalPics" / f"{name}.jpg")
        lines = [name, "1", "30.0 20.0 1.570796 60.0 45.0  1"]
        if fold == 1:
            picture(tmp_path / "originalPics" / "2002/empty.jpg")
            lines += ["2002/empty", "0"]
        (folds / f"FDDB-fold-{fold:02d}-ellipseList.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_fddb_is_read_as_published(fddb):
    data = build_dataset("fddb", root=fddb, progress=False)
    test = data.splits["test"]
    assert list(data.splits) == ["test"] and len(test) == 11 and len(set(test.groups)) == 10
    np.testing.assert_allclose(test.boxes[0], [[40, 15, 80, 75]], atol=1e-3)  # the major axis is upright
    assert test.ellipses[0].shape == (1, 5) and test.ellipses[1].shape == (0, 5)


def test_the_box_of_an_ellipse_holds_all_of_it():
    random = np.random.default_rng(0)
    ellipses = np.column_stack(
        [
            random.uniform(5, 30, 20),
            random.uniform(2, 20, 20),
            random.uniform(-4, 4, 20),
            random.uniform(0, 99, (20, 2)),
        ]
    )
    turn = np.linspace(0, 2 * np.pi, 20_001)
    for (major, minor, angle, x, y), box in zip(ellipses, ellipse_boxes(ellipses), strict=True):
        across = x + major * np.cos(turn) * np.cos(angle) - minor * np.sin(turn) * np.sin(angle)
        down = y + major * np.cos(turn) * np.sin(angle) + minor * np.sin(turn) * np.cos(angle)
        expected = [across.min(), down.min(), across.max(), down.max()]
        np.testing.assert_allclose(box, expected, atol=1e-4)


def test_fddb_is_for_judging_only(fddb):
    space = build_space("asfd", **PLAIN)
    with pytest.raises(DatasetError, match=r"evaluators\.verify"):
        tasks.build_task(space, {"data": "fddb", "data_root": fddb}, progress=False)


def test_a_finished_run_is_judged_on_another_data_set(fddb, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    architecture = Architecture("asfd", PLAIN, {})
    architecture.save(run / "architecture.json")
    save_weights(architecture.build(seed=0), run / "weights.safetensors")
    (run / "config.yaml").write_text("data: scenes\naugmentation: dsfd\n")
    command = [sys.executable, "-m", "evaluators.verify", str(run), "--data", "fddb", "--data-root", str(fddb)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout.splitlines()[-1])
    assert {"ap", "tpr_discrete", "tpr_continuous"} <= metrics.keys()
    done = subprocess.run([*command, "--split", "train"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no split 'train'" in done.stderr
