"""Data sets of prepared folders: protocols, folds, people, cross-testing, and the size that a network takes."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluators import tasks
from evaluators.antispoofing import AntiSpoofing
from evaluators.datasets import build_dataset, import_builder
from evaluators.datasets.base import FaceData
from evaluators.datasets.oulu_npu import read_list
from evaluators.datasets.preparation import Options, prepare
from evaluators.datasets.prepared import PackSource
from searchspaces.errors import ConfigError, DatasetError

from ..faces import texture_data
from ..licensed import write_casia, write_list, write_oulu, write_replay
from .test_datasets_celeba_spoof import TEST, build, labels, read_rows
from .test_datasets_celeba_spoof import root as celeba_root  # noqa: F401
from .test_datasets_celeba_spoof import write_list as write_labels

SETS = {"oulu-npu": write_oulu, "casia-fasd": write_casia, "replay-attack": write_replay}
PHONES = (1, 2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A prepared folder of each set."""
    base, found = tmp_path_factory.mktemp("licensed"), {}
    for name, write in SETS.items():
        prepare(name, write(base / f"{name}-copy"), base / name, Options(frames=2), progress=False)
        found[name] = base / name
    return found


@pytest.fixture
def oulu(folders, tmp_path) -> Path:
    """A prepared OULU-NPU to spoil."""
    return Path(shutil.copytree(folders["oulu-npu"], tmp_path / "oulu"))


def clips(data: FaceData, split: str) -> set[str]:
    videos = data.splits[split].videos
    assert videos is not None
    return set(videos.tolist())


# ---- OULU-NPU


def test_splits_are_those_of_the_lists(folders):
    root = folders["oulu-npu"]
    for protocol in "12":
        data = build_dataset("oulu-npu", root=root, protocol=protocol)
        for part, split in (("Train", "train"), ("Dev", "val"), ("Test", "test")):
            listed = {clip for clip, _ in read_list(root / f"lists/Protocol_{protocol}/{part}.txt")}
            assert clips(data, split) == listed and len(data.splits[split]) == 2 * len(listed)
    assert build_dataset("oulu-npu", root=root).card["protocol"] == "1"
    test = data.splits["test"]
    live = np.array([video.endswith("_1") for video in test.videos])
    assert (test.labels == live).all() and set(test.kinds[~live]) == {"print", "replay"}
    assert set(test.people) == {"36", "37"} and test.frames.tolist()[:2] == [3, 9]
    assert json.loads(json.dumps(data.card))["unit"] == "video" and data.card["videos"]["test"] == 12


@pytest.mark.parametrize("protocol", ["3", "4"])
def test_folds_leave_a_phone_out(folders, protocol):
    seen = []
    for fold in range(1, 7):
        data = build_dataset("oulu-npu", root=folders["oulu-npu"], protocol=protocol, fold=fold)
        phones = {split: {clip[0] for clip in clips(data, split)} for split in ("train", "val", "test")}
        assert phones["train"] == phones["val"] and not phones["train"] & phones["test"]
        seen.append(phones["test"])
    assert seen == [{"2"}, {"1"}] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "3"}, "has 6 folds, and fold is None: give --fold 1 to 6"),
        ({"protocol": "4", "fold": 7}, "fold is 7"),
        ({"protocol": "1", "fold": 1}, "has no folds"),
        ({"protocol": "5"}, "no protocol '5'. Known: 1, 2, 3, 4"),
        ({"people": 3}, "shows all people"),
        ({"root": None}, "python -m evaluators.prepare oulu-npu --root COPY --out FOLDER"),
    ],
)
def test_options_that_do_not_fit_are_refused(folders, options, message):
    with pytest.raises(ConfigError, match=message):
        build_dataset("oulu-npu", **{"root": folders["oulu-npu"], **options})


def test_folders_that_do_not_fit_are_refused(folders, tmp_path):
    with pytest.raises(DatasetError, match="holds 'casia-fasd', not 'oulu-npu'"):
        build_dataset("oulu-npu", root=folders["casia-fasd"])
    with pytest.raises(DatasetError, match=r"does not exist\. Make it with: python -m"):
        build_dataset("oulu-npu", root=tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"is not a prepared folder, it has no prepared\.json"):
        build_dataset("oulu-npu", root=tmp_path)
    with pytest.raises(ConfigError, match="'portraits' has no fold and no protocol"):
        build_dataset("portraits", protocol="1", fold=2)


