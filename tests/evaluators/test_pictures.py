"""Picture files of every kind, and damaged ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from evaluators import pictures
from evaluators.pictures import read_rgb, upright_size
from searchspaces.errors import DatasetError

RED, GREY = (200, 30, 20), 120


def colours(mode):
    """A picture of 8 x 12 in a mode, and the colour that it has."""
    if mode in ("L", "LA", "1"):
        return Image.new("L", (12, 8), GREY).convert(mode, dither=0), None
    if mode == "I;16":
        return Image.fromarray(np.full((8, 12), GREY * 257, np.uint16)), (GREY,) * 3
    if mode == "I":
        return Image.fromarray(np.full((8, 12), GREY * 257, np.int32)), (GREY,) * 3
    picture = Image.new("RGB", (12, 8), RED)
    return picture.quantize() if mode == "P" else picture.convert(mode), RED


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *(
            ("RGB", "png"),
            ("RGB", "jpg"),
            ("RGB", "webp"),
            ("CMYK", "jpg"),
            ("P", "png"),
            ("P", "gif"),
            ("RGBA", "png"),
        ),
        *(("L", "png"), ("L", "jpg"), ("LA", "png"), ("1", "png"), ("I;16", "png"), ("I", "tif")),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, suffix):
    picture, colour = colours(mode)
    file = tmp_path / f"picture.{suffix}"
    picture.save(file)
    found = read_rgb(file)
    assert found.shape == (3, 8, 12) and found.dtype == np.uint8
    if colour is None:
        assert np.ptp(found[:, 4, 6].astype(int)) == 0
    else:
        np.testing.assert_allclose(found[:, 4, 6].astype(int), colour, atol=12)


def test_what_is_transparent_is_white(tmp_path):
    file = tmp_path / "clear.png"
    Image.new("RGBA", (12, 8), (10, 20, 30, 0)).save(file)
    assert (read_rgb(file) == 255).all()
    palette = Image.new("P", (12, 8), 0)
    palette.putpalette([0, 0, 0] * 256)
    palette.save(file, transparency=0)
    assert (read_rgb(file) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path, orientation):
    picture = Image.new("RGB", (12, 8), "black")
    exif = picture.getexif()
    exif[0x0112] = orientation
    file = tmp_path / "turned.jpg"
    picture.save(file, exif=exif)
    assert read_rgb(file).shape[1:] == upright_size(file) == ((12, 8) if orientation > 4 else (8, 12))


def test_a_damaged_file_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:1500])
    (tmp_path / "text.png").write_text("no picture")
    for name in ("half.jpg", "text.png", "missing.jpg"):
        with pytest.raises(DatasetError, match=name):
            read_rgb(tmp_path / name)


def test_a_huge_picture_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 50)
    Image.new("L", (12, 8)).save(tmp_path / "large.png")
    with pytest.raises(DatasetError, match="12 x 8 pixels"):
        read_rgb(tmp_path / "large.png")
