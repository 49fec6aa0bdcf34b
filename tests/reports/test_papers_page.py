"""The page of all papers' tables: each table and figure on it, deviations, results of others, what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from facenas.paper_experiments import EXPERIMENTS
from reports import papers
from reports.__main__ import main
from reports.paper_catalog import ALL_TABLES, KNOWN_ERRORS, NEEDS, TARGETS
from reports.paper_comparison import (
    CLOSE,
    EQUAL,
    NOT_EXPLAINED,
    REASONED,
    UNEXPLAINED,
    WANTING,
    Compared,
    Given,
    beside,
    compare_all,
    read_results,
)
from reports.paper_rates import AUTO_FAS_TABLE1
from reports.paper_tables import PAPER_TABLES, PTA_TABLE4
from reports.papers_page import as_json, cells, render_papers
from searchspaces.errors import ConfigError, RunFolderError

from .browser import Browser, Tab, chromium, running_browser
from .test_papers import MADE_UP_MS

EVIL = "<script>alert(1)</script>"


def made_up_times(networks: papers.Networks, repetitions: int) -> dict[str, dict[str, Any]]:
    """In place of a measurement."""
    common = {"runtime": "made up", "version": "0", "threads": 1, "dtype": "float32", "clock": "cpu", "warmup": 10}
    return {
        name: {**common, "median_ms": ms, "p25_ms": ms, "p75_ms": ms, "noisy": False} for name, ms in MADE_UP_MS.items()
    }


@pytest.fixture(scope="module")
def compared() -> Iterator[dict[str, Compared]]:
    """All tables; only the times are made up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(papers, "measure_networks", made_up_times)
        yield compare_all(1)


def result(experiment: str, value: float = 0.05, spread: float | None = None) -> dict[str, Any]:
    """What facenas.reproduce writes, with one value everywhere."""
    known = EXPERIMENTS[experiment]
    cell = {"mean": value, "deviation": spread}
    rows = [{"row": row.label, "ours": dict.fromkeys(known.columns, cell)} for row in known.rows]
    return {"table": experiment, "recipe": "paper", "rows": rows, "remarks": ["made up"]}


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


class Sections(HTMLParser):
    """The text of each section, by its id."""

    def __init__(self) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.links: list[str] = []
        self.now = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "section":
            self.now = found.get("id") or ""
        if tag == "a":
            self.links.append(found.get("href") or "")

    def handle_data(self, data: str) -> None:
        self.text[self.now] = self.text.get(self.now, "") + data + "\n"


def test_every_table_and_printed_figure_is_on_the_page(compared: dict[str, Compared]) -> None:
    page = Sections()
    page.feed(render_papers(compared))
    assert PAPER_TABLES.keys() <= ALL_TABLES.keys() <= page.text.keys()
    for name, table in ALL_TABLES.items():
        assert f"#{name}" in page.links
        for row, values in table.rows.items():
            assert row in page.text[name]
            for key, value in values.items():
                decimals = table.columns[key.removesuffix("_deviation")].decimals
                shown = {f"{value:.{decimals}f}", f"{value:g}"}
                assert any(re.search(rf"(?<![\d.]){re.escape(text)}(?![\d.])", page.text[name]) for text in shown), key


def test_deviations_are_those_of_another_computation(compared: dict[str, Compared]) -> None:
    exact = {  # from the papers' own text and counts of other tests
        ("pta-table4", "HHL", "parameters"): (1_906_434, 1_910_000),
        ("pta-table4", "BBB", "operations"): (120_467_970, 120_470_000),
        ("pta-table4", "LLL", "relative"): (MADE_UP_MS["LLL"] / MADE_UP_MS["HHH"], 0.80),
        ("auto-fas-table4", "Auto-FAS", "parameters"): (266_737, 270_000),
        ("auto-fas-table4", "Auto-FAS", "macs"): (532_955_232, 530_000_000),
        ("auto-fas-table4", "Auxiliary (Depth)", "macs"): (8_432_163_072, 8_500_000_000),
        ("auto-fas-table4", "ResNet-18", "parameters"): (11_689_512, 11_690_000),
        ("hatfas", "deit-tiny", "parameters"): (5_524_802, 5_000_000),
        ("asfd-table5-ratios", "RetinaFace (ResNet-50) to D2", "macs"): (33.41 / 20.48, 2.4),
    }
    for (name, row, key), (ours, paper) in exact.items():
        found = next(each for each in compared[name].rows if each.name == row).figures[key]
        assert found.deviation == pytest.approx((ours - paper) / paper, rel=1e-9), (name, row, key)


