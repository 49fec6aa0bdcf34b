"""The examples in experiments/: they are valid, fit the code, and say how to start them safely."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml
from nni.experiment.config import ExperimentConfig

from evaluators.recipes import find_recipe
from evaluators.trial_command import main as trial
from facenas.nnictl import check_config
from facenas.options import OPTIONS, resolve
from searchspaces import build_space, list_spaces
from searchspaces.cli import parse_command, parse_values
from searchspaces.nni_space import to_search_space
from strategies.nsga2 import NSGA2Tuner

FOLDER = Path(__file__).parents[2] / "experiments"
FILES = sorted(FOLDER.glob("*.yml"))


def read(file):
    return yaml.safe_load(file.read_text())


def arguments(file):
    """Module and arguments of a trial's command."""
    words = shlex.split(read(file)["trialCommand"])
    start = words.index("-m")
    return words[start + 1], words[start + 2 :]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nni_and_our_commands_accept_it(file):
    check_config(file)
    config = ExperimentConfig.load(file)
    config.canonical_copy()
    assert read(file)["experimentName"] == file.stem
    assert f"facenas nnictl create --config experiments/{file.name}" in file.read_text()
    module, words = arguments(file)
    if module == "facenas":
        assert words.pop(0) == "search"
        space = read(file)["searchSpace"]
        for strategy in space["strategy"]["_value"]:
            options = parse_command(OPTIONS[strategy], words)
            values = {name: entry["_value"][0] for name, entry in space.items() if name != "strategy"}
            resolve(parse_values(OPTIONS[strategy], {**options, **values}))
    else:
        assert module == "evaluators.trial"
        options = parse_command(trial, words)
        space = build_space(options["space"], **find_recipe(options["space"], options["recipe"]).search_space)
        written = json.loads((file.parent / read(file)["searchSpaceFile"]).read_text())
        assert written == to_search_space(space), "write it anew with facenas nni-space"
        tuner = read(file)["tuner"]
        if tuner.get("className", "").endswith("NSGA2Tuner"):
            made = NSGA2Tuner(**tuner["classArgs"])
            made.update_search_space(written)
            measured = {"macs", "parameters"} | ({"milliseconds"} if options["measure"] else set())
            assert {*made.costs, *made.budgets} <= measured


def test_every_space_has_an_example_of_both_kinds():
    searched = {
        parse_command(OPTIONS["darts"], words[1:])["space"] for m, words in map(arguments, FILES) if m == "facenas"
    }
    trained = {parse_command(trial, words)["space"] for m, words in map(arguments, FILES) if m != "facenas"}
    assert searched == trained == set(list_spaces())
