"""A user's own pictures: what is read, what is refused, and that every message names the file."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluators.datasets import build_dataset, folder
from evaluators.datasets.base import FaceData
from searchspaces.errors import ConfigError, DatasetError

SHOWN = {"train": ("anna", "ben"), "val": ("cem",), "test": ("dora",)}


def save(path: Path, picture: Image.Image | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or Image.new("RGB", (96, 120), (180, 120, 90))).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small, complete data set: every person with a live face, a print and an attack of no type."""
    for split, people in SHOWN.items():
        for person in people:
            save(tmp_path / split / "live" / f"{person}_1.jpg")
            save(tmp_path / split / "attack" / "print" / "a4" / f"{person}_2.png")
            save(tmp_path / split / "attack" / f"{person}.png")
    return tmp_path


def build(root: Path) -> FaceData:
    return build_dataset("folder", root=root)


def test_folders_say_label_kind_person_and_split(root: Path) -> None:
    (root / "train" / "live" / ".DS_Store").write_bytes(b"x")
    (root / "train" / "live" / "notes.txt").write_text("x")
    data = build(root)
    train = data.splits["train"]
    assert sorted(zip(train.kinds.tolist(), train.people.tolist(), train.labels.tolist(), strict=True)) == [
        ("attack", "anna", 0), ("attack", "ben", 0), ("live", "anna", 1), ("live", "ben", 1), ("print", "anna", 0),
        ("print", "ben", 0),
    ]  # fmt: skip
    picture, label = data.splits["test"][0]
    assert picture.shape == (3, 128, 128) and picture.dtype == torch.uint8 and label == 1
    card = json.loads(json.dumps(data.card))
    assert card["simulated"] is False and card["files_passed_over"] == 1
    assert card["splits"]["train"] == {"people": 2, "live": 2, "attack": 2, "print": 2}
    assert [len(half) for half in train.halves(0)] == [3, 3]


def test_root_is_needed_and_people_are_not_an_option(root: Path) -> None:
    with pytest.raises(ConfigError, match="needs the folder of your pictures"):
        build_dataset("folder")
    with pytest.raises(ConfigError, match="Leave people out"):
        build_dataset("folder", root=root, people=5)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere of the data set 'folder' does not exist"):
        build(tmp_path / "nowhere")


def test_a_missing_split_is_named_with_the_folder_that_was_meant(root: Path) -> None:
    (root / "val").rename(root / "valid")
    with pytest.raises(DatasetError, match=r"split folder .*/val is missing.*Should 'valid' be called 'val'\?"):
        build(root)


def test_a_missing_class_is_named(root: Path) -> None:
    (root / "test" / "live").rename(root / "test" / "real")
    with pytest.raises(DatasetError, match=r"class folder .*/test/live is missing; .*/test has attack, real"):
        build(root)


def test_an_empty_class_is_named(root: Path) -> None:
    (root / "val" / "live" / "cem_1.jpg").rename(root / "val" / "live" / "cem_1.heic")
    with pytest.raises(DatasetError, match=r"val/live has no pictures \(1 other files\)"):
        build(root)


def test_an_attack_called_live_is_refused(root: Path) -> None:
    save(root / "train" / "attack" / "live" / "anna_9.png")
    with pytest.raises(DatasetError, match="cannot be called 'live'"):
        build(root)


def test_a_person_in_two_splits_is_refused_with_both_files(root: Path) -> None:
    save(root / "test" / "live" / "anna_7.jpg")
    with pytest.raises(DatasetError, match=r"(?s)'anna' is in train \(.*anna.*\) and in test \(.*anna_7.jpg\)"):
        build(root)


