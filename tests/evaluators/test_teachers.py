"""Teachers from run folders, timm and ONNX files, and those that are refused before training."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from evaluators import tasks
from evaluators.distillation import Distillation, Teaching, build_teaching, end_networks
from evaluators.teachers import Teacher, load_teacher
from hardware.runtimes import onnxruntime
from searchspaces import Architecture, build_space
from searchspaces.errors import ConfigError, UnknownNameError
from tests.evaluators.test_distillation import STUDENT, student, task
from tests.evaluators.test_recognition import striped_data

AIRFACE = {"image_size": 32, "channels": 16, "repeats": [[1], [1], [1]], "embeddings": [8, 16], "expansions": [2]}


def own_run(folder, architecture):
    """A run folder with random weights."""
    architecture.save(folder / "architecture.json")
    save_file(architecture.build(seed=5).state_dict(), folder / "weights.safetensors")
    return folder


def test_a_run_teaches_and_stays_as_it_is(tmp_path):
    architecture = student(128, 4)
    teacher = load_teacher(str(own_run(tmp_path, architecture)), (3, 32, 32), 2)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = architecture.build(weights=tmp_path / "weights.safetensors").eval()(x)
        assert torch.allclose(teacher.train()(x), expected, atol=1e-6)
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    assert teacher.parameter_count == sum(p.numel() for p in architecture.build().parameters()) and teacher.sha256


def test_a_model_of_timm_sees_pictures_as_it_was_trained_to(tmp_path):
    model = timm.create_model("mobilenetv3_small_050", num_classes=2).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save({"model": model.state_dict()}, tmp_path / "w.pth")
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = model((x - mean) / std)
        for file in ("w.safetensors", "w.pth"):
            teacher = load_teacher(f"timm:mobilenetv3_small_050:{tmp_path / file}", (3, 32, 32), 5)
            assert torch.allclose(teacher(2 * x - 1), expected, atol=1e-4)


def test_an_onnx_file_teaches_as_its_network_does(tmp_path):
    network = student().build(seed=0).eval()
    path = onnxruntime.export(network, (3, 32, 32), tmp_path / "t.onnx")
    teacher = load_teacher(str(path), (3, 32, 32), 2)
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(teacher(x), network(x), atol=1e-4)
    assert task().metrics(teacher)["acer"]["value"] is not None
    with pytest.raises(ConfigError, match="the student"):
        load_teacher(str(path), (3, 48, 48), 2)


def test_teachers_that_do_not_fit_are_refused_before_training(tmp_path):
    space = build_space("hatfas", **STUDENT)
    own_run(tmp_path, Architecture("hatfas", {**STUDENT, "image_size": 48}, dict(student().choices)))
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    torch.save({"a": nn.Linear(1, 1)}, tmp_path / "code.pth")
    for text, message in (
        (str(tmp_path), "image_size"),
        ("nowhere", "is no teacher"),
        ("nowhere.onnx", "There is no teacher"),
        (str(tmp_path / "bad.onnx"), "Cannot read the teacher"),
        ("timm:mobilenetv3_small_050", "no weights"),
        (f"timm:mobilenetv3_small_050:{tmp_path / 'bad.safetensors'}", "Cannot read the .*weights"),
        (f"timm:mobilenetv3_small_050:{tmp_path / 'code.pth'}", "Cannot read the .*weights"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_teaching(text, {}, task(), space)
    with pytest.raises(UnknownNameError, match="mobilenetv3_small_050"):
        build_teaching("timm:mobilenetv3_smal_050:random", {}, task(), space)


def test_a_teacher_with_other_classes_or_other_outputs_is_refused(tmp_path):
    space = build_space("hatfas", **STUDENT)
    own_run(tmp_path, Architecture("hatfas", {**STUDENT, "classes": 3}, dict(student().choices)))
    with pytest.raises(ConfigError, match=r"\(2, 3\), the student \(2, 2\)"):
        build_teaching(str(tmp_path), {}, task(), space)

    class Broken(nn.Module):
        def forward(self, x):
            return torch.full((len(x), 2), float("nan"))

    with pytest.raises(ConfigError, match="no finite outputs"):
        Teaching(Teacher(Broken(), "broken", None), Distillation()).check(task(), student().build())


# ---- who is to be taught


def test_the_ends_of_a_space_are_its_smallest_and_largest_network():
    small, large = end_networks(build_space("hatfas", **STUDENT))
    assert [network.vit.embed_dim for network in (small, large)] == [64, 128]
    assert [len(network.vit.blocks) for network in (small, large)] == [2, 4]
    alone = student().build()
    assert end_networks(alone) == [alone]
    again = [network.state_dict().keys() for network in end_networks(build_space("autofas"))]
    assert again == [network.state_dict().keys() for network in end_networks(build_space("autofas"))]


def test_a_teacher_that_only_some_networks_of_a_space_can_learn_from_is_always_refused():
    space = build_space("airface", **AIRFACE)
    recognition = tasks.BUILDERS["recognition"](space, striped_data(pictures=4), {})
    for _ in range(6):  # it once depended on a network drawn at random
        with pytest.raises(ConfigError, match="embeddings must have one length"):
            build_teaching("timm:mobilenetv3_small_050:random", {}, recognition, space)
    shallow = build_space("hatfas", **STUDENT)
    with pytest.raises(ConfigError, match="student has blocks 0 to 1"):
        build_teaching("timm:deit_tiny_patch16_224:random", {"layers": [[3, 3]]}, task(), shallow)


@pytest.mark.parametrize("length", [8, 16])
def test_only_the_network_that_is_trained_has_to_fit(length, monkeypatch):
    """Of a space with embeddings of two lengths."""
    monkeypatch.setattr(tasks, "build_dataset", lambda *_, **__: striped_data(pictures=4))
    space = build_space("airface", **AIRFACE)
    choices = {label: choice.values[0] for label, choice in space.simplify().items()} | {"embedding": length}
    options = {"data": "striped", "teacher": "timm:mobilenetv3_small_050:random"}
    found = tasks.build_task(space, options, student=Architecture("airface", AIRFACE, choices))
    assert found.teaching.teacher(torch.zeros(2, 3, 32, 32)).shape == (2, length)
