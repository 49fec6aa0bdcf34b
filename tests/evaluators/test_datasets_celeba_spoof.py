"""CelebA-Spoof's layout, made of noise: labels, boxes, splits, lazy reading, and what is refused or left out."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluators.antispoofing import AntiSpoofing
from evaluators.batches import centre_crop
from evaluators.datasets import build_dataset, celeba_spoof, celeba_spoof_index
from evaluators.datasets.base import FaceData
from searchspaces.errors import ConfigError, DatasetError

TRAIN_PEOPLE, TEST_PEOPLE = range(1, 11), range(11, 14)
KINDS_SHOWN = (0, 1, 7, 10)
TRAIN, TEST = "metas/intra_test/train_label.json", "metas/intra_test/test_label.json"
NOISE = np.random.default_rng(0)


def labels(kind: int) -> list[int]:
    return [0] * 40 + [kind, min(kind, 1), min(kind, 1), min(kind, 1)]


def save(root: Path, path: str, box: str = "56 56 112 112 0.998", picture: Image.Image | None = None) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = NOISE.integers(0, 256, (60, 40, 3), dtype=np.uint8)
    (picture or Image.fromarray(noise)).save(file)
    file.with_name(f"{file.stem}_BB.txt").write_text(box + "\n")
    return file


def write_list(root: Path, name: str, rows: Any) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(rows))


def read_rows(root: Path, name: str) -> dict[str, list[int]]:
    return json.loads((root / name).read_text())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy with 13 people, each with a live face and three attacks."""
    base = tmp_path / "CelebA_Spoof"
    for part, people, name in (("train", TRAIN_PEOPLE, TRAIN), ("test", TEST_PEOPLE, TEST)):
        rows = {}
        for person in people:
            for kind in KINDS_SHOWN:
                suffix = "png" if kind % 2 else "jpg"
                path = f"Data/{part}/{person}/{'spoof' if kind else 'live'}/{person:03}{kind:03}.{suffix}"
                save(base, path)
                rows[path] = labels(kind)
        write_list(base, name, rows)
    return base


@pytest.fixture
def large_root(root: Path) -> Path:
    """The copy with 100 more pictures of person 1: one damaged picture is less than a hundredth."""
    rows = read_rows(root, TRAIN)
    for number in range(100):
        path = f"Data/train/1/spoof/9{number:05}.png"
        save(root, path)
        rows[path] = labels(1)
    write_list(root, TRAIN, rows)
    return root


def build(root: Path, **options: Any) -> FaceData:
    return build_dataset("celeba-spoof", root=root, cache=root.parent / "cache", progress=False, **options)


# ---- labels and splits ------------------------------------------------------------------------------------------


def test_labels_and_kinds_come_from_the_lists(root: Path) -> None:
    data = build(root)
    test = data.splits["test"]
    shown = set(zip(test.kinds.tolist(), test.labels.tolist(), strict=True))
    assert shown == {("live", 1), ("photo", 0), ("pc", 0), ("3d-mask", 0)}
    assert set(test.people.tolist()) == {"11", "12", "13"} and len(test) == 12
    assert celeba_spoof_index.KINDS[4:7] == ("face-mask", "upper-body-mask", "region-mask")
    card = json.loads(json.dumps(data.card))
    assert card["simulated"] is False and "non-commercial research" in card["licence"] and card["left_out"] == {}
    assert any("by person" in text or "people are split" in text for text in card["deviations"])
    assert card["splits"]["test"] == {"people": 3, "live": 3, "3d-mask": 3, "pc": 3, "photo": 3}


def test_a_person_is_in_one_split_and_a_fifth_of_the_people_validate(root: Path) -> None:
    people = {name: set(split.people.tolist()) for name, split in build(root).splits.items()}
    assert {name: len(members) for name, members in people.items()} == {"train": 8, "val": 2, "test": 3}
    assert len(set.union(*people.values())) == 13
    other = build(root, seed=1).splits["val"].people.tolist()
    assert set(other) != people["val"] and set(build(root).splits["val"].people.tolist()) == people["val"]


