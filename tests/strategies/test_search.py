"""Searches run under NNI and by hand, end in the space, repeat with a seed, and resume where they stood."""

from __future__ import annotations

import math

import nni
import pytest
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.evaluator.pytorch import Lightning, Trainer
from nni.nas.evaluator.pytorch.lightning import ClassificationModule, DataLoader
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment
from nni.nas.experiment.config import NasExperimentConfig
from nni.nas.space import RawFormatModelSpace
from torch import nn

from evaluators.antispoofing import AntiSpoofing
from evaluators.checkpoint import latest_checkpoint
from evaluators.task import WeightSchedule
from evaluators.trial import CandidateTrial, candidate_key
from searchspaces import Architecture, build_space
from searchspaces.autofas import AutoFas
from searchspaces.errors import ConfigError, DivergenceError
from strategies import DARTS, PCDARTS, CollapseGuard, Evolution, RandomSearch
from strategies.record import CandidateLog, SearchLog

from ..faces import texture_data

OPTIONS = {"channels": 8, "layout": "RN", "image_size": 20, "nodes": 2}
SCHEDULE = WeightSchedule(epochs=3, batch_size=8, learning_rate=0.05)
OFF = CollapseGuard("off")  # these small cells are soon all skips
STRATEGIES = {
    "first": lambda: DARTS(guard=OFF),
    "second": lambda: DARTS(order="second", guard=OFF),
    "partial": lambda: PCDARTS(warmup_epochs=1, guard=OFF),
}


