"""From a licensed copy to a prepared folder: which packs are needed, which are there already, and what came out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searchspaces.errors import ConfigError, DatasetError

from ..video import require_decoder
from .face_finder import require_detector
from .layouts import VIDEO_SUFFIXES, Clip, Layout, Scan, find_layout
from .portrait_pool import MOST_PROCESSES, run_workers
from .prepare_worker import BROKEN, NO_FACE, NO_POSITIONS, Job
from .prepared import (
    FORMAT,
    LISTS,
    PACKS,
    is_prepared,
    leads_out,
    pack_is_whole,
    read_header,
    read_info,
    write_index,
    write_info,
)

WORKER = "evaluators.datasets.prepare_worker"
ABANDONED_AFTER = 24 * 3600.0  # seconds: an unfinished file this old belongs to a run that died

KNOWN = (BROKEN, NO_FACE, NO_POSITIONS)
Packs = dict[str, list[Clip]]


@dataclass(frozen=True)
class Options:
    """What the pictures depend on.

    Attributes:
        frames: most frames of a clip, evenly spread.
        enlarge: factor on the face box.
        detector: what finds faces where the set has no positions: auto, frame or none, see `prepare_worker`.
    """

    frames: int = 10
    enlarge: float = 1.0
    detector: str = "auto"


@dataclass(frozen=True)
class Outcome:
    """What a preparation did: the content of prepared.json, and how many packs it made."""

    info: dict[str, Any]
    made: int


def prepare(
    name: str,
    root: Path,
    out: Path,
    options: Options,
    *,
    processes: int | None = None,
    check: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Outcome:
    """Prepare a data set, or what of it is not prepared yet.

    Args:
        check: also read all packs that are there, and make the damaged ones again.
        overwrite: replace what was prepared with other options.

    Raises:
        FacenasError: if the copy is not as published, the folder holds something else or cannot be written, or a
            package is missing.
    """
    layout = find_layout(name)
    scan = scan_root(name, layout, root)
    packs = group_packs(scan.clips)
    require_packages(scan.clips, options)
    stamp = hashlib.sha256(json.dumps([FORMAT, name, vars(options)]).encode()).hexdigest()[:16]
    _open_folder(name, out, options, overwrite)
    missing = [pack for pack, clips in packs.items() if not _is_done(out / PACKS / pack, clips, stamp, check)]
    before = read_info(out) if is_prepared(out) else {}
    fingerprint = _fingerprint(scan)
    if not missing and before.get("complete") and before.get("fingerprint") == fingerprint:
        return Outcome(before, 0)
    write_info(out, {"dataset": name, "options": vars(options)})
    if missing:
        _make(name, out, options, stamp, {pack: packs[pack] for pack in missing}, processes, progress)
    _copy_lists(scan, out)
    info = _finish(name, out, options, scan, packs, fingerprint)
    return Outcome(info, len(missing))


def scan_root(name: str, layout: Layout, root: Path) -> Scan:
    """What a layout finds below a root.

    Raises:
        DatasetError: if the root is not there, or has no clips, or two of the same name, or a person in two parts.
    """
    if not root.is_dir():
        raise DatasetError(f"The root folder {root} of {name!r} does not exist. It should hold {layout.expected}.")
    scan = layout.scan(root)
    if not scan.clips:
        raise DatasetError(f"{root} has no clip of {name!r}. It should hold {layout.expected}.")
    twice = [clip for clip, count in Counter(clip.name for clip in scan.clips).items() if count > 1]
    if twice:
        paths = [str(clip.path) for clip in scan.clips if clip.name == twice[0]]
        raise DatasetError(f"{' and '.join(paths[:2])} are both the clip {twice[0]!r}. Remove one of them.")
    first: dict[str, Clip] = {}
    for clip in scan.clips:
        before = first.setdefault(clip.person, clip)
        if before.part != clip.part:
            raise DatasetError(
                f"The person {clip.person!r} is in {before.part} ({before.path}) and in {clip.part} ({clip.path}): a "
                "test on people seen in training says nothing. Mend the copy: each person belongs to one part."
            )
    return scan


def group_packs(clips: Iterable[Clip]) -> Packs:
    """The clips of each pack, by its file's name.

    Raises:
        DatasetError: for a name that would lead out of the prepared folder.
    """
    packs: Packs = {}
    for clip in clips:
        if leads_out(clip.pack or clip.name):
            raise DatasetError(f"The clip {clip.pack or clip.name!r} of {clip.path} is no name for a file in a folder.")
        packs.setdefault(f"{clip.pack or clip.name}.faces", []).append(clip)
    return packs


def require_packages(clips: Iterable[Clip], options: Options) -> None:
    """Refuse to begin without what decodes videos and, where positions are missing, finds faces.

    Raises:
        ConfigError: saying what to install.
    """
    videos = [clip for clip in clips if clip.path.suffix.lower() in VIDEO_SUFFIXES]
    nowhere = [clip for clip in videos if clip.positions is None]
    if videos:
        require_decoder()
    if not nowhere or options.detector != "auto":
        return
    try:
        require_detector()
    except ConfigError as error:
        raise ConfigError(
            f"{error} {len(nowhere)} of {len(videos)} videos have no published positions, {nowhere[0].path} for one; "
            "--detector none leaves these out, --detector frame takes the middle of their frames."
        ) from error


def _open_folder(name: str, out: Path, options: Options, overwrite: bool) -> None:
    """Refuse a folder that holds something else."""
    if is_prepared(out):
        info = read_info(out)
        same = info.get("dataset") == name and info.get("options") == vars(options)
        if not same and not overwrite:
            raise ConfigError(
                f"{out} holds {info.get('dataset')!r} prepared with {info.get('options')}, not {name!r} with "
                f"{vars(options)}. Choose another --out, or give --overwrite."
            )
        if info.get("dataset") != name:
            for entry in (PACKS, LISTS):
                shutil.rmtree(out / entry, ignore_errors=True)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty, and no prepared folder. Choose another --out.")
    for leftover in (out / PACKS).rglob(".*.faces.*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > ABANDONED_AFTER:
                leftover.unlink()


def stamp_of(clip: Clip) -> list[int]:
    """Size and time of a clip's file and of its positions, by which a changed one is known; zeros for a missing one."""
    stamp = []
    for path in (clip.path, clip.positions):
        if path is not None:
            with contextlib.suppress(OSError):
                status = path.stat()
                stamp += [status.st_size, status.st_mtime_ns]
                continue
        stamp += [0, 0]
    return stamp