def test_people_of_the_training_list_who_are_tested_are_left_out(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_rows(root, TEST)
    rows["Data/train/1/live/001000.jpg"] = labels(0)
    write_list(root, TEST, rows)
    data = build(root)
    assert "1" not in data.splits["train"].people and "1" not in data.splits["val"].people
    assert data.splits["test"].people.tolist().count("1") == 1
    assert sum(data.card["left_out"].values()) == 4
    assert "leaves out 4 pictures" in capsys.readouterr().err


def test_more_people_move_nobody_to_another_split(root: Path) -> None:
    few, more = build(root, people=6), build(root, people=9)
    sizes = {}
    for name in ("train", "val", "test"):
        members = [set(data.splits[name].people.tolist()) for data in (few, more)]
        assert members[0] <= members[1]
        sizes[name] = [len(shown) for shown in members]
    assert [sum(column) for column in zip(*sizes.values(), strict=True)] == [6, 9]
    assert set(build(root, people="all").splits["train"].people) == set(build(root).splits["train"].people)


@pytest.mark.parametrize("people", [4, 14, "many"])
def test_a_number_of_people_that_cannot_be_shown_is_refused(root: Path, people: int | str) -> None:
    with pytest.raises(ConfigError, match="from 5 to 13 people"):
        build(root, people=people)


def test_a_split_without_live_faces_is_refused(root: Path) -> None:
    write_list(root, TEST, {path: row for path, row in read_rows(root, TEST).items() if row[40]})
    with pytest.raises(DatasetError, match="test split of 'celeba-spoof' have no live faces or no attacks"):
        build(root)


def test_the_root_may_be_the_folder_above(root: Path) -> None:
    assert len(build_dataset("celeba-spoof", root=root.parent, cache=root.parent / "c").splits["test"]) == 12
    with pytest.raises(ConfigError, match="give it as root"):
        build_dataset("celeba-spoof")
    with pytest.raises(DatasetError, match="does not exist"):
        build(root / "nowhere")
    with pytest.raises(DatasetError, match="both 'Data' and 'metas'"):
        build(root / "metas")


# ---- boxes ------------------------------------------------------------------------------------------------------


def drawn(
    width: int, height: int, corners: tuple[float, float, float, float], name: str, tmp_path: Path, **options: Any
):
    """A green picture with a red rectangle whose corners are given in parts of the sides."""
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    picture[..., 1] = 255
    x0, y0, x1, y1 = corners
    picture[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)] = (255, 0, 0)
    path = tmp_path / name
    Image.fromarray(picture).save(path, **options)
    return str(path)


@pytest.mark.parametrize(("width", "height"), [(224, 224), (448, 112), (100, 900), (2240, 1120)])
@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_the_centre_crop_is_the_box_scaled_from_the_frame(tmp_path: Path, width: int, height: int, name: str) -> None:
    path = drawn(width, height, (0.25, 0.5, 0.5, 0.75), name, tmp_path)
    face = celeba_spoof.read_face(path, (56, 112, 56, 56))
    assert face.shape == (3, 144, 144) and face.dtype == np.uint8
    crop = centre_crop(torch.from_numpy(face), 128)
    blur = 2 + 6 * (name == "x.jpg") + 128 * 4 // min(width, height)  # pixels that resampling and JPEG mix at the edge
    inner, ring = crop[:, blur:-blur, blur:-blur].float(), face[:, :2, :]
    assert inner[0].min() > 240 and inner[1].max() < 15
    if blur < 8:
        assert ring[0].max() < 15 and ring[1].min() > 240


def test_a_box_is_placed_to_the_pixel(tmp_path: Path) -> None:
    """A ramp along x: the crop's pixel i shows the picture at the box's left edge + (i + 0.5) / 128 of its width."""
    ramp = np.linspace(0, 255, 2240, endpoint=False)
    Image.fromarray(np.broadcast_to(ramp.astype(np.uint8)[None, :, None], (300, 2240, 3)).copy()).save(
        tmp_path / "r.png"
    )
    for x, width in ((40.0, 100.0), (3.0, 100.0), (120.0, 103.0)):
        face = celeba_spoof.read_face(str(tmp_path / "r.png"), (x, 50, width, 100))
        place = x + (np.arange(-8, 136) + 0.5) / 128 * width
        inside = place[(place > 0) & (place < 224)]  # beyond the picture the outermost of these are repeated
        expected = np.clip(place, inside[0], inside[-1]) / 224 * 255 - 0.5
        np.testing.assert_allclose(face[0].mean(axis=0), expected, atol=1.2)


