"""What can happen to a machine while it searches, caused for real: a clear message, and what was finished is whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch

from evaluators.antispoofing import AntiSpoofing
from evaluators.checkpoint import EpochCheckpoint, damage_of, latest_checkpoint
from evaluators.datasets import build_dataset
from evaluators.datasets import folder as folder_pictures
from evaluators.datasets.base import FaceData, Split, make_card
from evaluators.faults import largest_batch
from evaluators.task import WeightSchedule
from evaluators.train import TrainingLog, fit
from facenas.pipeline import search_command
from searchspaces import Architecture
from searchspaces.errors import ArchitectureError, DatasetError, DivergenceError, ResourceError, RunFolderError
from searchspaces.files import sweep, write_bytes
from searchspaces.folder import open_run
from searchspaces.weights import read_weights, write_weights

from ..evaluators.test_training import write_folder
from ..faces import texture_data
from ..searchspaces.genotypes import TABLE_4, choices
from .test_kill import GUARD, TINY

OPTIONS = {"channels": 4, "layout": "RN", "image_size": 20}


@pytest.fixture
def architecture():
    return Architecture("autofas", OPTIONS, choices(TABLE_4))


@pytest.fixture(scope="module")
def task():
    return AntiSpoofing(texture_data(), image_size=20)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    return ["--data", "folder", "--data-root", str(write_folder(tmp_path_factory.mktemp("pictures"))), *TINY, *GUARD]


@pytest.fixture(scope="module")
def checkpoint(task, tmp_path_factory):
    """The folder of a training's checkpoints: two epochs, the second and the first."""
    folder = tmp_path_factory.mktemp("trained")
    network = Architecture("autofas", OPTIONS, choices(TABLE_4)).build(seed=0)
    log = TrainingLog(folder, 0, task, None)
    fit(network, task, WeightSchedule(2, 8), task.data.splits["train"], 0, callbacks=[log], accelerator="cpu")
    return folder / "checkpoint" / "train"


# ---- files that are damaged


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]


def loaded(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second or first != first


def test_a_flipped_bit_of_a_checkpoint_is_found_or_changes_nothing(checkpoint, tmp_path):
    whole, draw, found = (checkpoint / "last.ckpt").read_bytes(), random.Random(0), 0
    expected, path = loaded(checkpoint / "last.ckpt"), tmp_path / "last.ckpt"
    with zipfile.ZipFile(checkpoint / "last.ckpt") as archive:  # the weights, of which torch alone would not tell
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    inside = [largest.header_offset + 200 + number for number in range(0, 400, 40)]
    for place in [*inside, *(draw.randrange(len(whole)) for _ in range(150))]:
        path.write_bytes(flipped(whole, place))
        if damage_of(path) is None:
            assert same(loaded(path), expected), place
        else:
            found += 1
    assert found > 50 and damage_of(checkpoint / "last.ckpt") is None


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-1000], lambda data: b"", lambda data: flipped(data, len(data) // 3)]
)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(spoil, checkpoint, tmp_path, capsys):
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoints")
    last, before = folder / "last.ckpt", (folder / "previous.ckpt").read_bytes()
    last.write_bytes(spoil(last.read_bytes()))
    assert latest_checkpoint(folder) == folder / "previous.ckpt"
    assert f"the checkpoint {last} is damaged" in capsys.readouterr().err
    assert not last.exists() and (folder / "previous.ckpt").read_bytes() == before
    (folder / "previous.ckpt").write_bytes(b"junk")
    with pytest.raises(RunFolderError, match="--overwrite"):
        latest_checkpoint(folder)


def test_weights_know_whether_they_are_whole(architecture, tmp_path):
    network, path, draw = architecture.build(seed=0), tmp_path / "weights.safetensors", random.Random(0)
    write_weights(network.state_dict(), path)
    whole = path.read_bytes()
    expected = read_weights(path)
    assert same(expected, dict(network.state_dict()))
    write_weights(dict(reversed(list(network.state_dict().items()))), path)
    assert path.read_bytes() == whole  # equal weights give equal files
    found = 0
    for _ in range(100):
        path.write_bytes(flipped(whole, draw.randrange(len(whole))))
        try:
            assert same(read_weights(path), expected)
        except ArchitectureError as error:
            found += 1
            assert str(path) in str(error)
    assert found > 80
    from safetensors.torch import save_file

    save_file(dict(network.state_dict()), path)  # of somebody else, without a checksum
    assert same(read_weights(path), expected)


def test_a_run_with_damaged_weights_is_not_judged(architecture, tmp_path):
    write_weights(architecture.build(seed=0).state_dict(), tmp_path / "weights.safetensors")
    data = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(flipped(data, len(data) - 9))
    with pytest.raises(ArchitectureError, match="checksum differs"):
        architecture.build(weights=tmp_path / "weights.safetensors")


