"""Face detection: where are the faces of a picture? The task of ASFD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from searchspaces.asfd import LOGITS, OFFSETS, map_shapes
from searchspaces.errors import ConfigError, UnknownNameError

from .anchors import FIRST_SHOT_SCALE, SECOND_SHOT_SCALE, anchor_boxes, detections
from .datasets.detection import BoxSplit, DetectionData
from .detection_augmentation import AUGMENTATIONS
from .detection_batches import detection_judging_loader, detection_training_loader
from .detection_losses import drmc_loss, shot_loss
from .detection_metrics import Detection as Found
from .detection_metrics import detection_metrics, followed_precision
from .distillation_losses import soft_logits_loss
from .metrics import percent_of
from .task import Task


@dataclass(frozen=True)
class Predictions:
    """What a detector says of a split: boxes and scores of every picture, and the mean loss of its second shot."""

    found: list[Found]
    loss: float


class Detection(Task):
    """Finds faces. The network is a `searchspaces.asfd.Detector`.

    Args:
        image_size: side of a training picture; pictures are judged at their own size.
        levels: of the network's maps, ascending; level i has stride 2^i.
        augmentation: of training pictures, see `detection_augmentation.AUGMENTATIONS`.
        margin: m of Eq. 7 of the ASFD paper, which does not give it; 0 is plain cross-entropy.
        regression_weight: lambda_1 of Eq. 8, not given either.
        first_shot_weight: lambda_2 of Eq. 8, not given either; DSFD weighs both shots alike.
        negatives: hard negatives for each positive anchor, as in DSFD.
        confidence: detections with a lower score are left out.
        overlap: detections that overlap a better one by more than this IoU are left out.
        backbone_weights: a file with ImageNet weights of the backbone, see `searchspaces.backbones.load_backbone`.

    Raises:
        ConfigError: for a value that cannot be used.
    """

    name = "detection"
    objective = "ap"

    def __init__(
        self,
        data: DetectionData,
        image_size: int,
        levels: Sequence[int],
        *,
        augmentation: str = "dsfd",
        margin: float = 0.35,
        regression_weight: float = 1.0,
        first_shot_weight: float = 1.0,
        negatives: float = 3.0,
        confidence: float = 0.01,
        overlap: float = 0.3,
        backbone_weights: str | None = None,
    ) -> None:
        if augmentation not in AUGMENTATIONS:
            raise UnknownNameError("augmentation of face detection", augmentation, AUGMENTATIONS)
        numbers = {
            "margin": (margin, 0.0, 100.0),
            "regression_weight": (regression_weight, 0.0, 1000.0),
            "first_shot_weight": (first_shot_weight, 0.0, 1000.0),
            "negatives": (negatives, 0.1, 1000.0),
            "confidence": (confidence, 0.0, 1.0),
            "overlap": (overlap, 0.0, 1.0),
        }
        for name, (value, low, high) in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ConfigError(f"{name} of face detection is {value!r}, but must be a number from {low} to {high}.")
        self.data, self.image_size, self.levels, self.augmentation = data, image_size, tuple(levels), augmentation
        self.margin, self.regression_weight, self.first_shot_weight = margin, regression_weight, first_shot_weight
        self.negatives, self.confidence, self.overlap = negatives, confidence, overlap
        self.backbone_weights = backbone_weights

    def prepare(self, network: Any) -> None:
        if self.backbone_weights:
            network.load_backbone(self.backbone_weights)

    def losses(self, outputs: Tensor, targets: tuple[Sequence[Tensor], Sequence[Tensor]]) -> dict[str, Tensor]:
        """Eq. 8 of both shots, ``(N, 2, A, 6)``, and its parts."""
        boxes, ignored = targets
        size, device = (self.image_size, self.image_size), outputs.device
        found = drmc_loss(
            outputs,
            anchors_of(size, self.levels, FIRST_SHOT_SCALE).to(device),
            anchors_of(size, self.levels, SECOND_SHOT_SCALE).to(device),
            boxes,
            ignored,
            margin=self.margin,
            regression_weight=self.regression_weight,
            first_shot_weight=self.first_shot_weight,
            ratio=self.negatives,
        )
        return {"loss": found["loss"]}

    def imitation(self, outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
        """Of the second shot's logits, averaged over anchors."""
        own, wanted = (_second_shot(each)[..., :LOGITS].flatten(0, -2) for each in (outputs, taught))
        return soft_logits_loss(own, wanted, temperature)

    def can_imitate(self, outputs: Tensor, taught: Tensor) -> bool:
        return taught.ndim in (3, 4) and _second_shot(outputs).shape == _second_shot(taught).shape

    def check(self, network: nn.Module) -> None:
        size = (self.image_size, self.image_size)
        with torch.no_grad():
            outputs = network.eval()(torch.zeros(1, 3, *size))
        expected = (1, len(anchors_of(size, self.levels, SECOND_SHOT_SCALE)), LOGITS + OFFSETS)
        if tuple(outputs.shape) != expected:
            raise ConfigError(
                f"Face detection needs outputs of shape {expected}, but the network gives {tuple(outputs.shape)}: "
                "choose a space of detectors (autofem-fpn, autofem-cpm, asfd)."
            )

    def loader(self, split: BoxSplit, batch_size: int, seed: int) -> DataLoader:
        return detection_training_loader(split, self.image_size, batch_size, seed, self.workers, self.augmentation)

    def pictures(self, split: BoxSplit, batch_size: int) -> Iterator[Tensor]:
        for pictures, _ in self.loader(split, batch_size, seed=0):
            yield pictures

    @torch.no_grad()
    def predict(self, network: nn.Module, split: BoxSplit, batch_size: int = 16) -> Predictions:
        was_training, device = network.training, next(network.parameters()).device
        network.eval().to(memory_format=torch.channels_last)
        found: list[Found] = []
        losses = []
        for indices, pictures in detection_judging_loader(split, batch_size, self.workers):
            outputs = network(pictures.to(device)).float().cpu()
            size = (int(pictures.shape[-2]), int(pictures.shape[-1]))
            found.extend(faces(outputs, size, self.levels, confidence=self.confidence, overlap=self.overlap))
            loss = shot_loss(
                outputs[..., :LOGITS],
                outputs[..., LOGITS:],
                anchors_of(size, self.levels, SECOND_SHOT_SCALE),
                [torch.from_numpy(split.boxes[i]) for i in indices],
                [torch.from_numpy(split.ignored[i]) for i in indices],
                margin=self.margin,
                regression_weight=self.regression_weight,
                ratio=self.negatives,
            )["loss"]
            losses.append(float(loss) * len(indices))
        network.train(was_training)
        return Predictions(found, sum(losses) / len(split))

    def figures(self, outputs: Predictions, split: BoxSplit) -> dict[str, float]:
        """``loss`` of the second shot and ``ap`` of all faces at IoU 0.5."""
        return {"loss": outputs.loss, "ap": followed_precision(split, outputs.found)}

    def rank(self, row: Mapping[str, Any]) -> tuple[float, ...]:
        return -row["val_ap"], row["val_loss"]

    def metrics(
        self, network: nn.Module, split: str = "test", val_outputs: Predictions | None = None
    ) -> dict[str, dict[str, float | None]]:
        """Average precision of all faces, by their width and of the data set's own subsets, with intervals."""
        judged = self.data.splits[split]
        return detection_metrics(judged, self.predict(network, judged).found)

    def headline(self, metrics: Mapping[str, Mapping[str, float | None]]) -> str:
        return f"{percent_of('AP', metrics['ap'])}, unseen pictures"