def test_a_box_that_leaves_the_picture_is_clamped_and_its_margin_repeats_the_edge(tmp_path: Path) -> None:
    path = drawn(200, 100, (0.0, 0.0, 0.5, 1.0), "x.png", tmp_path)
    face = celeba_spoof.read_face(path, (-50, -20, 162, 300))  # clamped: the left half, which is red
    assert face[0, :, :134].min() > 240 and face[1, :, :134].max() < 15  # repeated on the left, above and below
    assert face[1, :, -4:].min() > 240  # the margin on the right shows what is there


def test_a_narrow_box_is_stretched(tmp_path: Path) -> None:
    path = drawn(100, 100, (0.0, 0.0, 1.0, 1.0), "x.png", tmp_path)
    assert celeba_spoof.read_face(path, (223.9, 0, 5, 224)).shape == (3, 144, 144)


def test_a_turned_picture_is_turned_upright_before_its_box_is_scaled(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise: what is stored below on the left is seen above on the left
    path = drawn(300, 600, (0.0, 0.75, 0.5, 1.0), "x.jpg", tmp_path, exif=exif, quality=95)
    face = celeba_spoof.read_face(path, (0, 0, 56, 112))
    assert face[0, :128, :128].min() > 200


# ---- reading ----------------------------------------------------------------------------------------------------


def test_pictures_are_opened_when_they_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path, **more: opened.append(str(path)) or real(path, **more))
    split = build(root).splits["train"]
    assert opened == []
    copy = pickle.loads(pickle.dumps(split))
    assert torch.equal(copy.images([2, 0]), split.images([2, 0])) and len(opened) == 4


def test_training_batches_of_128_pixels(root: Path) -> None:
    task = AntiSpoofing(build(root), 128, "cross_entropy", "colour")
    pictures, live = next(iter(task.loader(task.data.splits["train"], 8, seed=0)))
    assert pictures.shape == (8, 3, 128, 128) and set(live.tolist()) <= {0.0, 1.0}


def test_boxes_are_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build(root).splits["train"]
    monkeypatch.setattr(celeba_spoof_index, "read_box", lambda path: pytest.fail("read again"))
    after = build(root).splits["train"]
    assert torch.equal(before.images(np.arange(5)), after.images(np.arange(5)))


def test_a_damaged_or_outdated_index_is_made_again(root: Path) -> None:
    build(root)
    (index,) = (root.parent / "cache" / "datasets").glob("celeba-spoof-*.npz")
    index.write_bytes(index.read_bytes()[:-100])
    assert len(build(root).splits["test"]) == 12
    rows = read_rows(root, TEST)
    rows.pop(next(iter(rows)))
    write_list(root, TEST, rows)
    assert len(build(root).splits["test"]) == 11


# ---- damage -----------------------------------------------------------------------------------------------------


