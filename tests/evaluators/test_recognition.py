"""The task of face recognition on small pictures of stripes, a direction and colour for each person."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from evaluators import tasks
from evaluators.datasets.recognition import IdentitySplit, Pairs, RecognitionData, recognition_card
from evaluators.metrics import equal_error_rate
from evaluators.recipes import deviations, find_recipe
from evaluators.recognition import ClassCentres, Recognition, pixel_error
from evaluators.recognition_losses import RECOGNITION_LOSSES
from evaluators.task import WeightSchedule
from evaluators.train import FixedModule, fit, train_architecture
from searchspaces import Architecture, build_space
from searchspaces.errors import ConfigError, DatasetError, UnknownNameError
from tests.faces import MemorySource, texture_data

SPACE = {"image_size": 32, "channels": 16, "repeats": [[1], [1], [1]], "embeddings": [16, 32], "expansions": [2]}


def stripes(person: int, number: int, size: int, random: np.random.Generator) -> np.ndarray:
    """A person's own pattern, shifted, on noise."""
    own = np.random.default_rng(person)
    angle, period, colour = own.uniform(0, math.pi), own.uniform(4, 9), own.integers(60, 200, 3)
    y, x = np.mgrid[:size, :size]
    wave = np.sin(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / period + random.uniform(0, 6))
    picture = colour[:, None, None] + 40 * wave[None] + random.normal(0, 8, (3, size, size))
    return picture.clip(0, 255).astype(np.uint8)


def striped_data(people=(6, 4, 4), pictures=6, size=36) -> RecognitionData:
    random, splits, person = np.random.default_rng(0), {}, 0
    for name, number in zip(("train", "val", "test"), people, strict=True):
        names, shots = [], []
        for _ in range(number):
            shots += [stripes(person, index, size, random) for index in range(pictures)]
            names += [f"person {person}"] * pictures
            person += 1
        splits[name] = IdentitySplit(names, MemorySource(np.stack(shots)), np.arange(len(names)))
    return RecognitionData(
        "stripes", splits, size, recognition_card("stripes", splits, simulated=True, image_size=size)
    )


@pytest.fixture
def task():
    return Recognition(striped_data(), 32, 32)


def network(seed=0, embedding=32):
    space = build_space("airface", **SPACE)
    choices = {label: mutable.values[0] for label, mutable in space.simplify().items()}
    return Architecture("airface", SPACE, {**choices, "embedding": embedding}).build(seed=seed)


# ---- data


def test_halves_show_the_same_people_in_other_pictures():
    split = striped_data(pictures=5).splits["train"]
    first, second = split.halves(0)
    assert set(first.names) == set(second.names) == set(split.names)
    assert not set(first.rows) & set(second.rows) and len(first) + len(second) == len(split)
    again = split.halves(0)[0]
    assert np.array_equal(again.rows, first.rows) and not np.array_equal(split.halves(1)[0].rows, first.rows)


def test_a_person_with_one_picture_cannot_be_halved_and_is_named():
    data = striped_data(pictures=2).splits["train"]
    lonely = IdentitySplit(data.people[1:], data.source, data.rows[1:])
    with pytest.raises(DatasetError, match="person 0"):
        lonely.halves(0)


def test_labels_count_people_from_zero_and_bad_lists_are_refused():
    split = striped_data().splits["val"]
    assert sorted(set(split.labels.tolist())) == list(range(4)) and split[0][0].shape == (3, 36, 36)
    with pytest.raises(DatasetError, match="one entry a pair"):
        Pairs(np.zeros(2, int), np.zeros(2, int), np.zeros(3, bool), np.zeros(2, int))
    with pytest.raises(DatasetError, match="one entry a picture"):
        IdentitySplit(["a"], split.source, [0, 1])
    with pytest.raises(IndexError):
        split[1000]


# ---- training


def test_cosines_of_the_centres_are_cosines_and_shorter_embeddings_use_their_beginning():
    centres, x = ClassCentres(5, 8), torch.randn(3, 4)
    expected = F.cosine_similarity(x[:, None], centres.weight[None, :, :4], dim=2)
    assert torch.allclose(centres(x), expected, atol=1e-6)
    assert centres(torch.randn(3, 8, dtype=torch.bfloat16)).dtype == torch.float32


