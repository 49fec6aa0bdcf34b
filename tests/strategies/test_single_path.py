"""Sampled single paths: drawn as the table says, unused weights untouched, resumed bit for bit, judged from one set of
weights; and the other strategies on PTA's branches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment
from nni.nas.experiment.config import NasExperimentConfig
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import RawFormatModelSpace
from torch import nn

from evaluators.antispoofing import AntiSpoofing
from evaluators.checkpoint import latest_checkpoint
from evaluators.configurations import best_row, judge, judge_configurations, recalibrated
from evaluators.task import WeightSchedule
from searchspaces import Architecture, build_space
from searchspaces.errors import ConfigError, DivergenceError
from searchspaces.pta import SAMPLING, MutableBlock, choices_of, configuration_of
from searchspaces.sampling import random_choices
from strategies import DARTS, PCDARTS, CollapseGuard, GumbelSinglePath, SinglePath
from strategies.branches import MODES, MixedBlock
from strategies.gumbel import GumbelBlock, gumbel_index, straight_through_weight
from strategies.paths import SampledCell, run_path
from strategies.record import PathLog, best_epoch
from strategies.single_path import check_table

from ..faces import texture_data

PTA = {"width": 0.1, "image_size": 32}
AUTOFAS = {"channels": 8, "layout": "RN", "image_size": 32, "nodes": 2}
SCHEDULE = WeightSchedule(epochs=3, batch_size=6, learning_rate=1e-2, optimizer="adam", weight_decay=0.0)


@pytest.fixture(scope="module")
def task():
    return AntiSpoofing(texture_data(size=36), image_size=32, supervision="cross_entropy")


@pytest.fixture(scope="module")
def map_task():
    return AntiSpoofing(texture_data(size=36), image_size=32)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """NNI writes experiments to the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def search(task, strategy, folder=None, *, space="pta", options=PTA, log=None, resume=False, schedule=SCHEDULE):
    """A search as the commands run it; returns the strategy."""
    torch.manual_seed(0)
    log = log or (PathLog(folder, 0, names=list(SAMPLING)) if folder else None)
    trainer = {"callbacks": [log], "enable_checkpointing": True} if log else {}
    evaluator = task.search_evaluator(schedule, 0, accelerator="cpu", **trainer)
    strategy.initialize(
        RawFormatModelSpace.from_model(build_space(space, **options), evaluator), SequentialExecutionEngine()
    )
    if resume:
        fit_kwargs = strategy._mutated_model_space.evaluator.fit_kwargs
        fit_kwargs.update(ckpt_path=str(latest_checkpoint(log.folder)), weights_only=True)
    strategy.run()
    return strategy


# ---- what is drawn


def test_configurations_are_drawn_as_table_2_says():
    strategy = SinglePath(seed=3)
    space = strategy.mutate_model(build_space("pta", **PTA))
    module = strategy.configure_oneshot_module(nn.Identity())
    assert isinstance(space.blocks[0], MutableBlock)  # nothing was replaced: names of weights stay
    draws = [configuration_of(module.draw(epoch, batch)) for epoch in range(20) for batch in range(100)]
    assert set(draws) == set(SAMPLING)
    for configuration, probability in SAMPLING.items():  # four standard deviations of a share of 2000 draws
        tolerance = 4 * math.sqrt(probability * (1 - probability) / len(draws))
        assert abs(draws.count(configuration) / len(draws) - probability) < tolerance
    again = SinglePath(seed=3)
    again.mutate_model(build_space("pta", **PTA))
    other = again.configure_oneshot_module(nn.Identity())
    assert [configuration_of(other.draw(7, b)) for b in range(50)] == draws[700:750]


def test_uniform_sampling_draws_every_configuration_alike(task):
    strategy = SinglePath(uniform=True)
    space = strategy.mutate_model(build_space("pta", **PTA))
    training = nn.Module()
    training.model = space
    module = strategy.configure_oneshot_module(training)
    draws = [configuration_of(module.draw(0, batch)) for batch in range(2700)]
    shares = np.array([draws.count(configuration) for configuration in set(draws)])
    assert len(shares) == 27 and abs(shares - 100).max() < 45  # 4.5 standard deviations


