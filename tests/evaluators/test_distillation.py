"""Distillation: which layers are compared, and training beside a teacher."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from torch.nn import functional as F

from evaluators import tasks
from evaluators.antispoofing import AntiSpoofing
from evaluators.detection import Detection
from evaluators.distillation import (
    Distillation,
    DistilledModule,
    Teaching,
    block_pairs,
    build_teaching,
    plan_features,
    read_layers,
    transformer_of,
)
from evaluators.distillation_losses import head_aware_loss, soft_logits_loss
from evaluators.task import WeightSchedule
from evaluators.teachers import Teacher
from evaluators.train import TrainingLog, fit, train_architecture
from searchspaces import Architecture, build_space
from searchspaces.errors import ConfigError
from tests.evaluators.test_recognition import striped_data
from tests.faces import texture_data

STUDENT = {"image_size": 32, "embed": [64, 128], "depth": [2, 4], "mlp_ratio": [1, 2]}


def student(embed=64, depth=2) -> Architecture:
    return Architecture("hatfas", STUDENT, {"embed": embed, "depth": depth, "mlp_ratio": 1})


def task() -> AntiSpoofing:
    return AntiSpoofing(texture_data(people=6, size=36), 32, "cross_entropy")


# ---- which layers


def test_blocks_are_paired_at_equal_parts_of_the_depth():
    assert block_pairs(12, 12) == [(4, 4), (6, 6), (8, 8)]  # the paper's
    assert block_pairs(1, 12) == [(0, 8)]
    for depths in ((6, 12), (9, 12), (12, 6), (2, 2)):
        pairs = block_pairs(*depths)
        assert pairs and all(0 <= a < depths[0] and 0 <= b < depths[1] for a, b in pairs)


def test_tokens_are_those_of_timms_own_pass():
    """Against a pass of timm's network written out block by block."""
    network = student(128, 4).build(seed=0).eval()
    vit, x = transformer_of(network), torch.randn(3, 3, 32, 32)
    tokens = vit._pos_embed(vit.patch_embed(x))
    embeddings, projected, heads = tokens, {}, {}
    for number, block in enumerate(vit.blocks):
        normed = block.norm1(tokens)
        q, k, v = block.attn.qkv(normed).reshape(3, -1, 3, 2, 64).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1) / 8).softmax(-1) @ v
        heads[number] = mixed[:, :, 0]
        projected[number] = block.attn.proj(mixed.transpose(1, 2).flatten(2))
        tokens = tokens + projected[number]
        tokens = tokens + block.mlp(block.norm2(tokens))
    for kind, expected in (
        ("projected", lambda layer: projected[layer][:, 0]),
        ("heads", lambda layer: heads[layer]),
        ("released", lambda layer: vit.blocks[layer].attn(vit.blocks[layer].norm1(embeddings))[:, 0]),
    ):
        with torch.no_grad(), read_layers(network, [1, 3], kind) as read:
            network(x)
            for layer in (1, 3):
                assert torch.allclose(read(layer), expected(layer), atol=1e-5), kind
    assert not vit.blocks[1].attn._forward_hooks and not vit.blocks[1].attn.proj._forward_pre_hooks


def test_the_released_shortcut_is_no_true_layer():
    network, x = student(64, 4).build(seed=0).eval(), torch.randn(3, 3, 32, 32)
    found = {}
    for kind in ("released", "projected"):
        with torch.no_grad(), read_layers(network, [0, 3], kind) as read:
            network(x)
            found[kind] = [read(layer) for layer in (0, 3)]
    assert torch.allclose(found["released"][0], found["projected"][0], atol=1e-6)  # the first block sees embeddings
    assert not torch.allclose(found["released"][1], found["projected"][1], atol=1e-4)


