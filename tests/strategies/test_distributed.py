"""Two processes that share every batch end with the weights, the architecture and the figures of one."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from safetensors.torch import load_file

from evaluators.batches import EpochBatches, TrainingBatches
from evaluators.companions import check_devices, companions
from evaluators.sharing import SharedBatches, check_strategy, own_rows, shared_trainer_options
from evaluators.train_command import main as train_command
from facenas.checks import check_shares
from facenas.options import EvolutionOptions
from searchspaces import Architecture
from searchspaces.cli import run_command
from searchspaces.errors import ConfigError, FacenasError
from searchspaces.files import read_json

from ..evaluators.test_training import write_folder
from ..faces import texture_data
from ..searchspaces.genotypes import TABLE_4, choices

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5  # relative, in float64; rounding alone is around 1e-13


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """By name what one process ends with, and what each of two does; the folders of both."""
    folder = tmp_path_factory.mktemp("shared")
    data = write_folder(folder / "data", people=6)
    # Lightning starts the second process itself, on a free port
    inherited = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "RANK")}
    environment = {**inherited, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "HOME": str(folder)}
    for devices in (1, 2):
        (folder / str(devices)).mkdir()
        command = [sys.executable, "-m", "tests.strategies.shared_runs", devices, data, folder / str(devices)]
        done = subprocess.run(
            list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
    loaded = [torch.load(folder / name, weights_only=True) for name in ("1/1-0.pt", "2/2-0.pt", "2/2-1.pt")]
    return loaded[0], loaded[1:], folder


def difference(first, second):
    """The largest relative difference of a tensor of two states."""
    assert first.keys() == second.keys()
    pairs = [(tensor.double(), second[name].double()) for name, tensor in first.items()]
    return max(float((a - b).norm() / a.norm().clamp_min(1e-12)) for a, b in pairs)


@pytest.mark.parametrize(
    "name", ["first", "second", "warm-up", "gumbel", "paths", "trained", "adam", "losses", "dropout"]
)
def test_two_processes_end_as_one(runs, name):
    one, two, _ = runs
    assert any(tensor.dtype == torch.float64 for tensor in one[name]["state"].values())
    assert all(tensor.isfinite().all() for tensor in one[name]["state"].values())
    for process in two:
        if name != "dropout":  # its network amplifies rounding, so that only its losses can be compared
            assert difference(one[name]["state"], process[name]["state"]) < TOLERANCE
        assert process[name]["choices"] == one[name]["choices"]
        for own, shared in zip(one[name]["statistics"], process[name]["statistics"], strict=True):
            assert own.keys() == shared.keys()
            assert list(shared.values()) == pytest.approx(list(own.values()), rel=TOLERANCE)
    first, second = (process[name]["state"] for process in two)
    assert all(torch.equal(first[key], second[key]) for key in first)  # else they would drift apart


@pytest.mark.parametrize(
    ("part", "of"),
    [("architecture", "first"), ("gradients", "first"), ("statistics", "first"), ("dropout", "dropout")],
)
def test_without_a_part_of_it_they_do_not(runs, part, of):
    one, two, _ = runs
    found = two[0][f"without {part}"]
    state = difference(one[of]["state"], found["state"])
    figures = [
        abs(shared[key] - own[key])
        for own, shared in zip(one[of]["statistics"], found["statistics"], strict=True)
        for key in own
    ]
    assert max(state, *figures) > 1000 * TOLERANCE


def test_one_process_writes_and_writes_figures_of_all(runs):
    folder = runs[2]
    for file in ("first/search.csv", "trained/training.csv", "adam/training.csv"):
        one, two = (pd.read_csv(folder / devices / file).drop(columns="seconds") for devices in "12")
        pd.testing.assert_frame_equal(one, two, rtol=TOLERANCE)
    checkpoints = [folder / devices / "first" / "checkpoint" / "search" / "last.ckpt" for devices in "12"]
    one, two = (torch.load(file, weights_only=True) for file in checkpoints)
    assert difference(one["state_dict"], two["state_dict"]) < TOLERANCE
    assert one["global_step"] == two["global_step"]


@pytest.mark.parametrize("augmentation", ["crop", "colour"])
def test_shares_are_the_rows_of_the_batch(augmentation):
    split = texture_data().splits["train"]
    samplers = [EpochBatches(len(split), 8, seed=3) for _ in range(3)]
    for rank, sampler in enumerate(samplers[1:]):
        sampler.share(rank, 2)
    batches = TrainingBatches(split, 20, 3, augmentation)
    for whole, *shares in zip(*samplers, strict=True):
        pictures, labels = batches[whole]
        found = [batches[key] for key in shares]
        assert [len(share[0]) for share in found] == [4, 4]
        assert torch.equal(torch.cat([share[0] for share in found]), pictures)
        assert torch.equal(torch.cat([share[1] for share in found]), labels)


def test_batches_without_equal_shares_are_refused():
    assert [own_rows(6, rank, 3) for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    with pytest.raises(ConfigError, match="A batch of 7 pictures has no equal shares for 2 processes"):
        EpochBatches(7, 16, seed=0).share(0, 2)


def test_the_command_shares_a_training_with_companions(tmp_path, monkeypatch):
    data = write_folder(tmp_path / "data")
    architecture = Architecture("autofas", {"channels": 4, "layout": "RN", "image_size": 20}, choices(TABLE_4))
    architecture.save(tmp_path / "architecture.json")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = []
    for devices in (1, 2):
        out = tmp_path / str(devices)
        arguments = [str(tmp_path / "architecture.json"), "--data", "folder", "--data-root", str(data)]
        arguments += ["--epochs", "2", "--batch", "4", "--accelerator", "cpu", "--devices", str(devices)]
        assert run_command(train_command, [*arguments, "--out", str(out)]) == 0
        found.append((pd.read_csv(out / "training.csv"), load_file(out / "weights.safetensors")))
    (one, own), (two, shared) = found
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), two.drop(columns="seconds"), rtol=1e-3)
    assert difference(own, shared) < 1e-3  # in float32
    assert not dist.is_initialized() and "LOCAL_RANK" not in os.environ  # as before, for the next training


def test_a_companion_that_fails_says_why(tmp_path):
    with pytest.raises(FacenasError, match=r"absent\.json"), companions(2, read_json, tmp_path / "absent.json"):
        raise AssertionError("the training must not begin")
    with pytest.raises(FacenasError, match="no message"), companions(2, partial, os._exit, 3):
        raise RuntimeError("connection reset")  # as gloo does when it loses a process


def test_devices_that_cannot_share_are_refused():
    check_devices(1, "auto", 7)
    with pytest.raises(ConfigError, match="A batch of 7 pictures has no equal shares for 2 devices"):
        check_devices(2, "cpu", 8, None, 7)
    with pytest.raises(ConfigError, match="CPU cores"):
        check_devices(4096, "cpu")
    with pytest.raises(ConfigError, match="at least 1"):
        check_devices(0, "cpu")
    with pytest.raises(ConfigError, match="one after another"):
        check_shares(EvolutionOptions(devices=2))


def test_processes_that_would_not_average_are_refused():
    check_strategy(SimpleNamespace(world_size=2, strategy=SharedBatches()))
    check_strategy(SimpleNamespace(world_size=1, strategy=None))
    with pytest.raises(ConfigError, match="2 processes with DDPStrategy"):
        check_strategy(SimpleNamespace(world_size=2, strategy=DDPStrategy()))
    assert isinstance(shared_trainer_options({"devices": 2})["strategy"], SharedBatches)
    assert shared_trainer_options({"devices": 1})["strategy"] == "auto"