@pytest.mark.parametrize(
    ("probabilities", "words"),
    [({}, "at least one"), ({"HHH": -0.5, "LLL": 1.5}, "from 0 to 1"), ({"HHH": 0.5}, "add up to 0.5")],
)
def test_wrong_tables(probabilities, words):
    space = build_space("pta", **PTA)
    with pytest.raises(ConfigError, match=words):
        check_table(space.sampling_table(probabilities))
    if probabilities:
        with pytest.raises(ConfigError, match=words):
            SinglePath(space.sampling_table(probabilities)).mutate_model(space)
        with pytest.raises(ConfigError, match="exclude each other"):
            SinglePath(space.sampling_table(probabilities), uniform=True)


# ---- what is trained


def test_branches_that_are_not_drawn_stay_as_they_were_bit_for_bit(task):
    torch.manual_seed(0)
    before = {k: v.clone() for k, v in build_space("pta", **PTA).state_dict().items()}
    table = [(choices_of("LHH"), 0.5), (choices_of("LLH"), 0.5)]  # block 1 light, block 3 heavy, always
    strategy = search(task, SinglePath(table))
    after = strategy.supernet.state_dict()
    untouched = ("features.9.heavy.", "features.13.light.")
    assert any(name.startswith(untouched) for name in before)
    for name, value in before.items():
        same = torch.equal(value, after[name])
        assert same if name.startswith(untouched) else not same, name
    (optimizer,) = strategy.oneshot_module.trainer.optimizers
    names = {id(p): name for name, p in strategy.supernet.named_parameters()}
    with_state = {names[id(p)] for p in optimizer.state}
    assert not any(name.startswith(untouched) for name in with_state)


def test_an_iteration_updates_only_the_path_that_was_drawn(task):
    """Adam would move a weight by its momentum even where the gradient is zero; without a gradient it must not."""
    seen = []

    class Watch(PathLog):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.before = {k: v.clone() for k, v in pl_module.model.named_parameters()}

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            drawn = pl_module.model.configuration
            moved = {k for k, v in pl_module.model.named_parameters() if not torch.equal(v, self.before[k])}
            seen.append(drawn)
            for index, letter in zip((9, 11, 13), drawn, strict=True):
                unused = {"L": "heavy", "H": "light"}[letter]
                assert not any(name.startswith(f"features.{index}.{unused}.") for name in moved)
                used = {"L": "light", "H": "heavy"}[letter]
                assert any(name.startswith(f"features.{index}.{used}.") for name in moved)

    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        table = [(choices_of("LLL"), 0.5), (choices_of("HHH"), 0.5)]
        search(task, SinglePath(table), log=Watch(Path(folder), 0))
    assert {"LLL", "HHH"} <= set(seen)


def test_killed_training_resumes_equal_to_one_that_never_stopped(task, tmp_path):
    class StopAfter(PathLog):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                raise InterruptedError("killed")
            super().on_train_epoch_start(trainer, pl_module)

    names = list(SAMPLING)
    whole = search(task, SinglePath(), tmp_path / "whole")
    with pytest.raises(InterruptedError):
        search(task, SinglePath(), log=StopAfter(tmp_path / "cut", 0, names=names))
    torch.rand(7)
    resumed = search(task, SinglePath(), tmp_path / "cut", resume=True)
    for name, value in whole.supernet.state_dict().items():
        assert torch.equal(value, resumed.supernet.state_dict()[name]), name
    histories = [strategy.oneshot_module.history for strategy in (whole, resumed)]
    assert [h["drawn"] for h in histories[0]] == [h["drawn"] for h in histories[1]]
    lines = [(tmp_path / run / "search.csv").read_text().splitlines() for run in ("whole", "cut")]
    assert len(lines[0]) == len(lines[1]) == 4
    assert lines[0][0] == lines[1][0] and "drawn_LLL" in lines[0][0]


