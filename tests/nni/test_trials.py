"""Trials of an experiment: one network of a space, or a whole search."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import facenas.trial
from evaluators.nni_trial import _metric
from evaluators.recipes import find_recipe
from evaluators.task import WeightSchedule
from evaluators.tasks import build_task
from evaluators.trial import CandidateTrial, candidate_seed
from facenas.__main__ import main as command
from facenas.options import DartsOptions, PCDartsOptions
from facenas.trial import run_trial, with_parameters
from reports.__main__ import trials_of
from searchspaces import Architecture, build_space
from searchspaces.errors import ConfigError, UnknownNameError
from searchspaces.nni_space import to_search_space
from searchspaces.processes import child_environment

from ..evaluators.test_training import write_folder
from ..facenas.test_pipeline import TINY
from ..small_spaces import SMALL

PYTHON = f"{sys.executable} -W ignore"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("pictures"))


def test_a_trial_trains_the_network_that_the_tuner_chose(experiments, pictures):
    """As random search would train it in this process: the same error, the same cost."""
    options = json.dumps(SMALL["pta"])
    command = (
        f"{PYTHON} -m evaluators.trial --space pta --space-options '{options}' --data folder --data-root {pictures}"
    )
    port = experiments.create(
        experiments.config(
            searchSpace=to_search_space(build_space("pta", **SMALL["pta"])),
            trialCommand=f"{command} --epochs 2 --accelerator cpu",
            tuner={"name": "Random", "classArgs": {"seed": 1}},
            trialConcurrency=2,
            maxTrialNumber=2,
        )
    )
    recipe = find_recipe("pta", "quick", "folder")
    for trial in experiments.wait(port):
        assert trial["result"], experiments.logs()
        architecture = Architecture("pta", SMALL["pta"], trial["parameters"])
        settings = {"data": "folder", "data_root": str(pictures), "people": None, "augmentation": recipe.augmentation}
        settings["supervision"] = recipe.supervision
        task = build_task(architecture.model_space(), settings, progress=False)
        schedule = WeightSchedule(
            2, recipe.search_batch, recipe.search_learning_rate, weight_decay=recipe.weight_decay,
            optimizer=recipe.optimizer, decay=recipe.decay, gradient_clip=recipe.gradient_clip,
        )  # fmt: skip
        judged = CandidateTrial(task, schedule, 0, accelerator="cpu").judge(
            architecture.build(), candidate_seed(0, architecture.choices)
        )
        result = trial["result"]
        assert result["default"] == pytest.approx(1 - judged["default"]) and result["macs"] == judged["macs"]
        assert result["parameters"] == sum(p.numel() for p in architecture.build().parameters())
        assert 0 < result["milliseconds"] < 1000
        saved = experiments.folder.rglob(f"trials/{trial['trialJobId']}/architecture.json")
        assert Architecture.load(next(saved)) == architecture
    points = experiments.ask(port, "metric-data")
    assert sum(point["type"] == "PERIODICAL" for point in points) == 4


def test_a_search_is_a_trial_with_curves_and_a_run_folder(experiments, pictures):
    options = " ".join(f"'{word}'" if word.startswith("{") else word for word in TINY)
    port = experiments.create(
        experiments.config(
            searchSpace={
                "strategy": {"_type": "choice", "_value": ["darts", "random_search"]},
                "seed": {"_type": "choice", "_value": [3]},
            },
            trialCommand=f"{PYTHON} -m facenas search --space autofas --data folder --data-root {pictures} {options}",
            trialConcurrency=2,
            maxTrialNumber=2,
        )
    )
    trials = experiments.wait(port, seconds=180)
    experiment = experiments.folder / "experiments" / experiments.identity(port)
    runs = {run.name.split("-")[1]: run for run in trials_of(experiment)}
    assert set(runs) == {"darts", "random_search"}, experiments.logs()
    for trial in trials:
        run, result = runs[trial["parameters"]["strategy"]], trial["result"]
        assert run.name == f"autofas-{trial['parameters']['strategy']}-3-{trial['trialJobId']}"
        metrics, cost = (json.loads((run / name).read_text()) for name in ("metrics.json", "cost.json"))
        assert result["default"] == result["error"] == metrics["acer"]["value"]
        assert result["macs"] == cost["operations"]["mac"] and result["milliseconds"] > 0
        assert not (run / "baseline").exists() and (run / "report.html").exists()
    darts = next(trial["trialJobId"] for trial in trials if trial["parameters"]["strategy"] == "darts")
    points = [point for point in experiments.ask(port, "metric-data") if point["trialJobId"] == darts]
    assert sorted(point["sequence"] for point in points if point["type"] == "PERIODICAL") == [0, 1, 2]
    assert command(["report", str(experiment), "--out", str(experiments.folder / "all.html")]) == 0


@pytest.fixture
def as_trial(monkeypatch, tmp_path):
    """This process as a trial with given parameters; what it reports."""
    told = {"epochs": [], "results": [], "parameters": {}}
    monkeypatch.setattr(facenas.trial, "next_parameters", lambda: dict(told["parameters"]))
    monkeypatch.setattr(facenas.trial, "output_folder", lambda: tmp_path)
    monkeypatch.setattr(facenas.trial, "trial_name", lambda: "abc")
    monkeypatch.setattr(facenas.trial, "report_epoch", lambda row, default: told["epochs"].append((default, row)))
    monkeypatch.setattr(facenas.trial, "report_result", lambda row, default: told["results"].append((default, row)))
    return told


def test_a_search_that_is_started_again_goes_on_in_its_folder(as_trial, pictures, tmp_path, monkeypatch):
    from searchspaces.cli import parse_command

    options = DartsOptions(**parse_command(DartsOptions, [*TINY, "--data", "folder", "--data-root", str(pictures)]))
    as_trial["parameters"] = {"seed": 4, "search_learning_rate": 0.03}
    stop = facenas.trial.report_epoch

    def die(row, default):
        stop(row, default)
        raise KeyboardInterrupt

    monkeypatch.setattr(facenas.trial, "report_epoch", die)
    assert run_trial("darts", options) == 130 and not as_trial["results"]
    monkeypatch.setattr(facenas.trial, "report_epoch", stop)
    assert run_trial("darts", options) == 0
    config = (tmp_path / "autofas-darts-4-abc" / "config.yaml").read_text()
    assert "seed: 4" in config and "search_learning_rate: 0.03" in config
    ((default, result),) = as_trial["results"]
    assert default == result["error"]
    assert run_trial("darts", options) == 0 and as_trial["results"][1] == as_trial["results"][0]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sed": 1}, "'sed' is no option of the search 'darts'. Did you mean 'seed'"),
        ({"out": "x"}, "'out' is no option"),
        ({"search_epochs": "many"}, "search_epochs.*many"),
        ({"strategy": "pc_darts"}, "say strategy 'pc_darts', the command 'darts'"),
        ({"partial_channels": 2}, "'partial_channels' is no option of the search 'darts'"),
    ],
)
def test_parameters_that_are_no_options_are_named(parameters, message):
    with pytest.raises(ConfigError, match=message):
        with_parameters("darts", DartsOptions(), parameters)


def test_parameters_come_before_the_command_line():
    options = with_parameters("pc_darts", PCDartsOptions(seed=1, search_epochs=4), {"seed": 2, "strategy": "pc_darts"})
    assert (options.seed, options.search_epochs) == (2, 4)


def test_a_strategy_is_named_by_the_command_or_the_parameters(as_trial):
    with pytest.raises(ConfigError, match="Name a strategy"):
        facenas.trial.trial_strategy()
    as_trial["parameters"] = {"strategy": "dart"}
    with pytest.raises(UnknownNameError, match="Did you mean 'darts'"):
        facenas.trial.trial_strategy()


def test_a_metric_holds_finite_numbers_alone():
    figures = {"a": 1, "b": float("nan"), "c": "text", "d": True, "e": None}
    assert _metric(figures, 0.5) == {"a": 1.0, "default": 0.5}


def test_the_trial_command_is_for_trials(capsys):
    from evaluators.trial_command import main
    from searchspaces.cli import run_command

    assert run_command(main, ["--space", "pta"]) == 2
    assert "is a trial of an NNI experiment" in capsys.readouterr().err


def test_an_experiment_without_runs_has_no_report(tmp_path):
    (tmp_path / "environments").mkdir()
    with pytest.raises(ConfigError, match="No trial of the experiment"):
        trials_of(tmp_path)
    assert trials_of(tmp_path / "run") == [tmp_path / "run"]


def test_on_services_that_pass_files_a_trial_reads_its_own(tmp_path):
    """As on Kubernetes, where NNI gives each trial a file in place of an address."""
    (tmp_path / "parameter.cfg").write_text('{"parameter_id": 5, "parameters": {"x": 7}, "parameter_index": 0}')
    names = {"NNI_PLATFORM": "local", "NNI_TRIAL_JOB_ID": "abc", "NNI_TRIAL_SEQ_ID": "0", "NNI_EXP_ID": "e"}
    places = dict.fromkeys(("NNI_SYS_DIR", "NNI_OUTPUT_DIR"), str(tmp_path))
    code = "from evaluators.nni_trial import *; report_result(next_parameters(), 0.5)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**child_environment(), **names, **places})
    metrics = (tmp_path / ".nni" / "metrics").read_text()
    assert '"parameter_id": 5' in metrics and '\\"x\\": 7.0' in metrics.replace("\\\\", "\\")