# ---- folders that cannot be written

IN_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size={size} tmpfs {folder}
cp -r {run}/. {folder}/ 2>/dev/null || true
{more}
set +e
{python} -W ignore -m strategies.darts {arguments}
echo "ended with $?"
mkdir -p {kept}
cp -r {folder}/. {kept}/
"""


def on_a_disk(tmp_path, arguments, size, more="", run="/nonexistent"):
    """A search in a folder of its own file system; what it said, and what the folder held at the end."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    quoted = " ".join(f"'{argument}'" for argument in arguments)
    script = IN_A_SMALL_DISK.format(
        size=size, folder=disk, run=run, more=more, python=sys.executable, arguments=quoted, kept=kept
    )
    done = subprocess.run(["unshare", "--mount", "bash", "-c", script], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no right to mount a disk for the test: {done.stderr.strip()[:200]}")
    return done.stdout + done.stderr, kept


def test_a_full_disk_ends_in_a_message_and_the_search_goes_on_elsewhere(arguments, tmp_path):
    out = tmp_path / "disk" / "run"
    said, kept = on_a_disk(tmp_path, [*arguments, "--out", str(out)], size="300k")
    assert "ended with 2" in said and "No space left on device" in said and "Traceback" not in said, said
    assert "facenas: Cannot write" in said
    run = kept / "run"
    assert not list(run.rglob("*.part"))
    assert search_command("darts", ["--resume", "--out", str(run)]) == 0  # there is room in this one
    whole = tmp_path / "whole"
    assert search_command("darts", [*arguments, "--out", str(whole)]) == 0
    assert (run / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_a_folder_that_is_read_only_is_said_to_be(arguments, tmp_path):
    disk = tmp_path / "disk"
    said, kept = on_a_disk(
        tmp_path, [*arguments, "--out", str(disk / "run")], size="4m", more=f"mount -o remount,ro {disk}"
    )
    assert "ended with 2" in said and "Read-only file system" in said and "Traceback" not in said, said
    assert "--out" in said and not list(kept.rglob("*"))


def test_a_file_that_cannot_be_finished_leaves_the_earlier_one(tmp_path):
    """The limit of a file's size is a disk that is full for one file."""
    import resource

    path = tmp_path / "file"
    write_bytes(path, b"earlier")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(RunFolderError, match="File too large"):
            write_bytes(path, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_has_left_is_swept(tmp_path):
    (tmp_path / "a").mkdir()
    for name in (".x.json.abc.part", "a/.last.ckpt.part", "a/own.part", ".own", "x.json"):
        (tmp_path / name).write_text("")
    sweep(tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "own.part", ".own", "x.json"}


# ---- data and processes that fail


def test_a_picture_that_is_damaged_between_two_epochs_is_named(architecture, tmp_path, monkeypatch):
    root = write_folder(tmp_path / "pictures")
    monkeypatch.setattr(folder_pictures, "KEEP_IN_MEMORY", 0)  # as with more pictures than fit
    task = AntiSpoofing(build_dataset("folder", root=root, progress=False), image_size=20)

    class Spoils(EpochCheckpoint):
        def record(self, trainer, pl_module, seconds):
            victim = root / "train" / "live" / "train1_0.png"
            victim.write_bytes(victim.read_bytes()[:100])

    split, spoils = task.data.splits["train"], Spoils(tmp_path / "run", 0)
    with pytest.raises(DatasetError, match=r"train1_0\.png"):
        fit(architecture.build(seed=0), task, WeightSchedule(3, 6), split, 0, callbacks=[spoils], accelerator="cpu")
    assert damage_of(tmp_path / "run" / "last.ckpt") is None


class Deadly:
    """Pictures whose reader is killed by the system at the second batch."""

    decodes = True

    def __init__(self) -> None:
        self.reads = 0

    def read(self, rows):
        from torch.utils.data import get_worker_info

        self.reads += 1
        if get_worker_info() is not None and self.reads == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros((len(rows), 3, 24, 24), dtype=np.uint8)


def test_a_killed_reader_is_told_and_the_training_can_go_on(architecture):
    kinds = np.array(["live", "print"] * 16)
    people = np.repeat([str(number) for number in range(16)], 2)
    split = Split((kinds == "live").astype(np.int64), kinds, people, Deadly(), np.arange(32))
    data = FaceData(
        "deadly",
        {"train": split, "val": split, "test": split},
        24,
        make_card("deadly", {"train": split}, simulated=True, image_size=24),
    )
    task = AntiSpoofing(data, image_size=20)
    task.workers = 1
    with pytest.raises(ResourceError, match=r"process that loads pictures was killed.*--resume"):
        fit(architecture.build(seed=0), task, WeightSchedule(2, 8), split, 0, accelerator="cpu")


def test_a_loss_that_is_not_finite_leaves_its_state_and_batch(task, architecture, tmp_path):
    log = TrainingLog(tmp_path, 0, task, None)
    schedule = WeightSchedule(3, 8, learning_rate=1e38, gradient_clip=1e38)
    with pytest.raises(DivergenceError, match=r"epoch \d, batch \d.*diverged\.ckpt") as caught:
        fit(
            architecture.build(seed=0), task, schedule, task.data.splits["train"], 0, callbacks=[log], accelerator="cpu"
        )
    state = loaded(tmp_path / "checkpoint" / "train" / "diverged.ckpt")
    assert str(tmp_path) in str(caught.value) and state["state_dict"]
    pictures, labels = state["batch"]
    assert pictures.shape == (8, 3, 20, 20) and labels.shape == (8,)


def test_a_search_that_diverges_leaves_its_state_and_both_batches(arguments, tmp_path, capsys):
    out = tmp_path / "run"
    assert search_command("darts", [*arguments, "--search-learning-rate", "1e38", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    state = loaded(out / "checkpoint" / "search" / "diverged.ckpt")
    assert "diverged.ckpt" in said and set(state["batch"]) == {"train", "val"} and state["arch_parameters"]


# ---- memory

SMALL_MEMORY = """
import resource, sys
import torch
from evaluators.antispoofing import AntiSpoofing
from evaluators.task import WeightSchedule
from evaluators.train import fit
from searchspaces import Architecture
from searchspaces.errors import ResourceError
from tests.faces import texture_data
from tests.searchspaces.genotypes import TABLE_4, choices

network = Architecture("autofas", {{"channels": 16, "layout": "NRN", "image_size": 64}}, choices(TABLE_4)).build(seed=0)
task = AntiSpoofing(texture_data(people=100, size=72), image_size=64)
fit(network, task, WeightSchedule(1, 2), task.data.splits["val"], 0, accelerator="cpu", limit_train_batches=1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {megabytes} * 2**20,) * 2)
try:
    split = task.data.splits["train"]
    fit(network, task, WeightSchedule(1, {batch}), split, 0, accelerator="cpu", limit_train_batches=1)
    print("fits")
except ResourceError as error:
    print(error)
"""


def in_small_memory(batch, megabytes=400):
    script = SMALL_MEMORY.format(batch=batch, megabytes=megabytes)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def test_memory_that_does_not_suffice_names_a_batch_that_fits_and_does():
    said = in_small_memory(256)
    assert said.startswith("The memory does not suffice for batches of 256 pictures of 64x64. A step with "), said
    fits = int(said.split("A step with ")[1].split()[0])
    assert 1 <= fits < 256 and fits & (fits - 1) == 0
    assert in_small_memory(fits) == "fits"


def test_the_largest_batch_is_tried_and_nothing_is_suggested_if_none_fits():
    class Picky(torch.nn.Module):
        def __init__(self, most):
            super().__init__()
            self.most, self.weight = most, torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            if len(x) > self.most:
                raise MemoryError
            return {"maps": [x * self.weight], "score": x.sum() * self.weight}

    assert [largest_batch(Picky(most), (3, 4, 4), 32) for most in (100, 9, 1, 0)] == [32, 8, 1, 0]


# ---- two processes, and clocks


def test_a_second_process_is_refused_whatever_it_wants(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    holder = subprocess.Popen(
        [sys.executable, "-c", f"from pathlib import Path; from searchspaces.folder import open_run\n"
         f"with open_run(Path({str(tmp_path)!r}), resume=True, overwrite=False): print('held', flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout.readline().strip() == "held"
        for options in ({"resume": True, "overwrite": False}, {"resume": False, "overwrite": True}):
            with pytest.raises(RunFolderError, match="Another process is running"), open_run(tmp_path, **options):
                pass
        assert (tmp_path / "config.yaml").exists()
    finally:
        holder.communicate("\n", timeout=30)
    with open_run(tmp_path, resume=True, overwrite=False):
        pass  # its end, of whatever kind, gives the folder free


def test_a_clock_that_jumps_changes_no_duration(task, architecture, tmp_path, monkeypatch):
    log, real, jumps = TrainingLog(tmp_path, 0, task, None), time.time, iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: real() - 86_400 * next(jumps))  # a day back at every look
    fit(
        architecture.build(seed=0),
        task,
        WeightSchedule(2, 8),
        task.data.splits["train"],
        0,
        callbacks=[log],
        accelerator="cpu",
    )
    assert all(0 <= row["seconds"] < 60 for row in log.rows)
