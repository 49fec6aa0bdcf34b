"""Can a data set be solved by a shortcut? A guard: plain statistics of whole pictures, and a linear classifier.

Where colour, contrast and sharpness alone tell live from attack, a network learns those and the search says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evaluators.metrics import equal_error_threshold

from .colour import LUMINANCE

if TYPE_CHECKING:
    from .base import FaceData, Split

STATISTICS = (
    *(f"{what} of {colour}" for what in ("mean", "deviation") for colour in ("red", "green", "blue")),
    *("mean saturation", "deviation of saturation", "log variance of Laplacian", "log gradient x", "log gradient y"),
)


def global_statistics(images: np.ndarray) -> np.ndarray:
    """Statistics of whole pictures, (n, len(STATISTICS)) float64, from pictures (n, 3, H, W) uint8."""
    colour = np.asarray(images, dtype=np.float32) / 255.0
    saturation = colour.max(axis=1) - colour.min(axis=1)
    grey = np.einsum("nchw,c->nhw", colour, LUMINANCE)
    inner = grey[:, 1:-1, 1:-1]
    neighbours = grey[:, 2:, 1:-1] + grey[:, :-2, 1:-1] + grey[:, 1:-1, 2:] + grey[:, 1:-1, :-2]
    sharpness = [
        (neighbours - 4 * inner).var(axis=(1, 2)),
        (np.diff(grey, axis=2) ** 2).mean(axis=(1, 2)),
        (np.diff(grey, axis=1) ** 2).mean(axis=(1, 2)),
    ]
    columns = [
        *colour.mean(axis=(2, 3)).T,
        *colour.std(axis=(2, 3)).T,
        saturation.mean(axis=(1, 2)),
        saturation.std(axis=(1, 2)),
        *(np.log(value + 1e-6) for value in sharpness),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


MOST_PICTURES = 5000  # of a split; a dozen statistics need no more


def _sample(split: Split) -> Split:
    """The split, or evenly spaced pictures of a large one, which may have to be decoded one by one."""
    if len(split) <= MOST_PICTURES:
        return split
    return split.subset(np.linspace(0, len(split) - 1, MOST_PICTURES).astype(np.int64))


def _split_statistics(split: Split, batch: int = 256) -> np.ndarray:
    parts = [split.images(np.arange(i, min(i + batch, len(split)))).numpy() for i in range(0, len(split), batch)]
    return np.concatenate([global_statistics(part) for part in parts])


def shortcut_scores(data: FaceData) -> dict[str, float]:
    """How well logistic regression on `global_statistics` separates live from attack: ``auc`` and ``acer`` on test.

    It is trained on train; the threshold is val's equal error rate; ACER is the mean of the attacks accepted and the
    live faces rejected on test, both fractions.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    splits = {name: _sample(split) for name, split in data.splits.items()}
    statistics = {name: _split_statistics(split) for name, split in splits.items()}
    labels = {name: split.labels for name, split in splits.items()}
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
    model.fit(statistics["train"], labels["train"])
    threshold = equal_error_threshold(model.decision_function(statistics["val"]), labels["val"])
    scores, live = model.decision_function(statistics["test"]), labels["test"] == 1
    apcer, bpcer = float((scores[~live] >= threshold).mean()), float((scores[live] < threshold).mean())
    return {"auc": float(roc_auc_score(labels["test"], scores)), "acer": 0.5 * (apcer + bpcer)}
