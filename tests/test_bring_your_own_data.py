"""The page about data of one's own does what it says: its files are written and its commands run, in its order."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from evaluators.antispoofing import AntiSpoofing
from evaluators.datasets import build_dataset, import_builder
from evaluators.prepare import main as prepare
from evaluators.scores import read_scores
from evaluators.train_command import main as train
from facenas import reproduce
from facenas.paper_experiments import EXPERIMENTS
from searchspaces import Architecture
from searchspaces.cli import options_of, parse_command, run_command

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "bring-your-own-data.md").read_text(encoding="utf-8")
LICENSED = (ROOT / "docs" / "licensed-data.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# file: (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def test_a_data_set_takes_about_twenty_lines():
    for name in ("my_faces.py", "my_videos.py"):
        assert len([line for line in FILES[name].splitlines() if line.strip()]) <= 22, name
    assert len(FILES) == 4 and all(len(line) <= 120 for text in FILES.values() for line in text.splitlines())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files of the page in a folder of their own, where Python finds them."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in FILES:
        sys.modules.pop(Path(name).stem, None)


def test_the_function_is_a_data_set_that_networks_are_judged_on(folder):
    runpy.run_path("make_list.py")
    import_builder("my_faces:build")
    data = build_dataset("my_faces:build", root="faces")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 24, "val": 12, "test": 12}
    task = AntiSpoofing(data, 108)
    metrics = task.metrics(Architecture.load("small.json").build(seed=0))
    assert {"acer", "apcer_print", "video_acer"} <= metrics.keys()


def test_the_layout_is_prepared_and_loaded(folder):
    runpy.run_path("make_videos.py")
    words = ["my_videos:LAYOUT", "--root", "videos", "--out", "prepared", "--frames", "2"]
    assert run_command(prepare, words) == 0
    data = build_dataset("prepared", root="prepared")
    assert {name: set(split.people) for name, split in data.splits.items()} == {
        "train": {"ann", "bob"},
        "val": {"cid"},
        "test": {"dot"},
    }


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The folder after all commands, and what each has said."""
    folder, said = tmp_path_factory.mktemp("own"), {}
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *words], cwd=folder, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        said[command] = done.stdout
    return folder, said


@pytest.mark.long
def test_a_function_of_ones_own_is_trained_on_verified_and_scored(outputs):
    folder, said = outputs
    verified = next(text for command, text in said.items() if "evaluators.verify" in command)
    assert json.loads(verified) == json.loads((folder / "runs/mine/metrics.json").read_text())
    scores = read_scores(folder / "runs/mine")
    assert set(scores["test"].videos) == {"g_live", "g_print", "h_live", "h_print"} and len(scores["val"].values) == 12
    shown = next(text for command, text in said.items() if "score_files" in command)
    assert "(of videos)" in shown and "APCER, print" in shown


@pytest.mark.long
def test_videos_of_ones_own_are_prepared_and_trained_on(outputs):
    folder, said = outputs
    shown = next(text for command, text in said.items() if "evaluators.prepare" in command)
    assert "16 pictures of 8 clips" in shown and "--data prepared" in shown
    card = json.loads((folder / "runs/videos/data.json").read_text())
    assert card["splits"]["test"] == {"people": 1, "live": 2, "print": 2} and card["videos"]["train"] == 4


def test_the_licensed_page_has_a_command_for_every_table():
    lines = re.findall(r"`python -m facenas\.reproduce (.*?)`", LICENSED)
    for line in lines:
        name, *words = shlex.split(line)
        given = {word.removeprefix("--") for word in words if word.startswith("--")}
        assert given == set(EXPERIMENTS[name].needs)
        assert parse_command(reproduce.main, [name, *words])["table"] == name
    assert [shlex.split(line)[0] for line in lines] == list(EXPERIMENTS)


def test_options_of_the_licensed_page_are_those_of_the_commands():
    table = re.findall(r"^\| `--(\w+)` \|", LICENSED, re.MULTILINE)
    known = {action.dest for action in options_of(prepare)}
    assert len(table) == 5 and set(table) <= known
    for line in re.findall(r"python -m evaluators\.train (.*?)(?:  |$)", LICENSED.replace("\\\n", " "), re.MULTILINE):
        assert parse_command(train, shlex.split(re.sub(r"\s+", " ", line)))
