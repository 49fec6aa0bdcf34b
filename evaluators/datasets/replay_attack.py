"""`replay-attack`: Replay-Attack (Chingovska, Anjos and Marcel, BIOSIG 2012).

Layout of a licensed copy::

    {train,devel,test}/real/clientNNN_session01_webcam_authenticate_LIGHT_N.mov
    {train,devel,test}/attack/{fixed,hand}/attack_DEVICE_clientNNN_session01_SAMPLE_MEDIA_LIGHT.mov
    enroll/                                              (not used)
    face-locations/{train,devel,test}/.../NAME.face      lines: frame x y width height
    protocols/real-PART.txt, attack-PROTOCOL-{allsupports,fixed,hand}-PART.txt     paths of videos below the root

The types of attack are print, and photo and video on a mobile phone and on a tablet (highdef). devel chooses the
threshold. Without lists the protocol ``grandtest``, which is all videos, is taken from the folders.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from searchspaces.errors import ConfigError, DatasetError

from . import register_dataset
from .layouts import (
    LAYOUTS,
    VIDEO_SUFFIXES,
    Clip,
    Layout,
    Scan,
    entries,
    files_below,
    find_folders,
    find_positions,
    nothing_found,
    plain,
    read_lines,
    relative_key,
)
from .prepared import LISTS, Prepared, load_prepared
from .prepared_data import by_part, clips_of_list, refuse_fold, refuse_people, video_data

if TYPE_CHECKING:
    from .base import FaceData

NAME = "replay-attack"
PARTS = {"train": "train", "devel": "val", "test": "test"}
REAL = re.compile(r"client(\d+)_session\d+_.*", re.IGNORECASE)
ATTACK = re.compile(r"attack_(print|mobile|highdef)_client(\d+)_session\d+_[a-z]+_(photo|video)_.*", re.IGNORECASE)
LIST = re.compile(r"(real(-[a-z]+-[a-z]+)?|attack-[a-z]+-[a-z]+)-(train|devel|test)\.txt", re.IGNORECASE)
SUPPORTS = ("allsupports", "fixed", "hand")
WHOLE = "grandtest"
FROM_FOLDERS = "the copy has no protocol lists: grandtest is all videos of its folders"
EXPECTED = (
    "train, devel and test, each with real/*.mov and attack/{fixed,hand}/*.mov, and beside them protocols/*.txt and "
    "face-locations"
)


def kind_of(inside: tuple[str, ...]) -> tuple[str, str] | None:
    """Person and kind of a video by its path below train, devel or test; None if its name is not as published.

    >>> kind_of(("attack", "hand", "attack_mobile_client005_session01_mobile_video_adverse.mov"))
    ('005', 'mobile-video')
    """
    stem = Path(inside[-1]).stem
    if plain(inside[0]) == "real" and (real := REAL.fullmatch(stem)):
        return real[1], "live"
    if plain(inside[0]) == "attack" and (attack := ATTACK.fullmatch(stem)):
        device, media = attack[1].lower(), attack[3].lower()
        return attack[2], device if device == "print" else f"{device}-{media}"
    return None


def scan(root: Path) -> Scan:
    """The videos and lists of a copy.

    Raises:
        DatasetError: if the folders are missing.
    """
    folders = find_folders(root, *PARTS, "face-locations", "protocols", "enroll")
    missing = [part for part in PARTS if part not in folders]
    if missing:
        raise nothing_found(NAME, root, f"folder {' and no folder '.join(missing)}", EXPECTED)
    positions = find_positions(folders.get("face-locations"))
    clips, others = [], 0
    for folder, part in PARTS.items():
        for path in files_below(folders[folder], VIDEO_SUFFIXES):
            inside = path.relative_to(folders[folder]).parts
            found = kind_of(inside)
            if found is None:
                others += 1
                continue
            key = relative_key(Path(folder, *inside))
            clips.append(Clip(key, path, found[0], found[1], part, positions.get(key)))
    lists, damaged = find_lists(folders.get("protocols"))
    return Scan(clips, lists, {"the video's name is none of the set's": others, **damaged})


def find_lists(folder: Path | None) -> tuple[dict[str, Path], dict[str, int]]:
    """The lists of a folder that can be used, and why others cannot."""
    lists: dict[str, Path] = {}
    damaged: dict[str, int] = {}
    for path in entries(folder) if folder else []:
        if LIST.fullmatch(path.name):
            try:
                read_list(path)
                lists[path.name.lower()] = path
            except DatasetError as error:
                damaged[str(error)] = 1
    if not lists:
        damaged[FROM_FOLDERS] = 1
    return lists, damaged


def read_list(path: Path) -> dict[str, str]:
    """A list's clips, to the lines that name them.

    Raises:
        DatasetError: if it is empty, or names no videos.
    """
    found = {}
    for number, line in enumerate(read_lines(path), start=1):
        key = relative_key(line.removeprefix("./"))
        if key.partition("/")[0] not in PARTS:
            raise DatasetError(f"The list {path}, line {number}: {line!r} is no path below train, devel or test.")
        found[key] = line
    return found


def split_clips(prepared: Prepared, protocol: str) -> dict[str, dict[str, str]]:
    """The listed clips of each split.

    Raises:
        ConfigError: for a protocol that the copy has no lists of.
        DatasetError: if it lacks one of a protocol's lists.
    """
    name, _, support = protocol.partition("-")
    support = support or "allsupports"
    files = {path.name: path for path in entries(prepared.root / LISTS)} if (prepared.root / LISTS).is_dir() else {}
    wanted = {part: f"attack-{name}-{support}-{part}.txt" for part in PARTS}
    if support not in SUPPORTS or not any(file in files for file in wanted.values()):
        known = sorted({file.split("-")[1] for file in files if file.startswith("attack-")} | {WHOLE})
        raise ConfigError(
            f"{NAME!r} has no protocol {protocol!r} in {prepared.root}. Known: {', '.join(known)}, each also with "
            "-fixed or -hand where the copy has these lists."
        )
    found: dict[str, dict[str, str]] = {}
    for part, split in PARTS.items():
        real = next((file for file in (f"real-{name}-{support}-{part}.txt", f"real-{part}.txt") if file in files), None)
        if real is None:
            raise DatasetError(f"{prepared.root} has no list real-{part}.txt, as the copy that it was made of.")
        attack = prepared.list_file(wanted[part])
        found[split] = {**read_list(files[real]), **read_list(attack)}
    return found


@register_dataset(NAME)
def replay_attack(
    *,
    root: str | Path | None = None,
    people: int | str | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
    protocol: str | None = None,
    fold: int | None = None,
) -> FaceData:
    """A prepared copy of Replay-Attack; nothing is drawn at random."""
    refuse_people(NAME, people)
    refuse_fold(NAME, fold)
    chosen = WHOLE if protocol is None else str(protocol)
    prepared = load_prepared(NAME, root)
    tables, missing = by_part(prepared), 0
    deviations: tuple[str, ...] = ()
    if chosen == WHOLE and FROM_FOLDERS in prepared.info["left_out"]:
        deviations = (FROM_FOLDERS,)
    else:
        for split, wanted in split_clips(prepared, chosen).items():
            clips, without = clips_of_list(prepared, wanted)
            missing += without
            tables[split] = prepared.table[prepared.table["clip"].isin(clips)]
    return video_data(
        NAME,
        prepared,
        tables,
        missing=missing,
        deviations=deviations,
        credit="Replay-Attack: Chingovska, Anjos and Marcel, BIOSIG 2012; Idiap. The user's own licensed copy.",
        licence="For research, under the licence of Idiap. facenas contains none of it.",
        description=f"Protocol {chosen}; devel is val. Error rates of the papers: EER on devel, HTER on test.",
        limits="50 people before one laptop's camera of 320x240 pixels.",
        protocol=chosen,
        seed=seed,
    )


LAYOUTS.register(NAME)(Layout(scan, EXPECTED))
