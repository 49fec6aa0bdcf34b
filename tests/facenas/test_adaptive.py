"""The PTA run as a user starts it: trained once, all configurations judged, measured, exported; resumed; refused."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from facenas.__main__ import main as facenas
from facenas.pipeline import search_command
from reports.progress import Watched
from searchspaces import Architecture, build_space
from searchspaces.architecture import load_weights
from searchspaces.pta import CONFIGURATIONS, REPORTED, choices_of, configuration_of

from ..evaluators.test_training import write_folder

TINY = [
    "--space", "pta", "--space-options", '{"width": 0.1, "image_size": 48}', "--search-epochs", "2",
    "--search-batch", "6", "--train-epochs", "1", "--train-batch", "6", "--candidate-epochs", "1",
    "--accelerator", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    pictures = write_folder(tmp_path_factory.mktemp("pictures"))
    return ["--data", "folder", "--data-root", str(pictures), *TINY]


@pytest.fixture(scope="module")
def finished(arguments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert search_command("single_path", [*arguments, "--seed", "1", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def table(finished):
    return json.loads((finished / "configurations.json").read_text())


def test_every_configuration_is_judged_and_the_best_is_the_result(finished, table):
    rows = {row["configuration"]: row for row in table["rows"]}
    assert list(rows)[:6] == list(REPORTED) and set(rows) == set(CONFIGURATIONS)
    candidates = [row for row in table["rows"] if row["configuration"] in REPORTED]
    best = min(candidates, key=lambda row: (row["val"]["eer"], row["mac"]))
    assert table["selected"] == best["configuration"]
    architecture = Architecture.load(finished)
    assert configuration_of(architecture.choices) == table["selected"]
    assert json.loads((finished / "metrics.json").read_text()) == best["metrics"]
    assert {c for c, row in rows.items() if row["trained"]} == {"HHH", "LHH", "HLH", "HHL", "LLL"}
    assert {c for c, row in rows.items() if row["recalibrated"]} == set(REPORTED)
    cost = json.loads((finished / "cost.json").read_text())
    assert cost["operations"]["mac"] == best["mac"] and cost["parameters"]["stored"] == best["parameters"]


def test_figures_come_from_the_one_file_of_weights(finished, table):
    from evaluators.configurations import judge
    from evaluators.tasks import build_task
    from searchspaces.folder import read_config

    task = build_task(SimpleNamespace(input_size=(3, 48, 48)), read_config(finished), progress=False)
    network = build_space("pta", **table["options"]).eval()
    load_weights(network, finished / "weights.safetensors")
    for name in ("HHH", "BBB", "LBH"):
        row = next(row for row in table["rows"] if row["configuration"] == name)
        assert judge(network.configure(name), task) == {"val": row["val"], "metrics": row["metrics"]}
        slim = Architecture("pta", table["options"], choices_of(name))
        own = slim.build(weights=finished / "weights.safetensors").eval()
        x = torch.randn(2, 3, 48, 48)
        with torch.no_grad():
            torch.testing.assert_close(own(x), network(x), rtol=1e-5, atol=1e-6)  # memory layouts differ


def test_latency_is_relative_to_mobilenet_measured_beside(table):
    reference = table["reference"]["latency"]["median_ms"]
    for row in table["rows"]:
        assert (row["latency"] is not None) == (row["configuration"] in REPORTED)
        if row["latency"]:
            assert row["relative_latency"] == pytest.approx(row["latency"]["median_ms"] / reference)


def test_mobilenet_is_trained_alone_beside_it(finished, table):
    reference = table["reference"]
    assert reference["name"] == "MobileNetV2" and reference["epochs"] == 2  # as many as the sampled network
    assert json.loads((finished / "mobilenet_v2" / "metrics.json").read_text()) == reference["metrics"]
    own = Architecture.load(finished / "mobilenet_v2")
    assert configuration_of(own.choices) == "HHH"
    assert reference["parameters"] == sum(parameter.numel() for parameter in own.build().parameters())


def test_files_for_an_application_and_the_report(finished):
    names = {path.name for path in (finished / "deploy").iterdir()}
    assert names >= {"pta.onnx", "tiers.json", *(f"{name}.onnx" for name in REPORTED)}
    assert "Configurations" in (finished / "report.html").read_text()
    assert facenas(["deploy", str(finished), "--repetitions", "2", "--configurations", "HHH,LLL"]) == 0


def test_who_watches_it_knows_its_stages(finished):
    seen = Watched(finished).look(0)
    assert (seen.status, seen.stages[1].title, seen.stages[-2].title) == ("finished", "sampled training", "MobileNetV2")
    assert [course.done for course in seen.courses] == [course.total for course in seen.courses] == [2, 2]


def test_the_search_log_counts_what_was_drawn(finished):
    import pandas as pd

    log = pd.read_csv(finished / "search.csv")
    assert list(log["epoch"]) == [0, 1] and {"train_loss", "val_loss", "val_eer", "val_auc"} <= set(log)
    drawn = log[[name for name in log if name.startswith("drawn_")]]
    assert set(drawn) == {"drawn_HHH", "drawn_LHH", "drawn_HLH", "drawn_HHL", "drawn_LLL"}
    assert (drawn.sum(axis=1) == 2).all()  # 12 pictures in batches of 6


def test_interrupted_after_any_stage_it_goes_on_to_the_same_run(finished, tmp_path):
    """As if it had been killed: what a later stage leaves is missing."""
    whole = (finished / "weights.safetensors").read_bytes()
    for number, lost in enumerate(
        [
            ("weights.safetensors", "configurations.json", "architecture.json", "metrics.json", "cost.json"),
            ("metrics.json", "report.html"),
        ]
    ):
        cut = tmp_path / str(number)
        shutil.copytree(finished, cut)
        for name in lost:
            (cut / name).unlink()
        assert search_command("single_path", ["--resume", "--out", str(cut)]) == 0
        assert (cut / "weights.safetensors").read_bytes() == whole
        for name in ("architecture.json", "metrics.json"):
            assert (cut / name).read_bytes() == (finished / name).read_bytes()
        again = json.loads((cut / "configurations.json").read_text())
        before = json.loads((finished / "configurations.json").read_text())
        assert [(r["configuration"], r["metrics"]) for r in again["rows"]] == [
            (r["configuration"], r["metrics"]) for r in before["rows"]
        ]
        assert again["reference"]["metrics"] == before["reference"]["metrics"]


@pytest.mark.parametrize("strategy", ["darts", "gumbel", "random_search"])
def test_other_strategies_choose_one_configuration_and_train_it(strategy, arguments, tmp_path):
    out = tmp_path / "run"
    more = ["--max-candidates", "2"] if strategy == "random_search" else []
    assert search_command(strategy, [*arguments, *more, "--no-baseline", "--out", str(out)]) == 0
    architecture = Architecture.load(out)
    network = architecture.build(weights=out / "weights.safetensors")
    assert network.configuration == configuration_of(architecture.choices)
    assert (out / "report.html").exists()


def test_single_path_one_shot_on_autofas(arguments, tmp_path):
    out = tmp_path / "run"
    options = ["--space", "autofas", "--space-options", '{"channels": 4, "layout": "RN", "image_size": 20}']
    more = ["--judged-paths", "3", "--no-baseline", "--out", str(out)]
    assert search_command("single_path", [*arguments, *options, *more]) == 0
    lines = [json.loads(line) for line in (out / "architectures.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    best = max(lines, key=lambda line: line["val"]["auc"])
    assert (
        Architecture.load(out).choices
        == Architecture("autofas", Architecture.load(out).options, best["choices"]).choices
    )
    assert json.loads((out / "provenance.json").read_text())["search_macs"] > 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--validated", "HHX"], "letter 3 is 'X'"),
        (["--validated", "HH"], "must have 3 letters"),
        (["--sampling", '{"LLL": 1.0}'], "--validated LLL"),
        (["--train-options", '{"width": 0.2}'], "trained once"),
        (["--sampling", '{"HHH": 0.5}'], "add up to 0.5"),
        (["--sampling", '{"HHQ": 1.0}'], "letter 3 is 'Q'"),
        (["--sampling", '{"HHH": 1.0}', "--uniform"], "exclude each other"),
        (["--supervision", "pixel"], "cross_entropy"),
        (["--space", "autofas", "--space-options", "{}", "--sampling", '{"HHH": 1.0}'], "leave it out"),
        (["--judged-paths", "0"], "at least 1"),
        (["--workers", "-1"], "at least 0"),
    ],
)
def test_wrong_options_are_answered_on_one_line(more, words, arguments, tmp_path, capsys):
    out = tmp_path / "run"
    assert search_command("single_path", [*arguments, *more, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("facenas: ") and error.count("\n") == 1
    assert not (out / "config.yaml").exists()


def test_pc_darts_on_branches_is_refused(arguments, tmp_path, capsys):
    assert search_command("pc_darts", [*arguments, "--warmup-epochs", "1", "--out", str(tmp_path / "run")]) == 2
    assert "PC-DARTS needs cells" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("damage", ["[]", "{", '{"rows": 3}', "no rows", "no val"])
def test_a_damaged_table_is_one_line_that_says_what_to_do(finished, damage, tmp_path, capsys):
    cut = tmp_path / "cut"
    shutil.copytree(finished, cut)
    content = json.loads((cut / "configurations.json").read_text())
    if damage == "no val":
        del content["rows"][3]["val"]
    elif damage == "no rows":
        del content["rows"]
    (cut / "configurations.json").write_text(json.dumps(content) if damage.startswith("no") else damage)
    for command in (["deploy", str(cut)], ["search", "single_path", "--resume", "--out", str(cut)]):
        assert facenas(command) == 2
        error = capsys.readouterr().err
        told = "Remove it" in error or "run the search again" in error
        assert "configurations.json" in error and told and error.count("\n") == 1


def test_slim_weights_are_refused_where_all_branches_are_needed(finished, tmp_path, capsys):
    from evaluators.train import save_weights

    cut = tmp_path / "cut"
    shutil.copytree(finished, cut)
    options = json.loads((finished / "configurations.json").read_text())["options"]
    save_weights(Architecture("pta", options, choices_of("LLL")).build(), cut / "weights.safetensors")
    assert facenas(["deploy", str(cut)]) == 2
    error = capsys.readouterr().err
    assert "lack the heavy branch of block 1" in error and error.count("\n") == 1
