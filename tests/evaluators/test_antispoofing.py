"""Cross-entropy supervision, outputs that do not fit, and options that reach the task."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from evaluators import tasks
from evaluators.antispoofing import AntiSpoofing
from searchspaces.errors import ConfigError

from ..faces import texture_data


@pytest.fixture(scope="module")
def data():
    return texture_data()


def test_the_score_of_two_logits_is_the_softmax_of_live(data):
    task = AntiSpoofing(data, 20, "cross_entropy")
    outputs = torch.tensor([[1.0, 3.0], [2.0, -1.0]])
    expected = [math.exp(3) / (math.exp(1) + math.exp(3)), math.exp(-1) / (math.exp(2) + math.exp(-1))]
    assert task.scores(outputs).tolist() == pytest.approx(expected)
    assert (
        task.accuracy(outputs, torch.tensor([1.0, 0.0])) == 1
        and task.accuracy(outputs, torch.tensor([0.0, 0.0])) == 0.5
    )
    loss = task.loss(outputs, torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx(-(math.log(expected[0]) + math.log(1 - expected[1])) / 2)


@pytest.mark.parametrize(
    ("supervision", "shape", "message"),
    [
        ("pixel", (4, 2), r"'pixel' needs a map .* shape \(4, 2\): set supervision to cross_entropy, or choose"),
        ("binary", (4, 2), r"'binary' needs a map .* shape \(4, 2\): set supervision to cross_entropy, or choose"),
        (
            "cross_entropy",
            (4, 1, 7, 7),
            r"needs two logits .* shape \(4, 1, 7, 7\): set supervision to pixel or binary",
        ),
        ("cross_entropy", (4, 3), r"shape \(4, 3\): choose a space whose networks give two logits"),
        ("pixel", (4, 2, 7, 7), r"shape \(4, 2, 7, 7\): choose a space whose networks give a map"),
    ],
)
def test_outputs_that_do_not_fit_the_supervision_are_refused(data, supervision, shape, message):
    task = AntiSpoofing(data, 20, supervision)
    for judge in (task.scores, lambda outputs: task.loss(outputs, torch.ones(4))):
        with pytest.raises(ConfigError, match=message):
            judge(torch.zeros(shape))


def test_metrics_of_a_network_with_two_logits(data):
    class TwoLogits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            texture = (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3)) * self.weight  # live faces have a fine texture
            return torch.stack([0.3 - texture, texture], dim=1)

    metrics = AntiSpoofing(data, 20, "cross_entropy").metrics(TwoLogits())
    assert metrics["auc"]["value"] == 1.0 and metrics["acer"]["value"] == 0.0


def test_options_of_a_run_reach_the_task(data, monkeypatch):
    monkeypatch.setattr(tasks, "build_dataset", lambda *args, **options: data)
    space = SimpleNamespace(input_size=(3, 20, 20))
    plain = tasks.build_task(space, {"data": "any"})
    assert (plain.supervision, plain.augmentation) == ("pixel", "crop")
    chosen = tasks.build_task(
        SimpleNamespace(input_size=(3, 20, 20)),
        {"data": "any", "supervision": "cross_entropy", "augmentation": "colour"},
    )
    assert (chosen.supervision, chosen.augmentation) == ("cross_entropy", "colour")
