"""Figures, tables and JSON of runs as files: legible, equal for equal runs, exact, and as the schema says."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from reports.__main__ import main
from reports.export import export
from reports.export_json import as_object, schema
from reports.export_tables import Column, Table, as_csv, as_latex, as_markdown, latex, overview_table
from reports.figures import figure_bytes
from reports.pictures import ALL_FIGURES
from reports.print_size import LEAST, WIDTHS, printed_figure, scale, shown_texts
from reports.run import Run

from .made_up_detector import write_detector_run

DOCS = Path(__file__).parents[2] / "docs" / "reports.md"


def strict(text: str) -> Any:
    """JSON without the NaN and Infinity that Python alone reads."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def is_valid(report: Any) -> bool:
    return jsonschema.Draft202012Validator(schema()).is_valid(report)


@pytest.fixture
def kinds_of_runs(run_folder: Path, pta_folder: Path, tmp_path: Path) -> list[Path]:
    return [run_folder, pta_folder, write_detector_run(tmp_path / "detector")]


def test_the_command_writes_every_format_and_says_how_many(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(run_folder), "--out", str(out)]) == 0
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert f"{len(files)} files" in capsys.readouterr().out
    for name in ("cells", "search", "training", "distribution", "baseline-cells"):
        assert {f"figures/{name}.{kind}" for kind in ("png", "svg", "pdf")} <= files
    for name in ("overview", "metrics", "layers"):
        assert {f"tables/{name}.{kind}" for kind in ("csv", "md", "tex")} <= files
    assert "report.json" in files


