"""From prepared folders to data sets: splits of videos, and `prepared`, which loads any folder by its parts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from searchspaces.errors import ConfigError, DatasetError

from . import register_dataset
from .prepared import SIDE, Prepared, load_prepared, read_info

if TYPE_CHECKING:
    import pandas as pd

    from .base import FaceData

MOST_MISSING = 0.5  # of a list's clips
OPEN = ("frames of a video, the face box's size, and the pictures' size are our choice: the papers name none of them",)


def refuse_people(name: str, people: Any) -> None:
    """Refuse a number of people for a set with a published protocol.

    Raises:
        ConfigError: always, if a number is given.
    """
    if people is not None:
        raise ConfigError(f"people={people!r}: {name!r} shows all people of its protocol. Leave people out.")


def choose_protocol(name: str, protocol: str | None, known: Mapping[str, Any] | tuple[str, ...], default: str) -> str:
    """The protocol that is asked for.

    Raises:
        ConfigError: naming the known ones.
    """
    chosen = default if protocol is None else str(protocol)
    if chosen not in known:
        raise ConfigError(f"{name!r} has no protocol {chosen!r}. Known: {', '.join(known)}.")
    return chosen


def refuse_fold(name: str, fold: int | None) -> None:
    """Refuse a fold where there is none.

    Raises:
        ConfigError: always, if one is given.
    """
    if fold is not None:
        raise ConfigError(f"fold={fold}: this protocol of {name!r} has no folds. Leave fold out.")


def clips_of_list(prepared: Prepared, wanted: Mapping[str, str]) -> tuple[set[str], int]:
    """Clips of a published list that have pictures, and how many have none.

    Args:
        wanted: clip in the prepared folder, to what a list calls it.

    Raises:
        DatasetError: if more than half of a list has no pictures.
    """
    there = set(prepared.table["clip"].unique())
    found = {clip for clip in wanted if clip in there}
    missing = [listed for clip, listed in wanted.items() if clip not in there]
    if len(missing) > MOST_MISSING * len(wanted):
        raise DatasetError(
            f"{len(missing)} of {len(wanted)} clips of a list have no pictures in {prepared.root}, {missing[0]!r} for "
            f"one: the copy was not complete. prepared.json says what was skipped and why."
        )
    return found, len(missing)


def video_data(
    name: str,
    prepared: Prepared,
    tables: Mapping[str, pd.DataFrame],
    *,
    missing: int = 0,
    deviations: tuple[str, ...] = (),
    **texts: Any,
) -> FaceData:
    """A data set of rows of the index.

    Args:
        tables: rows for each split.
        missing: listed clips without pictures.

    Raises:
        DatasetError: if a split lacks live faces or attacks, or a person is in two splits.
    """
    from .base import FaceData, Split, make_card, refuse_shared_people

    splits = {}
    for split, table in tables.items():
        kinds = table["kind"].to_numpy(dtype=str)
        if len(np.unique(kinds == "live")) < 2:
            raise DatasetError(
                f"The {split} split of {name!r} has {len(table)} pictures, and no live faces or no attacks: a list is "
                f"cut off, or {prepared.root} was made of an incomplete copy. Its prepared.json says what was skipped."
            )
        source = prepared.source(table, SIDE)
        people, clips = (table[column].to_numpy(dtype=str) for column in ("person", "clip"))
        frames = table["frame"].to_numpy(dtype=np.int64)
        splits[split] = Split(kinds == "live", kinds, people, source, np.arange(len(table)), clips, frames)
    refuse_shared_people(name, splits)
    if missing:
        print(f"facenas: {name!r} has no pictures of {missing} listed clips; see prepared.json.", file=sys.stderr)
    card = make_card(
        name,
        splits,
        simulated=False,
        image_size=SIDE,
        unit="video",
        videos={
            split: len(np.unique(content.videos)) for split, content in splits.items() if content.videos is not None
        },
        missing_clips=missing,
        preparation={key: prepared.info[key] for key in ("options", "frames", "left_out")},
        deviations=[*deviations, *OPEN],
        **texts,
    )
    return FaceData(name, splits, SIDE, card)


def by_part(prepared: Prepared, chosen: Callable[[pd.DataFrame], np.ndarray] | None = None) -> dict[str, pd.DataFrame]:
    """The index by its parts: train, val, test."""
    table = prepared.table if chosen is None else prepared.table[chosen(prepared.table)]
    return {part: table[table["part"] == part] for part in ("train", "val", "test")}


def hold_out_people(table: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of most people, and those of a share of them, at least one, drawn by the seed."""
    people = np.unique(table["person"].to_numpy(dtype=str))
    kept = max(1, round(share * len(people)))
    drawn = np.random.default_rng(seed).permutation(people)[:kept]
    held = table["person"].isin(drawn.tolist())
    return table[~held], table[held]


@register_dataset("prepared")
def prepared(
    *,
    root: str | Path | None = None,
    people: int | str | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> FaceData:
    """Any prepared folder, split by the parts that its layout gave: for layouts of one's own."""
    refuse_people("prepared", people)
    if root is None:
        raise ConfigError("The data set 'prepared' needs the folder that evaluators.prepare wrote: --data-root FOLDER.")
    folder = Path(root).expanduser().absolute()
    if not (folder / "prepared.json").is_file():
        raise DatasetError(f"{folder} is not a prepared folder. Make one with: python -m evaluators.prepare")
    found = load_prepared(str(read_info(folder).get("dataset")), folder)
    return video_data(
        "prepared",
        found,
        by_part(found),
        credit="The user's own videos.",
        description=f"Faces of {found.info['dataset']}; splits, people and kinds as its layout says.",
        limits="facenas knows nothing of how these videos were taken.",
        seed=seed,
    )
