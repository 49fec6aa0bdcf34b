"""Face anti-spoofing: is the face in front of the camera alive, or a print or a screen?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from searchspaces.errors import ConfigError

from .augmentation import find_augmentation
from .batches import check_size
from .datasets.base import FaceData, Split
from .evidence import score_evidence
from .losses import binary_loss, cross_entropy_loss, pixel_wise_binary_loss
from .metrics import (
    Metric,
    area_under_curve,
    equal_error_rate,
    equal_error_threshold,
    judged_metrics,
    percent_of,
)
from .scores import Scores
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
    objective = "auc"

    def __init__(
        self,
        data: FaceData,
        image_size: int = 108,
        supervision: Literal["pixel", "binary", "cross_entropy"] = "pixel",
        augmentation: str = "crop",
    ) -> None:
        data = data.for_network(image_size)
        check_size(data.image_size, image_size, data.name)
        find_augmentation(augmentation)
        self.data, self.image_size, self.augmentation = data, image_size, augmentation
        if supervision not in LOSSES:
            raise ConfigError(f"supervision is {supervision!r}; expected {' or '.join(LOSSES)}.")
        self.supervision = supervision

    def losses(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The loss of a batch, and the share of it that is right."""
        return {"loss": self.loss(outputs, targets), "accuracy": self.accuracy(outputs.detach(), targets)}

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The scalar that training lowers."""
        self._check(outputs)
        return LOSSES[self.supervision](outputs, labels)

    def scores(self, outputs: Tensor) -> Tensor:
        """How live each picture looks, ``(N,)`` from 0 to 1.

        The mean of the map of probabilities; with binary supervision the probability of the mean logit, which is what
        that loss trains; with cross-entropy the softmax of live."""
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

    def check(self, network: nn.Module) -> None:
        pictures = torch.zeros(2, 3, self.image_size, self.image_size)
        with torch.no_grad():
            self.loss(network(pictures), torch.tensor([0.0, 1.0]))

    def accuracy(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Share of a batch that is right, to follow a search; a scalar."""
        return ((self.scores(outputs) >= 0.5) == (labels >= 0.5)).float().mean()

    def figures(self, outputs: Tensor, split: Split) -> dict[str, float]:
        """``loss``, ``eer`` and ``auc``."""
        scores = self.scores(outputs).double().numpy()
        return {
            "loss": self.loss(outputs, torch.from_numpy(split.labels)).item(),
            "eer": equal_error_rate(scores, split.labels),
            "auc": area_under_curve(scores, split.labels),
        }

    def split_scores(self, network: nn.Module, split: Split) -> NDArray[np.float64]:
        """Scores of all pictures of a split, ``(N,)``."""
        return self.scores(self.predict(network, split)).double().numpy()

    def headline(self, metrics: Mapping[str, Mapping[str, float | None]]) -> str:
        videos = f"; {percent_of('of videos', metrics['video_acer'])}" if "video_acer" in metrics else ""
        return f"{percent_of('ACER', metrics['acer'])}, new people{videos}"

    def judged_scores(
        self, network: nn.Module, split: str = "test", val_outputs: Tensor | None = None
    ) -> dict[str, Scores]:
        """The scores of the validation split, which chooses thresholds, and of the judged one."""
        val, judged = self.data.splits["val"], self.data.splits[split]
        outputs = self.predict(network, val) if val_outputs is None else val_outputs
        videos = self.data.card.get("unit") == "video"
        found = {"val": Scores.of_split(self.scores(outputs).double().numpy(), val, videos)}
        if split != "val":
            found[split] = Scores.of_split(self.split_scores(network, judged), judged, videos)
        return found

    def metrics(self, network: nn.Module, split: str = "test", val_outputs: Tensor | None = None) -> dict[str, Metric]:
        """Error rates on a split, at the threshold of equal errors on the validation split."""
        found = self.judged_scores(network, split, val_outputs)
        return judged_metrics(found[split], found["val"])

    def evidence(self, network: nn.Module, split: str = "test") -> dict[str, Any]:
        val, judged = self.data.splits["val"], self.data.splits[split]
        threshold = equal_error_threshold(self.split_scores(network, val), val.labels)
        return score_evidence(
            self.split_scores(network, judged),
            judged.labels == 1,
            names=("live", "attack"),
            score="probability of live",
            threshold=threshold,
        )