def test_equal_runs_give_equal_files(pta_folder: Path, tmp_path: Path) -> None:
    first, second = (export([pta_folder], tmp_path / name).files for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_reports_are_as_the_schema_says(kinds_of_runs: list[Path]) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(validator.schema)
    validator.validate(as_object([Run(path).read_all() for path in kinds_of_runs], [{"name": "x", "reason": "y"}]))


def test_the_schema_refuses_what_is_no_report(run_folder: Path) -> None:
    report = as_object([Run(run_folder).read_all()])
    assert is_valid(report)
    for key, value in (("format", 2), ("runs", []), ("more", 1), ("architectures", [{"run": "a"}])):
        assert not is_valid({**report, key: value})
    for key, value in (("value", "0.1"), ("search_s", -1.0), ("latency_ms", 3.0)):
        changed = [{**report["architectures"][0], key: value}]
        assert not is_valid({**report, "architectures": changed})


def test_damaged_numbers_become_null_and_unfinished_runs_are_told(run_folder: Path, tmp_path: Path) -> None:
    metrics = json.loads((run_folder / "metrics.json").read_text())
    metrics["acer"]["low"] = math.nan
    (run_folder / "metrics.json").write_text(json.dumps(metrics))
    (run_folder / "search.csv").write_text("epoch,train_loss,entropy\n0,nan,1.0\n1,inf,0.9\n2,0.5,0.8\n")
    (run_folder / "cost.json").unlink()
    export([run_folder], tmp_path / "out", "svg")
    report = strict((tmp_path / "out" / "report.json").read_text())
    assert is_valid(report)
    run = report["runs"][0]
    assert run["state"] == "unfinished" and "cost.json" in run["reason"]
    assert run["search"]["train_loss"] == [None, None, 0.5]
    assert next(line for line in run["metrics"] if line["metric"] == "acer")["low"] is None


def test_values_are_the_run_s_in_seconds_and_fractions(run_folder: Path, tmp_path: Path) -> None:
    export([run_folder], tmp_path, "svg")
    cost = json.loads((run_folder / "cost.json").read_text())
    metrics = json.loads((run_folder / "metrics.json").read_text())
    with (tmp_path / "tables" / "overview.csv").open(newline="") as file:
        found, random = csv.DictReader(file)
    assert float(found["time_s"]) * 1e3 == pytest.approx(cost["latency"][0]["median_ms"])
    assert float(found["value"]) == metrics["acer"]["value"] and found["parameters"] == "31937"
    assert (found["kind"], random["kind"]) == ("found", "random") and found["simulated"] == "true"
    report = strict((tmp_path / "report.json").read_text())
    assert report["runs"][0]["costs"]["operations_mac"] == cost["operations"]["mac"]
    assert sum(layer["macs"] or 0 for layer in report["runs"][0]["layers"]) == sum(
        layer["macs"] or 0 for layer in cost["layers"]
    )
    assert report["architectures"][0]["times"][0]["median_s"] == float(found["time_s"])


@pytest.mark.parametrize("width", WIDTHS)
def test_figures_can_be_read_at_their_width(kinds_of_runs: list[Path], width: str) -> None:
    drawn = 0
    for path in [*kinds_of_runs, *(path / "baseline" for path in kinds_of_runs if (path / "baseline").is_dir())]:
        run = Run(path).read_all()
        for name in ALL_FIGURES:
            figure, _ = printed_figure(run, name, width)
            if figure is None:
                continue
            drawn += 1
            assert min(float(text.get_fontsize()) for text in shown_texts(figure)) >= LEAST - 1e-6, name
            if name not in ("cells", "distribution"):  # these are as wide as their text needs
                assert figure.get_figwidth() == pytest.approx(WIDTHS[width])
            elif figure.get_figwidth() > WIDTHS[width]:
                assert name == "distribution" or min(t.get_fontsize() for t in shown_texts(figure)) == pytest.approx(7)
            box = figure.get_tightbbox()  # inches
            assert box.x0 > -0.05 and box.x1 < figure.get_figwidth() + 0.05, (path.name, name)
            assert box.y0 > -0.05 and box.y1 < figure.get_figheight() + 0.05, (path.name, name)
    assert drawn > 8


def test_stacked_panels_are_high_enough_and_hold_their_words(run_folder: Path) -> None:
    shares = {"edges": [0.0, 0.5, 1.0], "positive": [0.1, 0.9], "negative": [0.8, 0.2]}
    curve = {"far": [0.0, 0.1, 1.0], "frr": [0.9, 0.2, 0.0]}
    sides = {"positive": "the same person", "negative": "two people who are not the same"}
    counts = {"positive": 450, "negative": 45000}
    scores = {**sides, "counts": counts, "threshold": 0.4, "score": "similarity", "histogram": shares, "roc": curve}
    (run_folder / "scores.json").write_text(json.dumps(scores))
    run = Run(run_folder).read_all()
    assert run.baseline is not None
    for beside, name in ((run, "scores"), (run.baseline, "search")):
        figure, _ = printed_figure(beside, name, "column")
        assert figure is not None and len(figure.axes) == 2
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()
        for ax in figure.axes:
            assert ax.get_window_extent().height / figure.dpi > 0.9  # inches
        titles = [ax.get_title(place) for ax in figure.axes for place in ("left", "center")]
        labels = [label for ax in figure.axes for label in (ax.xaxis.label, ax.yaxis.label)]
        legends = [text for ax in figure.axes if (legend := ax.get_legend()) for text in legend.get_texts()]
        words = [*labels, *legends, *(text for text in shown_texts(figure) if text.get_text() in titles)]
        assert len(words) > 6
        for text in words:
            box = text.get_window_extent()
            assert box.x0 > -2 and box.x1 < figure.bbox.x1 + 2, text.get_text()
        boxes = [ax.get_tightbbox() for ax in figure.axes]
        assert boxes[0] is not None and boxes[1] is not None and boxes[0].y0 > boxes[1].y1 - 2  # nothing overlaps


def test_scaling_keeps_the_samples_of_a_legend_beside_their_words() -> None:
    def sizes() -> list[float]:
        figure.draw_without_rendering()
        boxes = [handle.get_window_extent() for handle in legend.legend_handles]
        return [
            side for box in [*boxes, *(t.get_window_extent() for t in legend.texts)] for side in (box.x0, box.width)
        ]

    figure = Figure(figsize=(6, 4))
    FigureCanvasAgg(figure)
    legend = figure.legend(handles=[Patch(label="light"), Line2D([], [], label="heavy")], ncols=2, loc=(0.1, 0.1))
    before = sizes()
    scale(figure, 0.5)
    assert sizes() == pytest.approx([side / 2 for side in before], rel=0.03, abs=1.5)


def test_a_pdf_embeds_its_fonts_as_truetype(run_folder: Path) -> None:
    figure, _ = printed_figure(Run(run_folder).read_all(), "training", "column")
    assert figure is not None
    pdf = figure_bytes(figure, "pdf")
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf and b"CreationDate" not in pdf


HOSTILE = 'a_b & 50 % of {x} $y$ #1 ~ ^ \\ | <b> [1] "q" `c` *d*\nnext'


def test_latex_and_markdown_escape_every_sign() -> None:
    table = Table(
        "t", HOSTILE, (Column(HOSTILE, HOSTILE), Column("n", "n", is_number=True)), [{HOSTILE: HOSTILE, "n": 1.5}]
    )
    written = latex(HOSTILE)
    assert not re.search(r"(?<!\\)[&%$#_]", written) and "\n" not in written
    assert written.replace(r"\{", "").replace(r"\}", "").count("{") == written.replace(r"\{", "").replace(
        r"\}", ""
    ).count("}")
    lines = as_latex(table).splitlines()
    assert lines[0].startswith("%") and lines[1:3] == [r"\begin{tabular}{lr}", r"\toprule"]
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"] and len(lines) == 8
    assert all(len(re.findall(r"(?<!\\)&", lines[i])) == 1 and lines[i].endswith(r" \\") for i in (3, 5))
    rows = as_markdown(table).splitlines()[2:]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [3, 3, 3] and rows[1] == "| --- | ---: |"
    assert r"\<b>" in rows[2]
    assert list(csv.reader(as_csv(table).splitlines(keepends=True))) == [[HOSTILE, "n"], [HOSTILE, "1.5"]]


def test_one_that_cannot_be_read_is_left_out_and_named(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = export([run_folder, tmp_path / "empty"], tmp_path / "out", "png")
    report = strict((tmp_path / "out" / "report.json").read_text())
    assert [each["name"] for each in report["unread"]] == ["empty"] == [each["name"] for each in done.unread]
    assert is_valid(report) and len(report["runs"]) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--formats", "pgn", "--out", "o"], "Did you mean png?"),
        (["--formats", ",", "--out", "o"], "names no format"),
        (["--width", "poster", "--out", "o"], "poster"),
        (["--out", "config.yaml"], "is a file"),
    ],
)
def test_wrong_options_are_told(
    run_folder: Path, options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(run_folder)
    assert main(["export", ".", *options]) != 0
    assert said in capsys.readouterr().err and not Path("o").exists()


def test_several_runs_need_a_folder(run_folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["export", str(run_folder), str(run_folder)]) != 0
    assert "--out" in capsys.readouterr().err


def test_the_example_of_the_docs_compares_two_reports(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    export([run_folder], tmp_path / "a", "png")
    changed = json.loads((run_folder / "metrics.json").read_text())
    changed["acer"] = {"value": 0.3, "low": 0.25, "high": 0.35}
    (run_folder / "metrics.json").write_text(json.dumps(changed))
    export([run_folder], tmp_path / "b", "png")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(DOCS), "exec"), {})
    assert "first: 11.8 % and 30.0 %: the intervals lie apart" in capsys.readouterr().out


def test_the_docs_name_every_key_of_a_report() -> None:
    text, described = DOCS.read_text(encoding="utf-8"), schema()
    for keys in (
        described["properties"],
        *(described["$defs"][name]["properties"] for name in ("architecture", "run")),
    ):
        assert [key for key in keys if f"`{key}`" not in text] == []


def test_overview_has_a_line_for_each_architecture(pta_folder: Path) -> None:
    table = overview_table([Run(pta_folder).read_all()])
    assert len(table.lines) == 28 and table.lines[0]["kind"] == "found"
