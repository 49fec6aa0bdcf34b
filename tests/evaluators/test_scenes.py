"""`scenes`: exact boxes, nothing shared between splits, the same again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from evaluators.datasets import build_dataset
from evaluators.datasets.cache import INDEX
from evaluators.datasets.scene_parts import (
    CutOut,
    channel_range,
    cut_out_person,
    draw_placement,
    paste,
    place,
    without_face,
)
from evaluators.datasets.scene_worker import MOST_FACES, compose
from evaluators.datasets.scenes import PHOTOGRAPHS, find_photographs
from searchspaces.errors import ConfigError

PEOPLE = 50


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data(cache):
    return build_dataset("scenes", people=PEOPLE, cache=cache, progress=False)


def test_splits_share_no_group_and_no_photograph(data):
    groups = [set(split.groups) for split in data.splits.values()]
    assert all(not a & b for index, a in enumerate(groups) for b in groups[:index])
    assert [len(split) for split in data.splits.values()] == [30, 10, 10]
    names = [name for packages in PHOTOGRAPHS.values() for files in packages.values() for name in files]
    assert len(names) == len(set(names)) and find_photographs().keys() == data.splits.keys()
    assert "astronaut.png" not in names and "camera.png" not in names  # they show people


def test_faces_have_the_widths_that_were_asked_for_and_lie_inside(data):
    boxes = np.concatenate([own for split in data.splits.values() for own in split.boxes])
    assert len(boxes) > PEOPLE and boxes.min() >= 0 and boxes.max() <= data.image_size
    widths = boxes[:, 2] - boxes[:, 0]
    assert widths.min() > 14 and widths.max() < 190 and np.median(widths) < 75
    assert max(len(own) for own in data.splits["train"].boxes) <= MOST_FACES
    assert data.card["simulated"] and data.card["splits"]["train"]["pictures"] == 30


def test_the_same_seed_gives_the_same_pictures(data, cache, tmp_path):
    again = build_dataset("scenes", people=PEOPLE, cache=cache, progress=False)
    assert (again.splits["val"].picture(3) == data.splits["val"].picture(3)).all()
    other = build_dataset("scenes", people=PEOPLE, cache=tmp_path, progress=False)
    for split in data.splits:
        assert all(
            np.array_equal(a, b) for a, b in zip(data.splits[split].boxes, other.splits[split].boxes, strict=True)
        )
        assert (data.splits[split].picture(0) == other.splits[split].picture(0)).all()


def test_changed_boxes_in_the_cache_are_found_out(tmp_path, capsys):
    first = build_dataset("scenes", people=PEOPLE, cache=tmp_path, progress=False)
    (index,) = (tmp_path / "datasets").glob(f"*/{INDEX}")
    content = json.loads(index.read_text())
    row = next(iter(content["extra"]["boxes"]))
    content["extra"]["boxes"][row] = [[0, 0, 1, 1]]
    index.write_text(json.dumps(content))
    again = build_dataset("scenes", people=PEOPLE, cache=tmp_path, progress=False)
    assert "checksum of the index differs" in capsys.readouterr().err
    assert np.array_equal(again.splits["train"].boxes[0], first.splits["train"].boxes[0])


def test_wrong_options_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least 50"):
        build_dataset("scenes", people=10, cache=tmp_path, progress=False)
    with pytest.raises(ConfigError, match="takes no root"):
        build_dataset("scenes", root=tmp_path, cache=tmp_path, progress=False)


# ---- the parts, without any photograph of a person


def head() -> CutOut:
    """A disc for a face on a larger one for a head."""
    rows, columns = np.mgrid[:120, :100]
    opacity = ((columns - 50) / 40.0) ** 2 + ((rows - 60) / 55.0) ** 2 <= 1
    face = ((columns - 50) / 20.0) ** 2 + ((rows - 60) / 25.0) ** 2 <= 1
    pixels = np.zeros((120, 100, 4), np.float32)
    pixels[..., 3], pixels[face, 0], pixels[..., 1] = opacity, 1.0, 0.2
    return CutOut(pixels, (30.0, 35.0, 70.0, 85.0))


def test_the_box_of_a_placed_face_is_where_its_pixels_are():
    for seed in range(20):
        random, person = np.random.default_rng(seed), head()
        placement = draw_placement(person, 60.0, (100.0, 110.0), random)
        scene = np.zeros((220, 220, 3), np.float32)
        paste(scene, place(person, placement, 220))
        rows, columns = np.nonzero(scene[..., 0] > 0.5)
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(placement.box, found, atol=2.2)


def test_a_head_without_its_face_has_none():
    bare = without_face(head(), np.random.default_rng(1))
    assert np.array_equal(bare.pixels[..., 3], head().pixels[..., 3])
    assert np.ptp(bare.pixels[50:70, 42:58, 0]) < 0.35


def test_a_scene_has_as_many_faces_as_boxes_and_covers_none():
    for seed in range(6):
        random = np.random.default_rng(seed)
        picture, boxes = compose([head()] * 4, [], 160, random)
        assert picture.shape == (160, 160, 3) and picture.dtype == np.uint8 and len(boxes) <= 4
        for index, (x0, y0, x1, y1) in enumerate(boxes):
            assert all(x1 <= a or c <= x0 or y1 <= b or d <= y0 for a, b, c, d in boxes[:index])


def test_only_portraits_in_front_of_white_are_cut_out():
    white = np.full((472, 354, 3), 250, np.uint8)
    rows, columns = np.mgrid[:472, :354]
    white[((columns - 177) / 110.0) ** 2 + ((rows - 260) / 180.0) ** 2 <= 1] = (120, 80, 60)
    box = [0.32, 0.3, 0.68, 0.7]
    person = cut_out_person(Image.fromarray(white), box)
    assert person is not None and person.pixels[260, 177, 3] == pytest.approx(1) and person.pixels[5, 5, 3] == 0
    grey = white.copy()
    grey[(white == 250).all(axis=2)] = 120
    assert cut_out_person(Image.fromarray(grey), box) is None
    assert cut_out_person(Image.fromarray(white), [0.0, 0.0, 0.3, 0.3]) is None  # the face is not in the person


def test_the_range_of_channels_is_numpys():
    pixels = np.random.default_rng(0).random((20, 30, 3), dtype=np.float32)
    assert np.array_equal(channel_range(pixels), np.ptp(pixels, axis=2))


@pytest.mark.parametrize("width", [14.0, 40.0, 150.0])  # much smaller, smaller and larger than the portrait
def test_a_person_is_placed_plane_by_plane_as_all_planes_together(width):
    random = np.random.default_rng(1)
    person = CutOut(random.random((120, 90, 4), dtype=np.float32), (25.0, 30.0, 65.0, 80.0))
    placement = draw_placement(person, width, (50.0, 45.0), random)
    layer = place(person, placement, 96)

    scale = float(np.sqrt(abs(np.linalg.det(placement.forward))))
    factor = max(1, int(0.7 / scale))
    source = np.dstack([np.asarray(Image.fromarray(person.pixels[..., c].copy()).reduce(factor)) for c in range(4)])
    if scale * factor < 0.8:
        source = ndimage.gaussian_filter(source, (0.4 / (scale * factor), 0.4 / (scale * factor), 0))
    source = np.dstack([source[..., :3] * source[..., 3:], source[..., 3]])
    backward = np.linalg.inv(placement.forward)
    low = np.array([layer.left, layer.top])
    offset = (np.array([45.0, 55.0]) - backward @ (np.asarray(placement.centre) - low)) / factor
    coefficients = (*(backward[0] / factor), offset[0], *(backward[1] / factor), offset[1])
    size = layer.pixels.shape[1::-1]
    moved = [
        Image.fromarray(source[..., c].copy()).transform(
            size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
        for c in range(4)
    ]
    assert np.array_equal(layer.pixels, np.dstack([np.asarray(each) for each in moved]))
    assert layer.pixels.max() > 0.1
