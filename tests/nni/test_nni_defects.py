"""What NNI 3.0 does wrong, on NNI's own classes. A test that fails here says that NNI is mended, and names what of ours
may go. (That trials get each other's parameters and that the manager listens everywhere is in test_nnictl.)"""

from __future__ import annotations

import pickle

import nni
import pytest
import torch
from nni.mutable import Categorical
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.evaluator.pytorch import Classification, DataLoader
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment
from nni.nas.experiment.config import NasExperimentConfig
from nni.nas.nn.pytorch import Cell, LayerChoice, ModelSpace
from nni.nas.space import RawFormatModelSpace, SimplifiedModelSpace
from nni.nas.strategy import DARTS, TPE, GridSearch, Random, RegularizedEvolution
from nni.nas.utils.serializer import TorchSerializer
from nni.runtime.tuner_command_channel import TunerCommandChannel
from nni.runtime.tuner_command_channel.command_type import CommandType
from torch import nn
from torch.utils.data import TensorDataset

from searchspaces import build_space
from strategies.nni_compat import ResumableChannel

from ..small_spaces import SMALL


class Layers(ModelSpace):
    def __init__(self, choices=2):
        super().__init__()
        self.layers = nn.Sequential(
            *[LayerChoice([nn.Linear(4, 4), nn.Identity()], label=f"layer_{i}") for i in range(choices)]
        )

    def forward(self, x):
        return self.layers(x)


class WithCell(ModelSpace):
    def __init__(self):
        super().__init__()
        operations = {"conv": lambda *ignored: nn.Conv2d(3, 3, 1), "none": lambda *ignored: nn.Identity()}
        self.cell = Cell(operations, num_nodes=1, num_ops_per_node=1, num_predecessors=1, label="cell")

    def forward(self, x):
        return self.cell(x)


def evaluate(model):
    nni.report_final_result(1.0)


def run(space, strategy, evaluator=None, form=SimplifiedModelSpace, **engine):
    evaluator = evaluator or FunctionalEvaluator(evaluate)
    strategy(form.from_model(space, evaluator), SequentialExecutionEngine(**engine))
    return strategy


def test_b2_states_cannot_be_read_back(tmp_path):
    """`nni_compat.JsonState` may go."""
    strategy = RegularizedEvolution(population_size=2, sample_size=1)
    run(Layers(), strategy, max_model_count=2)
    TorchSerializer().save(strategy.state_dict(), tmp_path / "state")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        TorchSerializer().load(tmp_path / "state")


@pytest.mark.parametrize("channel", [TunerCommandChannel, ResumableChannel])
def test_b3_a_resume_breaks_the_channel(channel):
    """`nni_compat.ResumableChannel` may go."""
    made = channel("ws://localhost:1/tuner")
    commands = iter([{"type": CommandType.ImportData.value, "content": "[]"}, {"type": "TE", "content": ""}])
    made._channel.receive = lambda: next(commands)
    if channel is TunerCommandChannel:
        with pytest.raises(ValueError, match="Unknown command type"):
            made.receive()
    else:
        assert made.receive().command_type == CommandType.Terminate


def test_b4_the_state_is_not_saved_while_the_search_runs(tmp_path, monkeypatch):
    """`nni_compat.NasExperiment.save_checkpoint` may go."""
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = []

    def watch(model):
        (state,) = tmp_path.rglob("state.ckpt*")
        seen.append(torch.load(state, weights_only=False)["strategy"]["individual_counter"])
        nni.report_final_result(1.0)

    config = NasExperimentConfig("sequential", "simplified", "local")
    config.max_trial_number, config.experiment_working_directory = 3, str(tmp_path)
    strategy = RegularizedEvolution(population_size=2, sample_size=1, dedup=False)
    made = NasExperiment(Layers(), FunctionalEvaluator(watch), strategy, config)
    made.run()
    made.stop()
    assert seen == [0, 0, 0]