def write_box(text: bytes) -> Callable[[Path], object]:
    return lambda file: file.with_name(f"{file.stem}_BB.txt").write_bytes(text)


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "picture": ("the picture is missing or empty", Path.unlink),
    "empty": ("the picture is missing or empty", lambda file: file.write_bytes(b"")),
    "box": ("the box file is missing", lambda file: file.with_name(f"{file.stem}_BB.txt").unlink()),
    "words": ("not 'x y w h score'", write_box(b"1 2 three 4 5")),
    "short": ("not 'x y w h score'", write_box(b"1 2 3")),
    "binary": ("not 'x y w h score'", write_box(b"\xff\x00 1 2 3")),
    "nan": ("not 'x y w h score'", write_box(b"nan 2 3 4 1")),
    "area": ("no area", write_box(b"10 10 0 20 0.9")),
    "outside": ("no area", write_box(b"230 10 20 20 0.9")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_one_damaged_picture_of_many_is_left_out_and_counted(
    large_root: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reason, damage = DAMAGE[kind]
    damage(large_root / "Data/train/1/spoof/900007.png")
    for _ in range(2):  # the second time from the kept index
        data = build(large_root)
        ((found, number),) = data.card["left_out"].items()
        assert reason in found and number == 1
        assert sum(len(split) for split in data.splits.values()) == 151
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and "leaves out 1 picture" in lines[0] and reason in lines[0]


@pytest.mark.parametrize("kind", DAMAGE)
def test_too_much_damage_is_refused_and_the_file_named(root: Path, kind: str) -> None:
    reason, damage = DAMAGE[kind]
    damage(root / "Data/train/3/spoof/003001.png")
    with pytest.raises(DatasetError, match=rf"1 of 52 pictures .*Data/train/3/spoof/003001.png: .*{reason}"):
        build(root)


def test_a_mended_copy_is_whole_again(large_root: Path) -> None:
    box = large_root / "Data/train/1/spoof/900007_BB.txt"
    text = box.read_text()
    box.unlink()
    assert build(large_root).card["left_out"]
    box.write_text(text)
    data = build(large_root)
    assert data.card["left_out"] == {} and sum(len(split) for split in data.splits.values()) == 152


def test_a_row_whose_labels_contradict_is_left_out(large_root: Path) -> None:
    rows = read_rows(large_root, TRAIN)
    rows["Data/train/1/spoof/900000.png"][43] = 0
    write_list(large_root, TRAIN, rows)
    for _ in range(2):
        assert build(large_root).card["left_out"] == {"labels 40 and 43 contradict each other": 1}


def test_an_undecodable_picture_is_stood_in_for_with_one_line(
    large_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [large_root / f"Data/train/1/spoof/90000{number}.png" for number in (3, 4)]
    paths[0].write_bytes(b"not a picture")
    split = build(large_root, seed=1).splits["train"]
    source = split.source
    row = int(np.flatnonzero(source.index.paths == b"Data/train/1/spoof/900003.png")[0])
    face = source.read(np.array([row, row]))
    assert np.array_equal(face[0], source.read(np.array([row - 1]))[0]) and np.array_equal(face[0], face[1])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "900003.png cannot be read as a picture" in lines[0]
    assert np.array_equal(pickle.loads(pickle.dumps(source)).read(np.array([row]))[0], face[0])
    paths[1].write_bytes(paths[1].read_bytes()[:2000])  # truncated; two of 152 are more than a hundredth
    with pytest.raises(DatasetError, match=r"900004\.png cannot be read as a picture"):
        source.read(np.array([row + 1]))


def test_a_picture_that_is_gone_is_named(large_root: Path) -> None:
    split = build(large_root).splits["test"]
    (large_root / split.source.index.paths[split.rows[0]].decode()).unlink()
    with pytest.raises(DatasetError, match=r"Cannot read .*\.jpg: No such file"):
        split.images([0])


@pytest.mark.parametrize(
    ("path", "row", "message"),
    [
        ("Data/train/1/live/001000.jpg", [0] * 43, "row 'Data/train/1/live/001000.jpg' has 43 labels; expected 44"),
        ("Data/train/1/live/001000.jpg", 1, "has no list of labels"),
        ("Data/train/1/live/001000.jpg", [*labels(1)[:40], 11, 1, 1, 1], "has the unknown spoof type 11"),
        ("Data/train/1/live/001000.jpg", [*labels(1)[:40], "1", 1, 1, 1], "has the unknown spoof type '1'"),
        ("Data/train/1/live/001000.jpg", [*labels(1)[:43], 2], "has the last label 2"),
        ("../../secret.jpg", labels(0), "is no path of the form"),
        ("Data/train/../live/001000.jpg", labels(0), "is no path of the form"),
    ],
)
def test_a_row_that_is_not_understood_is_named_with_its_list(root: Path, path: str, row: Any, message: str) -> None:
    write_list(root, TRAIN, {**read_rows(root, TRAIN), path: row})
    with pytest.raises(DatasetError, match=f"train_label.json: .*{message}"):
        build(root)


def test_a_broken_or_missing_list_is_named(root: Path) -> None:
    (root / TEST).write_text('{"Data')
    with pytest.raises(DatasetError, match=r"test_label.json is not valid JSON"):
        build(root)
    write_list(root, TEST, [])
    with pytest.raises(DatasetError, match=r"test_label.json is not a list of pictures"):
        build(root)
    (root / TEST).unlink()
    with pytest.raises(DatasetError, match=r"Cannot read the list .*test_label.json: No such file"):
        build(root)


def test_a_cache_that_cannot_be_written_is_no_obstacle(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root.parent / "cache").write_text("a file, not a folder")
    assert len(build(root).splits["test"]) == 12
    assert "will be read again next time" in capsys.readouterr().err
