"""From options to a task: which data, which loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from searchspaces.errors import ConfigError, DatasetError, nearest_name

from .datasets import build_dataset

if TYPE_CHECKING:
    from .datasets.base import FaceData
    from .datasets.detection import DetectionData
    from .task import Task


def build_task(space: Any, options: Mapping[str, Any], progress: bool = True, judging: bool = False) -> Task:
    """The task that a space's networks are for, with the data that a run's options describe.

    Args:
        space: the space or a network of it: ``input_size``, and ``task`` if that is not anti-spoofing.
        options: ``data``, ``data_root``, ``people``, ``data_seed``, ``supervision``, ``augmentation``,
            ``task_options``, ``workers``, as in a run's config.yaml.
        progress: show a progress bar while data is made.
        judging: the task only judges, so a data set without a training split will do.

    Raises:
        FacenasError: for an unknown data set, one that is incomplete or for another task; an unknown supervision or
            augmentation.
    """
    data = build_dataset(
        options["data"],
        root=options.get("data_root"),
        people=options.get("people"),
        seed=options.get("data_seed", 0),
        progress=progress,
    )
    missing = [] if judging else [split for split in ("train", "val", "test") if split not in data.splits]
    if missing:
        raise DatasetError(
            f"The data set {data.name!r} has no {' and no '.join(missing)} split: it is for judging a finished run "
            f"(python -m evaluators.verify RUN --data {data.name} --data-root DIR)."
        )
    task = BUILDERS[getattr(space, "task", "antispoofing")](space, data, options)
    task.workers = options.get("workers")
    return task


def _antispoofing(space: Any, data: FaceData | DetectionData, options: Mapping[str, Any]) -> Task:
    from .antispoofing import AntiSpoofing
    from .datasets.base import FaceData

    if not isinstance(data, FaceData):
        raise ConfigError(f"The data set {data.name!r} is for face detection; anti-spoofing needs live and attack.")
    if options.get("task_options"):
        raise ConfigError("task_options are those of face detection; anti-spoofing has --supervision.")
    supervision, augmentation = options.get("supervision", "pixel"), options.get("augmentation", "crop")
    return AntiSpoofing(data, space.input_size[-1], supervision, augmentation)


def _detection(space: Any, data: FaceData | DetectionData, options: Mapping[str, Any]) -> Task:
    from .datasets.detection import DetectionData
    from .detection import Detection

    if not isinstance(data, DetectionData):
        raise ConfigError(
            f"The data set {data.name!r} has no boxes of faces: a detector needs scenes, wider-face or fddb (--data)."
        )
    own = dict(options.get("task_options") or {})
    known = {*inspect.signature(Detection).parameters} - {"data", "image_size", "levels", "augmentation"}
    for name in own:
        if name not in known:
            near = nearest_name(name, known)
            hint = f" Did you mean {near!r}?" if near else ""
            raise ConfigError(f"Face detection has no option {name!r}.{hint} Known: {', '.join(sorted(known))}.")
    augmentation = options.get("augmentation", "dsfd")
    return Detection(data, space.input_size[-1], space.levels, augmentation=augmentation, **own)


BUILDERS: dict[str, Callable[[Any, Any, Mapping[str, Any]], Task]] = {
    "antispoofing": _antispoofing,
    "detection": _detection,
}
