"""Whatever a stranger's file holds, its reader ends with a value or a `FacenasError`, and does nothing else.

The short mode tries a few thousand files, always the same; `pytest -m long` over a hundred thousand.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from searchspaces.errors import FacenasError

from .campaign import Ground, campaign, place
from .mutations import KINDS, damaged_tree, mutate
from .readers import Reader, all_readers
from .watch import MARKER, MOST_GROWTH, Bait, Harm, watched

READERS = all_readers()
SHORT, LONG = 90, 3_600  # files for a reader whose share is 1
FEWEST = 3


def named(reader: Reader) -> str:
    return reader.name.replace(" ", "-")


each = pytest.mark.parametrize("reader", READERS, ids=named)


def inputs(reader: Reader, of: int) -> int:
    return max(FEWEST, round(of * reader.share))


@each
def test_a_damaged_file_ends_in_an_error_or_a_value(reader: Reader, tmp_path: Path) -> None:
    ground = Ground(reader, tmp_path / "ground")

    @settings(
        max_examples=inputs(reader, SHORT), derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.randoms(use_true_random=False))
    def ends_well(random: Random) -> None:
        name, data = ground.damaged(random)
        note(f"{name}: {len(data)} bytes: {data[:500]!r}")
        try:
            ground.read(name, data)
        except Harm as harm:
            raise AssertionError(str(harm)) from harm

    ends_well()


@pytest.mark.long
@each
def test_many_damaged_files(reader: Reader, tmp_path: Path) -> None:
    """More than 100,000 over all readers; every kind of failure is shown with a file that causes it."""
    found = campaign(Ground(reader, tmp_path / "ground"), inputs(reader, LONG), seed=1)
    told = [f"{found.errors[kind]} x {kind}\n{text}\n{data[:500]!r}" for kind, (text, data) in found.failures.items()]
    assert not told, "\n\n".join(told)
    assert sum(found.ends.values()) == inputs(reader, LONG)


def test_the_long_mode_tries_a_hundred_thousand_files() -> None:
    assert sum(inputs(reader, LONG) for reader in READERS) >= 100_000
    assert len({reader.name for reader in READERS}) == len(READERS) > 40


@pytest.mark.parametrize("reader", [reader for reader in READERS if not reader.whole], ids=named)
def test_a_folder_or_nothing_in_the_place_of_a_file(reader: Reader, tmp_path: Path) -> None:
    ground = Ground(reader, tmp_path / "ground")
    for name in list(ground.valid)[:3]:
        file = ground.folder / name
        for make in (None, file.mkdir, lambda file=file: file.symlink_to(file.name)):
            file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)
            if make is not None:
                make()
            try:
                with watched(ground.folder, ground.bait, reader.seconds):
                    reader.read(ground.folder, file)
            except FacenasError:
                pass
            except OSError as error:
                if "/tests/" not in place(error):  # of a row that reads the file itself, for a reader of its content
                    raise
            file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)
            file.write_bytes(ground.valid[name][0])


# ---- the watch itself


class Opener:
    """A pickle that would open a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {MARKER}",)


def _slow() -> None:
    while True:
        pass


def _warned() -> None:
    np.float32(1e30) * np.float32(1e30)


def _caught(action: object) -> None:
    with contextlib.suppress(BaseException):
        action()  # type: ignore[operator]


HARMS = {
    "another file": lambda bait: (bait / "secret.json").read_text(),
    "etc": lambda bait: Path("/etc/hostname").read_text(),
    "write": lambda bait: (bait / "made").write_text(""),
    "remove": lambda bait: (bait / "secret.json").unlink(),
    "system": lambda bait: os.system("true"),
    "process": lambda bait: subprocess.run(["true"], check=False),
    "connection": lambda bait: socket.create_connection(("127.0.0.1", 9), timeout=1),
    "name": lambda bait: socket.getaddrinfo("localhost", 9),
    "unpickle": lambda bait: pickle.loads(pickle.dumps(Opener())),
    "import": lambda bait: __import__(MARKER),
    "slow": lambda bait: _slow(),
    "memory": lambda bait: np.ones(MOST_GROWTH + (64 << 20), dtype=np.uint8).sum(),
    "hidden": lambda bait: _caught((bait / "secret.json").read_text),
}


@pytest.mark.parametrize("what", HARMS)
def test_the_watch_sees_harm(what: str, tmp_path: Path) -> None:
    bait = Bait(tmp_path / "outside")
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "own").write_text("")
    with watched(folder, bait, 0.5):
        (folder / "own").read_text()
        (folder / "new").write_text("")
    with pytest.raises(Harm), watched(folder, bait, 0.5):
        HARMS[what](tmp_path / "outside")
    assert (tmp_path / "outside/secret.json").exists()
    assert not (tmp_path / "outside/made").exists() or what == "write"
    assert Path("/etc/hostname").read_text()  # outside of the block nothing is watched


def test_what_c_code_opens_is_seen(tmp_path: Path) -> None:
    """`cat` stands for a library that opens files without Python's knowledge."""
    bait = Bait(tmp_path / "outside")
    assert not bait.taken()
    subprocess.run(["cat", tmp_path / "outside/secret.json"], check=True, capture_output=True)
    assert bait.taken() and not bait.taken()


def test_numbers_that_overflow_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RuntimeWarning), watched(tmp_path):
        _warned()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _warned()


def test_a_reader_that_fails_is_found(tmp_path: Path) -> None:
    def read(folder: Path, file: Path) -> object:
        return {"a": 1}[file.read_text()]

    def make(folder: Path) -> dict[str, str]:
        (folder / "f").write_text("a")
        return {"f": "lines"}

    found = campaign(Ground(Reader("bad", make, read), tmp_path / "ground"), 50)
    assert found.ends["failure"] > 10 and {kind.split()[0] for kind in found.failures} >= {"KeyError"}
    assert sum(found.ends.values()) == 50


# ---- the mutations


def test_mutations_repeat_and_differ() -> None:
    data = b'{"a": [1, 2.5, "text"], "b": {"c": null}}'
    made = [mutate(data, "json", Random(seed)) for seed in range(500)]
    assert made == [mutate(data, "json", Random(seed)) for seed in range(500)]
    assert len(set(made)) > 350 and made.count(data) < 25


def test_trees_lose_and_gain_entries() -> None:
    tree = {"a": [1, 2, 3], "b": {"c": "x"}}
    made = [damaged_tree(tree, Random(seed)) for seed in range(300)]
    assert tree == {"a": [1, 2, 3], "b": {"c": "x"}}
    assert any("a" not in each for each in made if isinstance(each, dict))
    assert any(each.get("a") == [1, 2] for each in made if isinstance(each, dict))
    assert any(len(each) > 2 for each in made if isinstance(each, dict))


def test_every_kind_is_used() -> None:
    assert set(KINDS) == {"json", "json lines", "yaml", "lines", "table", "head line", "safetensors", "zip", "gzip",
                          "png", "onnx"}  # fmt: skip
    assert sys.getrecursionlimit() <= 3000  # deep files must meet the usual limit
