"""Batches, the anti-spoofing task, and training: repeatable, resumable, verified in a new process."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from evaluators.antispoofing import AntiSpoofing
from evaluators.batches import EpochBatches, TrainingBatches, centre_crop, training_loader
from evaluators.recipes import deviations, find_recipe
from evaluators.task import WeightSchedule
from evaluators.train import TrainingLog, compare_metrics, fit, train_architecture
from searchspaces import Architecture
from searchspaces.errors import DatasetError, DivergenceError, FacenasError, UnknownNameError

from ..faces import texture_data
from ..searchspaces.genotypes import TABLE_4, choices

OPTIONS = {"channels": 4, "layout": "RN", "image_size": 20}


@pytest.fixture(scope="module")
def data():
    return texture_data()


@pytest.fixture(scope="module")
def task(data):
    return AntiSpoofing(data, image_size=20)


@pytest.fixture
def architecture():
    return Architecture("autofas", OPTIONS, choices(TABLE_4))


def test_an_epoch_visits_every_picture_once_in_an_order_of_its_own():
    batches = EpochBatches(20, 6, seed=1)
    first = list(batches)
    batches.set_epoch(1)
    second = list(batches)
    assert len(first) == len(batches) == 3
    assert len({i for key in first for i in key.indices}) == 18  # the incomplete last batch is left out
    assert [k.indices for k in first] != [k.indices for k in second]
    batches.set_epoch(0)
    assert [k.indices for k in batches] == [k.indices for k in first]
    assert len(EpochBatches(3, 16, seed=0)) == 1  # never no batch at all


def test_batches_depend_on_seed_epoch_and_number_only(data):
    split = data.splits["train"]
    loaders = [training_loader(split, 20, 8, seed) for seed in (0, 0, 1)]
    np.random.seed(3)
    torch.manual_seed(3)
    epochs = [[batch[0] for batch in loader] for loader in loaders]
    assert all(torch.equal(a, b) for a, b in zip(epochs[0], epochs[1], strict=True))
    assert not torch.equal(epochs[0][0], epochs[2][0])


def test_training_batches_crop_and_mirror_real_pictures(data):
    split = data.splits["train"]
    batches = TrainingBatches(split, 20, seed=0)
    key = next(iter(EpochBatches(len(split), 8, seed=0)))
    pictures, labels = batches[key]
    assert pictures.shape == (8, 3, 20, 20) and pictures.min() >= -1 and pictures.max() <= 1
    assert labels.tolist() == split.labels[key.indices].tolist()
    whole = split.images([key.indices[0]])[0].float() / 127.5 - 1
    windows = [whole[:, top : top + 20, left : left + 20] for top in range(5) for left in range(5)]
    windows += [window.flip(-1) for window in windows]
    assert any(torch.allclose(pictures[0], window) for window in windows)
    assert torch.equal(centre_crop(torch.arange(25).view(1, 1, 5, 5), 3)[0, 0, 0], torch.tensor([6, 7, 8]))


def test_pictures_smaller_than_the_networks_are_refused(data):
    with pytest.raises(DatasetError, match="24x24 pixels, but the network takes 108x108"):
        AntiSpoofing(data, image_size=108)


def test_unknown_supervision_is_refused(data):
    with pytest.raises(FacenasError, match="expected pixel or binary"):
        AntiSpoofing(data, 20, "depth")


def test_scores_of_both_supervisions(data):
    outputs = torch.tensor([[[[4.0, -2.0]]]])
    pixel, binary = AntiSpoofing(data, 20), AntiSpoofing(data, 20, "binary")
    assert pixel.scores(outputs).item() == pytest.approx((torch.tensor([4.0, -2.0]).sigmoid().mean()).item())
    assert binary.scores(outputs).item() == pytest.approx(torch.tensor(1.0).sigmoid().item())


def test_the_threshold_comes_from_the_validation_split_only(data, task):
    class Brightness(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return x.mean((1, 2, 3)).view(-1, 1, 1, 1)

    before = task.metrics(Brightness())["threshold"]["value"]
    test = data.splits["test"]
    changed = texture_data()
    changed.splits["test"] = changed.splits["test"].subset(np.arange(6))
    after = AntiSpoofing(changed, 20).metrics(Brightness())["threshold"]["value"]
    assert before == after and len(test) == 24


def test_predict_restores_the_networks_mode(task, architecture, data):
    network = architecture.build(seed=0).train()
    task.predict(network, data.splits["val"])
    assert network.training


@pytest.mark.parametrize("supervision", ["pixel", "binary"])
def test_training_learns_the_texture_and_repeats(data, architecture, supervision):
    task = AntiSpoofing(data, 20, supervision)
    schedule = WeightSchedule(epochs=6, batch_size=6, learning_rate=0.05)
    networks = [
        fit(architecture.build(seed=0), task, schedule, data.splits["train"], 0, accelerator="cpu") for _ in range(2)
    ]
    for a, b in zip(networks[0].state_dict().values(), networks[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert task.metrics(networks[0])["auc"]["value"] > 0.9


def test_killed_training_resumes_equal(data, task, architecture, tmp_path):
    schedule = WeightSchedule(epochs=3, batch_size=8)

    class Killed(TrainingLog):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                raise InterruptedError("killed")
            super().on_train_epoch_start(trainer, pl_module)

    def train(folder, log_class=TrainingLog, checkpoint=None):
        log = log_class(folder, 0, task, None)
        network = architecture.build(seed=0)
        options = {"callbacks": [log], "checkpoint": checkpoint, "accelerator": "cpu"}
        return fit(network, task, schedule, data.splits["train"], 0, **options)

    whole = train(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(tmp_path / "cut", Killed)
    resumed = train(tmp_path / "cut", checkpoint=tmp_path / "cut" / "checkpoint" / "train" / "last.ckpt")
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    rows = [(tmp_path / run / "training.csv").read_text().splitlines() for run in ("whole", "cut")]
    assert [row.split(",")[:5] for row in rows[0]] == [row.split(",")[:5] for row in rows[1]] and len(rows[0]) == 4


def test_diverging_training_says_where(data, task, architecture):
    with pytest.raises(DivergenceError, match=r"epoch \d, batch \d"):
        schedule = WeightSchedule(3, 8, learning_rate=1e38, gradient_clip=1e38)
        fit(architecture.build(seed=0), task, schedule, data.splits["train"], 0, accelerator="cpu")


def write_folder(root: Path, people: int = 4, size: int = 64) -> Path:
    """A folder data set: the live pictures have stripes."""
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for person in range(people):
            for kind in ("live", "attack/print", "attack/replay"):
                pixels = random.integers(96, 160, (size, size, 3))
                if kind == "live":
                    pixels[:, ::2] += 60
                path = root / split / kind / f"{split}{person}_0.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


@pytest.fixture
def run(tmp_path, architecture):
    """A run folder ready for training, with data that a new process can read."""
    options = {"data": "folder", "data_root": str(write_folder(tmp_path / "data")), "supervision": "pixel"}
    folder = tmp_path / "run"
    architecture.save(folder / "architecture.json")
    (folder / "config.yaml").write_text(yaml.safe_dump(options))
    from evaluators.tasks import build_task

    return folder, build_task(SimpleNamespace(input_size=(3, 20, 20)), options, progress=False)


def test_a_new_process_finds_the_same_metrics(run, architecture):
    folder, task = run
    metrics = train_architecture(architecture, task, WeightSchedule(1, 6), folder, seed=0, accelerator="cpu")
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert {"acer", "apcer_print", "apcer_replay", "apcer_max", "bpcer", "eer", "auc", "hter"} <= metrics.keys()


def test_weights_that_changed_on_disk_are_found_out(run, architecture, monkeypatch):
    folder, task = run
    import evaluators.train

    original = evaluators.train.save_weights

    def save_others(network, path):
        original(architecture.build(seed=99), path)

    monkeypatch.setattr(evaluators.train, "save_weights", save_others)
    with pytest.raises(FacenasError, match="after training but"):
        train_architecture(architecture, task, WeightSchedule(1, 6), folder, seed=0, accelerator="cpu")
    assert not (folder / "metrics.json").exists()


def test_metrics_that_differ_by_more_than_rounding_are_refused():
    one = {"acer": {"value": 0.1, "low": None, "high": 0.2}}
    compare_metrics(one, {"acer": {"value": 0.1 + 1e-9, "low": None, "high": 0.2}})
    for other in ({"acer": {"value": 0.11, "low": None, "high": 0.2}}, {}, {"acer": {"value": 0.1, "low": 0.0}}):
        with pytest.raises(FacenasError, match="acer"):
            compare_metrics(one, other)


def test_recipes():
    paper = find_recipe("autofas", "paper")  # section 3.3 of the paper
    assert (paper.search_epochs, paper.search_batch, paper.search_learning_rate) == (40, 256, 0.05)
    assert (paper.arc_learning_rate, paper.arc_weight_decay, paper.weight_decay) == (6e-3, 1e-3, 1e-4)
    assert find_recipe("module:Own", "quick")
    as_paper = {"space": "autofas", "data": "folder", **asdict(paper)}
    assert deviations(as_paper) == []
    changed = {**as_paper, "arc_learning_rate": 0.3, "train_epochs": 7}
    assert deviations(changed) == [
        {"option": "arc_learning_rate", "value": 0.3, "paper": 6e-3},
        {"option": "train_epochs", "value": 7, "paper": "not given"},
    ]
    with pytest.raises(UnknownNameError, match="Did you mean 'quick'"):
        find_recipe("autofas", "quik")


# ---- schedules


def rates(epochs=10, steps=4, **options):
    """The learning rate before each step of a training, as Lightning advances schedulers."""
    from evaluators.task import learning_rates

    schedule = WeightSchedule(epochs, 8, learning_rate=0.1, **options)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=schedule.learning_rate)
    schedulers = learning_rates(optimizer, schedule)
    found = []
    for _ in range(epochs):
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            for each in schedulers:
                if each["interval"] == "step":
                    each["scheduler"].step()
        for each in schedulers:
            if each["interval"] == "epoch":
                each["scheduler"].step()
    return found


def test_the_learning_rate_falls_in_steps_after_a_linear_start():
    """Section 4.1 of the ASFD paper: 1e-6 to the base linearly, a tenth after half of the epochs and after 80 %."""
    plain = rates(decay="steps")
    assert plain[:20] == [0.1] * 20
    assert plain[20:32] == pytest.approx([0.01] * 12) and plain[32:] == pytest.approx([0.001] * 8)
    warm = rates(decay="steps", warmup_steps=8)
    assert warm[0] == pytest.approx(1e-6)
    assert warm[4] == pytest.approx(1e-6 + (0.1 - 1e-6) / 2) and warm[8:] == pytest.approx(plain[8:])
    assert rates(decay="cosine", warmup_steps=4)[4:] == pytest.approx(rates(decay="cosine")[4:])
    assert set(rates(decay="constant")) == {0.1}
