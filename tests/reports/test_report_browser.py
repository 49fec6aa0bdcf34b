"""The page in a real browser: what its script adds, with mouse and keyboard, wide and narrow, light and dark."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports import write_report
from reports.overview import rows
from reports.page import Page, _view, render
from reports.pareto import pareto_front
from reports.pareto_view import COSTS, points
from reports.recommendation import groups
from reports.run import Run
from searchspaces import Architecture

from .browser import Browser, Tab, chromium, running_browser
from .conftest import random_choices, write_baseline, write_pta_run, write_run
from .made_up_detector import write_detector_run

pytestmark = pytest.mark.skipif(
    chromium() is None, reason="install Debian's chromium to test the page: apt-get install chromium"
)
EVIL, LONG = "<script>alert(1)<b>", "long-" * 50
Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two searches with baselines and evil names, one with its exported network, a sampled training, a detector."""
    folder = tmp_path_factory.mktemp("runs")
    first = write_run(folder / EVIL, acer=0.05)
    write_baseline(first / "baseline")
    options = {"channels": 4, "layout": "NRN", "stem_multiplier": 1, "image_size": 32}
    found = Architecture("autofas", options, random_choices(1))
    found.save(first / "architecture.json")
    from hardware.profile import cost_of

    cost = cost_of(found.build(seed=0), found.input_size, folder=first, repetitions=5)
    (first / "cost.json").write_text(json.dumps(cost))
    second = write_run(folder / LONG, seed=2, acer=0.3)
    return [first, second, write_pta_run(folder / "pta"), write_detector_run(folder / "detector")]


@pytest.fixture(scope="module")
def report(runs: list[Path]) -> Path:
    return write_report(runs, runs[0].parent / "report.html")


@pytest.fixture
def show(browser: Browser, report: Path) -> Iterator[Open]:
    """Opens the page; at the end it must have asked for nothing but itself, and nothing may have gone wrong in it."""
    tabs: list[Tab] = []

    def opened(path: Path = report, **options: Any) -> Tab:
        tabs.append(Tab(browser, path, **options))
        return tabs[-1]

    yield opened
    for tab in tabs:
        assert tab.complaints == []
        assert len(tab.requests) == 1 and tab.requests[0].endswith(".html")
        tab.close()


def names(tab: Tab) -> list[str]:
    """The architectures that the table shows, from top to bottom."""
    shown = (
        "[...document.querySelectorAll('#table tr[data-kind]')].filter(r => !r.hidden).map(r => r.cells[0].innerText)"
    )
    return list(tab.run(shown))


def column(tab: Tab, index: int, task: str = "antispoofing") -> list[float | None]:
    cells = (
        f"[...document.querySelectorAll('#table tr[data-task={task}]')].map(r => r.cells[{index}].dataset.v ?? null)"
    )
    return [None if value is None else float(value) for value in tab.run(cells)]


def test_columns_sort_within_what_may_be_compared(show: Open) -> None:
    tab = show()
    head = "#table thead th:nth-child(2)"
    for way, sign in (("ascending", 1), ("descending", -1)):
        tab.click(f"{head} button")
        assert tab.run(f"document.querySelector('{head}').ariaSort") == way
        errors = [value for value in column(tab, 1) if value is not None]
        assert errors == sorted(errors, key=lambda value: sign * value) and len(errors) > 25
    tab.click("#table thead th:nth-child(3) button")  # a device that few were measured on: the others stay last
    times = column(tab, 2)
    known = [time for time in times if time is not None]
    assert times[: len(known)] == sorted(known) and None in times
    tasks = "b => new Set([...b.querySelectorAll('tr[data-task]')].map(r => r.dataset.task)).size"
    in_groups = tab.run(f"[...document.querySelectorAll('#table tbody')].map({tasks})")
    assert len(in_groups) > 1 and set(in_groups) == {1}


def test_filters_hide_rows_and_points(show: Open) -> None:
    tab = show()
    whole = len(names(tab))
    tab.choose("#find", "configuration HH")
    assert {name.split("\n")[1] for name in names(tab)} == {"configuration HHL, selected", "configuration HHH"} | {
        f"configuration {name}" for name in ("HHB", "BHH", "LHH")
    }
    assert tab.run("document.querySelector('#count').textContent") == f"5 of {whole} shown"
    tab.choose("#group", str(group_index(tab, "pta")))
    tab.choose("#cost", "macs")
    assert tab.run("document.querySelectorAll('#plot .point').length") == 5
    tab.choose("#find", "")
    tab.choose("[data-filter=kind]", "random")
    assert all("random" in name for name in names(tab)) and len(names(tab)) == 2
    tab.choose("[data-filter=space]", "pta")
    assert names(tab) == [] and tab.run("document.querySelector('#plot').innerText") != ""


