"""Model spaces as search spaces of NNI's experiments."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nni.algorithms.hpo.evolution_tuner import EvolutionTuner
from nni.algorithms.hpo.gridsearch_tuner import GridSearchTuner
from nni.algorithms.hpo.random_tuner import RandomTuner
from nni.algorithms.hpo.tpe_tuner import TpeTuner
from nni.common.hpo_utils import validate_search_space
from nni.mutable import Categorical, CategoricalMultiple, Numerical

from searchspaces import build_space, list_spaces
from searchspaces.errors import ConfigError
from searchspaces.nni_space import in_trial, to_choices, to_parameters, to_search_space
from searchspaces.sampling import random_choices

TUNERS = {
    "random": RandomTuner,
    "tpe": TpeTuner,
    "evolution": lambda: EvolutionTuner(optimize_mode="minimize", population_size=4),
    "gridsearch": GridSearchTuner,
}


class Declared:
    """What a space is here: mutables by label."""

    def __init__(self, **mutables):
        self.mutables = mutables

    def simplify(self):
        return self.mutables


@pytest.mark.parametrize("name", list_spaces())
def test_every_point_of_a_space_comes_back_from_its_parameters(name):
    space = build_space(name)
    search_space = json.loads(json.dumps(to_search_space(space)))
    assert validate_search_space(search_space, ["choice"])
    assert all(not isinstance(value, list | dict) for entry in search_space.values() for value in entry["_value"])
    for seed in range(3):
        choices = random_choices(space, np.random.RandomState(seed))
        parameters = json.loads(json.dumps(to_parameters(choices)))
        assert all(parameters[label] in entry["_value"] for label, entry in search_space.items())
        assert to_choices(space, parameters) == choices


@pytest.mark.parametrize("name", ["random", "tpe", "evolution", "gridsearch"])
def test_every_tuner_of_nni_searches_cells(name):
    """NNI's own conversion of a space with cells fails; this one is plain choices."""
    space = build_space("autofas")
    tuner = TUNERS[name]()
    tuner.update_search_space(to_search_space(space))
    for number in range(8):
        parameters = tuner.generate_parameters(number)
        to_choices(space, parameters)
        tuner.receive_trial_result(number, parameters, {"default": 1.0 / (number + 1), "milliseconds": 2.0})
        tuner.trial_end(number, True)


def test_a_choice_of_several_inputs_becomes_a_text_for_each():
    found = to_search_space(Declared(a=CategoricalMultiple([0, 1, 2], n_chosen=2, label="a")))
    assert found == {"a": {"_type": "choice", "_value": ["[0, 1]", "[0, 2]", "[1, 2]"]}}
    found = to_search_space(Declared(a=CategoricalMultiple(["x", "y"], label="a")))
    assert found["a"]["_value"] == ['["x"]', '["y"]', '["x", "y"]']


def test_a_number_stays_a_number():
    space = Declared(a=Numerical(0.1, 1.0, log_distributed=True, label="a"))
    assert to_search_space(space)["a"] == {"_type": "loguniform", "_value": [0.1, 1.0]}
    assert to_choices(space, {"a": 0.5}) == {"a": 0.5}
    with pytest.raises(ConfigError, match="'a' is 2"):
        to_choices(space, {"a": 2.0})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"a": "x", "b": 1}, "'b' is no choice of the space.*nni-space"),
        ({}, "lack the choice 'a'"),
        ({"a": "xx"}, "'a' is 'xx', which is none of its values. Did you mean 'x'"),
        ({"a": True}, "none of its values"),
    ],
)
def test_parameters_of_another_space_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        to_choices(Declared(a=Categorical(["x", 1], label="a")), parameters)


def test_too_many_values_are_refused():
    with pytest.raises(ConfigError, match="more than"):
        to_search_space(Declared(a=CategoricalMultiple(list(range(30)), label="a")))


def test_a_process_is_no_trial_by_itself(monkeypatch):
    monkeypatch.delenv("NNI_TRIAL_COMMAND_CHANNEL", raising=False)
    assert not in_trial()
