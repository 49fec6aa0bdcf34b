"""Published folder layouts: what a data set's files say before any of them is decoded.

A layout finds the videos below a root and says of each who is on it, whether it is live or which attack, and where the
face is. Names are compared without regard to case, ``_``, ``-`` and spaces, since copies differ in them.
"""

from __future__ import annotations

import importlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from searchspaces.errors import ConfigError, DatasetError
from searchspaces.naming import Registry

from .crops import Region, square_region

VIDEO_SUFFIXES = {".avi", ".mov", ".mp4", ".mkv", ".m4v", ".mpg", ".mpeg", ".wmv", ".webm"}
DEPTH = 5  # levels: archives put folders of their own around the published ones
SHOWN = 8  # names of a folder's content in an error


@dataclass(frozen=True)
class Clip:
    """A video, or a picture of a set without videos, as the layout knows it.

    Attributes:
        name: of the clip in lists and scores, unique in the set.
        path: its file.
        person: who is shown, unique in the set.
        kind: "live", or the attack's type.
        part: of the set that the file lies in: train, val or test.
        positions: the file with the face's position in each frame, if there is one.
        box: x0, y0, x1, y1 of the face as parts of the picture's width and height, for pictures.
        pack: the file in the prepared folder that it shares with others; one of its own by default.
    """

    name: str
    path: Path
    person: str
    kind: str
    part: str
    positions: Path | None = None
    box: Region | None = None
    pack: str = ""


@dataclass(frozen=True)
class Scan:
    """What a layout found: clips, the published lists (name in the cache to file), and what it passed over and why."""

    clips: list[Clip]
    lists: dict[str, Path] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """A data set that can be prepared.

    Attributes:
        scan: reads a root folder.
        expected: what a root holds, for errors.
        region: the face box of the numbers in a line of a positions file, None if they are none.
        fields: how many those are.
    """

    scan: Callable[[Path], Scan]
    expected: str
    region: Callable[..., Region | None] = square_region
    fields: int = 4


LAYOUTS: Registry[Layout] = Registry("data set that can be prepared")


def find_layout(name: str) -> Layout:
    """A layout by its name, or a user's own, written ``package.module:NAME``.

    Raises:
        UnknownNameError: with the nearest known name.
        ConfigError: if a user's own cannot be imported or is no `Layout`.
    """
    if ":" not in name:
        return LAYOUTS[name]
    module, _, attribute = name.partition(":")
    try:
        layout = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"Cannot import the layout {name!r}: {error}. Write it as package.module:NAME.") from error
    if not isinstance(layout, Layout):
        raise ConfigError(f"{name!r} is no evaluators.datasets.layouts.Layout.")
    return layout


def plain(name: str) -> str:
    """A name as it is compared.

    >>> plain("Train_Files") == plain("train files")
    True
    """
    return re.sub(r"[\s_-]+", "", name).lower()


def entries(folder: Path) -> list[Path]:
    """A folder's visible content, sorted.

    Raises:
        DatasetError: if it cannot be read.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"Cannot read the folder {folder}: {error.strerror or error}.") from error


def find_entry(folder: Path, *names: str) -> Path | None:
    """The entry of a folder with one of some names; of several the one that is written exactly so.

    Raises:
        DatasetError: if several entries could be meant.
    """
    for name in names:
        fitting = [entry for entry in entries(folder) if plain(entry.name) == plain(name)]
        exact = [entry for entry in fitting if entry.name == name]
        if len(fitting) > 1 and not exact:
            listed = ", ".join(entry.name for entry in fitting)
            raise DatasetError(f"{folder} has {listed}: which one is {name!r}? Remove or rename the other.")
        if fitting:
            return (exact or fitting)[0]
    return None


def find_folders(root: Path, *names: str) -> dict[str, Path]:
    """Folders by name, at most `DEPTH` levels below a root; of each name the nearest one, and rather one written so."""
    wanted = {plain(name): name for name in names}
    found: dict[str, Path] = {}
    level = [root]
    for _ in range(DEPTH):
        below = [entry for folder in level for entry in entries(folder) if entry.is_dir()]
        for entry in sorted(below, key=lambda entry: entry.name not in names):
            if plain(entry.name) in wanted:
                found.setdefault(wanted[plain(entry.name)], entry)
        level = [entry for entry in below if plain(entry.name) not in wanted]
    return found


def show_content(folder: Path) -> str:
    """A folder's content in a few words, for errors."""
    names = [entry.name + ("/" if entry.is_dir() else "") for entry in entries(folder)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) + more) or "nothing"


def nothing_found(name: str, root: Path, missing: str, expected: str) -> DatasetError:
    """The error of a root that is not what it should be: what was expected, and what is there."""
    return DatasetError(f"{root} has no {missing}: it holds {show_content(root)}. {name!r} needs {expected}.")


def files_below(folder: Path, suffixes: Iterable[str]) -> Iterator[Path]:
    """Visible files with one of some endings in and below a folder, sorted."""
    endings = set(suffixes)
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(files):
            if not file.startswith(".") and Path(file).suffix.lower() in endings:
                yield Path(where, file)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        DatasetError: if it cannot be read, or is empty.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"Cannot read the list {path}: {reason}.") from error
    kept = [line for line in lines if line]
    if not kept:
        raise DatasetError(f"The list {path} is empty. Unpack the published archive again.")
    return kept


def relative_key(path: Path | str) -> str:
    """A path below a root as it is compared: without its ending, parts in lower case.

    >>> relative_key("train/Real/Client001_1.MOV")
    'train/real/client001_1'
    """
    plain_path = Path(str(path).replace("\\", "/"))
    return (plain_path.with_suffix("") if plain_path.name else plain_path).as_posix().lower()


def find_positions(folder: Path | None) -> dict[str, Path]:
    """Files with positions below a folder by `relative_key`; none without one."""
    if folder is None:
        return {}
    return {relative_key(path.relative_to(folder)): path for path in files_below(folder, {".face"})}


def read_positions(path: Path, fields: int) -> tuple[dict[int, tuple[float, ...]], int]:
    """A face's position in each frame: number of the frame from 0 to its numbers; and how many lines say nothing.

    Lines are ``frame, n, n, ...``, with commas or spaces. Numbers that are all zero mean that no face was found. Sets
    count frames from 0; where no line has 0 but as many as there are lines, from 1.

    Args:
        fields: how many numbers follow the frame's.

    Raises:
        DatasetError: if the file cannot be read, or no line is as expected.
    """
    found: dict[int, tuple[float, ...]] = {}
    broken, numbers = 0, []
    for line in read_lines(path):
        try:
            frame, *values = (float(word) for word in re.split(r"[,;\s]+", line.strip(",; ")))
            if len(values) != fields or not all(map(math.isfinite, (frame, *values))):
                raise ValueError
        except ValueError:
            broken += 1
            continue
        numbers.append(int(frame))
        if any(values):
            found[int(frame)] = tuple(values)
    if not numbers:
        raise DatasetError(f"{path}: no line is a frame's number and {fields} numbers.")
    if min(numbers) == 1 and max(numbers) == len(numbers) + broken:
        found = {frame - 1: values for frame, values in found.items()}
    return found, len(numbers) + broken - len(found)
