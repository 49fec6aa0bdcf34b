"""NNI's experiment in Python on our spaces, with its own strategies and ours, stopped and resumed."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import warnings

import nni
import numpy as np
import pytest
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.evaluator.pytorch import Classification, DataLoader
from nni.nas.experiment.config import NasExperimentConfig
from nni.nas.strategy import GridSearch, Random, RegularizedEvolution
from nni.nas.strategy.evolution import Individual
from torch.utils.data import TensorDataset

from searchspaces import Architecture, build_space, list_spaces
from searchspaces.errors import ConfigError, RunFolderError
from strategies import Evolution, RandomSearch
from strategies.nni_compat import TPE, NasExperiment, TunerStrategy, decode, encode
from strategies.nsga2 import NSGA2Tuner

from ..evaluators.test_training import write_folder
from ..small_spaces import SMALL

warnings.filterwarnings("ignore", category=UserWarning, module="nni")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """NNI keeps a list of experiments in the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def parameters_of(model):
    """An evaluator: fewer parameters are better."""
    nni.report_intermediate_result(0.0)
    nni.report_final_result(-float(sum(p.numel() for p in model.parameters())))


def experiment(home, space, strategy, trials=4, evaluate=parameters_of, **options):
    config = NasExperimentConfig("sequential", "simplified", "local")
    config.max_trial_number, config.experiment_working_directory = trials, str(home / "experiments")
    evaluator = evaluate if not callable(evaluate) else FunctionalEvaluator(evaluate)
    return NasExperiment(space, evaluator, strategy, config, **options)


STRATEGIES = {
    "Random": lambda: Random(seed=0),
    "GridSearch": GridSearch,
    "RegularizedEvolution": lambda: RegularizedEvolution(population_size=2, sample_size=2, seed=0),
    "TPE": lambda: TPE(seed=0),
    "our RandomSearch": lambda: RandomSearch(max_candidates=4, seed=0),
    "our Evolution": lambda: Evolution(max_candidates=4, population=2, tournament=2, seed=0),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", list_spaces())
def test_every_strategy_that_trains_candidates_runs_on_every_space(name, strategy, home):
    made = experiment(home, build_space(name, **SMALL[name]), STRATEGIES[strategy]())
    made.run()
    best, second = made.export_top_models(2, formatter="dict")
    made.stop()
    networks = [Architecture(name, SMALL[name], choices).build() for choices in (best, second)]
    sizes = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert sizes[0] <= sizes[1] and len(made.results) == 4
    assert -sizes[0] == max(result["metric"] for result in made.results)


def test_tpe_learns_to_maximise(home):
    """Fewer parameters are better: after its random start it proposes smaller networks."""
    from nni.nas.nn.pytorch import LayerChoice, ModelSpace

    class Choice(ModelSpace):
        def __init__(self):
            super().__init__()
            sizes = {name: torch.nn.Linear(1, size) for size, name in enumerate("abcdefgh", 1)}
            self.layers = torch.nn.ModuleList(LayerChoice(sizes, label=label) for label in "xyz")

    made = experiment(home, Choice(), TPE(seed=0, tpe_args={"n_startup_jobs": 10}), trials=40)
    made.run()
    made.stop()
    found = [result["metric"] for result in made.results]
    assert sum(found[10:]) / 30 > max(sum(found[:10]) / 10, -30)  # of 6 to 48 parameters


def test_a_tuner_is_a_strategy(home):
    tuner = NSGA2Tuner(costs=["macs"], population_size=3, optimize_mode="maximize", seed=0)

    def evaluate(model):
        count = float(sum(p.numel() for p in model.parameters()))
        nni.report_final_result({"default": 1 / count, "macs": count})

    made = experiment(home, build_space("pta", **SMALL["pta"]), TunerStrategy(tuner), trials=8, evaluate=evaluate)
    made.run()
    made.stop()
    assert len({json.dumps(result["choices"]) for result in made.results}) == 8
    assert len(tuner.front()) == 1  # the smallest network is best in both


def test_a_failed_candidate_is_recorded_and_passed_over(home):
    calls = []

    def evaluate(model):
        calls.append(model)
        if len(calls) == 2:
            raise ValueError("no memory")
        parameters_of(model)

    made = experiment(home, build_space("pta", **SMALL["pta"]), Random(seed=0), evaluate=evaluate)
    made.config.execution_engine.continue_on_failure = True
    made.run()
    assert [result["status"] for result in made.results] == ["trained", "failed", "trained", "trained"]
    assert len(made.export_top_models(9, formatter="instance")) == 3
    made.stop()


def lightning(epochs=2):
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8) % 2)
    loader = DataLoader(data, batch_size=4)
    return Classification(
        train_dataloaders=loader, val_dataloaders=loader, num_classes=2, max_epochs=epochs, enable_progress_bar=False,
        enable_model_summary=False, logger=False, enable_checkpointing=False, accelerator="cpu",
    )  # fmt: skip


