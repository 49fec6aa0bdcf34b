"""Face anti-spoofing: is the face in front of the camera alive, or a print or a screen?"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from searchspaces.errors import ConfigError

from .datasets.base import FaceData
from .losses import binary_loss, pixel_wise_binary_loss
from .metrics import Metric, equal_error_threshold, metrics_with_intervals
from .task import Task

LOSSES = {"pixel": pixel_wise_binary_loss, "binary": binary_loss}


class AntiSpoofing(Task):
    """The task of the Auto-FAS paper: a map of logits ``(N, 1, m, n)``, positive where a face is live.

    Args:
        data: live pictures are labelled 1, attacks 0.
        image_size: what the network takes.
        supervision: ``pixel`` (Eq. 6) or ``binary`` (the alternative of Table 3).
    """

    name = "antispoofing"

    def __init__(
        self, data: FaceData, image_size: int = 108, supervision: Literal["pixel", "binary"] = "pixel"
    ) -> None:
        super().__init__(data, image_size)
        if supervision not in LOSSES:
            raise ConfigError(f"supervision is {supervision!r}; expected {' or '.join(LOSSES)}.")
        self.supervision = supervision

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return LOSSES[self.supervision](outputs, labels)

    def scores(self, outputs: Tensor) -> Tensor:
        """How live a picture looks, 0 to 1: the mean of the map of probabilities; with binary supervision the
        probability of the mean logit, which is what that loss trains."""
        if self.supervision == "pixel":
            return outputs.sigmoid().mean(dim=(1, 2, 3))
        return outputs.mean(dim=(1, 2, 3)).sigmoid()

    def accuracy(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return ((self.scores(outputs) >= 0.5) == (labels >= 0.5)).float().mean()

    def metrics(self, network: nn.Module, split: str = "test") -> dict[str, Metric]:
        """Error rates on a split, at the threshold of equal errors on the validation split."""
        val, judged = self.data.splits["val"], self.data.splits[split]
        threshold = equal_error_threshold(self.split_scores(network, val), val.labels)
        scores = self.split_scores(network, judged)
        return metrics_with_intervals(scores, judged.labels, judged.kinds.tolist(), judged.people.tolist(), threshold)
