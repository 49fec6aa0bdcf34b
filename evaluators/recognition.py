"""Face recognition: do two pictures show the same person? The task of AirFace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from searchspaces.errors import ConfigError, UnknownNameError

from .augmentation import find_augmentation
from .batches import check_size, judging_loader
from .datasets.recognition import IdentitySplit, RecognitionData
from .distillation_losses import embedding_loss
from .evidence import score_evidence
from .metrics import Metric, area_under_curve, equal_error_rate, percent_of
from .recognition_losses import RECOGNITION_LOSSES
from .recognition_metrics import pair_scores, recognition_metrics
from .task import Task

Stage = tuple[str, float]  # a loss, and the part of the training that it takes


class ClassCentres(nn.Module):
    """A centre for each person of the training set: embeddings ``(N, d) -> cosines (N, people)``.

    W of Eq. 2 of the AirFace paper, without a bias; both sides are normalised. Shorter embeddings than the longest
    are compared with the beginning of the centres.
    """

    def __init__(self, people: int, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(people, length))
        nn.init.normal_(self.weight, 0, 0.01)

    def forward(self, embeddings: Tensor) -> Tensor:
        # in float32 under mixed precision: a cosine in half precision moves the angle by degrees where it is near 1
        with torch.autocast(embeddings.device.type, enabled=False):
            centres = self.weight[:, : embeddings.shape[1]].float()
            return F.normalize(embeddings.float(), dim=1) @ F.normalize(centres, dim=1).T


class Recognition(Task):
    """Learns embeddings that tell people apart, and is judged on people that it has never seen.

    Args:
        image_size: side of a training picture.
        embedding: length of the longest embedding.
        augmentation: of training pictures, see `augmentation.AUGMENTATIONS`.
        losses: names of `recognition_losses.RECOGNITION_LOSSES`, each with the part of the training that it takes, in
            turn: ``[["li_arcface", 1.0]]``. AirFace fine-tunes with Li-ArcFace, ArcFace and a combined loss one after
            the other (section 3.3), but does not say for how long each.
        scale: s, the length to which embeddings are scaled in the loss; the paper does not give it.
        margin: m; by default the one that is best in the paper (0.4 for Li-ArcFace, 0.5 for ArcFace), 0.35 for
            CosFace.
        embedding_decay: weight decay of the embedding layer, as a multiple of the others'; 10 in section 4.1.
        flip: judge by the sum of the embeddings of a picture and of its mirror image, as InsightFace does.

    Raises:
        ConfigError: for a value that cannot be used.
        DatasetError: if the pictures are too small, or show one person only.
    """

    name = "recognition"
    objective = "auc"

    def __init__(
        self,
        data: RecognitionData,
        image_size: int,
        embedding: int,
        *,
        augmentation: str = "crop",
        losses: Sequence[Any] = (("li_arcface", 1.0),),
        scale: float = 64.0,
        margin: float | None = None,
        embedding_decay: float = 10.0,
        flip: bool = True,
    ) -> None:
        check_size(data.image_size, image_size, data.name)
        find_augmentation(augmentation)
        for name, value, low, high in (
            ("scale", scale, 1e-3, 1e4),
            ("margin", margin, 0.0, math.pi),
            ("embedding_decay", embedding_decay, 0.0, 1e4),
        ):
            usable = value is None or (not isinstance(value, bool) and isinstance(value, int | float))
            if not usable or not (value is None or low <= value <= high):
                raise ConfigError(f"{name} of face recognition is {value!r}, but must be from {low:g} to {high:g}.")
        self.data, self.image_size, self.embedding, self.augmentation = data, image_size, embedding, augmentation
        self.stages, self.flip = check_stages(losses), flip
        self.options = {"scale": scale, **({} if margin is None else {"margin": margin})}
        self.embedding_decay = embedding_decay

    # ---- training

    def head(self) -> ClassCentres:
        return ClassCentres(len(self.data.splits["train"].names), self.embedding)

    def losses(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The first loss, of cosines ``(N, people)``, and the share of pictures nearest to their own centre."""
        return self.losses_at(outputs, targets, 0.0)

    def losses_at(self, outputs: Tensor, targets: Tensor, progress: float) -> dict[str, Tensor]:
        labels, name = targets.long(), self.loss_at(progress)
        options = {key: value for key, value in self.options.items() if key == "scale" or name != "n_softmax"}
        nearest = outputs.detach().argmax(dim=1)
        return {
            "loss": RECOGNITION_LOSSES[name](outputs, labels, **options),
            "accuracy": (nearest == labels).float().mean(),
        }

    def loss_at(self, progress: float) -> str:
        """The loss that is in turn after this part of the training, 0 to 1."""
        reached = 0.0
        for name, part in self.stages:
            reached += part
            if progress < reached - 1e-9:
                return name
        return self.stages[-1][0]

    def imitation(self, outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
        return embedding_loss(outputs, taught)

    def decays(self, network: nn.Module) -> dict[str, float]:
        names = [name for name, _ in network.named_parameters() if ".embedding." in f".{name}"]
        return dict.fromkeys(names, self.embedding_decay)

    def selection_split(self, seed: int) -> IdentitySplit:
        """The validation split: of people that a candidate was trained on, any network tells new pictures apart."""
        return self.data.splits["val"]

    def check(self, network: nn.Module) -> None:
        with torch.no_grad():
            outputs = network.eval()(torch.zeros(1, 3, self.image_size, self.image_size))
        if outputs.ndim != 2 or not 1 <= outputs.shape[1] <= self.embedding:
            raise ConfigError(
                f"Face recognition needs embeddings (N, up to {self.embedding}), but the network gives "
                f"{tuple(outputs.shape)}: choose a space of recognition networks (airface)."
            )

    # ---- judging

    @torch.no_grad()
    def predict(self, network: nn.Module, split: IdentitySplit, batch_size: int = 32) -> NDArray[np.float32]:
        """Embeddings of all pictures of a split, ``(N, d)``, not normalised."""
        was_training, device = network.training, next(network.parameters()).device
        network.eval().to(memory_format=torch.channels_last)
        found = []
        for batch in judging_loader(split, self.image_size, batch_size, self.workers):
            batch = batch.to(device)
            vectors = network(batch).float()
            if self.flip:
                vectors = vectors + network(batch.flip(-1)).float()
            found.append(vectors.cpu())
        network.train(was_training)
        return torch.cat(found).numpy()

    def figures(self, outputs: NDArray[np.float32], split: IdentitySplit) -> dict[str, float]:
        """``eer`` and ``auc`` of the split's pairs; there is no loss, since people never seen have no centres."""
        scores, same = pair_scores(outputs, split.people, split.lists)
        labels = same.astype(np.int64)
        return {"eer": equal_error_rate(scores, labels), "auc": area_under_curve(scores, labels)}

    def rank(self, row: Mapping[str, Any]) -> tuple[float, ...]:
        return row["val_eer"], -row["val_auc"]

    def metrics(
        self, network: nn.Module, split: str = "test", val_outputs: NDArray[np.float32] | None = None
    ) -> dict[str, Metric]:
        """Verification and identification on a split, with intervals."""
        judged = self.data.splits[split]
        return recognition_metrics(self.predict(network, judged), judged.people, judged.lists, named=judged.named)

    def evidence(self, network: nn.Module, split: str = "test") -> dict[str, Any]:
        judged = self.data.splits[split]
        scores, same = pair_scores(self.predict(network, judged), judged.people, judged.lists)
        return score_evidence(scores, same)

    def headline(self, metrics: Mapping[str, Mapping[str, float | None]]) -> str:
        return f"{percent_of('EER', metrics['eer'])}, people never seen"


def check_stages(losses: Sequence[Any]) -> list[Stage]:
    """Losses in turn, as pairs of a name and a part.

    Raises:
        ConfigError: for an unknown loss, or parts that do not add up to 1.
    """
    stages = []
    for entry in losses:
        if not (isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[1], int | float)):
            raise ConfigError(
                f"losses of face recognition are {losses!r}, but must be names with their parts of the training, such "
                'as [["li_arcface", 0.7], ["arcface", 0.3]].'
            )
        if entry[0] not in RECOGNITION_LOSSES:
            raise UnknownNameError("loss of face recognition", str(entry[0]), RECOGNITION_LOSSES)
        stages.append((str(entry[0]), float(entry[1])))
    if not stages or any(part <= 0 for _, part in stages) or abs(sum(part for _, part in stages) - 1) > 1e-6:
        raise ConfigError(f"The parts of the losses {losses!r} must be above 0 and add up to 1.")
    return stages


MOST_RAW = 2000  # pictures whose raw pixels fit into memory together


def pixel_error(data: RecognitionData, split: str = "test") -> float | None:
    """Equal error rate of raw pixels, compared as an embedding is: what a network has to beat. None for large sets."""
    judged = data.splits[split]
    if len(judged) > MOST_RAW:
        return None
    pixels = judged.images(np.arange(len(judged))).float().flatten(1).numpy()
    scores, same = pair_scores(pixels - pixels.mean(axis=1, keepdims=True), judged.people, judged.lists)
    return equal_error_rate(scores, same.astype(np.int64))