@pytest.mark.parametrize("name", ["broken.jpg", "broken.png", "broken.webp", "broken.tif", "broken.gif"])
@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_a_file_that_is_no_picture_is_named(root: Path, name: str, content: bytes) -> None:
    (root / "train" / "live" / name).write_bytes(content)
    with pytest.raises(DatasetError, match=f"{name} cannot be read as a picture"):
        build(root)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_picture_is_found_when_the_data_set_is_built(root: Path, suffix: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    path = save(root / "train" / "live" / f"anna_cut.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match=rf"anna_cut.{suffix} cannot be read"):
        build(root)


def test_a_picture_that_breaks_later_is_named_when_it_is_read(root: Path) -> None:
    split = build(root).splits["test"]
    path = root / "test" / "live" / "dora_1.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match=r"dora_1.jpg cannot be read"):
        split.images([0])


def test_a_small_picture_is_named(root: Path) -> None:
    save(root / "train" / "live" / "anna_tiny.png", Image.new("RGB", (400, 40)))
    with pytest.raises(DatasetError, match=r"anna_tiny.png is too small a picture: 400 x 40"):
        build(root)


@pytest.mark.parametrize("side", [8000, 60000])
def test_a_picture_bomb_is_refused_by_its_header(root: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (root / "train" / "live" / "anna_bomb.png").write_bytes(bomb)
    with pytest.raises(DatasetError, match=r"anna_bomb.png is too large a picture"):
        build(root)


@pytest.mark.parametrize(
    ("name", "picture", "colour"),
    [
        ("grey.png", Image.new("L", (80, 80), 130), (130, 130, 130)),
        ("grey16.png", Image.fromarray(np.full((80, 80), 130 * 257, dtype=np.uint16)), (130, 130, 130)),
        ("grey16.tif", Image.fromarray(np.full((80, 80), 130 * 257, dtype=np.uint16)), (130, 130, 130)),
        ("palette.png", Image.new("RGB", (80, 80), (200, 10, 60)).quantize(4), (200, 10, 60)),
        ("alpha.png", Image.new("RGBA", (80, 80), (200, 10, 60, 255)), (200, 10, 60)),
        ("greyalpha.png", Image.new("LA", (80, 80), (130, 255)), (130, 130, 130)),
        ("cmyk.tif", Image.new("CMYK", (80, 80), (0, 255, 0, 0)), (255, 0, 255)),
        ("bilevel.png", Image.new("1", (80, 80), 1), (255, 255, 255)),
    ],
)
def test_every_kind_of_picture_becomes_rgb(
    tmp_path: Path, name: str, picture: Image.Image, colour: tuple[int, ...]
) -> None:
    path = save(tmp_path / name, picture)
    folder.check_picture(path)
    read = folder.read_picture(path, 64)
    assert read.shape == (3, 64, 64) and read.dtype == np.uint8
    np.testing.assert_allclose(read.mean(axis=(1, 2)), colour, atol=1.5)


def test_a_turned_picture_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((100, 100, 3), dtype=np.uint8)
    pixels[:, 50:] = 255  # bright on the right
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to see it upright: bright below
    path = save(tmp_path / "turned.jpg", Image.fromarray(pixels), exif=exif, quality=95)
    read = folder.read_picture(path, 64)
    assert read[:, 40:].mean() > 240 and read[:, :24].mean() < 15


def test_the_shorter_side_is_scaled_and_the_middle_is_cut_out(tmp_path: Path) -> None:
    pixels = np.zeros((100, 300, 3), dtype=np.uint8)
    pixels[:, 100:200] = 255
    read = folder.read_picture(save(tmp_path / "wide.png", Image.fromarray(pixels)), 64)
    assert read[:, :, 2:-2].min() > 240


def test_a_small_set_is_decoded_once_and_a_copy_decodes_for_itself(root: Path) -> None:
    split = build(root).splits["train"]
    before = split.images(np.arange(len(split)))
    copy = pickle.loads(pickle.dumps(split))
    for path in root.rglob("*_1.jpg"):
        path.unlink()
    assert torch.equal(split.images(np.arange(len(split))), before)
    with pytest.raises(DatasetError, match="cannot be read"):
        copy.images([0])


def test_a_large_jpeg_is_read_at_reduced_size_with_the_same_result(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 1600).astype(np.uint8)
    pixels = np.repeat(np.broadcast_to(ramp, (1600, 1600))[..., None], 3, axis=2)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=95)
    (tmp_path / "large.jpg").write_bytes(buffer.getvalue())
    read = folder.read_picture(tmp_path / "large.jpg", 128)
    np.testing.assert_allclose(read.mean(axis=(0, 1)), np.linspace(1, 254, 128), atol=2.5)
