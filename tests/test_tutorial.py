"""The tutorial does what it says: its files are written, its commands are run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()
FILES = dict(re.findall(r"```python\n# file: (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
# what makes a command quick, for the same outcome
QUICK = {
    "strategies.darts": "--people 16 --search-epochs 2 --train-epochs 1 --no-baseline --guard off "
    '--space-options {"image_size":32}',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tutorial")
    for name, text in FILES.items():
        (made / name).write_text(text)
    return made


def run(folder, *command):
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "HOME": str(folder),
    }
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_at_most_forty_lines(name):
    assert len(FILES[name].splitlines()) <= 40


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_what_it_says(command, folder):
    words = shlex.split(command)
    if words[0] == "facenas":
        words = ["python", "-m", *words]
    words += shlex.split(QUICK.get(words[2], ""), posix=False)
    said = run(folder, sys.executable, "-W", "ignore", *words[1:])
    if "--out" in words:
        assert (folder / words[words.index("--out") + 1]).exists()
    else:
        assert "passed" in said or "[100%]" in said


def test_the_strategy_finds_a_network(folder):
    assert "block_0" in run(folder, sys.executable, "-W", "ignore", "climb.py")
