"""The convergence benchmark shows the place that ArcFace falls into, and that Li-ArcFace does not."""

from __future__ import annotations

import math

import pytest

from benchmarks.li_arcface import SCALE, main, places_of, run
from searchspaces.errors import ConfigError

SMALL = {"steps": 300, "people": 300, "layers": 10, "noise": 1.0, "learning_rate": 0.1, "normed": True}


def test_arcface_ends_opposite_to_all_centres_and_li_arcface_learns():
    learnt, lost = (run(name, 0, **SMALL) for name in ("li_arcface", "arcface"))
    assert learnt["cosine"] > 0 and learnt["accuracy"][0] < learnt["accuracy"][1] < learnt["accuracy"][2]
    assert lost["cosine"] < -0.9 and lost["accuracy"][-1] < 0.05 < learnt["accuracy"][-1]
    assert places_of("arcface", 300)["opposite"] < lost["last_loss"] < lost["first_loss"] / 10


def test_the_places_are_those_of_the_closed_forms():
    gap = 2 * SCALE * 0.4 / math.pi
    assert places_of("li_arcface", 7)["opposite"] == pytest.approx(math.log(1 + 6 * math.exp(gap)))
    assert places_of("arcface", 1000)["opposite"] == pytest.approx(0.33, abs=0.005)


def test_seeds_are_repeatable_and_differ():
    few = {**SMALL, "steps": 3, "people": 20, "layers": 2}
    first, again, other = (run("li_arcface", seed, **few) for seed in (0, 0, 1))
    assert first["last_loss"] == again["last_loss"] != other["last_loss"]


def test_a_table_has_a_row_a_training(capsys):
    main(seeds=2, steps=7, people=10, layers=2)
    shown = capsys.readouterr().out
    assert [shown.count(f"│ {name} ") for name in ("li_arcface", "arcface", "n_softmax")] == [2, 2, 2]
    assert "closed forms" in shown


@pytest.mark.parametrize("option", [{"seeds": 0}, {"people": 1}, {"noise": -1.0}, {"learning_rate": 0.0}])
def test_options_that_cannot_be_used_are_refused(option):
    with pytest.raises(ConfigError, match="at least"):
        main(**option)
