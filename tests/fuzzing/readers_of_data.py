"""Readers of data sets: lists, boxes, landmarks, indexes, packed files, prepared folders."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .readers import Reader
from .readers_of_pictures import noise


def read_some(data: Any) -> Any:
    """The first pictures of every split, and its lists of pairs."""
    for split in data.splits.values():
        if len(split):
            split.source.read(split.rows[:2]) if hasattr(split.source, "fitted") else split[0]


def _build(name: str) -> Any:
    def read(folder: Path, file: Path) -> Any:
        from evaluators.datasets import build_dataset

        read_some(build_dataset(name, root=folder, cache=folder / "cache", progress=False))

    return read


def _people(folder: Path, people: int = 4) -> None:
    for person in range(people):
        for shot in range(1, 4):
            path = folder / f"P{person}" / f"P{person}_{shot:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise(seed=10 * person + shot).save(path)


def _pairs(folder: Path) -> dict[str, str]:
    _people(folder)
    lines = [f"P{n}/P{n}_0001.jpg,P{m}/P{m}_0002.jpg,{int(n == m)}" for n in range(3) for m in range(3)]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    points = "30,30,45,30,38,40,32,50,44,50"
    names = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    columns = ",".join(["file", *(f"{name}_{axis}" for name in names for axis in "xy")])
    (folder / "landmarks.csv").write_text(f"{columns}\nP0/P0_0001.jpg,{points}\nP1/P1_0002.jpg,{points}\n")
    return {"pairs.txt": "table", "landmarks.csv": "table", "P0/P0_0001.jpg": "bytes"}


def _lfw(folder: Path) -> dict[str, str]:
    _people(folder, 6)
    lines = ["2\t2"]
    for fold in range(2):
        lines += [f"P{n + 3 * fold}\t1\t2" for n in range(2)] + [f"P{n}\t1\tP{n + 1}\t3" for n in range(2)]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return {"pairs.txt": "table"}


def _identities(folder: Path) -> dict[str, str]:
    _pairs(folder)
    (folder / "pairs.txt").unlink()
    _people(folder, 12)
    return {"landmarks.csv": "table", "P0/P0_0001.jpg": "bytes"}


def _records(folder: Path) -> dict[str, str]:
    from tests.evaluators.test_recognition_data import write_records

    write_records(folder, people=8, pictures=2)
    return {"train.rec": "bytes", "train.idx": "table"}


def _records_alone(folder: Path) -> dict[str, str]:
    _records(folder)
    (folder / "train.idx").unlink()
    return {"train.rec": "bytes"}


def _bin(folder: Path) -> dict[str, str]:
    buffer = io.BytesIO()
    noise((20, 20)).save(buffer, "JPEG", quality=30)
    items = [buffer.getvalue()] * 4
    for protocol in (2, 4, 5):
        (folder / f"p{protocol}.bin").write_bytes(pickle.dumps((items, [True, False]), protocol))
    arrays = [np.frombuffer(item, np.uint8) for item in items]
    (folder / "arrays.bin").write_bytes(pickle.dumps((arrays, [np.bool_(True), np.bool_(False)]), 2))
    return dict.fromkeys(("p2.bin", "p4.bin", "p5.bin", "arrays.bin"), "bytes")


def _read_bin(folder: Path, file: Path) -> Any:
    from evaluators.datasets.packed_pickle import read_packed

    return read_packed(file)


def _wider(folder: Path) -> dict[str, str]:
    from tests.evaluators.test_detection_files import write_ground_truth

    face = "10 10 30 40 0 0 0 0 0 0"
    for part, events in (("train", 3), ("val", 1)):
        lines = []
        for event in range(events):
            name = f"{event}--Event/{event}.jpg" if part == "train" else "5--Val/5_Val_0.jpg"
            path = folder / f"WIDER_{part}/images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            noise().save(path)
            lines += [name, "2", face, face]
        (folder / "wider_face_split").mkdir(exist_ok=True)
        (folder / f"wider_face_split/wider_face_{part}_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    write_ground_truth(folder)
    return {
        "wider_face_split/wider_face_train_bbx_gt.txt": "table",
        "wider_face_split/wider_face_val_bbx_gt.txt": "table",
        "eval_tools/ground_truth/wider_easy_val.mat": "bytes",
    }


def _fddb(folder: Path) -> dict[str, str]:
    (folder / "FDDB-folds").mkdir()
    for fold in range(1, 11):
        path = folder / "originalPics" / f"2002/img_{fold}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise().save(path)
        lines = [f"2002/img_{fold}", "1", "30.0 20.0 1.570796 60.0 45.0  1"]
        (folder / f"FDDB-folds/FDDB-fold-{fold:02d}-ellipseList.txt").write_text("\n".join(lines) + "\n")
    return {"FDDB-folds/FDDB-fold-01-ellipseList.txt": "table", "FDDB-folds/FDDB-fold-07-ellipseList.txt": "table"}


def _read_detection(name: str) -> Any:
    def read(folder: Path, file: Path) -> Any:
        from evaluators.datasets import build_dataset

        data = build_dataset(name, root=folder, progress=False)
        for split in data.splits.values():
            for boxes in split.boxes:
                assert np.isfinite(boxes).all()
            if len(split):
                split[0]

    return read


def _celeba(folder: Path) -> dict[str, str]:
    lists: dict[str, dict[str, list[int]]] = {}
    for part, people in (("train", range(1, 7)), ("test", range(11, 13))):
        lists[part] = {}
        for person in people:
            for kind in (0, 1):
                name = f"Data/{part}/{person}/{'spoof' if kind else 'live'}/{person:03}{kind:03}.png"
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                noise().save(folder / name)
                (folder / name).with_name(f"{person:03}{kind:03}_BB.txt").write_text("56 56 112 112 0.998\n")
                lists[part][name] = [0] * 40 + [kind] * 4
        path = folder / f"metas/intra_test/{part}_label.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(lists[part]))
    return {
        "metas/intra_test/train_label.json": "json",
        "metas/intra_test/test_label.json": "json",
        "Data/train/1/live/001000_BB.txt": "table",
    }


def _kept_index(folder: Path) -> dict[str, str]:
    """The index that a first call has kept in the cache."""
    from evaluators.datasets import build_dataset

    _celeba(folder)
    build_dataset("celeba-spoof", root=folder, cache=folder / "cache", progress=False)
    (kept,) = (folder / "cache").rglob("*.npz")
    return {str(kept.relative_to(folder)): "zip"}


def _cache(folder: Path) -> dict[str, str]:
    from evaluators.datasets.cache import cached_pictures

    file = cached_pictures("made-up", {"a": 1}, (2, 3, 4, 4), lambda path: {"boxes": [1, 2]}, folder)
    below = file.parent.relative_to(folder)
    return {f"{below}/{entry.name}": "json" if entry.suffix == ".json" else "bytes" for entry in file.parent.iterdir()}


def _read_cache(folder: Path, file: Path) -> Any:
    from evaluators.datasets.base import ArraySource
    from evaluators.datasets.cache import find_damage

    damage = find_damage(file.parent, {"a": 1}, (2, 3, 4, 4))
    if damage is None:
        return ArraySource(next(file.parent.glob("*.npy"))).read(np.arange(2))
    return damage


def _prepared(folder: Path) -> dict[str, str]:
    """A prepared copy of OULU-NPU, as `evaluators.prepare` writes it, of made-up faces."""
    from evaluators.datasets.prepared import SIDE, encode, read_header, write_index, write_pack

    rows: list[tuple[Any, ...]] = []
    for part, person in (("train", "01"), ("val", "21"), ("test", "36")):
        for kind, name in ((1, "live"), (2, "print")):
            clip = f"1_1_{person}_{kind}"
            data = encode(np.asarray(noise((SIDE, SIDE), int(person) + kind)).transpose(2, 0, 1))
            pack = f"{part}/{clip}.faces"
            write_pack(folder / "packs" / pack, {"stamp": "x"}, [(clip, 0, data)])
            start = (read_header(folder / "packs" / pack) or {})["start"]
            rows.append((clip, person, name, part, 0, pack, start, len(data), zlib.crc32(data)))
    write_index(
        folder,
        rows,
        {
            "format": 1,
            "dataset": "oulu-npu",
            "skipped": {},
            "options": {"frames": 1},
            "frames": {"kept": 6},
            "left_out": {},
        },
    )
    for part, person in (("Train", "01"), ("Dev", "21"), ("Test", "36")):
        path = folder / f"lists/Protocol_1/{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"+1,1_1_{person}_1\n-1,1_1_{person}_2\n")
    return {
        "prepared.json": "json",
        "index.csv": "table",
        "packs/train/1_1_01_1.faces": "head line",
        "lists/Protocol_1/Train.txt": "table",
    }


def _read_prepared(folder: Path, file: Path) -> Any:
    """Its index has a checksum in prepared.json, which whoever changes the one also changes."""
    from evaluators.datasets import build_dataset
    from evaluators.datasets.prepared import read_header

    if file.name == "index.csv":
        info = json.loads((folder / "prepared.json").read_text())
        info["index_sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        (folder / "prepared.json").write_text(json.dumps(info))
    if file.suffix == ".faces":
        read_header(file)
    data = build_dataset("oulu-npu", root=folder, progress=False)
    for split in data.splits.values():
        split.source.read(split.rows[:2])


def _positions(folder: Path) -> dict[str, str]:
    (folder / "a.txt").write_text("".join(f"{n}, 20, 24, 56, 80\n" for n in range(6)))
    (folder / "oulu.txt").write_text("+1,1_1_01_1\n-1,1_1_01_2\n")
    (folder / "replay.txt").write_text(
        "train/real/client001_session01_webcam_authenticate_adverse_1\n"
        "train/attack/fixed/attack_print_client001_session01_highdef_photo_adverse\n"
    )
    return {"a.txt": "table", "oulu.txt": "table", "replay.txt": "lines"}


def _read_positions(folder: Path, file: Path) -> Any:
    from evaluators.datasets import oulu_npu, replay_attack
    from evaluators.datasets.layouts import read_positions

    if file.name == "oulu.txt":
        return oulu_npu.read_list(file)
    return replay_attack.read_list(file) if file.name == "replay.txt" else read_positions(file, 4)


def _scores(folder: Path) -> dict[str, str]:
    from evaluators.scores import Scores, write_scores

    def scores(n: int) -> Any:
        kinds = np.array(["live", "print"] * n)
        videos = np.array([f"v{k}" for k in range(2 * n)])
        frames = np.zeros(2 * n, dtype=np.int64)
        return Scores(np.linspace(0, 1, 2 * n), (kinds == "live").astype(np.int64), kinds, videos, videos, frames)

    write_scores(folder / "scores.tsv", {"val": scores(4), "test": scores(5)})
    return {"scores.tsv": "table"}


def _read_scores(folder: Path, file: Path) -> Any:
    from evaluators.scores import read_scores

    for scores in read_scores(file).values():
        if scores.videos is not None:
            scores.by_video()


READERS = [
    Reader("pairs", _pairs, _build("pairs"), 0.5),
    Reader("lfw", _lfw, _build("lfw"), 0.5),
    Reader("identities", _identities, _build("identities"), 0.3),
    Reader("records", _records, _build("packed"), 0.5),
    Reader("records without index", _records_alone, _build("packed"), 0.5),
    Reader("packed pickles", _bin, _read_bin),
    Reader("wider-face", _wider, _read_detection("wider-face"), 0.5),
    Reader("fddb", _fddb, _read_detection("fddb"), 0.5),
    Reader("celeba-spoof", _celeba, _build("celeba-spoof"), 0.3),
    Reader("kept index of celeba-spoof", _kept_index, _build("celeba-spoof"), 0.3),
    Reader("cache of generated pictures", _cache, _read_cache),
    Reader("prepared data", _prepared, _read_prepared, 0.5),
    Reader("positions and lists of videos", _positions, _read_positions),
    Reader("score files", _scores, _read_scores, 0.7),
]