def test_features_are_chosen_by_what_the_networks_have():
    vit, other = student().build(), student(128, 4).build()
    plan = plan_features(vit, other, Distillation())
    assert plan is not None and (plan.mode, plan.tokens) == ("headwise", "heads")
    assert plan.pairs == tuple(block_pairs(2, 4))
    plan = plan_features(vit, other, Distillation(features="repo"))
    assert plan is not None and plan.tokens == "projected"
    small_heads = timm.create_model("deit_tiny_patch16_224", img_size=32, embed_dim=96, num_heads=3, depth=2)
    plan = plan_features(vit, small_heads, Distillation())
    assert plan is not None and plan.mode == "gram_mean"
    convolutions = build_space("pta", width=0.1, image_size=32)
    assert plan_features(vit, convolutions, Distillation()) is None
    plan = plan_features(vit, convolutions, Distillation.from_options({"layers": [["vit.blocks.1", "features.8"]]}))
    assert plan is not None and plan.mode == "gram_mean"
    assert plan_features(vit, other, Distillation(features="off")) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "repo", "tokens": "heads"}, "do not go with"),
        ({"layers": [[9, 0]]}, "student has blocks 0 to 1"),
        ({"layers": [[0, 9]]}, "teacher has blocks 0 to 3"),
        ({"layers": [["vit.blocks.7", "vit.blocks.1"]]}, "Did you mean 'vit.blocks.1'"),
    ],
)
def test_layers_that_are_not_there_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        plan_features(student().build(), student(128, 4).build(), Distillation.from_options(options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpa": 1}, "Did you mean 'alpha'"),
        ({"alpha": 2}, "alpha of distillation"),
        ({"temperature": 0}, "temperature"),
        ({"beta": True}, "beta"),
        ({"features": "gram"}, "features of distillation"),
        ({"tokens": "class"}, "tokens of distillation"),
        ({"layers": [4, 6]}, "pairs such as"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Distillation.from_options(options)


# ---- training


def taught_task(folder=None, **options) -> AntiSpoofing:
    result = task()
    teacher = Teacher(student(128, 4).build(seed=5), "teacher", None)
    result.teaching = Teaching(teacher, Distillation.from_options(options))
    return result


def test_the_loss_is_the_papers():
    taught = taught_task(alpha=0.7, beta=0.5, temperature=3, features="repo")
    module = DistilledModule(taught, WeightSchedule(1, 4))
    network = student().build(seed=0).train()
    module.set_model(network)
    batch = next(iter(taught.loader(taught.data.splits["train"], 4, 0)))
    found = module.step(batch)["loss"]
    teacher = taught.teaching.teacher
    logits, wanted = network(batch[0]), teacher(batch[0])
    loss = 0.3 * F.cross_entropy(logits, batch[1].long()) + 0.7 * soft_logits_loss(logits, wanted, 3)
    for own, theirs in block_pairs(2, 4):
        with read_layers(network, [own], "projected") as read, read_layers(teacher, [theirs], "projected") as taught_by:
            network(batch[0])
            teacher(batch[0])
            loss = loss + 0.5 / len(block_pairs(2, 4)) * head_aware_loss(read(own), taught_by(theirs), "repo")
    assert found.item() == pytest.approx(loss.item(), rel=1e-4)
    found.backward()
    assert all(p.grad is not None for p in network.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_a_teacher_is_neither_trained_nor_saved():
    taught = taught_task()
    module = DistilledModule(taught, WeightSchedule(1, 4))
    module.set_model(student().build())
    before = {name: value.clone() for name, value in taught.teaching.teacher.state_dict().items()}
    size = sum(p.numel() for p in module.parameters())
    assert size == sum(p.numel() for p in student().build().parameters())
    fit(module.model, taught, WeightSchedule(1, 8), taught.data.splits["train"], 0)
    after = taught.teaching.teacher.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_student_that_only_imitates_comes_near_its_teacher():
    taught = taught_task(alpha=1.0, features="off", temperature=1)
    split = taught.data.splits["train"]
    teacher = taught.teaching.teacher
    with torch.no_grad():  # a teacher with something to say
        transformer_of(teacher).head.weight *= 20

    def distance(network):
        outputs = taught.predict(network, split), taught.predict(teacher, split)
        return soft_logits_loss(*outputs, 1.0).item()

    before = distance(student().build(seed=0))
    schedule = WeightSchedule(20, 9, 1e-3, optimizer="adam")
    assert distance(fit(student().build(seed=0), taught, schedule, split, 0)) < 0.5 * before


def test_a_run_says_who_taught_and_judges_the_teacher_too(tmp_path):
    train_architecture(student(), taught_task(), WeightSchedule(1, 8), tmp_path, 0, verify=False)
    record = json.loads((tmp_path / "teacher.json").read_text())
    assert record["name"] == "teacher" and record["metrics"]["acer"]["value"] is not None and record["parameters"] > 0


def test_a_taught_training_that_is_resumed_ends_as_if_it_had_not_stopped(tmp_path, monkeypatch):
    schedule = WeightSchedule(3, 8, 1e-3, optimizer="adamw")
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    train_architecture(student(), taught_task(), schedule, tmp_path / "whole", 0, verify=False)
    original = TrainingLog.on_train_epoch_end

    def kill(self, trainer, module):
        original(self, trainer, module)
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingLog, "on_train_epoch_end", kill)
    with pytest.raises(KeyboardInterrupt):
        train_architecture(student(), taught_task(), schedule, tmp_path / "killed", 0, verify=False)
    monkeypatch.undo()
    train_architecture(student(), taught_task(), schedule, tmp_path / "killed", 0, verify=False, resume=True)
    whole, killed = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "killed"))
    assert whole == killed


def test_recognition_is_guided_by_a_teachers_embedding():
    options = {"image_size": 32, "channels": 16, "repeats": [[1], [1], [1]], "embeddings": [16], "expansions": [2]}
    data = striped_data(pictures=4)
    taught = tasks.BUILDERS["recognition"](build_space("airface", **options), data, {})
    taught.teaching = build_teaching("timm:mobilenetv3_small_050:random", {}, taught, build_space("airface", **options))
    module = DistilledModule(taught, WeightSchedule(1, 4))
    module.set_model(build_space("airface", **options).random().train())
    pictures, labels = next(iter(taught.loader(data.splits["train"], 4, 0)))
    step = module.step((pictures, labels))
    step["loss"].backward()
    assert module.head is not None and module.head.weight.grad is not None


def test_detectors_learn_the_second_shots_scores():
    imitation = Detection.imitation
    own, taught = torch.randn(2, 2, 30, 6), torch.randn(2, 30, 6)
    expected = soft_logits_loss(own[:, 1, :, :2].flatten(0, 1), taught[:, :, :2].flatten(0, 1), 2.0)
    assert torch.allclose(imitation(None, own, taught, 2.0), expected)  # type: ignore[arg-type]
    assert Detection.can_imitate(None, own, taught) and not Detection.can_imitate(None, own, taught[:, :9])  # type: ignore[arg-type]


def test_distillation_without_a_teacher_is_refused(monkeypatch):
    monkeypatch.setattr(tasks, "build_dataset", lambda *a, **k: texture_data(size=36))
    space = build_space("hatfas", **STUDENT)
    options = {"data": "portraits", "supervision": "cross_entropy"}
    with pytest.raises(ConfigError, match="--teacher"):
        tasks.build_task(space, {**options, "distillation": {"alpha": 1}})
    judging = tasks.build_task(space, {**options, "teacher": "nowhere", "distillation": {"alpha": 1}}, judging=True)
    assert judging.teaching is None