@pytest.fixture(scope="module")
def task():
    return AntiSpoofing(texture_data(), image_size=20)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """NNI writes experiments to the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


class StopAfter(SearchLog):
    """Kills the search at the start of an epoch."""

    last = 1

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.last:
            raise InterruptedError("killed")
        super().on_train_epoch_start(trainer, pl_module)


def search(task, strategy, folder=None, *, seed=0, log_class=SearchLog, resume=False, schedule=SCHEDULE):
    """A one-shot search as the commands run it; returns the strategy."""
    torch.manual_seed(seed)
    log = log_class(folder, seed, lambda choices: 1) if folder else None
    options = {"callbacks": [log], "enable_checkpointing": True} if log else {}
    evaluator = task.search_evaluator(schedule, seed, accelerator="cpu", **options)
    space = RawFormatModelSpace.from_model(build_space("autofas", **OPTIONS), evaluator)
    strategy.initialize(space, SequentialExecutionEngine())
    if resume:
        fit_kwargs = strategy._mutated_model_space.evaluator.fit_kwargs
        fit_kwargs.update(ckpt_path=str(latest_checkpoint(folder / "checkpoint" / "search")), weights_only=True)
    strategy.run()
    return strategy


def state(strategy):
    """Everything that a search ends with."""
    module = strategy.oneshot_module
    optimizers = [list(o.state_dict()["state"].values()) for o in module.trainer.optimizers]
    return dict(module.state_dict()), optimizers


def assert_equal(first, second):
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        first, second = list(first.values()), list(second.values())
    if isinstance(first, list | tuple):
        for a, b in zip(first, second, strict=True):
            assert_equal(a, b)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


@pytest.mark.parametrize("name", STRATEGIES)
def test_nnis_experiment_runs_the_strategy(task, name, tmp_path):
    config = NasExperimentConfig("sequential", "raw", "local")
    config.experiment_working_directory = tmp_path
    evaluator = task.search_evaluator(SCHEDULE, 0, accelerator="cpu")
    experiment = NasExperiment(build_space("autofas", **OPTIONS), evaluator, STRATEGIES[name](), config)
    experiment.run()
    (choices,) = experiment.export_top_models(formatter="dict")
    architecture = Architecture("autofas", OPTIONS, choices)
    assert "none" not in architecture.choices.values()
    (network,) = experiment.export_top_models(formatter="instance")
    assert network(torch.zeros(2, 3, 20, 20)).shape == (2, 1, 10, 10)
    experiment.stop()


@pytest.mark.parametrize("name", STRATEGIES)
def test_same_seed_same_result_and_another_seed_another(task, name):
    first, second = (search(task, STRATEGIES[name]()) for _ in range(2))
    assert_equal(state(first), state(second))
    other = search(task, STRATEGIES[name](), seed=1)
    assert any(not torch.equal(a, b) for a, b in zip(state(first)[0].values(), state(other)[0].values(), strict=True))


@pytest.mark.parametrize("name", STRATEGIES)
def test_killed_search_resumes_equal_to_one_that_never_stopped(task, name, tmp_path):
    whole = search(task, STRATEGIES[name](), tmp_path / "whole")
    with pytest.raises(InterruptedError):
        search(task, STRATEGIES[name](), tmp_path / "cut", log_class=StopAfter)
    torch.rand(7)  # another process would have another generator state
    resumed = search(task, STRATEGIES[name](), tmp_path / "cut", resume=True)
    assert_equal(state(whole), state(resumed))
    for file in ("architectures.jsonl", "search.csv"):
        texts = [(tmp_path / run / file).read_text().splitlines() for run in ("whole", "cut")]
        assert len(texts[0]) == len(texts[1])
    histories = [strategy.oneshot_module.history for strategy in (whole, resumed)]
    assert [h["choices"] for h in histories[0]] == [h["choices"] for h in histories[1]]
    assert [h["epoch"] for h in histories[1]] == [0, 1, 2]


def test_architecture_parameters_are_saved_and_restored_by_name(task, tmp_path):
    search(task, PCDARTS(warmup_epochs=1), tmp_path)
    saved = torch.load(latest_checkpoint(tmp_path / "checkpoint" / "search"), weights_only=True)
    names = {"alpha/reduce", "beta/reduce", "alpha/normal", "beta/normal"}
    assert saved["arch_parameters"].keys() == names
    assert set(saved["optimizer_states"][1]["param_groups"][0]["param_names"]) == names
    with pytest.raises(ConfigError, match="architecture parameters"):  # a search with other parameters refuses it
        search(task, DARTS(), tmp_path, resume=True)


def test_damaged_checkpoint_is_replaced_by_the_one_before(task, tmp_path, capsys):
    search(task, DARTS(), tmp_path)
    last = tmp_path / "checkpoint" / "search" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    assert latest_checkpoint(tmp_path / "checkpoint" / "search").name == "previous.ckpt"
    assert "damaged" in capsys.readouterr().err
    assert not last.exists() and last.with_name("last.ckpt.damaged").exists()


def test_warmup_leaves_the_architecture_alone(task, tmp_path):
    with pytest.raises(InterruptedError):  # stopped at the end of the warm-up
        search(task, strategy := PCDARTS(warmup_epochs=1), tmp_path, log_class=StopAfter)
    start = strategy.oneshot_module
    torch.manual_seed(0)
    fresh = PCDARTS(warmup_epochs=1)
    evaluator = task.search_evaluator(SCHEDULE, 0, accelerator="cpu")
    fresh.initialize(
        RawFormatModelSpace.from_model(build_space("autofas", **OPTIONS), evaluator), SequentialExecutionEngine()
    )
    for name, parameter in fresh.oneshot_module.named_arch_parameters().items():
        assert torch.equal(parameter, start.named_arch_parameters()[name])
    assert "val_loss" not in start.history[0]["statistics"]


def test_guard_returns_the_last_healthy_epoch(task):
    class Collapsed(CollapseGuard):
        calls = 0

        def judge(self, choices, probabilities):
            type(self).calls += 1
            return (True, "collapsed") if self.calls == 2 else (False, None)

    module = search(task, DARTS(guard=Collapsed())).oneshot_module
    assert [record["epoch"] for record in module.history] == [0, 1]  # the third epoch is not run
    assert module.result()["epoch"] == 0 and module.export() == module.history[0]["choices"]


def test_a_warmup_as_long_as_the_search_is_refused(task):
    with pytest.raises(ConfigError, match="nothing would be searched"):
        search(task, PCDARTS())  # 12 epochs of warm-up by default, and the search has 3


def test_a_loss_that_is_not_finite_stops_with_epoch_and_batch(task):
    class Broken(AntiSpoofing):
        def loss(self, outputs, labels):
            return super().loss(outputs, labels) * math.nan

    with pytest.raises(DivergenceError, match="epoch 0, batch 0"):
        search(Broken(task.data, 20), DARTS())


def test_lightning_evaluators_of_nni_work_too(tmp_path):
    """A space and an evaluator that know nothing of this package's tasks."""

    class Pooled(AutoFas):
        def forward(self, x):
            return super().forward(x).mean((2, 3)).repeat(1, 2) * torch.tensor([1.0, -1.0])

    data = [(torch.randn(3, 20, 20), index % 2) for index in range(16)]

    def run(strategy):
        evaluator = Lightning(
            ClassificationModule(nn.CrossEntropyLoss, learning_rate=0.01, num_classes=2),
            Trainer(
                max_epochs=1, logger=False, enable_progress_bar=False, enable_checkpointing=False, accelerator="cpu"
            ),
            train_dataloaders=DataLoader(data, batch_size=4),
            val_dataloaders=DataLoader(data, batch_size=4),
        )
        config = NasExperimentConfig("sequential", "raw", "local")
        config.experiment_working_directory = tmp_path
        experiment = NasExperiment(Pooled(**OPTIONS), evaluator, strategy, config)
        try:
            experiment.run()
            return experiment.export_top_models(formatter="dict")[0]
        finally:
            experiment.stop()

    assert Architecture("autofas", OPTIONS, run(DARTS()))
    with pytest.raises(ConfigError, match="order=first"):  # its optimizer is Adam, which has no step to unroll
        run(DARTS(order="second"))


