"""Tables of papers on licensed data: which commands they are, what is skipped, and what the table says."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from numpy.random import RandomState

from evaluators.datasets.preparation import Options, prepare
from evaluators.score_files import rates_of
from evaluators.scores import read_scores
from facenas import reproduce
from facenas.options import OPTIONS, DartsOptions, resolve
from facenas.paper_experiments import EXPERIMENTS, Roots
from searchspaces import Architecture, build_space
from searchspaces.cli import parse_command, parse_values, run_command
from searchspaces.errors import ConfigError
from searchspaces.sampling import random_choices

from ..licensed import write_casia, write_replay

ROOTS = {"oulu-npu": "/o", "casia-fasd": "/c", "replay-attack": "/r", "celeba-spoof": "/s"}
GIVEN = [word for name, root in ROOTS.items() for word in (f"--{name}", root)]


def call(*words: object) -> int:
    return run_command(reproduce.main, [str(word) for word in words])


def commands(table: str, capsys, *more: object) -> list[list[str]]:
    assert call(table, *GIVEN, "--dry-run", *more) == 0
    return [shlex.split(line)[2:] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("table", EXPERIMENTS)
def test_every_command_is_understood_by_its_program(table, capsys):
    """Each is parsed by the very parser that would run it; searches resolve to the paper's recipe."""
    from evaluators.train_command import main as train
    from searchspaces.published import main as published

    for module, *words in commands(table, capsys):
        if module.startswith("strategies."):
            kind = OPTIONS[module.removeprefix("strategies.")]
            values = parse_command(kind, words)
            options = resolve(parse_values(kind, values))
            assert options.recipe == "paper" and options.data == EXPERIMENTS[table].needs[0]
            assert options.search_epochs == {"autofas": 40, "pta": 20}[options.space]
        else:
            assert parse_command(train if module == "evaluators.train" else published, words)


def test_a_table_covers_all_protocols_and_folds(capsys):
    listed = commands("auto-fas-1", capsys)
    assert [words[0] for words in listed] == ["strategies.pc_darts", *["evaluators.train"] * 13]
    folds = {(w[w.index("--protocol") + 1], w[w.index("--fold") + 1] if "--fold" in w else None) for w in listed}
    assert folds == {("1", None), ("2", None)} | {(p, str(fold)) for p in "34" for fold in range(1, 7)}
    assert all(words[1] == "runs/auto-fas-1/p1" for words in listed[1:])
    students = [words for words in commands("hatfas-oulu", capsys) if "--teacher" in words]
    assert len(students) == 14
    assert all(words[words.index("--teacher") + 1].endswith("teacher-" + Path(w).name) for words in students
               for w in [words[words.index("--out") + 1]])  # fmt: skip
    cross = commands("auto-fas-2", capsys, "--architecture", "found.json")
    assert len(cross) == 2 and all(words[1] == "found.json" for words in cross)
    again = commands("auto-fas-1", capsys, "--architecture", "found.json")
    assert [words[0] for words in again] == ["evaluators.train"] * 14


def test_every_row_is_of_steps_that_there_are():
    for name, experiment in EXPERIMENTS.items():
        steps = {step.name for step in experiment.steps(Roots(ROOTS), None)}
        for row in experiment.rows:
            assert set(row.steps) <= steps, name
            assert set(row.paper) <= set(experiment.columns), name


def test_missing_folders_and_names_are_told(capsys):
    assert call("auto-fas-2", "--oulu-npu", "/o", "--dry-run") == 2
    assert (
        "needs 'casia-fasd', prepared by evaluators.prepare: give its folder with --casia-fasd"
        in capsys.readouterr().err
    )
    assert call("auto-fas", "--dry-run") == 2 and "Did you mean 'auto-fas-" in capsys.readouterr().err
    assert call("list") == 0 and capsys.readouterr().out.count("\n") == len(EXPERIMENTS)


def test_the_table_averages_folds_and_shows_the_papers_figures(tmp_path, monkeypatch, capsys):
    """With metrics that are there already nothing is run."""
    experiment = EXPERIMENTS["auto-fas-1"]
    for step in experiment.steps(Roots(ROOTS), "found.json"):
        fold = int(step.name.partition("-")[2] or 1)
        metrics = {key: {"value": fold / 100, "low": None, "high": None} for key in experiment.columns.values()}
        (tmp_path / step.name).mkdir(parents=True)
        (tmp_path / step.name / "metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setattr(reproduce.subprocess, "run", lambda *args, **options: pytest.fail("nothing is left to run"))
    arguments = ("auto-fas-1", "--oulu-npu", "/o", "--architecture", "found.json", "--out", tmp_path)
    assert call(*arguments) == 0
    said = capsys.readouterr().out
    assert "3.50 +- 1.9 | 11.3 +- 7.3" in said and "1.00 | 8.5" in said
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert rows[2]["ours"]["ACER"] == pytest.approx({"mean": 0.035, "deviation": 0.018708287})
    assert (
        rows[2]["runs"] == [f"p3-{fold}" for fold in range(1, 7)] and rows[2]["paper_percent"]["ACER"] == "10.2 +- 3.3"
    )
    assert call(*arguments, "--seed", 1) == 2
    assert "was begun with seed 0, not 1. Choose another --out" in capsys.readouterr().err


def test_rows_of_a_switched_network_come_from_its_table(tmp_path):
    metric = {"value": 0.25, "low": None, "high": None}
    table = {
        "rows": [{"configuration": "HHH", "metrics": {"acer": metric}}],
        "reference": {"name": "MobileNetV2", "metrics": {"acer": {**metric, "value": 0.5}}},
    }
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "configurations.json").write_text(json.dumps(table))
    alone, heavy = EXPERIMENTS["pta-3"].rows[:2]
    assert reproduce.cells_of(heavy, {"ACER": "acer"}, tmp_path)["ACER"]["mean"] == 0.25
    assert reproduce.cells_of(alone, {"ACER": "acer"}, tmp_path)["ACER"]["mean"] == 0.5