def _second_shot(outputs: Tensor) -> Tensor:
    """``(N, A, 6)`` of what a detector gives in training or in evaluation."""
    return outputs[:, -1] if outputs.ndim == 4 else outputs


def faces(
    outputs: Tensor, size: tuple[int, int], levels: tuple[int, ...], *, confidence: float, overlap: float
) -> list[Found]:
    """Boxes and scores of each picture of a batch, the best first, from raw outputs ``(N, A, 6)``.

    Args:
        size: height and width of the pictures.
        levels: of the detector.
        confidence: smallest score.
        overlap: largest IoU with a better detection.
    """
    anchors = anchors_of(size, levels, SECOND_SHOT_SCALE)
    found = []
    for row in outputs.float().cpu():
        boxes, scores = detections(row[:, :LOGITS], row[:, LOGITS:], anchors, size, confidence=confidence, iou=overlap)
        found.append((boxes.numpy(), scores.numpy()))
    return found


@lru_cache(maxsize=64)
def anchors_of(size: tuple[int, int], levels: tuple[int, ...], scale: float) -> Tensor:
    """Anchors ``(A, 4)`` of a picture of height and width ``size``."""
    return anchor_boxes(map_shapes(*size, levels), [2**level for level in levels], scale)


def to_input(picture: np.ndarray) -> Tensor:
    """A picture ``(3, H, W)`` uint8 as a detector takes it, ``(1, 3, H, W)`` in [-1, 1]."""
    return (torch.from_numpy(np.ascontiguousarray(picture))[None].float() / 127.5 - 1.0).contiguous(
        memory_format=torch.channels_last
    )
