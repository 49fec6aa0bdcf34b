"""From options to a task: which data, which loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from searchspaces.errors import ConfigError, DatasetError, nearest_name

from .datasets import build_dataset

if TYPE_CHECKING:
    from searchspaces import Architecture

    from .task import Task


def build_task(
    space: Any,
    options: Mapping[str, Any],
    progress: bool = True,
    judging: bool = False,
    student: Architecture | None = None,
) -> Task:
    """The task that a space's networks are for, with the data that a run's options describe.

    Args:
        space: the space or a network of it: ``input_size``, and ``task`` if that is not anti-spoofing.
        options: those of `load_data`, ``supervision``, ``augmentation``, ``task_options``, ``workers``, ``teacher``,
            ``distillation``, as in a run's config.yaml.
        progress: show a progress bar while data is made.
        judging: the task only judges, so a data set without a training split will do, and no teacher is loaded.
        student: the only network of the space that will be trained, if there is only one.

    Raises:
        FacenasError: for an unknown data set, one that is incomplete or for another task; an unknown supervision or
            augmentation.
    """
    data = load_data(options, progress)
    missing = [] if judging else [split for split in ("train", "val", "test") if split not in data.splits]
    if missing:
        raise DatasetError(
            f"The data set {data.name!r} has no {' and no '.join(missing)} split: it is for judging a finished run "
            f"(python -m evaluators.verify RUN --data {data.name} --data-root DIR)."
        )
    task = BUILDERS[getattr(space, "task", "antispoofing")](space, data, options)
    task.workers = options.get("workers")
    if options.get("teacher") and not judging:
        from .distillation import build_teaching

        network = None if student is None else student.build(seed=0)
        task.teaching = build_teaching(options["teacher"], options.get("distillation") or {}, task, space, network)
    elif options.get("distillation") and not options.get("teacher"):
        raise ConfigError("distillation says how a teacher teaches: give one with --teacher.")
    return task


def load_data(options: Mapping[str, Any], progress: bool = True) -> Any:
    """The data set that options describe, or two of them for cross-testing.

    Args:
        options: ``data``, ``data_root``, ``people``, ``data_seed``, ``protocol``, ``fold``; for a test on another set
            ``test_data``, ``test_data_root``, ``test_protocol``.

    Raises:
        FacenasError: for an unknown data set, one that is incomplete, or two that do not go together.
    """
    seed = options.get("data_seed", 0)
    data = build_dataset(
        options["data"],
        root=options.get("data_root"),
        people=options.get("people"),
        seed=seed,
        progress=progress,
        protocol=options.get("protocol"),
        fold=options.get("fold"),
    )
    if not options.get("test_data"):
        for name in ("test_data_root", "test_protocol"):
            if options.get(name):
                raise ConfigError(f"{name} belongs to a second data set: name it with --test-data.")
        return data
    from .datasets.cross import cross_data

    root, protocol = options.get("test_data_root"), options.get("test_protocol")
    try:
        other = build_dataset(options["test_data"], root=root, seed=seed, progress=progress, protocol=protocol)
    except ConfigError as error:
        raise ConfigError(f"test_data: {error} (Options of the second data set begin with --test-.)") from error
    return cross_data(data, other)


def _antispoofing(space: Any, data: Any, options: Mapping[str, Any]) -> Task:
    from .antispoofing import AntiSpoofing
    from .datasets.base import FaceData

    if not isinstance(data, FaceData):
        raise ConfigError(f"The data set {data.name!r} is for another task; anti-spoofing needs live and attack.")
    if options.get("task_options"):
        raise ConfigError("task_options are those of face detection and recognition; anti-spoofing has --supervision.")
    supervision, augmentation = options.get("supervision", "pixel"), options.get("augmentation", "crop")
    return AntiSpoofing(data, space.input_size[-1], supervision, augmentation)


def _detection(space: Any, data: Any, options: Mapping[str, Any]) -> Task:
    from .datasets.detection import DetectionData
    from .detection import Detection

    if not isinstance(data, DetectionData):
        raise ConfigError(
            f"The data set {data.name!r} has no boxes of faces: a detector needs scenes, wider-face or fddb (--data)."
        )
    own = own_options("Face detection", Detection, options)
    augmentation = options.get("augmentation", "dsfd")
    return Detection(data, space.input_size[-1], space.levels, augmentation=augmentation, **own)


def _recognition(space: Any, data: Any, options: Mapping[str, Any]) -> Task:
    from .datasets.recognition import RecognitionData
    from .recognition import Recognition

    if not isinstance(data, RecognitionData):
        raise ConfigError(
            f"The data set {data.name!r} does not say who is who: face recognition needs orl, identities or packed "
            "(--data), and for judging lfw or pairs."
        )
    own = own_options("Face recognition", Recognition, options)
    augmentation = options.get("augmentation", "crop")
    refuse_mixing(augmentation)
    return Recognition(data, space.input_size[-1], space.embedding_size, augmentation=augmentation, **own)


def refuse_mixing(augmentation: str) -> None:
    """Refuse an augmentation that mixes pictures, where a mixture has no label.

    Raises:
        ConfigError: naming it.
    """
    from .augmentation import MIXINGS

    if augmentation in MIXINGS:
        raise ConfigError(f"augmentation {augmentation!r} mixes two pictures, which shows nobody: choose crop or pose.")


def own_options(title: str, task: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The ``task_options`` of a run, which are keyword arguments of its task.

    Raises:
        ConfigError: for one that the task does not have, with the nearest.
    """
    own = dict(options.get("task_options") or {})
    parameters = inspect.signature(task).parameters.values()
    known = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"augmentation"}
    for name in own:
        if name not in known:
            near = nearest_name(name, known)
            hint = f" Did you mean {near!r}?" if near else ""
            raise ConfigError(f"{title} has no option {name!r}.{hint} Known: {', '.join(sorted(known))}.")
    return own


BUILDERS: dict[str, Callable[[Any, Any, Mapping[str, Any]], Task]] = {
    "antispoofing": _antispoofing,
    "detection": _detection,
    "recognition": _recognition,
}
