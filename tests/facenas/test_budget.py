"""Budgets on the command line: kept by every strategy's result, resumed equal, refused when nothing can keep them;
and the plan of a search."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pandas as pd
import pytest
import torch

from evaluators.antispoofing import AntiSpoofing
from facenas import plan, searches
from facenas.adaptive import AdaptiveStages
from facenas.budgets import (
    build_budget,
    is_this_device,
    latency_of,
    measured_on_budget,
    parse_amount,
    recorded_costs,
)
from facenas.checks import check_strategy_fits
from facenas.options import OPTIONS, resolve
from facenas.pipeline import search_command
from hardware import learn
from hardware.counters import count, count_parameters
from hardware.devices import load_profile
from searchspaces import Architecture
from searchspaces.console import Reporter
from searchspaces.errors import ConfigError
from strategies.record import SearchLog

from ..evaluators.test_training import write_folder
from ..faces import texture_data

SPACES = {
    "autofas": {"channels": 4, "layout": "RN", "image_size": 20, "nodes": 2},
    "pta": {"width": 0.1, "image_size": 32},
}
QUIET = Reporter(quiet=True)


@pytest.fixture(scope="module")
def tasks():
    return {
        "autofas": AntiSpoofing(texture_data(people=6), image_size=20),
        "pta": AntiSpoofing(texture_data(people=6, size=36), image_size=32, supervision="cross_entropy"),
    }


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """A command line for a folder of pictures."""
    pictures = write_folder(tmp_path_factory.mktemp("pictures"))
    sizes = ["--search-epochs", "2", "--search-batch", "6", "--train-epochs", "1", "--train-batch", "6"]
    return ["--data", "folder", "--data-root", str(pictures), *sizes, "--accelerator", "cpu", "--no-baseline"]


def options_of(strategy, space, **given):
    small = {"search_epochs": 2, "search_batch": 6, "train_epochs": 1, "train_batch": 6, "candidate_epochs": 1}
    fixed = {"accelerator": "cpu", "guard": "off", "baseline": False, "arc_learning_rate": 0.05}
    known = {field.name for field in fields(OPTIONS[strategy])}
    defaults = {name: value for name, value in {**small, **fixed}.items() if name in known}
    options = resolve(OPTIONS[strategy](space=space, **{"space_options": SPACES[space], **defaults, **given}))
    return replace(options, train_options={})


def search(strategy, options, task, folder):
    return searches.SEARCHES.get(strategy, searches.one_shot)(options, task, folder, QUIET)


def counted(options, choices):
    architecture = Architecture(options.space, options.space_options, choices)
    network, size = architecture.build(), architecture.input_size
    return {"macs": count(network, size), "parameters": count_parameters(network, size)["stored"]}


@pytest.mark.parametrize(
    ("space", "strategy", "more"),
    [
        ("autofas", "darts", {"cost_weight": 5.0}),
        ("autofas", "pc_darts", {"partial_channels": 2, "warmup_epochs": 0}),
        ("autofas", "random_search", {"max_candidates": 2}),
        ("autofas", "evolution", {"max_candidates": 4, "population": 2, "tournament": 1, "mutation": 0.5}),
        ("autofas", "single_path", {"judged_paths": 3}),
        ("pta", "gumbel", {}),
    ],
)
def test_the_result_keeps_its_budget(space, strategy, more, tasks, tmp_path):
    share = 70 if space == "autofas" else 92
    options = options_of(strategy, space, macs_budget=f"{share}%", params_budget="95%", **more)
    budget = build_budget(options)
    assert budget.limits["macs"] == pytest.approx(share / 100 * budget.table.range()["macs"][1])
    found = search(strategy, options, tasks[space], tmp_path)
    costs = counted(options, found.choices)
    assert all(costs[name] <= limit for name, limit in budget.limits.items())
    log = pd.read_csv(tmp_path / "search.csv")
    for name in ("macs", "parameters") if strategy in ("darts", "pc_darts", "gumbel") else ():
        smallest, largest = budget.table.range()[name]
        assert log[f"expected_{name}"].between(smallest, largest).all()
        assert (log["derived_macs"] <= budget.limits["macs"]).all()


def test_a_network_that_is_trained_once_is_selected_within_the_budget(tasks, tmp_path):
    options = options_of("single_path", "pta", macs_budget="92%", recalibrate="none", search_epochs=1)
    stages = AdaptiveStages("single_path", replace(options, out=str(tmp_path)), tmp_path, QUIET)
    choices = stages.search(tasks["pta"]).choices
    assert counted(options, choices)["macs"] <= build_budget(options).limits["macs"]
    recorded = stages.provenance["budget"]["macs"]
    assert recorded["result"] == counted(options, choices)["macs"] <= recorded["limit"]


def test_a_budget_that_is_never_felt_changes_nothing(tasks, tmp_path):
    logs = []
    for name, budget in (("without", None), ("with", "100%")):
        folder = tmp_path / name
        found = search("darts", options_of("darts", "autofas", macs_budget=budget), tasks["autofas"], folder)
        logs.append((found.choices, pd.read_csv(folder / "search.csv").drop(columns="seconds")))
    assert logs[0][0] == logs[1][0]
    pd.testing.assert_frame_equal(logs[0][1], logs[1][1])
    assert {"expected_macs", "expected_parameters"} <= set(logs[0][1])


class StopAfterOne(SearchLog):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise InterruptedError("killed")
        super().on_train_epoch_start(trainer, pl_module)


@pytest.mark.parametrize(("space", "strategy"), [("autofas", "darts"), ("pta", "gumbel")])
def test_a_resumed_search_with_a_budget_is_equal(space, strategy, tasks, tmp_path, monkeypatch):
    smallest, largest = build_budget(options_of(strategy, space, macs_budget="100%")).table.range()["macs"]
    options = options_of(strategy, space, macs_budget=f"{0.7 * smallest + 0.3 * largest:.0f}", cost_weight=3.0)
    whole = search(strategy, options, tasks[space], tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(searches, "SearchLog", StopAfterOne)
        with pytest.raises(InterruptedError):
            search(strategy, options, tasks[space], tmp_path / "cut")
    monkeypatch.setattr("facenas.budgets.TABLES", {})  # as in a new process
    torch.randn(5)
    resumed = search(strategy, replace(options, resume=True), tasks[space], tmp_path / "cut")
    assert resumed.choices == whole.choices
    logs = [pd.read_csv(tmp_path / name / "search.csv").drop(columns="seconds") for name in ("whole", "cut")]
    pd.testing.assert_frame_equal(*logs, check_exact=True)
    lines = [(tmp_path / name / "architectures.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    without_time = [[line.partition('"seconds"')[0] for line in each] for each in lines]
    assert without_time[0] == without_time[1]


def test_the_penalty_moves_the_search(tasks, tmp_path):
    expected = {}
    for budget in (None, "1.02"):
        options = options_of("darts", "autofas", cost_weight=20.0, search_epochs=4)
        if budget:
            smallest = build_budget(replace(options, macs_budget="100%")).table.range()["macs"][0]
            options = replace(options, macs_budget=f"{float(budget) * smallest:.0f}")
        search("darts", options, tasks["autofas"], tmp_path / str(budget))
        expected[budget] = pd.read_csv(tmp_path / str(budget) / "search.csv")["expected_macs"].tolist()
    assert expected["1.02"] == sorted(expected["1.02"], reverse=True)
    assert expected["1.02"][-1] < expected[None][-1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--macs-budget", "0"], "write a number above 0"),
        (["--macs-budget=-3M"], "write a number above 0"),
        (["--params-budget", "abc"], "write a number above 0"),
        (["--macs-budget", "120%"], "write a number above 0"),
        (["--macs-budget", "2e6 60%"], "write a number above 0"),
        (["--macs-budget", "10"], "the smallest has"),
        (["--latency-budget", "2"], "needs a device"),
        (["--latency-budget", "2", "--device-profile", "nophone"], "nophone"),
        (["--latency-budget", "2", "--device-profile", "none.json"], "none.json"),
        (["--device-profile", "pixel3-fbnet"], "is for a latency_budget"),
        (["--cost-weight", "0"], "above 0"),
    ],
)
def test_budgets_that_cannot_be_are_answered_on_one_line(more, words, arguments, tmp_path, capsys):
    small = ["--space", "pta", "--space-options", '{"width": 0.1, "image_size": 32}']
    command = [*arguments, *small, *more, "--out", str(tmp_path / "run")]
    for plan_only in ([], ["--plan"])[: 1 if words == "the smallest has" else 2]:
        assert search_command("darts", [*command, *plan_only]) == 2
        captured = capsys.readouterr()
        assert words in captured.err and captured.err.startswith("facenas: ") and captured.err.count("\n") == 1
        assert not captured.out and not (tmp_path / "run").exists()


def test_a_budget_that_random_networks_never_keep_is_refused_before_the_search():
    largest = {**SPACES["autofas"], "nodes": 4}  # so many networks that the smallest ones are never drawn
    smallest = recorded_costs(options_of("darts", "autofas", space_options=largest)).range()["macs"][0]
    given = {"macs_budget": f"{smallest:.0f}", "space_options": largest}
    check_strategy_fits("darts", options_of("darts", "autofas", **given))
    for strategy in ("random_search", "evolution", "single_path"):
        with pytest.raises(ConfigError, match="None of 1000 random networks keeps the budget"):
            check_strategy_fits(strategy, options_of(strategy, "autofas", **given))
        options = options_of(strategy, "autofas", **given)
        assert "None of 1000" in plan.problem_of(strategy, options, build_budget(options))
    with pytest.raises(ConfigError, match="--no-baseline"):
        check_strategy_fits("darts", options_of("darts", "autofas", baseline=True, **given))


def test_amounts():
    assert parse_amount("2e6", "macs_budget") == (2e6, False)
    assert parse_amount("30 M", "macs_budget") == (30e6, False)
    assert parse_amount("1.5g", "macs_budget") == (1.5e9, False)
    assert parse_amount("100%", "macs_budget") == (1.0, True)
    with pytest.raises(ConfigError, match="latency_budget"):
        parse_amount("1.2.3", "latency_budget")


def test_a_budget_in_milliseconds_of_a_device_profile(tasks, tmp_path):
    options = options_of("darts", "pta", latency_budget="95%", device_profile="pixel3-fbnet")
    found = search("darts", options, tasks["pta"], tmp_path)
    budget = build_budget(options)
    assert budget.table.cost_of(found.choices)["latency_ms"] <= budget.limits["latency_ms"]
    assert (pd.read_csv(tmp_path / "search.csv")["expected_latency_ms"] > 0).all()


# ---- the plan


def test_a_plan_tells_what_a_search_would_take_and_writes_nothing(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--space", "pta", "--space-options", '{"width": 0.1, "image_size": 32}', "--out", "run", "--plan"]
    assert search_command("gumbel", [*arguments, *small, "--macs-budget", "10"]) == 0
    text = capsys.readouterr().out
    assert "configurations 27" in text and "not feasible" in text
    smallest = recorded_costs(options_of("gumbel", "pta")).range()["macs"][0]
    assert f"the smallest has {smallest:,}" in text
    assert "9 of the architecture" in text and "2 (2 epochs of 1)" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("strategy", "space", "more"),
    [
        ("pc_darts", "autofas", {"partial_channels": 2, "warmup_epochs": 1, "macs_budget": "70%"}),
        ("single_path", "autofas", {}),
        ("single_path", "pta", {}),
        ("random_search", "autofas", {"max_candidates": 3}),
        ("evolution", "autofas", {"budget_macs": 2e8}),
    ],
)
def test_steps_that_are_measured_are_those_of_the_search(strategy, space, more, tasks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("facenas.pipeline.build_task", lambda options: tasks[space])
    options = options_of(strategy, space, **more)
    found = plan.measure(strategy, options)
    assert not list(tmp_path.iterdir())  # neither checkpoints nor logs
    assert found["peak_bytes"] > 50e6 and found["search_seconds"] > 0
    assert (found["train_seconds"] is None) == (strategy == "single_path" and space == "pta")
    if strategy in ("random_search", "evolution"):
        (tmp_path / "run").mkdir()
        spent = search(strategy, options, tasks[space], tmp_path / "run").macs_spent
        candidates = len(pd.read_csv(tmp_path / "run" / "search.csv"))
        per_candidate = options.candidate_epochs * len(tasks[space].loader(tasks[space].search_halves(0)[0], 6, 0))
        assert spent > 0 and found["steps"] == pytest.approx(candidates * per_candidate, rel=0.5)
    else:
        halves = tasks[space].search_halves(0) if space == "autofas" else [tasks[space].data.splits["train"]]
        assert found["steps"] == options.search_epochs * max(len(half) // 6 for half in halves)


def test_the_lines_of_a_plan():
    budget = build_budget(options_of("darts", "autofas", macs_budget="70%"))
    space = budget.table.space
    (line,) = plan.budget_lines(budget, space, 0, None)
    assert "feasible, kept by" in line and "not feasible" not in line
    assert plan.space_line("autofas", space).startswith("autofas: alpha entries ")


@pytest.fixture(scope="module")
def profile_of_this_machine(tmp_path_factory):
    """A kernel table of the small autofas space, from a few networks."""
    drawn = learn.draw("autofas", SPACES["autofas"], 8, 0)
    table = learn.learn(drawn, "litert", networks=6, calibration=4, rounds=2)
    return table.save(tmp_path_factory.mktemp("profile") / "here.json")


def test_a_latency_budget_of_this_machine_is_measured(arguments, profile_of_this_machine, tmp_path, capsys):
    out = tmp_path / "run"
    options = ["--space-options", json.dumps(SPACES["autofas"]), "--train-options", "{}", "--max-candidates", "2"]
    budget = ["--latency-budget", "90%", "--device-profile", str(profile_of_this_machine)]
    assert (
        search_command("random_search", [*arguments, *options, "--candidate-epochs", "1", *budget, "--out", str(out)])
        == 0
    )
    told = json.loads((out / "provenance.json").read_text())["budget"]["latency_ms"]
    assert told["result"] <= told["limit"] and 0.001 < told["measured"] < 100
    entries = json.loads((out / "cost.json").read_text())["latency"]
    assert [(entry["runtime"], entry["dtype"]) for entry in entries] == [
        ("onnxruntime", "float32"),
        ("litert", "float32"),
    ]
    assert entries[1]["median_ms"] == told["measured"] and entries[1]["repetitions"] == 100
    assert "ms measured (litert, float32)" in capsys.readouterr().out


def test_a_latency_budget_of_another_device_says_that_it_was_not_measured(profile_of_this_machine, tmp_path):
    other = json.loads(profile_of_this_machine.read_text())
    other["device"] = {"cpu": "Cortex-A76", "architecture": "aarch64"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    given = {"latency_budget": "90%", "device_profile": str(tmp_path / "other.json")}
    options = options_of("random_search", "autofas", **given)
    assert measured_on_budget(options, torch.nn.Identity(), (3, 20, 20)) is None
    for device in ("phone", None, {}, {"cpu": "x"}):
        assert not is_this_device(device, {"cpu": "x", "architecture": "y"})


def test_a_budget_in_milliseconds_is_one_that_measurements_keep(profile_of_this_machine):
    """The cost of a network is the upper end of its prediction's interval."""
    options = options_of("random_search", "autofas", latency_budget="90%", device_profile=str(profile_of_this_machine))
    (one,) = learn.draw("autofas", SPACES["autofas"], 1, 5)
    network, size = one.build(seed=0), one.input_size
    found = load_profile(str(profile_of_this_machine)).predict_networks([(network, size)], 0.9)
    assert latency_of(options)(network, size) == pytest.approx(float(found.high[0]))
    assert found.high[0] > found.ms[0]