def test_the_best_epochs_weights_are_kept(task, tmp_path):
    figures = iter(
        [
            {"eer": 0.3, "auc": 0.5, "loss": 1.0},
            {"eer": 0.1, "auc": 0.5, "loss": 1.0},
            {"eer": 0.1, "auc": 1.0, "loss": 2.0},
        ]
    )
    kept = []

    def validate(network):
        kept.append({k: v.clone() for k, v in network.state_dict().items()})
        return next(figures)

    log = PathLog(tmp_path, 0, validate, list(SAMPLING))
    search(task, SinglePath(), log=log)
    from safetensors.torch import load_file

    best = load_file(log.best_weights)
    assert all(torch.equal(best[name], kept[1][name]) for name in best)
    assert (
        best_epoch([{"epoch": e, "val_eer": v, "val_loss": x} for e, v, x in [(0, 0.2, 1), (1, 0.1, 3), (2, 0.1, 2)]])
        == 2
    )


def test_a_loss_that_is_not_finite_stops_with_epoch_and_batch(task):
    class Broken(AntiSpoofing):
        def loss(self, outputs, labels):
            return super().loss(outputs, labels) * math.nan

    with pytest.raises(DivergenceError, match="epoch 0, batch 0"):
        search(Broken(task.data, 32, "cross_entropy"), SinglePath())


def test_training_on_the_texture_reaches_all_configurations():
    """One set of weights serves several configurations: each tells the textures apart."""
    task = AntiSpoofing(texture_data(people=64, size=36), image_size=32, supervision="cross_entropy")
    schedule = WeightSchedule(epochs=30, batch_size=10, learning_rate=1e-2, optimizer="adam", weight_decay=0.0)
    table = [(choices_of("HHH"), 0.5), (choices_of("LLL"), 0.5)]
    network = search(task, SinglePath(table, seed=2), schedule=schedule).supernet
    rows = judge_configurations(network, task, ["HHH", "LLL", "BBB"], ["LLL"])
    assert [row["configuration"] for row in rows] == ["HHH", "LLL", "BBB"]
    assert rows[0]["val"]["auc"] > 0.8 and rows[1]["val"]["auc"] > 0.8
    assert rows[1]["recalibrated"]["val"]["auc"] > 0.8
    assert rows[0]["recalibrated"] is None
    assert {"acer", "apcer", "bpcer", "eer", "auc"} <= rows[2]["metrics"].keys()


# ---- on any space


def test_single_path_one_shot_on_cells(map_task):
    strategy = search(map_task, SinglePath(), space="autofas", options=AUTOFAS)
    supernet = strategy.supernet
    assert all(isinstance(cell, SampledCell) for cell in supernet.cells)
    random = np.random.RandomState(0)
    x = torch.randn(2, 3, 32, 32)
    supernet.eval()
    for _ in range(3):  # a path of the supernet is the frozen network with the supernet's weights
        choices = random_choices(supernet, random)
        run_path(supernet, choices)
        frozen = supernet.freeze(choices).eval()
        assert isinstance(Architecture("autofas", AUTOFAS, choices).build(), type(frozen))
        with torch.no_grad():
            torch.testing.assert_close(supernet(x), frozen(x))


def test_a_space_of_nnis_own_layers(tmp_path):
    class Layers(ModelSpace):
        def __init__(self):
            super().__init__()
            self.first = LayerChoice([nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 5, padding=1)], label="first")
            self.last = nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.first(x).mean((2, 3)))

    data = AntiSpoofing(texture_data(size=12), image_size=12, supervision="cross_entropy")
    config = NasExperimentConfig("sequential", "raw", "local")
    config.experiment_working_directory = tmp_path
    experiment = NasExperiment(Layers(), data.search_evaluator(SCHEDULE, 0, accelerator="cpu"), SinglePath(), config)
    experiment.run()
    (choices,) = experiment.export_top_models(formatter="dict")
    assert choices["first"] in (0, 1)
    experiment.stop()


# ---- judging


def test_recalibration_takes_the_statistics_of_the_split_and_gives_them_back(task):
    torch.manual_seed(0)
    network = build_space("pta", **PTA).configure("LHL").eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    train = task.data.splits["train"]
    stem = network.features[0]
    with recalibrated(network, task, train, batch_size=len(train)):
        from evaluators.batches import centre_crop, normalise

        pictures = normalise(centre_crop(train.images(np.arange(len(train))), 32))
        with torch.no_grad():
            outputs = stem[0](pictures)
        torch.testing.assert_close(stem[1].running_mean, outputs.mean((0, 2, 3)))
        torch.testing.assert_close(stem[1].running_var, outputs.var((0, 2, 3)))
        assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert stem[1].momentum == 0.1