def test_a_person_in_two_splits_is_refused(oulu):
    lists = oulu / "lists/Protocol_1"
    write_list(lists / "Dev.txt", ["1_1_01_1", "1_1_21_2", "1_1_21_1"])
    with pytest.raises(DatasetError, match="The person '01' of 'oulu-npu' is in train and in val"):
        build_dataset("oulu-npu", root=oulu)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "is empty"),
        ("-1,1_1_21_1\n", "line 1: '-1,1_1_21_1' says an attack, and the video's name does not"),
        ("+1,1_1_21_1\n+1,1_1_21_4\n", "line 2: .* says live"),
        ("+1,1_1_21_1\nhello\n", "line 2: 'hello' is not like"),
        ("+1,../../etc/passwd\n", "is not like"),
        ("+1,1_1_21_1\n-1,6_3_21_2\n-1,6_3_21_3\n", "2 of 3 clips of a list have no pictures .* '6_3_21_2'"),
        ("+1,1_1_21_1\n+1,2_1_21_1\n", "The val split .* no live faces or no attacks"),
    ],
)
def test_a_list_that_cannot_be_right_is_refused(lines, message, oulu):
    (oulu / "lists/Protocol_1/Dev.txt").write_text(lines)
    with pytest.raises(DatasetError, match=message):
        build_dataset("oulu-npu", root=oulu)


def test_missing_videos_are_told(oulu, capsys):
    path = oulu / "lists/Protocol_1/Dev.txt"
    path.write_text(path.read_text() + "-1,6_3_21_2\n")
    data = build_dataset("oulu-npu", root=oulu)
    assert data.card["missing_clips"] == 1 and "no pictures of 1 listed clips" in capsys.readouterr().err
    (oulu / "lists/Protocol_1/Test.txt").unlink()
    with pytest.raises(DatasetError, match=r"has no list Protocol_1/Test\.txt"):
        build_dataset("oulu-npu", root=oulu)


def test_all_signs_and_spaces_of_published_lists_are_read(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("\ufeff+1,1_1_36_1\r\n-1,1_1_36_2\r\n-2,1_1_36_4\r\n+ 1, 2_3_36_1\n\n0 1_2_36_5.avi\n")
    assert read_list(path) == [
        ("1_1_36_1", True), ("1_1_36_2", False), ("1_1_36_4", False), ("2_3_36_1", True), ("1_2_36_5", False),
    ]  # fmt: skip


def test_an_index_that_leads_out_of_its_folder_is_refused(oulu):
    import hashlib

    index, info = oulu / "index.csv", oulu / "prepared.json"
    index.write_text(index.read_text().replace("1_1_01_1.faces", "../../1_1_01_1.faces"))
    content = json.loads(info.read_text())
    info.write_text(json.dumps({**content, "index_sha256": hashlib.sha256(index.read_bytes()).hexdigest()}))
    with pytest.raises(DatasetError, match="is not an index"):
        build_dataset("oulu-npu", root=oulu)


def jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "length", "message"),
    [
        (jpeg(4000, 3000), None, "it has 4000 x 3000 pixels, not 256 x 256"),
        (
            jpeg(256, 256).replace(b"\x01\x00\x01\x00", b"\xff\xf0\xff\xf0"),
            None,
            "too large|exceeds limit|65520 x 65520",
        ),
        (jpeg(256, 256)[:-200], None, "truncated"),
        (b"<svg/>", None, "cannot identify"),
        (b"", 0, "said to have 0 bytes"),
        (b"", -1, "said to have -1 bytes"),
        (b"", 1 << 40, "said to have 1099511627776 bytes"),
    ],
)
def test_a_hostile_picture_of_a_pack_is_refused_before_it_is_decoded(data, length, message, tmp_path):
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "a.faces").write_bytes(data)
    spans = np.array([[0, len(data) if length is None else length, zlib.crc32(data)]])
    with pytest.raises(DatasetError, match=message):
        PackSource(tmp_path, np.array(["a.faces"]), spans, 64).read(np.array([0]))


