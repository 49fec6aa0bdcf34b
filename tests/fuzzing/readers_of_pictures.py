"""Readers of pictures, videos and what is kept of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .readers import Reader


def noise(size: tuple[int, int] = (72, 80), seed: int = 0) -> Image.Image:
    width, height = size
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def _pictures(folder: Path) -> dict[str, str]:
    """Every format and mode that is likely, with EXIF and an animation."""
    one = noise()
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    one.save(folder / "a.jpg", exif=exif)
    one.save(folder / "progressive.jpg", progressive=True)
    one.convert("CMYK").save(folder / "cmyk.jpg")
    one.save(folder / "a.png", exif=exif)
    one.convert("P").save(folder / "palette.png", transparency=3)
    one.convert("L").convert("I;16").save(folder / "deep.png")
    one.convert("1").save(folder / "bits.png")
    one.convert("LA").save(folder / "alpha.png")
    one.save(folder / "a.webp", lossless=True)
    one.save(folder / "a.gif", save_all=True, append_images=[noise(seed=1), noise(seed=2)])
    one.save(folder / "a.bmp")
    one.save(folder / "a.tiff", compression="tiff_lzw")
    one.convert("F").save(folder / "float.tiff")
    one.save(folder / "a.ppm")
    one.convert("L").save(folder / "a.pgm")
    return {path.name: "png" if path.suffix == ".png" else "bytes" for path in sorted(folder.iterdir())}


def _read_rgb(folder: Path, file: Path) -> Any:
    from evaluators.pictures import decode_rgb, read_rgb

    found = read_rgb(file)
    assert found.ndim == 3 and found.shape[0] == 3 and found.dtype == np.uint8
    return decode_rgb(file.read_bytes(), file.name)


def _read_size(folder: Path, file: Path) -> Any:
    from evaluators.pictures import upright_size

    return upright_size(file)


def _read_face(folder: Path, file: Path) -> Any:
    from evaluators.datasets.folder import check_picture, read_picture

    check_picture(file)
    found = read_picture(file, 64)
    assert found.shape == (3, 64, 64)


def _read_spoof_face(folder: Path, file: Path) -> Any:
    from evaluators.datasets.celeba_spoof import read_face

    return read_face(str(file), (56, 56, 112, 112))


def _calibration(folder: Path) -> dict[str, str]:
    for number in range(2):
        noise(seed=number).save(folder / f"{number}.png")
    return {"0.png": "png", "1.png": "png"}


def _read_calibration(folder: Path, file: Path) -> Any:
    from hardware.runtimes.calibration import picture_inputs

    return picture_inputs(folder, (3, 32, 32))


def _stored(folder: Path) -> dict[str, str]:
    from evaluators.datasets.prepared import SIDE, encode

    (folder / "face").write_bytes(encode(np.asarray(noise((SIDE, SIDE))).transpose(2, 0, 1)))
    return {"face": "bytes"}


def _read_stored(folder: Path, file: Path) -> Any:
    """Its documented errors are those that `PackSource` turns into a `DatasetError`."""
    from evaluators.datasets.prepared import decode
    from searchspaces.errors import DatasetError

    try:
        return decode(file.read_bytes(), 64)
    except (ValueError, OSError) as error:
        raise DatasetError(str(error)) from error


def _videos(folder: Path) -> dict[str, str]:
    from tests.licensed import picture, write_video

    frames = [picture(seed, True) for seed in range(4)]
    write_video(folder / "a.avi", frames)
    write_video(folder / "a.mp4", frames, "mpeg4")
    write_video(folder / "b.mov", frames, "libx264")
    return {"a.avi": "bytes", "a.mp4": "bytes", "b.mov": "bytes"}


def _read_video(folder: Path, file: Path) -> Any:
    from evaluators.video import count_frames, read_frames

    count_frames(file)
    for _, pixels in read_frames(file, {0, 2}):
        assert pixels.dtype == np.uint8


def _bundle(folder: Path) -> dict[str, str]:
    """A picture set in memory, as `.rec` and `.bin` files hold them."""
    buffer = io.BytesIO()
    noise((112, 112)).save(buffer, "JPEG")
    (folder / "face").write_bytes(buffer.getvalue())
    return {"face": "bytes"}


def _read_bundle(folder: Path, file: Path) -> Any:
    from evaluators.datasets.packed import EncodedPictures

    return EncodedPictures([file.read_bytes()], "bundle").read(np.array([0]))


READERS = [
    Reader("pictures", _pictures, _read_rgb),
    Reader("sizes of pictures", _pictures, _read_size),
    Reader("pictures of faces", _pictures, _read_face),
    Reader("pictures of celeba-spoof", _pictures, _read_spoof_face, 0.5),
    Reader("pictures for calibration", _calibration, _read_calibration, 0.5),
    Reader("stored faces", _stored, _read_stored),
    Reader("pictures in memory", _bundle, _read_bundle, 0.5),
    Reader("videos", _videos, _read_video, 0.2),
]