def test_a_lightning_evaluator_trains_every_candidate_anew(home):
    evaluator = lightning()
    made = experiment(home, build_space("pta", **SMALL["pta"]), Random(seed=0), trials=3, evaluate=evaluator)
    made.run()
    made.stop()
    assert [result["status"] for result in made.results] == ["trained"] * 3
    assert all(0 <= result["metric"] <= 1 for result in made.results)
    assert evaluator.trainer.current_epoch == 0  # the given one was never used


RUN = """
    import os, sys, signal, warnings
    warnings.simplefilter("ignore")
    import nni
    from nni.nas.evaluator import FunctionalEvaluator
    from nni.nas.experiment.config import NasExperimentConfig
    from nni.nas.strategy import Random, RegularizedEvolution
    from searchspaces import build_space
    from strategies import Evolution
    from strategies.nni_compat import TPE, NasExperiment

    name, folder, dies_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
    tried = 0

    def evaluate(model):
        global tried
        tried += 1
        if tried == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        nni.report_final_result(-float(sum(p.numel() for p in model.parameters())))

    strategy = {
        "random": lambda: Random(seed=3),
        "evolution": lambda: RegularizedEvolution(population_size=3, sample_size=2, seed=3),
        "ours": lambda: Evolution(population=3, tournament=2, max_candidates=9, seed=3),
        "tpe": lambda: TPE(seed=3),
    }[name]()
    config = NasExperimentConfig("sequential", "simplified", "local")
    config.max_trial_number, config.experiment_working_directory = 9, folder
    space = build_space("autofas", channels=4, layout="RN", image_size=20)
    experiment = NasExperiment(space, FunctionalEvaluator(evaluate), strategy, config, id="search")
    experiment.run_or_resume()
    experiment.stop()
    print(tried)
"""


def run_process(folder, strategy, dies_at=0):
    command = [sys.executable, "-c", textwrap.dedent(RUN), strategy, str(folder), str(dies_at)]
    done = subprocess.run(command, capture_output=True, text=True)
    results = folder / "search" / "results.json"
    return done, json.loads(results.read_text()) if results.exists() else []


@pytest.mark.parametrize("strategy", ["evolution", "tpe"])
def test_a_search_that_was_killed_goes_on_with_all_that_it_knew(strategy, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "whole"))
    whole, expected = run_process(tmp_path / "whole", strategy)
    assert whole.returncode == 0 and len(expected) == 9, whole.stderr[-2000:]
    monkeypatch.setenv("HOME", str(tmp_path / "parts"))
    killed, first = run_process(tmp_path / "parts", strategy, dies_at=6)
    assert killed.returncode == -9 and first == expected[:5]
    resumed, results = run_process(tmp_path / "parts", strategy)
    assert resumed.returncode == 0 and results[:5] == first and len(results) == 9, resumed.stderr[-2000:]
    assert int(resumed.stdout.split()[-1]) == 4
    assert len({json.dumps(result["choices"]) for result in results}) == 9
    if strategy == "evolution":  # TPE keeps its generator to itself, so it goes on with other draws
        assert results == expected