def test_a_deviation_has_a_reason_or_says_that_it_has_none(compared: dict[str, Compared]) -> None:
    for each in compared.values():
        for row in each.rows:
            for figure in row.compared:
                assert figure.is_equal == (figure.reason == ""), (each.table.name, row.name, figure.key)
    assert compared["airface"].rows[2].figures["parameters"].reason == NOT_EXPLAINED  # 1.003 where 0.99 is published
    slip = next(row for row in compared["pta-table4"].rows if row.name == "HLH")
    assert slip.figures["operations"].reason.startswith("a slip of the paper") and "96.51" in slip.errors[0]


def test_rows_are_counted_by_the_figure_that_deviates_most() -> None:
    row = {"HHH": {"parameters": Given(2.2264), "operations": Given(104.15), "relative": Given(1.0)}}

    def state(**changed: Given) -> str:
        return next(r for r in beside(PTA_TABLE4, {"HHH": row["HHH"] | changed}).rows if r.name == "HHH").state

    assert state() == EQUAL
    assert state(relative=Given(1.04)) == CLOSE
    assert state(relative=Given(1.06)) == UNEXPLAINED
    assert state(relative=Given(1.06, "known")) == REASONED
    assert beside(PTA_TABLE4, {}).rows[0].state == WANTING


def test_what_needs_data_has_no_figure_of_ours(compared: dict[str, Compared]) -> None:
    wanting = [each for each in compared.values() if each.count(WANTING) == len(each.rows)]
    assert len(wanting) == 13
    for each in wanting:
        headings, rows = cells(each)
        assert all(heading.endswith(": paper") for heading in headings) and not each.ours
        assert all(len(row.cells) == len(each.table.columns) for row in rows) and each.table.name in NEEDS
    for name, key in (("asfd-table5", "easy"), ("pta-table4", "sd845"), ("auto-fas-table4", "acer")):
        assert all(row.figures[key].ours is None for row in compared[name].rows)


def test_known_errors_stand_at_rows_that_exist() -> None:
    assert all(row in ALL_TABLES[name].rows for name, rows in KNOWN_ERRORS.items() for row in rows)


def test_acer_is_the_mean_of_both_errors_but_in_the_row_that_is_said_to_be_wrong() -> None:
    wrong = {
        row
        for name in ("auto-fas-table1", "auto-fas-table3", "pta-table3")
        for row, values in ALL_TABLES[name].rows.items()
        if abs((values["apcer"] + values["bpcer"]) / 2 - values["acer"]) > 0.0501
    }
    assert wrong == {"protocol 4: Auxiliary"} == KNOWN_ERRORS["auto-fas-table1"].keys()


def test_figures_agree_with_those_of_reproduce() -> None:
    assert TARGETS.keys() == EXPERIMENTS.keys()
    for name, experiment in EXPERIMENTS.items():
        named = {(row.label, heading) for row in experiment.rows for heading in row.paper}
        assert TARGETS[name].keys() == named
        for row in experiment.rows:
            for heading, printed in row.paper.items():
                table, line, key = TARGETS[name][row.label, heading][0]
                values = papers.iso_rows() if table == "pta-table3" else ALL_TABLES[table].rows
                mean, _, deviation = printed.partition(" +- ")
                assert values[line][key] == float(mean)
                assert not deviation or values[line][f"{key}_deviation"] == float(deviation)


def test_results_fill_their_rows(tmp_path: Path) -> None:
    for index, name in enumerate(EXPERIMENTS):
        folder = tmp_path / str(index)
        folder.mkdir()
        found = read_results([written(folder / "table.json", result(name))])
        values = {given.value for rows in found.values() for cells in rows.values() for given in cells.values()}
        assert found == read_results([folder]) and values == {5.0}
    found = read_results([written(tmp_path / "a.json", result("auto-fas-1", 0.13, 0.02))])
    table = beside(AUTO_FAS_TABLE1, found["auto-fas-table1"])
    row = next(row for row in table.rows if row.name == "protocol 4: Auto-FAS")
    assert row.figures["acer"].deviation == pytest.approx(13 / 13.6 - 1)
    assert row.reasons[0].endswith("made up")
    quick = read_results([written(tmp_path / "b.json", {**result("auto-fas-1"), "recipe": "quick"})])
    assert quick["auto-fas-table1"][row.name]["acer"].reason == "recipe quick, not the paper's; made up"
    bare = read_results([written(tmp_path / "c.json", {**result("auto-fas-1"), "remarks": []})])
    assert f"ACER: {NOT_EXPLAINED}" in beside(AUTO_FAS_TABLE1, bare["auto-fas-table1"]).rows[4].reasons[0]
    line = next(line for line in cells(table)[1] if line.name == row.name)
    assert "13 ± 2" in line.cells or "13.00 ± 2.00" in line.cells or "13.0 ± 2.0" in line.cells
    others = [row for row in table.rows if not row.name.endswith("Auto-FAS")]
    assert len(others) == 16 and all(row.state == WANTING for row in others)


