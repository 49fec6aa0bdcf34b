"""Reading a picture file of any kind: upright, 8-bit RGB, or one clear error."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from searchspaces.errors import DatasetError

# Pillow knows forty more, for some of which it runs other programs (EPS: Ghostscript); none of them is a camera's
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MOST_PIXELS = 50_000_000  # a larger picture is refused by its header, before it can fill the memory


def open_picture(path: str | Path, data: bytes | None = None) -> Image.Image:
    """A picture whose header has been read; its pixels are not decoded yet.

    Args:
        path: the file, or what ``data`` are called.
        data: the file's content, if it does not lie on disk by itself.

    Raises:
        DatasetError: if the file is no picture, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            picture = Image.open(path if data is None else io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path} is too large a picture: {error} Scale it down or remove it.") from error
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        raise unreadable(path, error) from error
    width, height = picture.size
    if width * height > MOST_PIXELS:
        picture.close()
        raise DatasetError(
            f"{path} is too large a picture: {width} x {height} pixels, more than {MOST_PIXELS // 1_000_000} million. "
            "Scale it down or remove it."
        )
    return picture


def unreadable(path: str | Path, error: Exception) -> DatasetError:
    """What is said of a damaged file."""
    reason = str(error).replace(str(path), "the file")
    return DatasetError(f"{path} cannot be read as a picture: {reason}. Replace it or remove it.")


def read_rgb(path: str | Path) -> np.ndarray:
    """A whole picture, (3, H, W) uint8, as its EXIF turns it; of an animation the first frame, transparency on white.

    Raises:
        DatasetError: naming the file.
    """
    return _rgb(path, None)


def decode_rgb(data: bytes, name: str) -> np.ndarray:
    """`read_rgb` of a picture whose file is a part of another.

    Raises:
        DatasetError: with the name.
    """
    return _rgb(name, data)


def _rgb(path: str | Path, data: bytes | None) -> np.ndarray:
    with open_picture(path, data) as picture:
        try:
            upright = on_white(ImageOps.exif_transpose(picture))
            return np.ascontiguousarray(np.asarray(upright).transpose(2, 0, 1))
        except Exception as error:
            raise unreadable(path, error) from error


def upright_size(path: str | Path) -> tuple[int, int]:
    """Height and width as `read_rgb` gives them, from the header alone.

    Raises:
        DatasetError: naming the file.
    """
    with open_picture(path) as picture:
        try:
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        except Exception as error:
            raise unreadable(path, error) from error
        return (picture.width, picture.height) if turned else (picture.height, picture.width)


def on_white(picture: Image.Image) -> Image.Image:
    """`to_rgb` with what is transparent white."""
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if picture.mode in ("LA", "PA", "RGBa", "La"):
        picture = picture.convert("RGBA")
    if picture.mode != "RGBA":
        return to_rgb(picture)
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture).convert("RGB")


def to_rgb(picture: Image.Image) -> Image.Image:
    """8-bit RGB from grey, palette, CMYK, 16-bit and transparent pictures."""
    if picture.mode.startswith(("I", "F")):
        # Pillow clips these to 0..255; 16-bit grey has to be scaled to that instead
        values = np.asarray(picture).astype(np.float64)
        scale = 255.0 / 65535.0 if values.max(initial=0.0) > 255 else 1.0
        picture = Image.fromarray(np.clip(values * scale + 0.5, 0, 255).astype(np.uint8))
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # by way of the palette's own transparency
    return picture.convert("RGB")