def test_a_state_that_is_missing_or_damaged_is_named(home):
    made = experiment(home, build_space("pta", **SMALL["pta"]), Random(seed=0), id="one")
    made.run()
    made.stop()
    state = home / "experiments" / "one" / "checkpoint" / "state.ckpt.json"
    text = state.read_text()
    for damage, message in ((text[:50], "not valid JSON"), ("{}", "damaged"), (None, "cannot go on")):
        state.unlink() if damage is None else state.write_text(damage)
        again = experiment(home, build_space("pta", **SMALL["pta"]), Random(seed=0), id="one")
        with pytest.raises(RunFolderError, match=message):
            again.resume()
        again.stop()
        assert not state.exists() if damage is None else state.read_text() == damage  # nothing was written over it


def test_states_survive_json():
    random = np.random.RandomState(3)
    state = {
        "random": random.get_state(),
        "population": [Individual({"a": [0, 1]}, {"default": 0.5})],
        "history": {("a", frozenset({1, 2}))},
        3: None,
    }
    again = decode(json.loads(json.dumps(encode(state))))
    assert again["population"] == state["population"] and again["history"] == state["history"] and again[3] is None
    other = np.random.RandomState(0)
    other.set_state(again["random"])
    assert other.randint(1000) == random.randint(1000)
    with pytest.raises(ConfigError, match="Linear"):
        encode({"a": torch.nn.Linear(1, 1)})


def test_a_raw_grid_is_refused_before_it_fails():
    with pytest.raises(ConfigError, match="simplified"):
        config = NasExperimentConfig("sequential", "raw", "local")
        NasExperiment(build_space("pta"), FunctionalEvaluator(parameters_of), GridSearch(), config)


ONE_SHOT = """
    import json, os, sys, signal, warnings
    warnings.simplefilter("ignore")
    import pytorch_lightning as pl
    import torch
    torch.set_num_threads(1)
    from evaluators.task import WeightSchedule
    from evaluators.tasks import build_task
    from searchspaces import build_space
    from strategies import DARTS, CollapseGuard
    from strategies.nni_compat import NasExperiment

    class Dies(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, number):
            if trainer.current_epoch == dies_at and number == 1:
                os.kill(os.getpid(), signal.SIGKILL)

    pictures, dies_at = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(0)
    space = build_space("autofas", channels=4, layout="RN", image_size=20)
    settings = {"data": "folder", "data_root": pictures, "supervision": "pixel", "augmentation": "crop"}
    task = build_task(space, settings, progress=False)
    evaluator = task.search_evaluator(WeightSchedule(4, 3), 0, callbacks=[Dies()], accelerator="cpu")
    strategy = DARTS(guard=CollapseGuard("off"))
    experiment = NasExperiment(space, evaluator, strategy, id="one")
    experiment.config.experiment_working_directory = os.environ["HOME"]
    experiment.run_or_resume()
    (choices,) = experiment.export_top_models(formatter="dict")
    alphas = [p.tolist() for p in strategy.oneshot_module.arch_parameters()]
    weights = sum(p.detach().double().sum().item() for p in strategy.supernet.parameters())
    experiment.stop()
    print(json.dumps([choices, alphas, weights, len(strategy.oneshot_module.history)]))
"""


def test_a_one_shot_search_in_python_that_was_killed_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    pictures = write_folder(tmp_path / "pictures")

    def run(home, dies_at):
        (tmp_path / home).mkdir(exist_ok=True)
        monkeypatch.setenv("HOME", str(tmp_path / home))
        command = [sys.executable, "-c", textwrap.dedent(ONE_SHOT), str(pictures), str(dies_at)]
        return subprocess.run(command, capture_output=True, text=True)

    whole = run("whole", -1)
    assert whole.returncode == 0, whole.stderr[-2000:]
    assert run("parts", 2).returncode == -9
    resumed = run("parts", -1)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    expected, found = (json.loads(done.stdout.splitlines()[-1]) for done in (whole, resumed))
    assert found == expected and found[-1] == 4
