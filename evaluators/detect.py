"""Find the faces of pictures with a trained detector: ``python -m evaluators.detect ARCHITECTURE WEIGHTS PICTURE``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

SMALLEST_SIDE = 64  # pixels: smaller pictures are padded, so that every map has a position of its own
LARGER = 125  # percent of the side of a training picture
FILE = "detections.json"


def main(
    architecture: str,
    weights: str,
    picture: list[str],
    threshold: float = 0.5,
    longest_side: int | None = None,
    overlap: float = 0.3,
    out: str = "detections",
    draw: bool = True,
) -> None:
    """Write the faces of pictures as JSON, and draw them.

    Writes ``detections.json`` and ``NAME-faces.png`` for each picture. Boxes are x0, y0, x1, y1 in pixels of the
    picture, upright as its EXIF says. A picture that cannot be read is named and left out.

    Args:
        architecture: architecture.json of a detector, or a run folder.
        weights: its weights.safetensors.
        picture: picture files.
        threshold: smallest score of a face that is shown.
        longest_side: larger pictures are scaled down to this for the network; by default a quarter more than its
            training pictures had. More finds smaller faces and takes longer.
        overlap: faces that overlap a better one by more than this IoU are left out.
        out: folder for the results.
        draw: also draw the faces.
    """
    from searchspaces import Architecture
    from searchspaces.console import track
    from searchspaces.errors import ConfigError, DatasetError
    from searchspaces.files import write_json

    from .pictures import read_rgb

    if not 0 <= threshold <= 1 or not 0 <= overlap <= 1:
        raise ConfigError("threshold and overlap must be from 0 to 1.")
    found = Architecture.load(architecture)
    longest_side = LARGER * found.input_size[-1] // 100 if longest_side is None else longest_side
    if longest_side < SMALLEST_SIDE:
        raise ConfigError(f"longest_side is {longest_side}, but must be at least {SMALLEST_SIDE}.")
    if getattr(found.model_space(), "task", None) != "detection":
        raise ConfigError(f"{architecture} is a network of the space {found.space!r}, not a detector.")
    network = found.build(weights=weights).eval()
    folder, rows, unreadable = Path(out), [], []
    names = _drawing_names(picture)
    for path in track(picture, "detecting"):
        try:
            pixels = read_rgb(path)
        except DatasetError as error:
            unreadable.append(str(error))
            continue
        faces = find_faces(network, pixels, threshold=threshold, longest_side=longest_side, overlap=overlap)
        row = {"picture": str(path), "width": pixels.shape[2], "height": pixels.shape[1], "faces": faces}
        if draw:
            row["drawing"] = names[path]
            draw_faces(pixels, faces, folder / names[path])
        rows.append(row)
        print(f"{path}: {len(faces)} face{'' if len(faces) == 1 else 's'}")
    for text in unreadable:
        print(f"left out: {text}")
    if not rows:
        raise DatasetError("None of the pictures could be read.")
    settings = {"threshold": threshold, "longest_side": longest_side, "overlap": overlap}
    write_json(
        folder / FILE, {"format": 1, "architecture": architecture, "weights": weights, **settings, "pictures": rows}
    )
    print(f"{folder / FILE}")


def find_faces(
    network: nn.Module, picture: np.ndarray, *, threshold: float = 0.5, longest_side: int = 640, overlap: float = 0.3
) -> list[dict[str, Any]]:
    """The faces of a picture, best first: ``box`` (x0, y0, x1, y1 in its pixels) and ``score``.

    Args:
        network: a `searchspaces.asfd.Detector` with chosen operations, in evaluation mode.
        picture: ``(3, H, W)`` uint8.
    """
    import torch
    from torch.nn import functional as F

    from .detection import faces, to_input

    height, width = picture.shape[1:]
    scale = min(1.0, longest_side / max(height, width))
    x = to_input(picture)
    if scale < 1:
        size = [max(1, round(side * scale)) for side in (height, width)]
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
    inner = (int(x.shape[-2]), int(x.shape[-1]))
    x = F.pad(x, (0, max(0, SMALLEST_SIDE - inner[1]), 0, max(0, SMALLEST_SIDE - inner[0])))
    with torch.no_grad():
        outputs = network(x)
    levels = tuple(network.levels)  # type: ignore[arg-type]
    padded = (int(x.shape[-2]), int(x.shape[-1]))
    ((boxes, scores),) = faces(outputs, padded, levels, confidence=threshold, overlap=overlap)
    back = [width / inner[1], height / inner[0]] * 2
    found = []
    for box, score in zip(boxes, scores, strict=True):
        corners = [float(c * b) for c, b in zip(box, back, strict=True)]
        limits = [width, height] * 2
        clipped = [round(min(max(corner, 0.0), limit), 1) for corner, limit in zip(corners, limits, strict=True)]
        if clipped[2] > clipped[0] and clipped[3] > clipped[1]:
            found.append({"box": clipped, "score": round(float(score), 4)})
    return found


def draw_faces(picture: np.ndarray, faces: list[dict[str, Any]], path: Path) -> None:
    """Write a PNG of the picture with a frame and a score on every face."""
    from PIL import Image, ImageDraw, ImageFont

    from searchspaces.errors import FacenasError

    image = Image.fromarray(picture.transpose(1, 2, 0))
    pen = ImageDraw.Draw(image)
    stroke = max(2, round(max(image.size) / 300))
    font = ImageFont.load_default(size=max(11, round(max(image.size) / 55)))
    for face in faces:
        x0, y0, x1, y1 = face["box"]
        pen.rectangle((x0, y0, x1, y1), outline="#ffb000", width=stroke)
        text = f"{face['score']:.2f}"
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        width, height = right - left + 2 * stroke, bottom - top + 2 * stroke
        above = y0 - height if y0 >= height else y0
        pen.rectangle((x0, above, x0 + width, above + height), fill="#ffb000")
        pen.text((x0 + stroke - left, above + stroke - top), text, fill="black", font=font)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    except OSError as error:
        raise FacenasError(f"Cannot write {path}: {error.strerror or error}.") from error


def _drawing_names(pictures: list[str]) -> dict[str, str]:
    """A file name for the drawing of each picture; pictures of one name in several folders are numbered."""
    names: dict[str, str] = {}
    for path in pictures:
        stem, number = Path(path).stem, 1
        while (name := f"{stem}{'' if number == 1 else f'-{number}'}-faces.png") in names.values():
            number += 1
        names[path] = name
    return names


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m evaluators.detect"))