# ---- the other sets


def test_casia_holds_people_out_for_the_threshold(folders):
    data = build_dataset("casia-fasd", root=folders["casia-fasd"])
    people = {split: set(content.people.tolist()) for split, content in data.splits.items()}
    assert len(people["train"]) == 4 and len(people["val"]) == 1 and people["test"] == {"test-1", "test-2"}
    assert set.union(*people.values()) == {*(f"train-{number}" for number in range(1, 6)), "test-1", "test-2"}
    held = {
        build_dataset("casia-fasd", root=folders["casia-fasd"], seed=seed).splits["val"].people[0] for seed in range(8)
    }
    assert len(held) > 1 and any("no development part" in text for text in data.card["deviations"])
    for protocol in ("warped", "cut", "video"):
        split = build_dataset("casia-fasd", root=folders["casia-fasd"], protocol=protocol).splits["test"]
        assert set(split.kinds) == {"live", protocol}
    high = build_dataset("casia-fasd", root=folders["casia-fasd"], protocol="high")
    assert all("/HR_" in clip for clip in clips(high, "test")) and len(clips(high, "test")) == 8


def test_replay_attack_follows_its_lists(folders, tmp_path):
    root = folders["replay-attack"]
    data = build_dataset("replay-attack", root=root)
    assert {split: len(clips(data, split)) for split in data.splits} == {"train": 24, "val": 24, "test": 24}
    assert set(data.splits["val"].people) == {"003", "004"} and not any(
        "enroll" in clip for clip in clips(data, "train")
    )
    printed = build_dataset("replay-attack", root=root, protocol="print-hand").splits["test"]
    assert set(printed.kinds) == {"live", "print"} and len(set(printed.videos)) == 6
    with pytest.raises(ConfigError, match=r"no protocol 'video'.*Known: grandtest, print"):
        build_dataset("replay-attack", root=root, protocol="video")
    spoiled = Path(shutil.copytree(root, tmp_path / "spoiled"))
    (spoiled / "lists" / "attack-grandtest-allsupports-devel.txt").unlink()
    with pytest.raises(DatasetError, match=r"has no list attack-grandtest-allsupports-devel\.txt"):
        build_dataset("replay-attack", root=spoiled)


def test_replay_attack_without_lists_is_taken_from_the_folders(tmp_path):
    people = {"train": (1,), "devel": (3,), "test": (9,)}
    copy = write_replay(tmp_path / "copy", people, lists=False)
    prepare("replay-attack", copy, tmp_path / "out", Options(frames=1), progress=False)
    data = build_dataset("replay-attack", root=tmp_path / "out")
    assert len(clips(data, "test")) == 12 and any("no protocol lists" in text for text in data.card["deviations"])
    with pytest.raises(ConfigError, match="Known: grandtest,"):
        build_dataset("replay-attack", root=tmp_path / "out", protocol="print")