def group_index(tab: Tab, run: str) -> int:
    """The group of a run among those of the view."""
    data = json.loads(tab.run("document.querySelector('#architectures').textContent"))
    return next(i for i, group in enumerate(data["groups"]) if any(row["name"] == run for row in group["rows"]))


def test_the_view_finds_the_front_that_python_finds(show: Open, runs: list[Path]) -> None:
    tab = show()
    made = groups(rows(map(Run, runs)))
    options = tab.run("[...document.querySelectorAll('#group option')].map(o => o.textContent)")
    assert options == [group.title for group in made]
    checked = 0
    for index, group in enumerate(made):
        tab.choose("#group", str(index))
        for cost in tab.run("[...document.querySelectorAll('#cost option')].map(o => o.value)"):
            tab.choose("#cost", cost)
            key = group.devices[int(cost[5:])] if cost.startswith("time:") else cost
            assert cost.startswith("time:") or cost in COSTS
            drawn = tab.run("[...document.querySelectorAll('#plot .front')].map(a => Number(a.dataset.row))")
            usable = [
                row for row in group.rows if row.value is not None and (key in row.times or getattr(row, key, None))
            ]
            shown = points(group, key)
            expected = {usable[shown.index(point)].name for point in pareto_front(shown, group.higher)}
            assert {group.rows[row].name for row in drawn} == expected
            checked += 1
    assert checked >= 6


def test_a_point_leads_to_its_architecture(show: Open) -> None:
    tab = show()
    assert not tab.run("[...document.querySelectorAll('details.run')].some(d => d.open)")
    tab.choose("#group", str(group_index(tab, "pta")))
    tab.choose("#cost", "macs")
    tab.run("document.querySelector('#plot .point.reference').focus()")
    assert "MobileNetV2, trained by itself: ACER 6.8 %" in tab.run("document.querySelector('#told').textContent")
    tab.press("Enter")
    opened = "[...document.querySelectorAll('details.run')].filter(d => d.open).map(d => d.id)"
    tab.wait_for(lambda: tab.run(opened) == ["run-3-pta-whole"])
    assert tab.run("location.hash") == "#run-3-pta-configurations"
    top = "document.querySelector('#run-3-pta-configurations').getBoundingClientRect().top"
    assert tab.wait_for(lambda: abs(tab.run(top)) < 300)


def test_everything_is_reached_by_the_keyboard(show: Open) -> None:
    tab = show(size=(1200, 900))
    reached, tables = set(), 0
    for _ in range(60):
        tab.press("Tab")
        told = tab.run(
            "(() => { const e = document.activeElement, s = getComputedStyle(e); "
            "return [e.id || e.dataset.filter || e.className.baseVal || e.tagName, s.outlineStyle]; })()"
        )
        reached.add(told[0])
        assert told[1] != "none" or "point" in told[0], told  # a focus that can be seen; points have a halo
        if told[0] == "BUTTON" and tab.run("!!document.activeElement.closest('#table thead')"):
            tables += 1
            if tables == 1:
                tab.press("Enter")
                assert tab.run("document.activeElement.parentElement.ariaSort") == "ascending"
    assert {"find", "strategy", "A"} <= reached and tables >= 8


def test_the_slider_shows_the_shares_of_an_epoch(show: Open, runs: list[Path]) -> None:
    tab = show()
    tab.run("document.querySelector('details.run').open = true")
    slider = ".evolution input[type=range]"
    tab.run(f"document.querySelector('{slider}').focus()")
    tab.press("Home")
    assert tab.run(f"document.querySelector('{slider}').value") == "0"
    for _ in range(12):
        tab.press("ArrowRight")
    line = Run(runs[0]).history[12]
    shares, operations = line["probabilities"]["normal/0_2"], line["operations"]
    name, percent = tab.run("document.querySelector('.strip .now').textContent").removesuffix(" %").rsplit(" ", 1)
    assert name == operations[shares.index(max(shares))] and abs(float(percent) / 100 - max(shares)) <= 0.02
    widths = "[...document.querySelectorAll('.strip .shares')][0].querySelectorAll('path')"
    total = tab.run(f"[...{widths}].reduce((sum, p) => sum + p.getBBox().width, 0)")
    assert total == pytest.approx(1000, abs=25)
    assert tab.run("document.querySelector('.evolution output').textContent").startswith("12")


