"""Data sets by name: `build_dataset("portraits")` gives live faces and attacks, split by person.

A data set of one's own is a function behind the same registry::

    @register_dataset("mine")
    def build(*, root=None, people=None, seed=0, cache=None, progress=True):
        return FaceData(...)

One with published protocols takes ``protocol=None, fold=None``, too.

Importing this package does not import torch: the processes that generate pictures import it too.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchspaces.errors import ConfigError
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
    protocol: str | None = None,
    fold: int | None = None,
) -> Any:
    """Build a data set.

    Args:
        name: one of `list_datasets`, or a builder of your own that is imported already, ``package.module:function``.
        root: the folder of the pictures, for data sets that have one.
        people: how many people to show, or ``"all"``; None is the data set's default. ``folder`` shows everybody.
        seed: of everything that is drawn at random. The same seed gives the same pictures and splits.
        cache: where generated pictures and indices are kept; default ``$FACENAS_CACHE``, else ``~/.cache/facenas``.
        progress: show a progress bar while pictures are generated (one line where the output is no terminal).
        protocol: which of a set's published protocols; None is its usual one.
        fold: which fold of the protocol, from 1, where it has several.

    Raises:
        UnknownNameError: if there is no such data set; the message names the nearest.
        ConfigError: for an option that the data set does not take.
        DatasetError: if its pictures are missing, incomplete or damaged.

    Returns:
        A `FaceData` for anti-spoofing, a `detection.DetectionData` for face detection, a
        `recognition.RecognitionData` for face recognition.
    """
    builder = find_builder(name)
    options = {"protocol": protocol, "fold": fold}
    given = {key: value for key, value in options.items() if value is not None}
    refused = sorted(given.keys() - inspect.signature(builder).parameters.keys())
    if refused:
        raise ConfigError(f"The data set {name!r} has no {' and no '.join(refused)}: leave it out.")
    return builder(root=root, people=people, seed=seed, cache=cache, progress=progress, **given)


def import_builder(name: str | None) -> None:
    """Import the module of a user's own builder, ``package.module:function``; for commands that are given the name.

    Raises:
        ConfigError: if there is no such module.
    """
    if name is None or ":" not in name:
        return
    try:
        importlib.import_module(name.partition(":")[0])
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"Cannot import the data set {name!r}: {error}. Write it as package.module:function."
        ) from error


def find_builder(name: str) -> Builder:
    """The builder of a data set; one of a user's own must have been imported: no file may import code by itself.

    Raises:
        UnknownNameError: with the nearest known name.
        ConfigError: if a user's own is not imported, or no function.
    """
    if ":" not in name:
        return _DATASETS[name]
    module, _, function = name.partition(":")
    builder = getattr(sys.modules.get(module), function, None)
    if not callable(builder):
        raise ConfigError(
            f"The data set {name!r} needs a module that is not imported yet, or that has no function {function!r}: "
            f"give --data-module {module}, or import it first."
        )
    return builder


def __getattr__(name: str) -> Any:
    """`FaceData` and `Split`, imported when first asked for because they need torch."""
    if name in ("FaceData", "Split"):
        from . import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


from . import (  # noqa: E402  (they register themselves, and need register_dataset)
    casia_fasd,  # noqa: F401
    celeba_spoof,  # noqa: F401
    fddb,  # noqa: F401
    folder,  # noqa: F401
    hatfas,  # noqa: F401
    identities,  # noqa: F401
    orl,  # noqa: F401
    oulu_npu,  # noqa: F401
    packed,  # noqa: F401
    pair_lists,  # noqa: F401
    portraits,  # noqa: F401
    prepared_data,  # noqa: F401
    replay_attack,  # noqa: F401
    scenes,  # noqa: F401
    wider_face,  # noqa: F401
)

__all__ = ["FaceData", "Split", "build_dataset", "list_datasets", "register_dataset"]
