"""The suites for third parties: our strategies and tasks pass them, and wrong ones do not."""

from __future__ import annotations

import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.strategy import RegularizedEvolution
from torch import nn

from evaluators.antispoofing import AntiSpoofing
from facenas.testing import SpaceTestCase, StrategyTestCase, TaskTestCase
from facenas.testing.data import striped_faces
from strategies import DARTS, PCDARTS, CollapseGuard, Evolution, GumbelSinglePath, RandomSearch, SinglePath

OFF = CollapseGuard("off")
STRATEGIES = {
    "Darts": lambda: DARTS(guard=OFF),
    "PcDarts": lambda: PCDARTS(guard=OFF, warmup_epochs=1),
    "Gumbel": lambda: GumbelSinglePath(guard=OFF),
    "SinglePath": lambda: SinglePath(seed=0),
    "Evolution": lambda: Evolution(population=2, tournament=2, max_candidates=4, seed=0),
    "RandomSearch": lambda: RandomSearch(max_candidates=4, seed=0),
    "OfNni": lambda: RegularizedEvolution(population_size=2, sample_size=2, seed=0),
}


def _case(name: str, make) -> type:
    return type(f"Test{name}", (StrategyTestCase,), {"make_strategy": lambda self: make()})


globals().update({case.__name__: case for case in (_case(*item) for item in STRATEGIES.items())})


class TestAntiSpoofing(TaskTestCase):
    def make_task(self):
        return AntiSpoofing(striped_faces(24), image_size=24)

    def make_network(self):
        return nn.Sequential(nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 1))


class Layers(ModelSpace):
    """A space with every mistake that a test names."""

    def __init__(self, **options):
        super().__init__()
        self.layer = LayerChoice([nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 3, padding=1)], label="layer")
        self.idle = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.layer(x)


class Wrong(SpaceTestCase):
    space = f"{__name__}:Layers"
    __test__ = False


@pytest.mark.parametrize("test", ["test_it_says_what_pictures_it_takes", "test_a_network_can_be_drawn"])
def test_a_space_that_lacks_something_fails_its_test(test):
    with pytest.raises((AssertionError, AttributeError)):
        getattr(Wrong(), test)()


class WithSize(Wrong):
    def make_space(self):
        space = super().make_space()
        space.input_size = (3, 8, 8)
        return space


def test_a_space_that_does_something_wrong_fails_with_a_hint():
    with pytest.raises(AssertionError, match="idle"):
        WithSize().test_every_parameter_of_a_network_learns()


class Forgetful(AntiSpoofing):
    """A task with mistakes."""

    def losses(self, outputs, targets):
        return {"loss": super().losses(outputs, targets)["loss"] * float("nan")}

    def check(self, network):
        pass


@pytest.mark.parametrize(
    "test", ["test_the_loss_is_finite_and_has_a_gradient", "test_a_network_of_other_outputs_is_refused"]
)
def test_a_task_that_does_something_wrong_fails_its_test(test):
    class Case(TestAntiSpoofing):
        def make_task(self):
            return Forgetful(striped_faces(24), image_size=24)

    with pytest.raises(AssertionError):
        getattr(Case(), test)()