def supernet(space):
    strategy = DARTS()
    strategy.initialize(RawFormatModelSpace.from_model(space, lightning(4)), SequentialExecutionEngine())
    strategy.oneshot_module.set_model(strategy.supernet)
    return strategy


def test_b5_architecture_parameters_have_no_order():
    """Ours have that of the supernet; `bilevel.BilevelModule.arch_parameters` may go."""
    strategy = supernet(Layers(choices=40))
    wanted = [p for module in strategy.supernet.modules() for p in getattr(module, "arch_parameters", list)()]
    found = strategy.oneshot_module.arch_parameters()
    assert {id(p) for p in found} == {id(p) for p in wanted} and [id(p) for p in found] != [id(p) for p in wanted]


def test_b6_what_penalties_are_computed_from_has_no_gradient():
    """`strategies.cost` may use NNI's penalty."""
    probabilities = supernet(Layers()).oneshot_module.export_probs()
    values = [value for choice in probabilities.values() for value in choice.values()]
    assert values and all(isinstance(value, float) for value in values)


def test_b7_a_cell_may_choose_none():
    """`supernet.MixedCell` never does; NNI's supernet cell might be used then."""
    strategy = supernet(WithCell())
    for module in strategy.supernet.modules():
        for alpha in getattr(module, "_arch_alpha", {}).values():
            with torch.no_grad():
                alpha.copy_(torch.tensor([0.0, 5.0, 0.0][: len(alpha)]))  # conv, none, NNI's own
    assert "none" in strategy.oneshot_module.export().values()


def test_tuners_do_not_know_cells():
    """`nni_compat.TunerStrategy` may go."""
    with pytest.raises(NotImplementedError, match="as_legacy_dict"):
        run(build_space("autofas", **SMALL["autofas"]), TPE(), max_model_count=1)


def test_tpe_minimises_what_strategies_maximise():
    """`nni_compat.TPE` may go."""
    assert TPE().tuner.optimize_mode.value == "minimize"


def test_a_grid_cannot_freeze_a_raw_space():
    """The check in `nni_compat.NasExperiment` may go."""
    with pytest.raises(Exception, match="missing from sample"):
        run(build_space("pta", **SMALL["pta"]), GridSearch(), form=RawFormatModelSpace, max_model_count=1)


def lightning(features=3):
    data = TensorDataset(torch.randn(4, features), torch.arange(4) % 2)
    loader = DataLoader(data, batch_size=2)
    return Classification(
        train_dataloaders=loader, val_dataloaders=loader, num_classes=2, max_epochs=1, enable_progress_bar=False,
        enable_model_summary=False, logger=False, enable_checkpointing=False, accelerator="cpu",
    )  # fmt: skip


def test_a_lightning_evaluator_trains_one_candidate_only():
    """`nni_compat.FreshLightning` may go."""

    class Classifier(ModelSpace):
        def __init__(self):
            super().__init__()
            self.layer = LayerChoice([nn.Linear(3, 2), nn.Linear(3, 2, bias=False)], label="layer")

        def forward(self, x):
            return self.layer(x)

    with pytest.raises(KeyError, match="val_acc"):
        run(Classifier(), Random(seed=0), lightning(), max_model_count=2)


def test_the_sequential_engine_keeps_the_parameters_of_its_last_candidate():
    """`nni_trial.Trial` may use NNI's functions, if this is None."""
    run(Layers(), Random(seed=0), max_model_count=1)
    assert nni.get_current_parameter() is not None
    nni.trial._params = None


def test_a_number_has_no_form_in_search_spaces():
    """`nni_space` may ask NNI for the form of every decision."""
    from nni.mutable import CategoricalMultiple, Numerical

    assert Categorical([1, 2], label="a").as_legacy_dict()["_type"] == "choice"
    for mutable in (Numerical(0, 1, label="a"), CategoricalMultiple([1, 2], n_chosen=1, label="a")):
        with pytest.raises(NotImplementedError):
            mutable.as_legacy_dict()
