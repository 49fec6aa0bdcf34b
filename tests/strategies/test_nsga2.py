"""The NSGA-II tuner, as NNI's dispatcher calls it."""

from __future__ import annotations

import itertools
import json

import nni
import pytest

from searchspaces.errors import ConfigError
from strategies.nsga2 import NSGA2Tuner

SPACE = {f"x{i}": {"_type": "choice", "_value": ["a", "b", "c"]} for i in range(5)}


def figures(parameters):
    """Error and cost of opposite interests: the sum of the letters against the sum of squares from the other end."""
    levels = ["abc".index(value) for value in parameters.values()]
    return {"default": float(sum(levels)), "milliseconds": float(sum((2 - level) ** 2 for level in levels))}


def tuner(**options):
    made = NSGA2Tuner(**{"population_size": 8, "seed": 0, **options})
    made.update_search_space(SPACE)
    return made


def run(made, trials, start=0):
    tried = []
    for number in range(start, start + trials):
        parameters = made.generate_parameters(number)
        tried.append(parameters)
        made.receive_trial_result(number, parameters, figures(parameters))
        made.trial_end(number, True)
    return tried


def generations(made):
    """The generation of every network that has a result; Optuna keeps it in the trial's attributes."""
    done = [trial for trial in made.study.get_trials() if trial.values]
    return {json.dumps(trial.params): trial.system_attrs["NSGAIISampler:generation"] for trial in done}


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def test_no_network_is_tried_twice_until_all_are():
    small = NSGA2Tuner(population_size=4, seed=1)
    small.update_search_space({name: SPACE[name] for name in ("x0", "x1")})
    tried = [json.dumps(parameters) for parameters in run(small, 9)]
    assert len(set(tried)) == 9
    with pytest.raises(nni.NoMoreTrialError, match="9 of 9"):
        small.generate_parameters(9)


def test_the_front_is_that_of_everything_that_was_tried():
    made = tuner()
    values = [tuple(figures(parameters).values()) for parameters in run(made, 60)]
    expected = sorted({value for value in values if not any(dominates(other, value) for other in values)})
    assert sorted({tuple(entry["values"]) for entry in made.front()}) == expected


def test_it_finds_more_of_the_true_front_than_random_choice():
    space = {f"x{i}": {"_type": "choice", "_value": ["a", "b", "c"]} for i in range(8)}

    def found(population_size, seed):
        """Points of the true front, networks of a and b alone, among 100 that were tried."""
        made = NSGA2Tuner(population_size=population_size, seed=seed)
        made.update_search_space(space)
        count = 0
        for number in range(100):
            letters = list((parameters := made.generate_parameters(number)).values())
            value = {"default": 8.0 - letters.count("a"), "milliseconds": 8.0 - letters.count("b")}
            made.receive_trial_result(number, parameters, value)
            count += "c" not in letters
        return count

    evolved = [found(8, seed) for seed in range(5)]
    random = [found(1000, seed) for seed in range(5)]  # one generation, all of it random
    assert min(evolved) > max(random)


def test_a_budget_comes_first():
    made = tuner(budgets={"milliseconds": 6})
    run(made, 40)
    assert made.front() and all(entry["values"][1] <= 6 for entry in made.front())
    later = run(made, 40, start=40)
    kept = [figures(parameters)["milliseconds"] <= 6 for parameters in later]
    within = sum(
        figures(dict(zip(SPACE, point, strict=True)))["milliseconds"] <= 6
        for point in itertools.product("abc", repeat=5)
    )
    assert sum(kept) / len(kept) > within / 3**5  # more than by chance


def test_equal_seeds_propose_equal_networks_and_an_import_builds_the_same_generations():
    first, second = tuner(), tuner()
    tried = run(first, 20)
    assert run(second, 20) == tried
    resumed = tuner()
    resumed.import_data([{"parameter": parameters, "value": figures(parameters)} for parameters in tried])
    assert resumed.front() == first.front()
    assert generations(resumed) == generations(first) and max(generations(first).values()) == 2
    assert not any(parameters in tried for parameters in run(resumed, 20, start=100))


def test_several_trials_at_once_get_their_own_results():
    made = tuner()
    running = {number: made.generate_parameters(number) for number in range(6)}
    for number in (3, 0, 5, 1, 4, 2):
        made.receive_trial_result(number, running[number], figures(running[number]))
    for trial in made.study.get_trials():
        assert tuple(trial.values) == tuple(figures(trial.params).values())


def test_failed_trials_are_passed_over(caplog):
    made = tuner()
    for number, value in enumerate([None, 0.5, {"default": 1.0}, {"default": float("nan"), "milliseconds": 1.0}]):
        parameters = made.generate_parameters(number)
        if value is None:
            made.trial_end(number, False)
        else:
            made.receive_trial_result(number, parameters, value)
            made.trial_end(number, True)
    assert made.front() == [] and "no number 'milliseconds'" in caplog.text
    run(made, 20, start=10)
    assert made.front()


def test_it_maximises_where_told():
    made, values = tuner(optimize_mode="maximize"), []
    for number in range(40):
        parameters = made.generate_parameters(number)
        value = figures(parameters)
        values.append(tuple(value.values()))
        made.receive_trial_result(number, parameters, {**value, "default": -value["default"]})
    expected = {value for value in values if not any(dominates(other, value) for other in values)}
    assert {(-entry["values"][0], entry["values"][1]) for entry in made.front()} == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"costs": "milliseconds"}, "costs is 'milliseconds'"),
        ({"costs": []}, "costs is"),
        ({"costs": ["default"]}, "default"),
        ({"budgets": {"macs": 0}}, "budget of 'macs'"),
        ({"population_size": 1}, "population_size"),
        ({"mutation": 1.5}, "mutation is 1.5"),
        ({"optimize_mode": "most"}, "optimize_mode"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        NSGA2Tuner(**options)


def test_other_search_spaces_and_imports_are_refused():
    made = tuner()
    with pytest.raises(ConfigError, match="cannot be changed"):
        made.update_search_space({"y": SPACE["x0"]})
    with pytest.raises(ConfigError, match="not of this space"):
        made.import_data([{"parameter": {"x0": "a"}, "value": 1.0}])
    with pytest.raises(ConfigError, match="none of its values"):
        made.import_data([{"parameter": {**dict.fromkeys(SPACE, "a"), "x1": "z"}, "value": 1.0}])
    with pytest.raises(ConfigError, match="searches choices"):
        NSGA2Tuner().update_search_space({"lr": {"_type": "uniform", "_value": [0, 1]}})


def test_networks_whose_trials_run_again_after_a_resume_are_not_proposed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path))
    first = tuner(seed=1)
    finished = run(first, 6)
    running = [first.generate_parameters(number) for number in (6, 7)]
    monkeypatch.setenv("NNI_MODE", "resume")
    second = tuner(seed=1)  # draws as the first did
    second.import_data([{"parameter": parameters, "value": figures(parameters)} for parameters in finished])
    assert len(second.study.get_trials()) == 6
    more = run(second, 20, start=10)
    assert not any(parameters in finished + running for parameters in more)
    second.import_data([{"parameter": running[0], "value": figures(running[0])}])  # as NNI gives its result
    assert any(trial.params == running[0] for trial in second.study.get_trials())
