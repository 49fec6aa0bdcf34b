"""Data sets by name: `build_dataset("portraits")` gives live faces and attacks, split by person.

A data set of one's own is a function behind the same registry::

    @register_dataset("mine")
    def build(*, root=None, people=None, seed=0, cache=None, progress=True):
        return FaceData(...)

Importing this package does not import torch: the processes that generate pictures import it too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchspaces.naming import Registry

if TYPE_CHECKING:
    from .base import FaceData, Split
    from .detection import DetectionData
    from .recognition import RecognitionData

Builder = Callable[..., "FaceData | DetectionData | RecognitionData"]
_DATASETS: Registry[Builder] = Registry("data set")


def register_dataset(name: str) -> Callable[[Builder], Builder]:
    """A decorator that files a builder under ``name``; the builder takes the options of `build_dataset` as keywords.

    Raises:
        ValueError: if the name is taken.
    """
    return _DATASETS.register(name)


def list_datasets() -> list[str]:
    """The names that `build_dataset` knows."""
    return _DATASETS.names()


def build_dataset(
    name: str,
    *,
    root: str | Path | None = None,
    people: int | str | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Any:
    """Build a data set.

    Args:
        name: one of `list_datasets`.
        root: the folder of a user's own pictures (``folder``), or of a copy of CelebA-Spoof (``celeba-spoof``).
        people: how many people to show, or ``"all"``; None is the data set's default. ``folder`` shows everybody.
        seed: of everything that is drawn at random. The same seed gives the same pictures and splits.
        cache: where generated pictures and indices are kept; default ``$FACENAS_CACHE``, else ``~/.cache/facenas``.
        progress: show a progress bar while pictures are generated (one line where the output is no terminal).

    Raises:
        UnknownNameError: if there is no such data set; the message names the nearest.
        ConfigError: for an option that the data set does not take.
        DatasetError: if its pictures are missing, incomplete or damaged.

    Returns:
        A `FaceData` for anti-spoofing, a `detection.DetectionData` for face detection, a
        `recognition.RecognitionData` for face recognition.
    """
    return _DATASETS[name](root=root, people=people, seed=seed, cache=cache, progress=progress)


def __getattr__(name: str) -> Any:
    """`FaceData` and `Split`, imported when first asked for because they need torch."""
    if name in ("FaceData", "Split"):
        from . import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


from . import celeba_spoof, fddb, folder, hatfas, identities, orl, packed, pair_lists, portraits, scenes, wider_face  # noqa: E402, F401  (register themselves; they need register_dataset)

__all__ = ["FaceData", "Split", "build_dataset", "list_datasets", "register_dataset"]