@pytest.mark.parametrize(
    ("content", "wording"),
    [
        ([], "no result of facenas.reproduce"),
        ({"table": "auto-fas-1"}, "no result of facenas.reproduce"),
        ({"table": "auto-fas-9", "rows": [], "recipe": "", "remarks": []}, "auto-fas-1"),
        (result("auto-fas-1", 5.0), "no fraction"),
        (result("auto-fas-1", float("nan")), "no fraction"),
        (result("auto-fas-1", None), "mean is missing"),  # type: ignore[arg-type]
    ],
)
def test_wrong_results_are_refused(content: Any, wording: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(wording)):
        read_results([written(tmp_path / "table.json", content)])


def test_missing_damaged_and_double_results_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "a.json", result("pta-3"))
    with pytest.raises(ConfigError, match="both have pta-table3"):
        read_results([file, file])
    with pytest.raises(RunFolderError, match="No file"):
        read_results([tmp_path / "none.json"])
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(RunFolderError, match="not valid JSON"):
        read_results([tmp_path / "b.json"])


@pytest.mark.parametrize(
    ("arguments", "wording"),
    [
        (["--out", "x.md"], "--table"),
        (["--out", "x.html", "--results", "none.json"], "No file none.json"),
        (["--results", "none.json"], "--out PAGE.html"),
        (["--table", "hatfas", "--results", "none.json"], "leave --table out"),
        (["--profile", "text"], "--table"),
    ],
)
def test_wrong_arguments_get_one_line(arguments: list[str], wording: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["papers", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("facenas: ") and error.count("\n") == 1 and wording in error


def test_values_are_escaped(compared: dict[str, Compared]) -> None:
    each = compared["pta-table4"]
    device = {"cpu": EVIL, "usable_cores": 1, "os": EVIL}
    evil = replace(each, table=replace(each.table, title=EVIL), notes=(EVIL,), device=device)
    page = render_papers({**compared, "pta-table4": evil})
    assert "<script" not in page and page.count("&lt;script&gt;alert(1)") >= 4
    assert "script-src" not in page and "default-src 'none'" in page and "http" not in page.partition("<body>")[2]


def test_command_writes_the_page_and_the_same_as_json(
    compared: dict[str, Compared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reports.papers_page.compare_with_progress", lambda repetitions, results: compared)
    out = tmp_path / "papers.html"
    assert main(["papers", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert out.read_text() == render_papers(compared) and told == json.loads(as_json(compared))
    assert told["format"] == 1 and len(told["tables"]) == len(ALL_TABLES)
    assert sum(told["rows"].values()) == sum(len(table.rows) for table in ALL_TABLES.values())
    assert main(["papers", "--out", str(tmp_path / "p.json")]) == 0
    assert json.loads((tmp_path / "p.json").read_text()) == told


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.mark.skipif(chromium() is None, reason="install Debian's chromium to test the page: apt-get install chromium")
@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1100, False)])
def test_page_in_a_browser(
    compared: dict[str, Compared], browser: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    path = tmp_path / "papers.html"
    path.write_text(render_papers(compared), encoding="utf-8")
    tab = Tab(browser, path, (width, 900), dark)
    try:
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert tab.complaints == [] and tab.requests == [path.resolve().as_uri()]
        ground = tab.run("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(16, 19, 23)" if dark else "rgb(244, 245, 248)")
        tab.click('a[href="#asfd-table5"]')
        assert tab.run("location.hash") == "#asfd-table5"
        assert -1 <= tab.run("document.querySelector('#asfd-table5').getBoundingClientRect().top") < 900
    finally:
        tab.close()
