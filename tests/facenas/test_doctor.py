"""What the doctor says of faults that are there: tools that are gone, packages that fail, folders without space."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ImportError(f"{{name}} is broken")
sys.meta_path.insert(0, Blocker())
sys.argv = ["facenas doctor", "--json"]
import runpy
runpy.run_module("facenas.doctor", run_name="__main__", alter_sys=True)
"""


def doctor(
    *, without: tuple[str, ...] = (), inside: str = "", cores: int | None = None, **environment: str
) -> tuple[int, dict[str, dict]]:
    """The doctor's exit code and findings, in a process of its own.

    Args:
        without: packages that cannot be imported.
        cores: how many it may use.
        inside: shell commands before it, in a namespace of mounts that ends with it.
    """
    command = [sys.executable, "-W", "ignore", "-c", BLOCKER.format(names=without)]
    if inside:
        command = ["unshare", "--mount", "sh", "-c", f'{inside} && exec "$@"', "sh", *command]
    if cores is not None:
        own = sorted(os.sched_getaffinity(0))[:cores]
        command = ["taskset", "-c", ",".join(map(str, own)), *command]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=settings, check=False, timeout=120)
    assert done.stdout.startswith("["), done.stderr
    return done.returncode, {finding["what"]: finding for finding in json.loads(done.stdout)}


def mounts() -> bool:
    try:
        done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False, timeout=30)
    except OSError:
        return False
    return done.returncode == 0


mounting = pytest.mark.skipif(not mounts(), reason="file systems cannot be mounted here")


def test_everything_is_looked_at() -> None:
    _, found = doctor()
    wanted = {"python", "packages", "torch", "threads", "nni", "portraits", "video decoder", "face detector", "adb"}
    assert wanted | {"memory", "disk here", "temporary disk", "cache", "chromium"} <= set(found)
    assert all(finding["remedy"] for finding in found.values() if finding["state"] != "good")


def test_tools_that_are_not_on_the_path(tmp_path: Path) -> None:
    _, found = doctor(PATH=str(tmp_path))
    for tool, remedy in {
        "adb": "apt-get install adb",
        "chromium": "apt-get install chromium",
        "nnictl": "export PATH=",
    }.items():
        assert found[tool]["state"] == "missing" and remedy in found[tool]["remedy"]


@pytest.mark.parametrize(
    ("package", "what", "state", "remedy"),
    [
        ("av", "video decoder", "missing", 'pip install "facenas[video]"'),
        ("torch", "torch", "broken", "make setup"),
        ("nni", "nni", "broken", "make setup"),
    ],
)
def test_a_package_that_cannot_be_imported(package: str, what: str, state: str, remedy: str) -> None:
    code, found = doctor(without=(package,))
    assert found[what]["state"] == state and remedy in found[what]["remedy"] and "is broken" in found[what]["found"]
    assert code == int(state == "broken") or any(each["state"] == "broken" for each in found.values())
    assert found["python"]["state"] == "good"  # the others are looked at all the same


def test_more_threads_than_cores() -> None:
    _, found = doctor(OMP_NUM_THREADS="2", cores=1)
    assert found["threads"]["state"] == "missing" and "export OMP_NUM_THREADS=" in found["threads"]["remedy"]


@mounting
def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """Root may write where permissions forbid it, so the file system itself is read-only."""
    mount = f"mount -t tmpfs -o ro none {tmp_path}"
    code, found = doctor(inside=mount, FACENAS_CACHE=str(tmp_path))
    assert code == 1 and found["cache"]["state"] == "broken" and "Read-only" in found["cache"]["found"]
    assert "export FACENAS_CACHE=" in found["cache"]["remedy"]
    _, found = doctor(FACENAS_CACHE=str(tmp_path / "not" / "made" / "yet"))
    assert found["cache"]["state"] == "good"


@mounting
def test_a_cache_without_space(tmp_path: Path) -> None:
    code, found = doctor(inside=f"mount -t tmpfs -o size=64k none {tmp_path}", FACENAS_CACHE=str(tmp_path))
    assert code == 1 and found["cache"]["state"] == "broken" and "Free 2.0 GiB" in found["cache"]["remedy"]