def _fingerprint(scan: Scan) -> str:
    """What the index and the lists of a prepared folder were made of."""
    clips = [[clip.name, clip.person, clip.kind, clip.part] for clip in scan.clips]
    lists = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in scan.lists.items()}
    return hashlib.sha256(json.dumps([clips, lists, scan.passed_over], sort_keys=True).encode()).hexdigest()


def _is_done(path: Path, clips: list[Clip], stamp: str, check: bool) -> bool:
    """Whether a pack is there, of these options and these files; with ``check`` whether it is whole, too."""
    header = read_header(path)
    if header is None or header.get("stamp") != stamp:
        return False
    kept = [[name, own] for name, own, _, _ in header["clips"]]
    if kept != [[clip.name, stamp_of(clip)] for clip in clips]:
        return False
    return not check or pack_is_whole(path, header)


def _make(
    name: str, out: Path, options: Options, stamp: str, packs: Packs, processes: int | None, progress: bool
) -> None:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = max(1, min(processes or min(available, MOST_PROCESSES), len(packs)))
    work = [(pack, [(clip, stamp_of(clip)) for clip in clips]) for pack, clips in packs.items()]
    jobs = [
        Job(str(out), name, options.frames, options.enlarge, options.detector, stamp, work[share::shares]).to_json()
        for share in range(shares)
    ]
    text = f"Cutting faces out of {name!r} ({len(packs)} files to make, {shares} processes)"
    run_workers(WORKER, jobs, len(packs), text, progress)


def _copy_lists(scan: Scan, out: Path) -> None:
    """Copy the published lists, so that the folder stands alone."""
    shutil.rmtree(out / LISTS, ignore_errors=True)
    for name, path in scan.lists.items():
        target = out / LISTS / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _finish(name: str, out: Path, options: Options, scan: Scan, packs: Packs, fingerprint: str) -> dict[str, Any]:
    """Read all packs' headers, write the index, and remove packs that no clip has any more."""
    rows, skipped = [], {}
    frames = Counter(kept=0, without_face=0, not_decoded=0)
    for pack, clips in packs.items():
        header = read_header(out / PACKS / pack)
        if header is None:
            raise DatasetError(f"{out / PACKS / pack} was written and is damaged: the disk may be full or broken.")
        facts = {clip.name: (clip.person, clip.kind, clip.part) for clip in clips}
        for clip_name, _, counts, reason in header["clips"]:
            frames.update(counts)
            if reason:
                skipped[clip_name] = reason
        for clip_name, frame, offset, length, crc in header["pictures"]:
            rows.append((clip_name, *facts[clip_name], frame, pack, header["start"] + offset, length, crc))
    frames["kept"] = len(rows)
    if not rows:
        usual = Counter(skipped.values()).most_common(1)[0][0]
        raise DatasetError(f"None of the {len(scan.clips)} clips of {name!r} gave a face; most often: {usual}.")
    for stray in set((out / PACKS).rglob("*.faces")) - {out / PACKS / pack for pack in packs}:
        stray.unlink()
    reasons = Counter(reason if reason in KNOWN else "cannot be read" for reason in skipped.values())
    info = {
        "format": FORMAT,
        "dataset": name,
        "options": vars(options),
        "clips": len(scan.clips),
        "fingerprint": fingerprint,
        "frames": dict(frames),
        "left_out": {**dict(reasons), **{reason: count for reason, count in scan.passed_over.items() if count}},
        "skipped": skipped,
    }
    write_index(out, rows, info)
    return read_info(out)
