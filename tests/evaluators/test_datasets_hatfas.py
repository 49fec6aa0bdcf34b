"""Frames of videos in the layout of HaTFAS' code, and error rates of videos."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from evaluators.antispoofing import AntiSpoofing
from evaluators.datasets import build_dataset
from evaluators.metrics import equal_error_threshold, video_metrics
from evaluators.scores import Scores
from searchspaces import Architecture
from searchspaces.errors import ConfigError, DatasetError


def layout(root, videos=3, frames=2):
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in ("true", "attack"):
            for video in range(videos):
                for frame in range(frames):
                    path = root / split / name / f"video_{video}" / f"face_image_{frame + 1}.jpg"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    level = 160 if name == "true" else 60
                    pixels = random.integers(level, level + 40, (80, 80, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(path)
    return root


def test_frames_are_read_with_their_videos(tmp_path):
    data = build_dataset("hatfas", root=layout(tmp_path), progress=False)
    split = data.splits["test"]
    assert len(split) == 12 and split.labels.sum() == 6 and data.image_size == 256
    assert sorted(set(split.people.tolist()))[0] == "test/attack/video_0" and len(set(split.people.tolist())) == 6
    assert split.images([0]).shape == (1, 3, 256, 256) and split.images([0]).float().mean() > 150
    assert data.card["unit"] == "video" and not set(split.people) & set(data.splits["train"].people)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "test" / "true").rename(root / "test" / "live"), "has attack, live"),
        (lambda root: [p.unlink() for p in (root / "val" / "attack").rglob("*.jpg")], "no pictures"),
        (lambda root: (root / "train/true/video_0/face_image_1.jpg").write_bytes(b"no"), "face_image_1"),
    ],
)
def test_folders_that_lack_something_are_refused(spoil, message, tmp_path):
    spoil(layout(tmp_path))
    with pytest.raises(DatasetError, match=message):
        build_dataset("hatfas", root=tmp_path, progress=False)


def test_a_frame_that_is_in_two_splits_is_refused_and_equal_names_are_not(tmp_path):
    layout(tmp_path)  # the videos of all splits have the same names
    build_dataset("hatfas", root=tmp_path, progress=False)
    copied = tmp_path / "test/true/other/frame.jpg"
    copied.parent.mkdir()
    copied.write_bytes((tmp_path / "train/true/video_1/face_image_2.jpg").read_bytes())
    with pytest.raises(DatasetError, match=r"test/true/other/frame.jpg and .*train/true/video_1/face_image_2.jpg"):
        build_dataset("hatfas", root=tmp_path, progress=False)
    copied.rename(tmp_path / "train/true/video_1/face_image_3.jpg")  # twice in one split is no leak
    build_dataset("hatfas", root=tmp_path, progress=False)


def test_it_needs_a_root_and_has_no_number_of_people(tmp_path):
    with pytest.raises(DatasetError, match="--data-root"):
        build_dataset("hatfas")
    with pytest.raises(ConfigError, match="people=3"):
        build_dataset("hatfas", root=layout(tmp_path), people=3)


def test_videos_are_judged_by_the_mean_of_their_frames():
    scores = np.array([0.9, 0.1, 0.6, 0.7, 0.2, 0.7, 0.1, 0.1])
    labels, videos = np.array([1, 1, 1, 1, 0, 0, 0, 0]), ["a", "a", "b", "b", "c", "c", "d", "d"]
    kinds = ["live"] * 4 + ["attack"] * 4
    val = (np.array([0.2, 0.4, 0.6, 0.9]), np.array([0, 0, 1, 1]))
    names = np.array(["p", "q", "r", "s"])
    chosen = Scores(*val, np.array(["attack", "attack", "live", "live"]), names, names, np.zeros(4, int))
    own = (np.array(kinds), np.array(videos), np.array(videos), np.tile([0, 1], 4))
    found = video_metrics(Scores(scores, labels, *own), chosen)
    # means: a .5, b .65 live; c .45, d .1 attacks; both thresholds are .5
    assert equal_error_threshold(val[0], val[1]) == 0.5
    assert found["video_bpcer"]["value"] == 0 and found["video_apcer"]["value"] == 0
    assert found["video_hter_argmax"]["value"] == 0 and found["video_eer"]["value"] == 0
    # of frames: one of four live is below a half, one of four attacks above
    assert found["hter_argmax"]["value"] == pytest.approx(0.25)
    assert found["hter_argmax"]["low"] <= 0.25 <= found["hter_argmax"]["high"]


def test_a_task_on_videos_tells_both_and_others_tell_what_they_told(tmp_path):
    data = build_dataset("hatfas", root=layout(tmp_path), progress=False)
    options = {"image_size": 32, "embed": [64], "depth": [1], "mlp_ratio": [1]}
    network = Architecture("hatfas", options, {"embed": 64, "depth": 1, "mlp_ratio": 1}).build(seed=0)
    task = AntiSpoofing(data, 32, "cross_entropy")
    found = task.metrics(network)
    assert {"acer", "video_acer", "hter_argmax", "video_hter_argmax"} <= found.keys()
    del data.card["unit"]
    assert not any("video" in name or "argmax" in name for name in task.metrics(network))
    evidence = task.evidence(network)
    assert evidence["positive"] == "live" and evidence["counts"] == {"positive": 6, "negative": 6}