def test_the_head_is_trained_but_not_part_of_the_network(task):
    module = FixedModule(task, WeightSchedule(1, 8))
    module.set_model(network())
    trained = {id(p) for group in module.weight_groups() for p in group["params"]}
    assert module.head is not None and id(module.head.weight) in trained
    assert not any("head" in name for name in module.model.state_dict())
    batch = next(iter(task.loader(task.data.splits["train"], 8, 0)))
    step = module.step(batch)
    step["loss"].backward()
    assert module.head.weight.grad is not None and 0 <= step["accuracy"] <= 1


def test_the_embedding_layer_has_ten_times_the_weight_decay(task):
    module = FixedModule(task, WeightSchedule(1, 8, weight_decay=1e-3))
    module.set_model(network())
    named = {id(p): name for name, p in module.model.named_parameters()}
    for group in module.weight_groups():
        own = {"embedding" in named.get(id(p), "") for p in group["params"]}
        assert own == {group["weight_decay"] == pytest.approx(1e-2)}
    assert {group["weight_decay"] for group in module.weight_groups()} == {1e-3, 1e-2}


def test_losses_take_turns():
    task = Recognition(striped_data(), 32, 32, losses=[["n_softmax", 0.5], ["li_arcface", 0.3], ["arcface", 0.2]])
    turns = [task.loss_at(progress) for progress in (0, 0.49, 0.5, 0.79, 0.8, 0.99, 1)]
    assert turns == ["n_softmax"] * 2 + ["li_arcface"] * 2 + ["arcface"] * 3
    cosines, labels = torch.rand(4, 6) * 2 - 1, torch.arange(4).float()
    for progress, name in ((0, "n_softmax"), (0.6, "li_arcface"), (0.9, "arcface")):
        expected = RECOGNITION_LOSSES[name](cosines, labels.long(), scale=64.0)
        assert torch.equal(task.losses_at(cosines, labels, progress)["loss"], expected)


def test_a_margin_is_passed_on_to_losses_that_have_one():
    task = Recognition(striped_data(), 32, 32, margin=0.2, losses=[["cosface", 0.5], ["n_softmax", 0.5]])
    cosines, labels = torch.rand(4, 6) * 2 - 1, torch.arange(4)
    expected = RECOGNITION_LOSSES["cosface"](cosines, labels, scale=64.0, margin=0.2)
    assert torch.equal(task.losses(cosines, labels)["loss"], expected)
    task.losses_at(cosines, labels, 0.9)


def test_a_network_learns_to_tell_people_apart_that_it_never_saw(task):
    test, start = task.data.splits["test"], network()
    before = task.figures(task.predict(start, test), test)
    trained = fit(network(), task, WeightSchedule(12, 12, 0.05, weight_decay=5e-4), task.data.splits["train"], 0)
    after = task.figures(task.predict(trained, test), test)
    assert after["auc"] > max(before["auc"], 0.8)


def test_judging_adds_the_mirror_image_and_restores_the_mode(task):
    split, net = task.data.splits["val"], network().train()
    flipped = task.predict(net, split)
    assert net.training and flipped.shape == (len(split), 32)
    plain = Recognition(task.data, 32, 32, flip=False).predict(net, split)
    pictures = torch.cat(list(task.pictures(split, 32)))
    with torch.no_grad():
        net.eval()
        mirrored = net(pictures.flip(-1)).numpy()
    assert np.allclose(plain + mirrored, flipped, atol=1e-4)


def test_metrics_are_of_all_pairs_and_evidence_holds_them(task):
    net, split = network().eval(), task.data.splits["test"]
    metrics = task.metrics(net)
    vectors = task.predict(net, split)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    i, j = np.triu_indices(len(split), 1)
    same = (split.people[i] == split.people[j]).astype(np.int64)
    expected = equal_error_rate((vectors @ vectors.T)[i, j].astype(float), same)
    assert metrics["eer"]["value"] == pytest.approx(expected, abs=1e-6)
    assert {"auc", "rank1", "threshold"} <= metrics.keys() and "EER" in task.headline(metrics)
    evidence = json.loads(json.dumps(task.evidence(net)))
    assert evidence["counts"] == {"positive": int(same.sum()), "negative": int((1 - same).sum())}


