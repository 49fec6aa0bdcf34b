"""The commands, as a user calls them: a whole run on a small folder of pictures, and every kind of wrong input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from facenas.__main__ import main as facenas
from facenas.options import DartsOptions, from_run, resolve, to_dict
from facenas.pipeline import search_command
from searchspaces import Architecture
from searchspaces.errors import ConfigError, FacenasError, RunFolderError
from searchspaces.folder import open_run

from ..evaluators.test_training import write_folder

TINY = [
    "--space-options", '{"channels": 4, "layout": "RN", "image_size": 20}', "--train-options", '{"channels": 8}',
    "--search-epochs", "2", "--search-batch", "6", "--train-epochs", "1", "--train-batch", "6",
    "--candidate-epochs", "1", "--accelerator", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def arguments(pictures):
    return ["--data", "folder", "--data-root", str(pictures), *TINY]


@pytest.fixture(scope="module")
def guarded(arguments):
    """For searches that can collapse: these small ones do, which is not what is tested."""
    return [*arguments, "--guard", "warn"]


@pytest.fixture(scope="module")
def finished(guarded, tmp_path_factory):
    """A finished run with its baseline."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert search_command("darts", [*guarded, "--seed", "1", "--out", str(folder)]) == 0
    return folder


def test_a_run_leaves_every_file_of_the_design(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "config.yaml", "search.csv", "architecture.json", "architectures.jsonl", "checkpoint", "metrics.json",
        "weights.safetensors", "training.csv", "cost.json", "data.json", "provenance.json", "report.html", "baseline",
        "cells.png",
    }  # fmt: skip
    assert (finished / "baseline" / "metrics.json").exists()
    assert not list(finished.rglob("*.part"))


def test_the_result_is_an_architecture_with_provenance_and_cost(finished):
    architecture = Architecture.load(finished / "architecture.json")
    assert architecture.options == {"channels": 8, "layout": "RN", "image_size": 20, "stem_multiplier": 1, "nodes": 4}
    assert architecture.found_by["strategy"] == "darts" and architecture.found_by["seed"] == 1
    cost = json.loads((finished / "cost.json").read_text())
    network = architecture.build(weights=finished / "weights.safetensors")
    assert cost["parameters"]["stored"] == sum(p.numel() for p in network.parameters())
    assert cost["export"]["max_abs_difference"] < 1e-3 and cost["latency"][0]["threads"] == 1
    assert cost["paper_width"]["channels"] == 48


def test_the_baseline_gets_the_same_budget(finished):
    provenance = json.loads((finished / "provenance.json").read_text())
    baseline = json.loads((finished / "baseline" / "provenance.json").read_text())
    assert baseline["search_macs"] >= provenance["search_macs"] > 0
    results = (finished / "baseline" / "architectures.jsonl").read_text().splitlines()
    costs = [json.loads(line)["metrics"]["macs_spent"] for line in results]
    assert sum(costs[:-1]) < provenance["search_macs"]


def test_the_report_shows_the_result_and_asks_nothing_of_the_network(finished):
    page = (finished / "report.html").read_text()
    for words in ("ACER", "random search", "sep_conv", "interval"):
        assert words in page or words.capitalize() in page, words
    assert 'src="http' not in page and "@import" not in page


def test_config_repeats_the_run(finished, tmp_path):
    config, again = str(finished / "config.yaml"), tmp_path / "again"
    assert search_command("darts", ["--config", config, "--out", str(again), "--no-baseline"]) == 0
    for file in ("architecture.json", "metrics.json", "weights.safetensors"):
        assert (again / file).read_bytes() == (finished / file).read_bytes(), file


