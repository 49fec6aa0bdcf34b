"""`packed`: recognition sets as InsightFace distributes them, 112 x 112 and aligned already.

Below the root: ``train.rec`` and ``train.idx`` (CASIA-WebFace, MS1M), to train and validate on different people, and
any ``NAME.bin`` (lfw, cfp_fp, agedb_30), to test on. Without a .rec it is for judging only; without .bin files people
of the .rec are kept for the test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from searchspaces.errors import ConfigError, DatasetError

from ..pictures import decode_rgb
from . import register_dataset
from .packed_pickle import read_packed
from .picture_files import require_root
from .recordio import open_records, sized

SIDE, FOLDS = 112, 10
VALIDATION, FEWEST, MOST = 0.02, 20, 500  # share of the people who are kept for validation, and their number
EXPECTED = "It needs train.rec with train.idx, or files like lfw.bin, or both, below its root."


class EncodedPictures:
    """Pictures as the bytes of their files, decoded when they are read."""

    decodes = True

    def __init__(self, pictures: list[bytes], name: str, size: int = SIDE) -> None:
        self.pictures, self.name, self.size = pictures, name, size

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of these rows, (n, 3, size, size) uint8."""
        return np.stack(
            [sized(decode_rgb(self.pictures[row], f"picture {row} of {self.name}"), self.size) for row in rows.tolist()]
        )


@register_dataset("packed")
def packed(*, root: Any = None, people: Any = None, seed: int = 0, cache: Any = None, progress: bool = True) -> Any:
    """InsightFace's packed sets. ``people`` limits how many of the .rec are trained on."""
    from .recognition import RecognitionData, recognition_card

    base = require_root("packed", root, EXPECTED)
    bins = sorted(base.glob("*.bin"))
    splits: dict[str, Any] = {}
    if (base / "train.rec").is_file():
        splits = _from_records(base / "train.rec", people, seed, with_test=not bins)
    elif not bins:
        raise DatasetError(f"{base} has neither train.rec nor a .bin file. {EXPECTED}")
    if bins:
        splits["test"] = _from_bins(bins)
    card = recognition_card(
        "packed",
        splits,
        simulated=False,
        image_size=SIDE,
        credit="As InsightFace distributes it; see the set's own terms.",
        description=f"{base.name}: {', '.join(path.name for path in base.glob('train.rec'))} "
        f"{', '.join(path.name for path in bins)}, aligned as they are stored.",
        limits="Who is on the pictures of the .bin files is not said: intervals count each pair's pictures as people.",
        seed=seed,
    )
    return RecognitionData("packed", splits, SIDE, card)


def _from_records(path: Path, people: Any, seed: int, with_test: bool) -> dict[str, Any]:
    """Train and val of different people, and test if there is no other."""
    from .recognition import IdentitySplit

    source, labels = open_records(path, SIDE)
    names = np.unique(labels)
    if len(names) < 2:
        raise DatasetError(f"{path} shows {len(names)} people: telling people apart needs more.")
    order = np.random.default_rng(seed).permutation(names)
    if people is not None and people != "all":
        if not (isinstance(people, int) and 4 <= people <= len(order)):
            raise ConfigError(f"people={people!r}: {path} shows {len(order)}; give 4 to so many.")
        order = order[:people]
    kept = min(max(FEWEST, round(VALIDATION * len(order))), MOST, len(order) // 4 or 1)
    parts = {"val": order[:kept]}
    if with_test:
        parts["test"] = order[kept : 2 * kept]
    parts["train"] = order[kept * len(parts) :]
    splits: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        if split in parts:
            rows = np.flatnonzero(np.isin(labels, parts[split]))
            splits[split] = IdentitySplit(labels[rows].astype(str), source, rows)
    return splits


def _from_bins(paths: list[Path]) -> Any:
    """One split with the pictures of all files and a list of pairs for each."""
    from .recognition import IdentitySplit, Pairs

    pictures: list[bytes] = []
    lists, owners = {}, []
    for path in paths:
        own, same = read_packed(path)
        first = len(pictures) + 2 * np.arange(len(same))
        lists[path.stem] = Pairs(first, first + 1, np.array(same), np.arange(len(same)) * FOLDS // len(same))
        for place, one in enumerate(same):
            owners += [f"{path.stem} {place}a", f"{path.stem} {place}{'a' if one else 'b'}"]
        pictures += own
    source = EncodedPictures(pictures, ", ".join(path.name for path in paths))
    return IdentitySplit(np.array(owners), source, np.arange(len(pictures)), lists, named=False)