def test_the_best_row_has_the_lowest_error_then_the_fewest_operations():
    rows = [{"val": {"eer": e}, "mac": m, "name": n} for e, m, n in [(0.2, 1, "a"), (0.1, 3, "b"), (0.1, 2, "c")]]
    assert best_row(rows)["name"] == "c"


def test_judging_leaves_the_network_as_it_was(task):
    network = build_space("pta", **PTA).configure("LHL")
    judge_configurations(network, task, ["HHH"], ["HHH"])
    assert network.configuration == "LHL"
    assert judge(network, task)["val"].keys() == {"loss", "eer", "auc"}


# ---- DARTS, PC-DARTS and Gumbel on branches


def test_a_mixed_block_is_the_weighted_sum_of_its_modes():
    torch.manual_seed(0)
    declared = MutableBlock(8, "block_1").eval()
    block = MixedBlock(declared).eval()
    block.alpha.data = torch.tensor([0.3, -1.0, 0.7])
    x = torch.randn(2, 8, 6, 6)
    modes = []
    for mode in MODES:
        declared.mode = mode
        modes.append(declared(x))
    expected = sum(p * m for p, m in zip(block.probabilities(), modes, strict=True))
    torch.testing.assert_close(block(x), expected)
    assert block.export({}) == {"block_1": "both"}
    assert sum(block.export_probs({})["block_1"].values()) == pytest.approx(1)


def test_the_gumbel_gradient_is_that_of_eq_5():
    """d L / d gamma_k = L <dL/dx, O(x)> p_i (delta_ki - p_k), against the formula written out, to 1e-6."""
    torch.manual_seed(1)
    block = GumbelBlock(MutableBlock(8, "block_1")).double().eval()
    block.alpha.data = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64)
    x, cotangent = torch.randn(2, 8, 6, 6).double(), torch.randn(2, 8, 6, 6).double()
    seen = set()
    for _ in range(100):
        block.alpha.grad = None
        output = block(x)
        (output * cotangent).sum().backward()
        index = MODES.index(block.mode)
        seen.add(block.mode)
        p = block.probabilities().detach()
        inner = (output.detach() * cotangent).sum()
        expected = torch.stack([3 * inner * p[index] * (float(k == index) - p[k]) for k in range(3)])
        torch.testing.assert_close(block.alpha.grad, expected, rtol=1e-6, atol=1e-9)
        block._declared[0].mode = block.mode
        torch.testing.assert_close(output, block._declared[0](x))  # the factor is exactly 1
    assert seen == set(MODES)


def test_gumbel_draws_with_the_softmax_probabilities():
    torch.manual_seed(0)
    gamma = torch.tensor([1.0, 0.0, -1.0])
    shares = np.bincount([gumbel_index(gamma) for _ in range(4000)], minlength=3) / 4000
    assert abs(shares - gamma.softmax(0).numpy()).max() < 0.03
    assert straight_through_weight(gamma, 1).item() == 1


@pytest.mark.parametrize("strategy_class", [DARTS, GumbelSinglePath])
def test_differentiable_strategies_choose_one_configuration(task, strategy_class):
    strategy = search(task, strategy_class(guard=CollapseGuard("off"), arc_learning_rate=0.1))
    module = strategy.oneshot_module
    assert list(module.named_arch_parameters()) == ["alpha/block_1", "alpha/block_2", "alpha/block_3"]
    assert all(parameter.abs().max() > 0.01 for parameter in module.arch_parameters())  # they have learnt
    choices = module.export()
    assert Architecture("pta", PTA, choices).build().configuration == configuration_of(choices)


def test_combinations_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="PC-DARTS needs cells"):
        PCDARTS().mutate_model(build_space("pta", **PTA))
    with pytest.raises(ConfigError, match="first order"):
        GumbelSinglePath(order="second")
