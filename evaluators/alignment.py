"""Five-point alignment: a face turned, scaled and moved so that eyes, nose and mouth lie where networks expect them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import DatasetError

SIDE = 112
# where ArcFace (Deng et al., CVPR 2019) puts the eyes, the nose and the corners of the mouth in 112 x 112 pixels
REFERENCE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def align(picture: NDArray[np.uint8], points: NDArray[np.float64], size: int = SIDE) -> NDArray[np.uint8]:
    """The picture of an aligned face, ``(3, size, size)`` uint8; what lies outside of the picture is black.

    The similarity transform (no mirror) that is nearest to the reference in the least squares (Umeyama, 1991).

    Args:
        picture: ``(3, H, W)``.
        points: ``(5, 2)`` x and y of the left eye, the right eye, the nose, the left and the right corner of the mouth,
            left as one sees it in the picture.

    Raises:
        DatasetError: if the points cannot be those of a face.
    """
    from skimage.transform import warp

    pixels = warp(picture.transpose(1, 2, 0), similarity(points, size).inverse, output_shape=(size, size), order=1)
    return np.ascontiguousarray((pixels * 255 + 0.5).astype(np.uint8).transpose(2, 0, 1))


def similarity(points: NDArray[np.float64], size: int = SIDE) -> Any:
    """The transform from the picture's coordinates to those of the aligned one (skimage's SimilarityTransform)."""
    from skimage.transform import SimilarityTransform

    points = np.asarray(points, dtype=np.float64)
    if points.shape != REFERENCE.shape or not np.isfinite(points).all() or np.ptp(points, axis=0).max() < 1:
        raise DatasetError(f"Landmarks {points.tolist()} are not five points of a face.")
    target = REFERENCE * (size / SIDE)
    from_estimate = getattr(SimilarityTransform, "from_estimate", None)  # since scikit-image 0.26
    if from_estimate is not None:
        found = from_estimate(points, target)
    else:
        found = SimilarityTransform()
        found = found if found.estimate(points, target) else None
    if not found or not np.isfinite(found.params).all():
        raise DatasetError(f"Landmarks {points.tolist()} do not lie as those of a face do.")
    return found
