"""From options to a task: which data, which loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .datasets import build_dataset

if TYPE_CHECKING:
    from .task import Task


def build_task(image_size: int, options: Mapping[str, Any], progress: bool = True) -> Task:
    """The task that a run's options describe.

    Args:
        image_size: what the network takes.
        options: ``data``, ``data_root``, ``people``, ``data_seed``, ``supervision``, ``augmentation``,
            as in a run's config.yaml.
        progress: show a progress bar while data is made.

    Raises:
        FacenasError: for an unknown data set, or one that is incomplete; an unknown supervision or augmentation.
    """
    from .antispoofing import AntiSpoofing

    data = build_dataset(
        options["data"],
        root=options.get("data_root"),
        people=options.get("people"),
        seed=options.get("data_seed", 0),
        progress=progress,
    )
    supervision, augmentation = options.get("supervision", "pixel"), options.get("augmentation", "crop")
    task = AntiSpoofing(data, image_size, supervision, augmentation)
    task.workers = options.get("workers")
    return task