def random_search(task, folder, stop_after=None, strategy=None):
    log = CandidateLog(folder)
    finished = log.restore()

    def add(choices, metrics, seconds):
        if len(log.entries) == stop_after:
            raise InterruptedError("killed")
        log.add(choices, metrics, seconds)

    trial = CandidateTrial(task, WeightSchedule(1, 8), 0, finished=finished, on_result=add, accelerator="cpu")
    strategy = strategy or RandomSearch(max_candidates=4, seed=0)
    strategy(
        RawFormatModelSpace.from_model(build_space("autofas", **OPTIONS), trial.evaluator()),
        SequentialExecutionEngine(),
    )
    return strategy, log


def evolution():
    return Evolution(population=3, tournament=2, mutation=0.2, max_candidates=8, seed=0)


def test_evolution_changes_copies_of_good_candidates_and_resumes_equal(task, tmp_path):
    _, whole = random_search(task, tmp_path / "whole", strategy=evolution())
    with pytest.raises(InterruptedError):
        random_search(task, tmp_path / "cut", stop_after=5, strategy=evolution())
    resumed, log = random_search(task, tmp_path / "cut", strategy=evolution())
    assert [(e["choices"], e["metrics"]) for e in log.entries] == [(e["choices"], e["metrics"]) for e in whole.entries]
    assert resumed.candidates == len(log.entries) == 8
    choices = [entry["choices"] for entry in log.entries]
    changed = [
        [sum(child[label] != member[label] for label in child) for member in choices[max(0, n - 3) : n]]
        for n, child in enumerate(choices)
    ]
    assert all(1 <= min(row) <= 6 for row in changed[3:])  # of 12 labels, each drawn anew with probability 0.2
    assert len({candidate_key(choice) for choice in choices}) == 8


@pytest.mark.parametrize("options", [{"tournament": 9}, {"mutation": 0.0}, {"tournament": 0}])
def test_wrong_evolution(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Evolution(**options)


def test_random_search_resumes_with_the_finished_candidates(task, tmp_path):
    whole, whole_log = random_search(task, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        random_search(task, tmp_path / "cut", stop_after=2)
    resumed, log = random_search(task, tmp_path / "cut")
    assert [(e["choices"], e["metrics"]) for e in log.entries] == [
        (e["choices"], e["metrics"]) for e in whole_log.entries
    ]
    best = [next(iter(strategy.list_models(limit=1))) for strategy in (whole, resumed)]
    assert best[0].sample == best[1].sample
    assert best[0].metric == max(entry["metrics"]["val_auc"] for entry in log.entries)
    assert whole.spent == resumed.spent > 0


def test_random_search_spends_its_budget_and_not_a_candidate_more(task):
    trial = CandidateTrial(task, WeightSchedule(1, 8), 0, accelerator="cpu")
    strategy = RandomSearch(budget_macs=1e8, seed=0)
    strategy(
        RawFormatModelSpace.from_model(build_space("autofas", **OPTIONS), trial.evaluator()),
        SequentialExecutionEngine(),
    )
    costs = [result["macs_spent"] for result in trial.finished.values()]
    assert sum(costs) == strategy.spent >= 1e8 > sum(costs) - max(costs)


def test_a_candidates_result_depends_on_its_choices_and_the_seed_only(task):
    sample = {}
    space = build_space("autofas", **OPTIONS)
    space.random(memo=sample)
    trial = CandidateTrial(task, WeightSchedule(1, 8), 0, accelerator="cpu")
    results = [trial.judge(space.freeze(sample), seed=5) for _ in range(2)]
    assert results[0] == results[1]
    assert candidate_key(sample) == candidate_key(dict(reversed(sample.items())))


def test_a_candidate_pays_for_every_pass_when_the_batch_is_larger_than_the_half(task):
    space = build_space("autofas", **OPTIONS)
    sample = {}
    space.random(memo=sample)
    train, val = task.search_halves(0)
    result = CandidateTrial(task, WeightSchedule(2, 500), 0, accelerator="cpu").judge(space.freeze(sample), seed=1)
    assert result["macs_spent"] == result["macs"] * (3 * 2 * len(train) + len(val))


def test_a_budget_needs_an_evaluator_that_reports_the_cost():
    space = RawFormatModelSpace.from_model(
        build_space("autofas", **OPTIONS), FunctionalEvaluator(report_nothing_but_a_number)
    )
    with pytest.raises(ConfigError, match="macs_spent"):
        RandomSearch(budget_macs=1.0)(space, SequentialExecutionEngine())


def report_nothing_but_a_number(model):
    nni.report_final_result(0.5)


def test_random_search_runs_in_nnis_experiment(task, tmp_path):
    config = NasExperimentConfig("sequential", "raw", "local")
    config.experiment_working_directory = tmp_path
    trial = CandidateTrial(task, WeightSchedule(1, 8), 0, accelerator="cpu")
    experiment = NasExperiment(
        build_space("autofas", **OPTIONS), trial.evaluator(), RandomSearch(max_candidates=2, seed=1), config
    )
    experiment.run()
    models = experiment.export_top_models(top_k=2, formatter="dict")
    assert len(models) == 2 and all(Architecture("autofas", OPTIONS, choices) for choices in models)
    experiment.stop()
