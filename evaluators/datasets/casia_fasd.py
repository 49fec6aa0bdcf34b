"""`casia-fasd`: CASIA-FASD, also called CASIA-MFSD (Zhang et al., ICB 2012).

Layout of a licensed copy::

    train_release/1..20/N.avi      N: 1, 2, HR_1 live; 3, 4, HR_2 warped print; 5, 6, HR_3 print with cut eyes;
    test_release/1..30/N.avi          7, 8, HR_4 replayed video. HR_ is the camera of high quality.

Person 1 of train_release is not person 1 of test_release. The set has no development part: people of the training part
are held out for it. It has no face positions either, but ``face-locations/PART/PERSON/N.face`` is read where somebody
has added them (frame x y width height).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import register_dataset
from .layouts import LAYOUTS, Clip, Layout, Scan, files_below, find_folders, find_positions, nothing_found, relative_key
from .prepared import load_prepared
from .prepared_data import by_part, choose_protocol, hold_out_people, refuse_fold, refuse_people, video_data

if TYPE_CHECKING:
    import pandas as pd

    from .base import FaceData

NAME = "casia-fasd"
PARTS = {"train_release": "train", "test_release": "test"}
KINDS = {
    **dict.fromkeys(("1", "2", "HR_1"), "live"),
    **dict.fromkeys(("3", "4", "HR_2"), "warped"),
    **dict.fromkeys(("5", "6", "HR_3"), "cut"),
    **dict.fromkeys(("7", "8", "HR_4"), "video"),
}
VALIDATION = 0.2  # of the training people: 4 of 20
EXPECTED = (
    "train_release and test_release with a folder for each person that holds 1.avi to 8.avi and HR_1.avi to HR_4.avi"
)


def _of_kind(kind: str) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda table: table["kind"].isin(["live", kind]).to_numpy()


PROTOCOLS: dict[str, Callable[[pd.DataFrame], np.ndarray] | None] = {
    "overall": None,
    **{kind: _of_kind(kind) for kind in ("warped", "cut", "video")},
    "high": lambda table: table["clip"].str.contains("/HR_").to_numpy(),
}


def scan(root: Path) -> Scan:
    """The videos of a copy.

    Raises:
        DatasetError: if the folders are missing.
    """
    folders = find_folders(root, *PARTS, "face-locations")
    missing = [part for part in PARTS if part not in folders]
    if missing:
        raise nothing_found(NAME, root, f"folder {' and no folder '.join(missing)}", EXPECTED)
    positions = find_positions(folders.get("face-locations"))
    clips, others = [], 0
    for folder, part in PARTS.items():
        for path in files_below(folders[folder], {".avi"}):
            inside = path.relative_to(folders[folder]).parts
            number = re.sub(r"^hr[\s_-]*", "HR_", path.stem, flags=re.IGNORECASE)
            if len(inside) != 2 or number not in KINDS:
                others += 1
                continue
            person, key = f"{part}-{inside[0]}", relative_key(f"{folder}/{inside[0]}/{path.name}")
            clips.append(Clip(f"{part}/{inside[0]}/{number}", path, person, KINDS[number], part, positions.get(key)))
    return Scan(clips, {}, {"the video's name is none of the set's": others})


@register_dataset(NAME)
def casia_fasd(
    *,
    root: str | Path | None = None,
    people: int | str | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
    protocol: str | None = None,
    fold: int | None = None,
) -> FaceData:
    """A prepared copy of CASIA-FASD; ``seed`` draws the people of val."""
    refuse_people(NAME, people)
    refuse_fold(NAME, fold)
    chosen = choose_protocol(NAME, protocol, PROTOCOLS, "overall")
    prepared = load_prepared(NAME, root)
    parts = by_part(prepared, PROTOCOLS[chosen])
    train, val = hold_out_people(parts["train"], VALIDATION, seed)
    return video_data(
        NAME,
        prepared,
        {"train": train, "val": val, "test": parts["test"]},
        deviations=(
            "the set has no development part: a fifth of the training people, drawn by the data's seed, chooses the "
            "threshold and is not trained on; many papers tell the error at equal rates of the test part itself (eer)",
        ),
        credit="CASIA-FASD: Zhang, Yan, Liu, Lei, Yi and Li, ICB 2012. The user's own licensed copy.",
        licence="For research, under the agreement of its authors. facenas contains none of it.",
        description=f"Protocol {chosen}: 20 people to train and validate, 30 others to test; three cameras.",
        limits="50 people.",
        protocol=chosen,
        seed=seed,
    )


LAYOUTS.register(NAME)(Layout(scan, EXPECTED))