def test_resuming_a_finished_run_changes_nothing(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*.json*")}
    assert search_command("darts", ["--resume", "--out", str(finished)]) == 0
    after = {path: path.stat().st_mtime_ns for path in before}
    assert [p.name for p in before if before[p] != after[p]] in ([], ["provenance.json"])


@pytest.mark.parametrize(
    ("strategy", "more"),
    [
        ("pc_darts", ["--partial-channels", "2", "--warmup-epochs", "1", "--guard", "warn"]),
        ("random_search", ["--max-candidates", "2"]),
        ("evolution", ["--max-candidates", "4", "--population", "3"]),
    ],
)
def test_other_strategies_run_the_same_way(strategy, more, arguments, tmp_path):
    out = tmp_path / "run"
    assert search_command(strategy, [*arguments, *more, "--no-baseline", "--out", str(out)]) == 0
    assert Architecture.load(out).found_by["strategy"] == strategy
    assert (out / "report.html").exists()


def test_a_terminated_search_resumes_to_the_same_result(guarded, finished, tmp_path):
    """SIGTERM in the middle of the search, as a batch system sends it; then --resume."""
    out = tmp_path / "cut"
    command = [sys.executable, "-m", "strategies.darts", *guarded, "--seed", "1", "--no-baseline", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not (out / "checkpoint" / "search" / "last.ckpt").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    if process.returncode:  # it may have been faster than the signal
        assert process.returncode == 130 and "--resume --out" in errors and "Traceback" not in errors
    assert search_command("darts", ["--resume", "--out", str(out)]) == 0
    assert Architecture.load(out) == Architecture.load(finished)
    assert (out / "weights.safetensors").read_bytes() == (finished / "weights.safetensors").read_bytes()


def test_a_search_that_the_guard_stopped_is_not_continued(guarded, tmp_path, monkeypatch):
    """Interrupted between the guard's stop and the next stage, it resumes with the same architecture."""
    from strategies.collapse import CollapseGuard

    out = tmp_path / "run"
    monkeypatch.setattr(CollapseGuard, "judge", lambda *_: (True, "collapsed"))
    more = [*guarded, "--no-baseline", "--out", str(out)]
    assert search_command("darts", [*more, "--seed", "1"]) == 0
    first = (out / "architecture.json").read_bytes()
    guard = json.loads((out / "provenance.json").read_text())["guard"]
    assert guard["verdict"] == "stopped" and guard["last_epoch"] == 0 and not guard["architecture_healthy"]
    (out / "architecture.json").unlink()
    monkeypatch.undo()
    assert search_command("darts", ["--resume", "--out", str(out)]) == 0
    assert (out / "architecture.json").read_bytes() == first
    assert len((out / "search.csv").read_text().splitlines()) == 2


def test_a_users_own_space_runs_to_the_end(arguments, tmp_path):
    out = tmp_path / "run"
    own = ["--space", "tests.facenas.own_space:Own", "--space-options", '{"image_size": 20, "channels": 4, "nodes": 2}']
    assert search_command("random_search", [*arguments, *own, "--max-candidates", "1", "--out", str(out)]) == 0
    assert json.loads((out / "metrics.json").read_text()) and (out / "report.html").exists()


def test_cells_of_other_sizes_run_to_the_end(guarded, tmp_path):
    out = tmp_path / "run"
    other = ["--space-options", '{"image_size": 20, "channels": 4, "layout": "R", "nodes": 3}']
    more = ["--no-baseline", "--out", str(out)]
    assert search_command("darts", [*guarded, *other, *more]) == 0
    assert "paper_width" not in json.loads((out / "cost.json").read_text())


# ---- wrong input: one line, exit code 2, nothing written


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--space", "autofaz"], "Did you mean 'autofas'"),
        (["--data", "portrait"], "Did you mean 'portraits'"),
        (["--recipe", "quik"], "Did you mean 'quick'"),
        (["--sede", "1"], "Did you mean '--seed'"),
        (["--supervision", "depth"], "expected one of pixel, binary"),
        (["--space-options", '{"chanels": 8}'], "Did you mean 'channels'"),
        (["--space-options", '{"image_size": 5}'], "does not fit"),
        (["--train-options", '{"nodes": 2}'], "change what there is to choose"),
        (["--search-epochs", "0"], "at least 1"),
        (["--warmup-epochs", "9"], "nothing would be searched"),
        (["--seed", "-1"], "at least 0"),
        (["--seed", "one"], "expected int"),
        (["--config", "/nowhere.yaml"], "nowhere.yaml"),
        (["--resume", "--overwrite"], "one of them"),
        (["--accelerator", "gpu"], "torch finds none"),
        (["stray"], "Unexpected argument 'stray'"),
    ],
)
def test_wrong_options_are_answered_on_one_line(more, words, tmp_path, capsys):
    out = tmp_path / "run"
    if "--resume" in more:
        out.mkdir()
    assert search_command("darts", [*more, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("facenas: ") and error.count("\n") == 1
    assert not out.exists() or not any(path.name != ".lock" for path in out.iterdir()) or "portrait" in words


def test_pictures_that_do_not_fit_are_refused(guarded, tmp_path, capsys):
    more = ["--space-options", '{"channels": 4, "image_size": 300}', "--out", str(tmp_path / "run")]
    assert search_command("darts", [*guarded, *more]) == 2
    assert "300x300" in capsys.readouterr().err


def test_an_empty_folder_is_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    more = ["--data", "folder", "--data-root", str(tmp_path / "empty"), "--out", str(tmp_path / "run"), *TINY]
    assert search_command("darts", more) == 2
    assert "train" in capsys.readouterr().err


def test_a_run_that_exists_is_not_touched(finished, guarded, capsys):
    before = (finished / "architecture.json").read_bytes()
    assert search_command("darts", [*guarded, "--out", str(finished)]) == 2
    assert "--resume or --overwrite" in capsys.readouterr().err
    assert (finished / "architecture.json").read_bytes() == before


def test_resuming_with_other_options_is_refused(finished, capsys):
    assert search_command("darts", ["--resume", "--search-epochs", "7", "--out", str(finished)]) == 2
    assert "was started with 2" in capsys.readouterr().err
    assert search_command("pc_darts", ["--resume", "--partial-channels", "2", "--out", str(finished)]) == 2
    assert "is a run of darts" in capsys.readouterr().err


def test_overwrite_with_wrong_data_keeps_the_earlier_run(finished, guarded, capsys):
    more = ["--overwrite", "--data-root", "/nowhere", "--out", str(finished)]
    assert search_command("darts", [*guarded, *more]) == 2
    assert "nowhere" in capsys.readouterr().err and (finished / "weights.safetensors").exists()


def test_overwrite_takes_run_folders_only(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match="not a run folder"), open_run(tmp_path, resume=False, overwrite=True):
        pass
    assert (tmp_path / "thesis.tex").exists()
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("{}")
    (run / "checkpoint").mkdir()
    with open_run(run, resume=False, overwrite=True):
        assert [path.name for path in run.iterdir()] == [".lock"]


def test_a_second_process_in_the_same_folder_is_refused(tmp_path):
    code = (
        "import sys; from pathlib import Path; from searchspaces.folder import open_run; "
        "open_run(Path(sys.argv[1]), resume=False, overwrite=True).__enter__()"
    )
    command = [sys.executable, "-c", code, tmp_path / "run"]
    with open_run(tmp_path / "run", resume=False, overwrite=False):
        (tmp_path / "run" / "config.yaml").write_text("{}")
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Another process" in refused.stderr
    assert subprocess.run(command, check=False).returncode == 0  # free again


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "run"
    with pytest.raises(RunFolderError, match="Cannot write"), open_run(target, resume=False, overwrite=False):
        pass


def test_options_survive_their_file():
    options = resolve(DartsOptions(people=7))
    assert options.people == 7 and options.search_epochs and options.space_options["channels"] == 8
    saved = yaml.safe_load(yaml.safe_dump(to_dict(options)))
    assert from_run(DartsOptions(resume=True), saved).search_epochs == options.search_epochs
    wrong = [({"colour": 1}, "colour"), ({"seed": "one"}, "seed"), ({"search_epochs": [1]}, "search_epochs")]
    for damaged, words in wrong:
        with pytest.raises(ConfigError, match=words):
            from_run(DartsOptions(), damaged)


# ---- the other commands on a run


def test_train_command_judges_the_saved_weights(finished, tmp_path, capsys):
    out = tmp_path / "trained"
    command = ["train", str(finished), "--epochs", "1"]  # on the run's own data
    assert facenas([*command, "--batch", "6", "--out", str(out)]) == 0
    assert json.loads((out / "data.json").read_text())["name"] == "folder"
    assert (out / "metrics.json").exists() and "same metrics in a new process" in capsys.readouterr().out
    assert facenas([*command, "--out", str(out)]) == 2
    lost = ["--overwrite", "--data", "folder", "--data-root", "/nowhere", "--out", str(out)]
    assert facenas([*command, *lost]) == 2 and (out / "weights.safetensors").exists()


def test_profile_and_report_commands(finished, tmp_path, capsys):
    assert facenas(["profile", str(finished / "architecture.json"), "--no-measure", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["operations"]["mac"] > 0
    page = tmp_path / "page.html"
    assert facenas(["report", str(finished), "--out", str(page)]) == 0
    assert page.exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["serch"], "Did you mean 'search'"),
        (["search", "dart"], "Did you mean 'darts'"),
        (["train", "none.json"], "No file"),
    ],
)
def test_unknown_commands_and_files(command, words, capsys):
    assert facenas(command) == 2
    assert words in capsys.readouterr().err


def test_help_and_version(capsys):
    assert facenas(["--help"]) == 0 and facenas(["--version"]) == 0 and facenas([]) == 2
    assert "search STRATEGY" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        search_command("darts", ["--help"])
    assert left.value.code == 0 and "--order {first,second}" in capsys.readouterr().out


def test_a_broken_architecture_file_is_one_line(finished, tmp_path, capsys):
    value = json.loads((finished / "architecture.json").read_text())
    value["choices"]["normal/op_2_0"] = "sep_conv_3x4"
    broken = Path(tmp_path / "broken.json")
    broken.write_text(json.dumps(value))
    for command in ("train", "profile"):
        assert facenas([command, str(broken)]) == 2
        error = capsys.readouterr().err
        assert "Did you mean 'sep_conv_3x3'" in error and error.count("\n") == 1


def test_the_error_tree_has_one_root():
    import searchspaces.errors as errors

    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, FacenasError)
