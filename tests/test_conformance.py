"""The suites for third parties: our strategies and tasks pass them, and wrong ones fail with a hint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.strategy import RegularizedEvolution
from torch import nn

from evaluators.antispoofing import AntiSpoofing
from evaluators.datasets.detection import DetectionData
from evaluators.detection import Detection
from evaluators.recognition import Recognition
from facenas.testing import SpaceTestCase, StrategyTestCase, TaskTestCase, striped_faces
from searchspaces import Architecture, build_space
from searchspaces.sampling import random_choices
from strategies import DARTS, PCDARTS, Evolution, GumbelSinglePath, RandomSearch, SinglePath

from .evaluators.test_detection import squares
from .evaluators.test_recognition import striped_data
from .small_spaces import SMALL

STRATEGIES = {
    "Darts": DARTS,
    "PcDarts": lambda: PCDARTS(warmup_epochs=1),
    "Gumbel": GumbelSinglePath,
    "SinglePath": lambda: SinglePath(seed=0),
    "Evolution": lambda: Evolution(population=2, tournament=2, max_candidates=3, seed=0),
    "RandomSearch": lambda: RandomSearch(max_candidates=3, seed=0),
    "OfNni": lambda: RegularizedEvolution(population_size=2, sample_size=2, seed=0),
}


def _case(name: str, make) -> type:
    return type(f"Test{name}", (StrategyTestCase,), {"make_strategy": lambda self: make()})


globals().update({case.__name__: case for case in (_case(*item) for item in STRATEGIES.items())})


def network_of(space):
    choices = random_choices(build_space(space, **SMALL[space]), np.random.RandomState(0))
    return Architecture(space, SMALL[space], choices).build()


class TestAntiSpoofing(TaskTestCase):
    def make_task(self):
        return AntiSpoofing(striped_faces(36), image_size=32, supervision="cross_entropy")

    def make_network(self):
        """Small enough to learn in ten epochs of a few pictures, whatever weights it begins with; pta is not."""
        torch.manual_seed(0)
        seen = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4))
        return nn.Sequential(seen, nn.Flatten(), nn.Linear(128, 2))


class TestAntiSpoofingOfMaps(TaskTestCase):
    def make_task(self):
        return AntiSpoofing(striped_faces(40), image_size=36)

    def make_network(self):
        return network_of("autofas")


class TestRecognition(TaskTestCase):
    def make_task(self):
        return Recognition(striped_data(), 32, 32)

    def make_network(self):
        return network_of("airface")


class TestDetection(TaskTestCase):
    def make_task(self):
        whole = squares(number=24, groups=8).splits["train"]
        parts = {"train": range(4), "val": range(4, 6), "test": range(6, 8)}  # no group in two splits
        splits = {
            name: whole.subset(np.isin(whole.groups, [f"group {group}" for group in groups]))
            for name, groups in parts.items()
        }
        return Detection(DetectionData("squares", splits, 80, {"name": "squares"}), 64, network_of("asfd").levels)

    def make_network(self):
        return network_of("asfd")


# ---- what is wrong is found, and the message says what to do


class Faulty(ModelSpace):
    def __init__(self, faults: str = ""):
        super().__init__()
        if "size" not in faults:
            self.input_size = (3, 8, 8)
        candidates = [nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 5, padding=1)]
        self.layer = LayerChoice(candidates, label=f"layer_{torch.rand(1)}" if "labels" in faults else "layer")
        self.idle = nn.Linear(1, 1) if "idle" in faults else nn.Identity()
        self.faults = faults

    def forward(self, x):
        x = self.layer(x).mean((2, 3))
        return (
            x + torch.rand(1) if "random" in self.faults else x if "branch" not in self.faults else x * float(x.max())
        )


@pytest.mark.parametrize(
    ("faults", "test", "words"),
    [
        ("size", "a_network_takes_pictures_of_its_input_size", "input_size is None"),
        ("labels", "labels_are_the_same_in_every_process", "label of its own"),
        ("idle", "every_parameter_of_a_network_learns", "idle"),
        ("random", "a_network_survives_its_file", "torch's own generator"),
        ("branch", "a_network_is_exported_and_equal_in_the_runtime", "not exported"),
    ],
)
def test_a_faulty_space_fails(faults, test, words):
    class Case(SpaceTestCase):
        space, options = f"{__name__}:Faulty", {"faults": faults}

    with pytest.raises(AssertionError, match=words):
        getattr(Case(), f"test_{test}")()
    Case.options = {}
    getattr(Case(), f"test_{test}")()


class Careless(RandomSearch):
    """Draws from numpy's global generator, which nobody seeds, and has a state that is no JSON."""

    def random(self, model_space):
        self._random_state = np.random
        return super().random(model_space)

    def state_dict(self):
        return {"space": self.model_space}

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize(
    ("test", "words"),
    [("equal_seeds_give_equal_results", "draw from"), ("its_state_can_be_saved_and_loaded", "could not be resumed")],
)
def test_a_faulty_strategy_fails(test, words):
    class Case(StrategyTestCase):
        def make_strategy(self):
            return Careless(max_candidates=2)

    with pytest.raises(AssertionError, match=words):
        getattr(Case(), f"test_{test}")()


class Forgetful(AntiSpoofing):
    """A task with mistakes, of which a test names one."""

    fault = ""

    def losses(self, outputs, targets):
        losses = super().losses(outputs, targets)
        return {"loss": losses["loss"] * {"nan": float("nan"), "flat": 0.0}.get(self.fault, 1.0)}

    def search_halves(self, seed):
        first, second = super().search_halves(seed)
        return (first, self.data.splits["train"]) if self.fault == "halves" else (first, second)

    def predict(self, network, split, batch_size=32):
        found = super().predict(network, split, batch_size)
        if self.fault == "mode":
            network.eval()
        return found

    def figures(self, outputs, split):
        return {} if self.fault == "figures" else super().figures(outputs, split)

    def metrics(self, network, split="test", val_outputs=None):
        metrics = super().metrics(network, split, val_outputs)
        return {"acer": {**metrics["acer"], "low": 2.0}} if self.fault == "interval" else metrics

    def check(self, network):
        if self.fault != "check":
            super().check(network)


@pytest.mark.parametrize(
    ("fault", "test", "words"),
    [
        ("nan", "the_loss_is_finite_and_has_a_gradient", "finite scalar"),
        ("flat", "the_loss_is_finite_and_has_a_gradient", "gradient is 0"),
        ("halves", "search_halves_are_disjoint_and_cover_the_training_split", "in one of them"),
        ("mode", "predictions_change_nothing", "restore the network's mode"),
        ("figures", "figures_are_numbers_and_have_the_objective", "lacks 'auc'"),
        ("interval", "metrics_are_fractions_within_their_intervals", "acer is"),
        ("check", "networks_of_other_outputs_are_refused", "cannot judge"),
    ],
)
def test_a_faulty_task_fails(fault, test, words):
    class Case(TestAntiSpoofing):
        def make_task(self):
            task = Forgetful(striped_faces(36), image_size=32, supervision="cross_entropy")
            task.fault = fault
            return task

    with pytest.raises(AssertionError, match=words):
        getattr(Case(), f"test_{test}")()


def test_a_person_in_two_splits_is_found():
    class Case(TestAntiSpoofing):
        def make_task(self):
            data = striped_faces(36)
            data.splits["test"] = data.splits["val"]
            return AntiSpoofing(data, image_size=32, supervision="cross_entropy")

    with pytest.raises(AssertionError, match="are in val and test"):
        Case().test_splits_share_neither_people_nor_pictures()
