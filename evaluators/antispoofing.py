"""Face anti-spoofing: is the face in front of the camera alive, or a print or a screen?"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from searchspaces.errors import ConfigError

from .datasets.base import FaceData
from .losses import binary_loss, cross_entropy_loss, pixel_wise_binary_loss
from .metrics import Metric, equal_error_threshold, metrics_with_intervals
from .task import Task

LOSSES = {"pixel": pixel_wise_binary_loss, "binary": binary_loss, "cross_entropy": cross_entropy_loss}


class AntiSpoofing(Task):
    """Tells live faces from attacks. The network's outputs have to fit the supervision.

    Args:
        data: live pictures are labelled 1, attacks 0.
        image_size: what the network takes.
        supervision: of a map of logits ``(N, 1, m, n)``, positive where a face is live: ``pixel`` (Eq. 6 of the
            Auto-FAS paper) or ``binary`` (the alternative of its Table 3). Of two logits ``(N, 2)``, attack and live:
            ``cross_entropy`` (Eq. 1 of the PTA paper).
        augmentation: of training pictures, see `augmentation.AUGMENTATIONS`.
    """

    name = "antispoofing"

    def __init__(
        self,
        data: FaceData,
        image_size: int = 108,
        supervision: Literal["pixel", "binary", "cross_entropy"] = "pixel",
        augmentation: str = "crop",
    ) -> None:
        super().__init__(data, image_size, augmentation)
        if supervision not in LOSSES:
            raise ConfigError(f"supervision is {supervision!r}; expected {' or '.join(LOSSES)}.")
        self.supervision = supervision

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        self._check(outputs)
        return LOSSES[self.supervision](outputs, labels)

    def scores(self, outputs: Tensor) -> Tensor:
        """How live a picture looks, 0 to 1: the mean of the map of probabilities; with binary supervision the
        probability of the mean logit, which is what that loss trains; with cross-entropy the softmax of live."""
        self._check(outputs)
        if self.supervision == "cross_entropy":
            return outputs.softmax(dim=1)[:, 1]
        if self.supervision == "pixel":
            return outputs.sigmoid().mean(dim=(1, 2, 3))
        return outputs.mean(dim=(1, 2, 3)).sigmoid()

    def _check(self, outputs: Tensor) -> None:
        """Refuse outputs that the supervision cannot judge.

        Raises:
            ConfigError: naming both.
        """
        two_logits = outputs.ndim == 2 and outputs.shape[1] == 2
        a_map = outputs.ndim == 4 and outputs.shape[1] == 1
        if two_logits if self.supervision == "cross_entropy" else a_map:
            return
        expected = "two logits (N, 2)" if self.supervision == "cross_entropy" else "a map of logits (N, 1, m, n)"
        fitting = "cross_entropy" if two_logits else "pixel or binary" if a_map else ""
        advice = f"set supervision to {fitting}, or " if fitting else ""
        raise ConfigError(
            f"supervision {self.supervision!r} needs {expected}, but the network gives outputs of shape "
            f"{tuple(outputs.shape)}: {advice}choose a space whose networks give {expected}."
        )

    def accuracy(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return ((self.scores(outputs) >= 0.5) == (labels >= 0.5)).float().mean()

    def metrics(self, network: nn.Module, split: str = "test", val_outputs: Tensor | None = None) -> dict[str, Metric]:
        """Error rates on a split, at the threshold of equal errors on the validation split."""
        val, judged = self.data.splits["val"], self.data.splits[split]
        outputs = self.predict(network, val) if val_outputs is None else val_outputs
        threshold = equal_error_threshold(self.scores(outputs).double().numpy(), val.labels)
        scores = self.split_scores(network, judged)
        return metrics_with_intervals(scores, judged.labels, judged.kinds.tolist(), judged.people.tolist(), threshold)