def test_a_drawing_can_be_zoomed(show: Open) -> None:
    tab = show()
    tab.run("document.querySelector('details.run').open = true")
    box = "document.querySelector('figure.zoom svg').viewBox.baseVal.width"
    whole = tab.run(box)
    tab.click("figure.zoom .bar button:nth-child(1)")
    assert tab.run(box) == pytest.approx(whole / 1.4, rel=1e-3)
    tab.run("document.querySelector('figure.zoom .scroll').focus()")
    left = "document.querySelector('figure.zoom svg').viewBox.baseVal.x"
    before = tab.run(left)
    for key in ("+", "ArrowRight"):
        tab.press(key)
    assert tab.run(box) == pytest.approx(whole / 1.96, rel=1e-3) and tab.run(left) > before
    tab.press("0")
    assert tab.run(box) == pytest.approx(whole) and tab.run(left) == 0


def test_what_can_be_copied_can_be_trained(show: Open, runs: list[Path], tmp_path: Path) -> None:
    tab = show()
    text = tab.run("document.querySelector('pre[data-copy=genotype]').textContent")
    (tmp_path / "architecture.json").write_text(text)
    assert Architecture.load(tmp_path) == Architecture.load(runs[0])
    tab.run("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve(); }")
    tab.run("for (const d of document.querySelectorAll('details')) d.open = true")
    tab.click(".copy + pre[data-copy=genotype]")  # not the button: nothing is copied
    assert tab.run("window.copied") is None
    tab.run("document.querySelector('.copy').click()")
    assert tab.run("window.copied") == text


def test_names_of_runs_stay_text(show: Open) -> None:
    tab = show()
    assert any(name.startswith(EVIL) for name in names(tab))
    assert tab.run("document.scripts.length") == 2


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_the_screen(show: Open, width: int) -> None:
    tab = show(size=(width, 800))
    tab.run("for (const d of document.querySelectorAll('details')) d.open = true")
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("document.querySelector('#plot svg').getBoundingClientRect().right") <= width


CONTRAST = """(() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v / 255 <= .04045 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.map(linear); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = channels(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
  const found = [];
  const texts = 'p, td, th, a, span, button, b, label, summary, li, h1, h2, h3, code, figcaption, text';
  for (const e of document.querySelectorAll(texts)) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const ink = channels(e.localName === 'text' ? style.fill : style.color).slice(0, 3);
    if (e.closest('svg.figure') && new Set(ink).size === 1 && ink[0] % 255 === 0) continue;  // on an operation's colour
    const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) found.push([e.textContent.slice(0, 40), e.className, (a + .05) / (b + .05)]);
  }
  return found;
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_contrasts_with_what_is_behind_it(show: Open, dark: bool) -> None:
    tab = show(dark=dark)
    tab.run("for (const d of document.querySelectorAll('details')) d.open = true")
    grounds = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (grounds == "rgb(16, 19, 23)") is dark
    assert tab.run(CONTRAST) == []


def test_on_paper_nothing_is_cut_off_and_nothing_asks_for_a_click(show: Open) -> None:
    tab = show(size=(750, 1000))
    tab.send("Emulation.setEmulatedMedia", media="print")
    tab.run("for (const d of document.querySelectorAll('details')) d.open = true")
    assert tab.run("document.querySelector('#table').getBoundingClientRect().right") <= 750
    shown = "[...document.querySelectorAll('.controls, .bar, .copy')].filter(e => e.getClientRects().length).length"
    assert tab.run(shown) == 0


def test_without_script_all_can_be_read(show: Open, browser: Browser) -> None:
    tab = show(script=False)
    told = json.dumps(tab.send("Accessibility.getFullAXTree"))
    for text in ("Error against cost", "configuration HHH", "Which one for which budget", "against cost", "The runs"):
        assert text in told
    assert "Zoom in" not in told and "Play" not in told  # nothing is offered that would do nothing


def test_fifty_runs_fit_and_open_quickly(show: Open, runs: list[Path], tmp_path: Path) -> None:
    """Fifty copies of three views: drawing fifty would take minutes and show nothing else."""
    page = Page()
    for i in range(3):
        folder = shutil.copytree(runs[0], tmp_path / f"run {i}")
        page.views.append(_view(Run(folder).read_all(), None, f"{i}-", page.styles, many=True))
    page.views = [page.views[i % 3] for i in range(50)]
    out = tmp_path / "fifty.html"
    out.write_text(render(page))
    assert out.stat().st_size <= 6_000_000
    tab = show(out)
    assert len(names(tab)) == 100 and tab.seconds < 6  # two seconds on an idle machine; tests share theirs
