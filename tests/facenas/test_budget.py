"""Budgets on the command line: kept by every strategy's result, resumed equal, refused when nothing can keep them."""

from __future__ import annotations

import pandas as pd
import pytest

from facenas.budgets import build_budget, parse_amount
from facenas.options import OPTIONS
from facenas.pipeline import search_command
from searchspaces import Architecture
from searchspaces.cli import parse_values
from searchspaces.errors import ConfigError
from searchspaces.folder import read_config

from ..evaluators.test_training import write_folder

TINY = [
    "--search-epochs", "2", "--search-batch", "6", "--train-epochs", "1", "--train-batch", "6",
    "--candidate-epochs", "1", "--accelerator", "cpu", "--guard", "off", "--no-baseline",
]  # fmt: skip
SPACES = {
    "autofas": ["--space-options", '{"channels": 4, "layout": "RN", "image_size": 20}', "--train-options", "{}"],
    "pta": ["--space-options", '{"width": 0.1, "image_size": 32}'],
}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    pictures = write_folder(tmp_path_factory.mktemp("pictures"))
    return ["--data", "folder", "--data-root", str(pictures), *TINY]


def macs(folder):
    from hardware.counters import count

    architecture = Architecture.load(folder)
    return count(architecture.build(), architecture.input_size)


@pytest.mark.parametrize(
    ("space", "strategy", "more"),
    [
        ("autofas", "darts", ["--cost-weight", "5"]),
        ("autofas", "random_search", ["--max-candidates", "2"]),
        ("autofas", "single_path", ["--judged-paths", "3"]),
        ("pta", "gumbel", []),
        ("pta", "single_path", ["--recalibrate", "none"]),
    ],
)
def test_the_result_keeps_its_budget(space, strategy, more, arguments, tmp_path):
    out, budget = tmp_path / "run", "70%" if space == "autofas" else "92%"
    command = [*arguments, "--space", space, *SPACES[space], *more, "--macs-budget", budget, "--out", str(out)]
    assert search_command(strategy, command) == 0
    limits = build_budget(parse_values(OPTIONS[strategy], read_config(out)))
    largest = limits.table.range()["macs"][1]
    assert limits.limits["macs"] == pytest.approx(float(budget[:-1]) / 100 * largest)
    assert macs(out) <= limits.limits["macs"]
    if strategy in ("darts", "gumbel"):
        log = pd.read_csv(out / "search.csv")
        assert (log["derived_macs"] <= limits.limits["macs"]).all() and log["expected_macs"].notna().all()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--macs-budget", "0"], "write a number above 0"),
        (["--macs-budget=-3M"], "write a number above 0"),
        (["--params-budget", "abc"], "write a number above 0"),
        (["--macs-budget", "120%"], "write a number above 0"),
        (["--macs-budget", "10"], "the smallest has"),
        (["--latency-budget", "2"], "needs a device"),
        (["--latency-budget", "2", "--device-profile", "nophone"], "nophone"),
        (["--device-profile", "pixel3-fbnet"], "is for a latency_budget"),
        (["--cost-weight", "0"], "above 0"),
    ],
)
def test_budgets_that_cannot_be_are_answered_on_one_line(more, words, arguments, tmp_path, capsys):
    command = [*arguments, "--space", "pta", *SPACES["pta"], *more, "--out", str(tmp_path / "run")]
    assert search_command("darts", command) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("facenas: ") and error.count("\n") == 1


def test_amounts():
    assert parse_amount("2e6", "macs_budget") == (2e6, False)
    assert parse_amount("30 M", "macs_budget") == (30e6, False)
    assert parse_amount("1.5g", "macs_budget") == (1.5e9, False)
    assert parse_amount("100%", "macs_budget") == (1.0, True)
    with pytest.raises(ConfigError, match="latency_budget"):
        parse_amount("1.2.3", "latency_budget")


def test_a_budget_in_milliseconds_of_a_device_profile(arguments, tmp_path):
    out = tmp_path / "run"
    profile = ["--latency-budget", "95%", "--device-profile", "pixel3-fbnet"]
    assert search_command("darts", [*arguments, "--space", "pta", *SPACES["pta"], *profile, "--out", str(out)]) == 0
    log = pd.read_csv(out / "search.csv")
    assert (log["expected_latency_ms"] > 0).all()