def test_raw_pixels_have_an_error_to_beat(monkeypatch):
    error = pixel_error(striped_data())
    assert error is not None and 0 <= error <= 0.5
    monkeypatch.setattr("evaluators.recognition.MOST_RAW", 3)
    assert pixel_error(striped_data()) is None  # a large set's pixels do not fit into memory


def test_a_run_folder_has_scores_beside_its_metrics(task, tmp_path):
    space = build_space("airface", **SPACE)
    choices = {label: mutable.values[0] for label, mutable in space.simplify().items()}
    train_architecture(Architecture("airface", SPACE, choices), task, WeightSchedule(1, 12), tmp_path, 0, verify=False)
    assert json.loads((tmp_path / "scores.json").read_text())["positive"] == "same person"
    assert "eer" in json.loads((tmp_path / "metrics.json").read_text())


def test_training_that_is_resumed_ends_as_if_it_had_not_stopped(task, tmp_path, monkeypatch):
    from evaluators.train import TrainingLog

    space = build_space("airface", **SPACE)
    choices = {label: mutable.values[0] for label, mutable in space.simplify().items()}
    architecture, schedule = Architecture("airface", SPACE, choices), WeightSchedule(3, 12, 0.05)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    task.stages = [("n_softmax", 0.5), ("li_arcface", 0.5)]
    train_architecture(architecture, task, schedule, tmp_path / "whole", 0, verify=False)
    original = TrainingLog.on_train_epoch_end

    def kill(self, trainer, module):
        original(self, trainer, module)
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingLog, "on_train_epoch_end", kill)
    with pytest.raises(KeyboardInterrupt):
        train_architecture(architecture, task, schedule, tmp_path / "killed", 0, verify=False)
    monkeypatch.undo()
    train_architecture(architecture, task, schedule, tmp_path / "killed", 0, verify=False, resume=True)
    whole, killed = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "killed"))
    assert whole == killed


# ---- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": -1}, "scale of face recognition"),
        ({"margin": 9}, "margin of face recognition"),
        ({"margin": True}, "margin of face recognition"),
        ({"embedding_decay": "x"}, "embedding_decay"),
        ({"losses": [["li_arcface", 0.5]]}, "add up to 1"),
        ({"losses": []}, "add up to 1"),
        ({"losses": ["li_arcface"]}, "names with their parts"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Recognition(striped_data(), 32, 32, **options)


def test_unknown_losses_and_augmentations_are_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="li_arcface"):
        Recognition(striped_data(), 32, 32, losses=[["liarcface", 1]])
    with pytest.raises(UnknownNameError, match="pose"):
        Recognition(striped_data(), 32, 32, augmentation="poses")
    with pytest.raises(DatasetError, match="image_size"):
        Recognition(striped_data(), 48, 32)


def test_networks_that_give_no_embedding_are_refused(task):
    with pytest.raises(ConfigError, match="airface"):
        task.check(torch.nn.Conv2d(3, 4, 3))


def test_tasks_and_data_sets_that_do_not_fit_are_refused(monkeypatch):
    space = build_space("airface", **SPACE)
    monkeypatch.setattr(tasks, "build_dataset", lambda *a, **k: texture_data())
    with pytest.raises(ConfigError, match="who is who"):
        tasks.build_task(space, {"data": "portraits"})
    monkeypatch.setattr(tasks, "build_dataset", lambda *a, **k: striped_data())
    with pytest.raises(ConfigError, match="live and attack"):
        tasks.build_task(build_space("autofas"), {"data": "orl"})
    with pytest.raises(ConfigError, match="Did you mean 'margin'"):
        tasks.build_task(space, {"data": "orl", "task_options": {"margn": 1}})
    assert tasks.build_task(space, {"data": "orl", "task_options": {"scale": 32}}).options["scale"] == 32


def test_the_recipe_names_what_the_paper_gives():
    recipe = find_recipe("airface", "paper")
    assert (recipe.train_learning_rate, recipe.weight_decay, recipe.decay) == (0.1, 5e-4, "late_steps")
    quick = find_recipe("airface", "quick")
    rows = deviations({"space": "airface", "data": "orl", **{"train_batch": quick.train_batch, "decay": quick.decay}})
    assert {row["option"]: row["paper"] for row in rows} == {"train_batch": 1024, "decay": "late_steps"}