def test_celeba_spoof_is_the_same_prepared_or_not(celeba_root, tmp_path):  # noqa: F811
    outcome = prepare("celeba-spoof", celeba_root, tmp_path / "out", Options(), progress=False)
    assert outcome.info["clips"] == 52 and outcome.made == 13  # a file a person
    direct, prepared = build(celeba_root), build_dataset("celeba-spoof", root=tmp_path / "out")
    assert prepared.image_size == 256 and direct.image_size == 144
    for name, split in direct.splits.items():
        other = prepared.splits[name]
        assert (split.people == other.people).all() and (split.kinds == other.kinds).all()
        a, b = (data.for_network(128).splits[name].images(np.arange(4)).float() for data in (direct, prepared))
        inner = [
            pictures[..., (side := (pictures.shape[-1] - 128) // 2) : side + 128, side : side + 128]
            for pictures in (a, b)
        ]
        assert (inner[0] - inner[1]).abs().mean() < 12  # noise of 60 x 40 pixels through JPEG and two scalings


def test_celeba_spoof_prepared_keeps_people_apart(celeba_root, tmp_path, capsys):  # noqa: F811
    rows = read_rows(celeba_root, TEST)
    rows["Data/train/1/live/001000.jpg"] = labels(0)
    write_labels(celeba_root, TEST, rows)
    prepare("celeba-spoof", celeba_root, tmp_path / "out", Options(), progress=False)
    data = build_dataset("celeba-spoof", root=tmp_path / "out")
    assert "1" not in data.splits["train"].people and "1" not in data.splits["val"].people
    assert "1" in data.splits["test"].people and "leaves out 4 pictures" in capsys.readouterr().err


# ---- what all of them share


def test_a_search_has_halves_without_a_person_in_both(folders):
    data = build_dataset("oulu-npu", root=folders["oulu-npu"])
    task = AntiSpoofing(data, 64)
    weights, architecture = task.search_halves(0)
    assert set(weights.people) | set(architecture.people) == {"01", "02", "03", "04"}
    assert not set(weights.people) & set(architecture.people) and len(weights.videos) == len(weights)
    assert not set(weights.videos) & set(architecture.videos)
    assert (weights.frames == data.splits["train"].frames[np.isin(data.splits["train"].people, weights.people)]).all()


@pytest.mark.parametrize(("size", "stored"), [(108, 123), (128, 146), (224, 256), (240, 256)])
def test_pictures_have_the_size_that_a_network_is_trained_on(folders, size, stored):
    data = build_dataset("oulu-npu", root=folders["oulu-npu"])
    fitted = AntiSpoofing(data, size).data
    assert fitted.image_size == fitted.card["image_size"] == stored
    assert fitted.splits["test"].images([0, 3]).shape == (2, 3, stored, stored)
    assert pickle.loads(pickle.dumps(fitted.splits["val"].source)).read(np.array([1])).shape == (1, 3, stored, stored)
    assert data.image_size == 256


def test_a_network_larger_than_the_pictures_is_refused(folders):
    data = build_dataset("oulu-npu", root=folders["oulu-npu"])
    with pytest.raises(DatasetError, match="have 256x256 pixels, but the network takes 300x300"):
        AntiSpoofing(data, 300)
    plain = texture_data()
    assert plain.for_network(20) is plain


def test_cross_testing_takes_the_test_split_alone_from_the_second_set(folders):
    options = {
        "data": "casia-fasd",
        "data_root": str(folders["casia-fasd"]),
        "test_data": "replay-attack",
        "test_data_root": str(folders["replay-attack"]),
        "test_protocol": "print-hand",
    }
    data = tasks.load_data(options)
    assert data.name == "casia-fasd, tested on replay-attack" and set(data.splits["test"].kinds) == {"live", "print"}
    assert set(data.splits["val"].people) < {f"train-{number}" for number in range(1, 6)}
    assert data.card["splits"]["test"]["live"] == 8 and data.card["sets"]["test"]["protocol"] == "print-hand"
    assert (
        "CASIA-FASD" in data.card["credit"] and "Replay-Attack" in data.card["credit"] and data.card["unit"] == "video"
    )
    assert AntiSpoofing(data, 108).data.image_size == 123
    with pytest.raises(ConfigError, match="test_data is 'casia-fasd', and so is data"):
        tasks.load_data(
            {**options, "test_data": "casia-fasd", "test_data_root": options["data_root"], "test_protocol": None}
        )
    with pytest.raises(ConfigError, match=r"test_data: .*second data set begin with --test-"):
        tasks.load_data({**options, "test_data_root": None})
    with pytest.raises(ConfigError, match="test_protocol belongs to a second data set"):
        tasks.load_data({**options, "test_data": None, "test_data_root": None})
    with pytest.raises(ConfigError, match="'orl' is for another task"):
        tasks.load_data({"data": "casia-fasd", "data_root": options["data_root"], "test_data": "orl"})


def test_a_builder_of_ones_own_is_imported_by_a_command_only(tmp_path, monkeypatch):
    (tmp_path / "their_faces.py").write_text(
        "from tests.faces import texture_data\n\ndef build(**options):\n    return texture_data()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="give --data-module their_faces"):
        build_dataset("their_faces:build")
    import_builder("their_faces:build")
    assert build_dataset("their_faces:build").name == "textures"
    with pytest.raises(ConfigError, match="no function 'other'"):
        build_dataset("their_faces:other")
    with pytest.raises(ConfigError, match=r"Cannot import the data set .*package\.module:function"):
        import_builder("no_such_module_here:build")
