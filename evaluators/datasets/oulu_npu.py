"""`oulu-npu`: OULU-NPU (Boulkenafet et al., FG 2017), protocols 1 to 4 as published.

Layout of a licensed copy::

    {Train,Dev,Test}_files/P_S_UU_T.avi         phone 1-6, session 1-3, person 01-55; 1 live, 2-3 print, 4-5 replay
                           P_S_UU_T.txt         frame,x1,y1,x2,y2: the eyes, zeros where they were not found
    Protocols/Protocol_N/{Train,Dev,Test}.txt   lines +1,P_S_UU_T (live) or -1,P_S_UU_T (-1 print, -2 replay)
                         {Train,Dev,Test}_K.txt the six folds of protocols 3 and 4

Person and attack are in a video's name; lists choose videos for the splits. Dev chooses the threshold. An attack's type
is print or replay, as in the tables of the set's authors, whose overall APCER is the larger of the two.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from searchspaces.errors import ConfigError, DatasetError

from . import register_dataset
from .crops import eyes_region
from .layouts import (
    LAYOUTS,
    Clip,
    Layout,
    Scan,
    files_below,
    find_entry,
    find_folders,
    nothing_found,
    read_lines,
    relative_key,
)
from .prepared import Prepared, load_prepared
from .prepared_data import choose_protocol, clips_of_list, refuse_fold, refuse_people, video_data

if TYPE_CHECKING:
    from .base import FaceData

NAME = "oulu-npu"
PARTS = {"Train": "train", "Dev": "val", "Test": "test"}
KINDS = {1: "live", 2: "print", 3: "print", 4: "replay", 5: "replay"}
PROTOCOLS = ("1", "2", "3", "4")
FOLDS = {"3": 6, "4": 6}
VIDEO = re.compile(r"([1-6])_([1-3])_(\d{1,2})_([1-5])")
LINE = re.compile(r"([+-]?)\s*([0-9])\s*[,;\s]\s*([^\s,;]+)")
EXPECTED = (
    "{Train,Dev,Test}_files with videos such as 1_1_01_1.avi and their eye positions 1_1_01_1.txt, and "
    "Protocols/Protocol_{1,2,3,4} with lists such as Train.txt and Train_1.txt"
)


def clip_name(text: str) -> str | None:
    """The canonical name of a video, None if it is none of the set's.

    >>> clip_name("1_1_1_2.AVI"), clip_name("readme")
    ('1_1_01_2', None)
    """
    match = VIDEO.fullmatch(re.sub(r"\.\w+$", "", text))
    return None if match is None else f"{match[1]}_{match[2]}_{int(match[3]):02d}_{match[4]}"


def scan(root: Path) -> Scan:
    """The videos and lists of a copy.

    Raises:
        DatasetError: if the folders or all lists are missing.
    """
    folders = find_folders(root, *(f"{part}_files" for part in PARTS))
    missing = [f"{part}_files" for part in PARTS if f"{part}_files" not in folders]
    if missing:
        raise nothing_found(NAME, root, f"folder {' and no folder '.join(missing)}", EXPECTED)
    clips, others = [], 0
    for part, name in PARTS.items():
        folder = folders[f"{part}_files"]
        eyes = {relative_key(path): path for path in files_below(folder, {".txt"})}
        for path in files_below(folder, {".avi", ".mp4", ".mov"}):
            clip = clip_name(path.name)
            if clip is None:
                others += 1
                continue
            _, _, person, kind = clip.split("_")
            clips.append(Clip(clip, path, person, KINDS[int(kind)], name, eyes.get(relative_key(path))))
    lists, damaged = find_lists(root)
    return Scan(clips, lists, {"the video's name is none of the set's": others, **damaged})


def list_names(protocol: str, part: str) -> list[str]:
    """The files of a protocol's part, one a fold."""
    if protocol in FOLDS:
        return [f"{part}_{fold}.txt" for fold in range(1, FOLDS[protocol] + 1)]
    return [f"{part}.txt"]