def test_a_step_that_fails_ends_the_table_and_a_begun_one_goes_on(tmp_path, monkeypatch, capsys):
    seen = []

    class Done:
        returncode = 2

    def run(words, **options):
        seen.append(words)
        return Done

    monkeypatch.setattr(reproduce.subprocess, "run", run)
    arguments = ("pta-3", "--celeba-spoof", "/s", "--out", tmp_path)
    assert call(*arguments) == 2
    assert "step 'search' ended with exit code 2" in capsys.readouterr().err and "--resume" not in seen[0]
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "config.yaml").write_text("")
    assert call(*arguments) == 2 and seen[1][-1] == "--resume"
    Done.returncode = 130
    assert call(*arguments) == 130


def test_train_data_is_another_name_of_data():
    options = resolve(DartsOptions(train_data="folder", test_data="portraits"))
    assert (options.data, options.train_data, options.test_data) == ("folder", None, "portraits")
    with pytest.raises(ConfigError, match="they are the same"):
        resolve(DartsOptions(data="portraits", train_data="folder"))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """Two prepared sets and a small network."""
    base = tmp_path_factory.mktemp("cross")
    people = {"train": (1, 2), "devel": (3,), "test": (9,)}
    for name, copy in (
        ("casia-fasd", write_casia(base / "a", train=3, test=1)),
        ("replay-attack", write_replay(base / "b", people)),
    ):
        prepare(name, copy, base / name, Options(frames=1), progress=False)
    options = {"channels": 4, "layout": "RRR", "stem_multiplier": 1}
    space = build_space("autofas", **options)
    Architecture("autofas", options, random_choices(space, RandomState(0)), {}).save(base / "found.json")
    return base


def test_a_training_is_tested_on_another_set_and_verified_from_its_files(small, monkeypatch, capsys):
    """One epoch: config.yaml says what is needed to judge once more, and the score file what was judged."""
    from evaluators.train_command import main as train
    from evaluators.verify import main as verify

    out = small / "one"
    words = [small / "found.json", "--train-data", "casia-fasd", "--data-root", small / "casia-fasd", "--epochs", 1]
    words += ["--test-data", "replay-attack", "--test-data-root", small / "replay-attack", "--out", out]
    assert run_command(train, [str(word) for word in words]) == 0
    metrics, scores = json.loads((out / "metrics.json").read_text()), read_scores(out)
    assert set(scores["test"].people) == {"009"} and all(person.startswith("train-") for person in scores["val"].people)
    for unit, prefix in (("frame", ""), ("video", "video_")):
        rates = rates_of(str(out), scores, "test", unit)
        assert {key: metrics[f"{prefix}{key}"]["value"] for key in ("acer", "apcer_print", "hter", "threshold")} == {
            key: rates[key] for key in ("acer", "apcer_print", "hter", "threshold")
        }
    assert json.loads((out / "data.json").read_text())["name"] == "casia-fasd, tested on replay-attack"
    capsys.readouterr()
    words = [out, "--test-protocol", "print-hand", "--scores", out / "hand.tsv"]
    assert run_command(verify, [str(word) for word in words]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["threshold"] == metrics["threshold"] and "apcer_mobile-photo" not in again
    assert set(read_scores(out / "hand.tsv")["test"].kinds) == {"live", "print"}


@pytest.mark.long
def test_cross_testing_from_the_command_to_the_table(small, capfd):
    """Table 2 of Auto-FAS, one epoch: its figures are those that the score files give."""
    arguments = ["auto-fas-2", "--casia-fasd", small / "casia-fasd", "--replay-attack", small / "replay-attack"]
    arguments += ["--architecture", small / "found.json", "--recipe", "quick", "--epochs", 1, "--out", small / "runs"]
    assert call(*arguments) == 0
    said = capfd.readouterr().out
    assert "| 15.6" in said and "| 40.7" in said
    rows = json.loads((small / "runs/table.json").read_text())["rows"]
    for row in rows:
        run = small / "runs" / row["runs"][0]
        rates = rates_of(str(run), read_scores(run), "test", "video")
        assert row["ours"]["HTER"]["mean"] == rates["hter"]
        metrics = json.loads((run / "metrics.json").read_text())
        assert metrics["video_threshold"]["value"] == rates["threshold"]
