"""The tutorial does what it says: its files are written and its commands run, in the order of the page."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# file: (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def test_every_block_is_a_file_of_less_than_forty_lines_or_commands():
    assert len(FILES) + PAGE.count("```bash\n") == PAGE.count("```") // 2
    for name, text in FILES.items():
        assert len(text.splitlines()) + 1 < 40, name  # its first line is the name
        assert max(map(len, text.splitlines())) <= 120, name


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The folder after all commands, and what each has said."""
    folder, said = tmp_path_factory.mktemp("tutorial"), {}
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    for command in COMMANDS:
        words = shlex.split(command)
        words = words[1:] if words[0] == "python" else ["-m", *words]  # the interpreter of these tests
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *words], cwd=folder, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        said[words[1] if words[0] == "-m" else words[0]] = done.stdout
    return folder, said


def test_the_space_is_searched_judged_and_written(outputs):
    folder, said = outputs
    found = json.loads((folder / "runs/mine/architecture.json").read_text())
    assert found["space"] == "my_space:MySpace" and sorted(found["choices"]) == ["block_0", "block_1", "block_2"]
    assert (folder / "runs/mine/report.html").stat().st_size > 1000 and "ACER" in said["strategies.darts"]
    assert json.loads(said["evaluators.verify"]) == json.loads((folder / "runs/mine/metrics.json").read_text())
    assert json.loads((folder / "my_space.json").read_text()).keys() == found["choices"].keys()


def test_the_strategy_and_the_task_find_networks(outputs):
    folder, said = outputs
    assert json.loads((folder / "climb.json").read_text())["found_by"] == {"strategy": "climb"}
    assert "MACs" in said["climb.py"]
    assert "accuracy" in said["search_glasses.py"] and (folder / "runs/glasses/weights.safetensors").exists()


def test_the_suites_pass(outputs):
    last = outputs[1]["pytest"].strip().splitlines()[-1]
    assert re.search(r"\d\d passed", last) and "failed" not in last and "error" not in last