def find_lists(root: Path) -> tuple[dict[str, Path], dict[str, int]]:
    """The lists that can be used, and why others cannot.

    Raises:
        DatasetError: if there is none.
    """
    folders = find_folders(root, *(f"Protocol_{protocol}" for protocol in PROTOCOLS))
    lists: dict[str, Path] = {}
    damaged: dict[str, int] = {}
    for protocol in PROTOCOLS:
        folder = folders.get(f"Protocol_{protocol}")
        if folder is None:
            damaged[f"the lists of protocol {protocol} are missing"] = 1
            continue
        for name in (name for part in PARTS for name in list_names(protocol, part)):
            key = f"Protocol_{protocol}/{name}"
            path = find_entry(folder, name)
            if path is None:
                damaged[f"the list {key} is missing"] = 1
                continue
            try:
                read_list(path)
                lists[key] = path
            except DatasetError as error:
                damaged[str(error)] = 1
    if not lists:
        first = next((text for text in damaged if "missing" not in text), "")
        raise nothing_found(NAME, root, f"list of a protocol that can be used. {first}".rstrip(), EXPECTED)
    return lists, damaged


def read_list(path: Path) -> list[tuple[str, bool]]:
    """A list's videos in its order, and whether it calls them live.

    Raises:
        DatasetError: naming the line that is not as expected, or contradicts the video's name.
    """
    found: dict[str, bool] = {}
    for number, line in enumerate(read_lines(path), start=1):
        match = LINE.fullmatch(line)
        clip = clip_name(match[3]) if match else None
        if match is None or clip is None:
            raise DatasetError(f"The list {path}, line {number}: {line!r} is not like +1,1_1_01_1 or -1,1_1_01_2.")
        live = match[1] != "-" and match[2] != "0"
        if live != (KINDS[int(clip[-1])] == "live"):
            said = "live" if live else "an attack"
            raise DatasetError(f"The list {path}, line {number}: {line!r} says {said}, and the video's name does not.")
        found[clip] = live
    return list(found.items())


def split_lists(prepared: Prepared, protocol: str, fold: int | None) -> dict[str, Path]:
    """The lists of a protocol, or of a fold of it, by split.

    Raises:
        ConfigError: without a fold where there are several.
        DatasetError: if a list is missing.
    """
    if protocol not in FOLDS:
        refuse_fold(NAME, fold)
    elif fold is None or not 1 <= fold <= FOLDS[protocol]:
        raise ConfigError(
            f"Protocol {protocol} of {NAME!r} has {FOLDS[protocol]} folds, and fold is {fold}: give --fold 1 to "
            f"{FOLDS[protocol]}. python -m evaluators.score_files shows the mean and deviation of several runs."
        )
    ending = "" if fold is None else f"_{fold}"
    return {split: prepared.list_file(f"Protocol_{protocol}", f"{part}{ending}.txt") for part, split in PARTS.items()}


@register_dataset(NAME)
def oulu_npu(
    *,
    root: str | Path | None = None,
    people: int | str | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
    protocol: str | None = None,
    fold: int | None = None,
) -> FaceData:
    """A prepared copy of OULU-NPU; nothing is drawn at random."""
    refuse_people(NAME, people)
    chosen = choose_protocol(NAME, protocol, PROTOCOLS, "1")
    prepared = load_prepared(NAME, root)
    tables, missing = {}, 0
    for split, path in split_lists(prepared, chosen, fold).items():
        clips, without = clips_of_list(prepared, {clip: clip for clip, _ in read_list(path)})
        missing += without
        tables[split] = prepared.table[prepared.table["clip"].isin(clips)]
    return video_data(
        NAME,
        prepared,
        tables,
        missing=missing,
        credit="OULU-NPU: Boulkenafet, Komulainen, Li, Feng and Hadid, FG 2017. The user's own licensed copy.",
        licence="For research, under the agreement of its authors. facenas contains none of it.",
        description=f"Protocol {chosen}{'' if fold is None else f', fold {fold}'}: its lists of videos; dev is val.",
        limits="35 people in training and development, 20 in the test; six phones, all of 2016.",
        protocol=chosen,
        fold=fold,
        seed=seed,
    )


LAYOUTS.register(NAME)(Layout(scan, EXPECTED, eyes_region))
