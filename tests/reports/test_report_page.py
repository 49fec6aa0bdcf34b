"""The page: complete, self-contained, escaped, and written from whatever a folder holds."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from reports import page, write_report
from reports.__main__ import report
from reports.curves import candidates_figure, search_figure, training_figure
from reports.distribution import distribution_figure
from reports.run import Run
from reports.sentences import shortcut_sentence
from searchspaces.cli import run_command
from searchspaces.errors import RunFolderError

VOID = {"meta", "br", "hr", "link", "img", "input"}


class Document(HTMLParser):
    """Tags, ids and text of a page; fails on tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        self._note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self._note(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "svg", "defs", "script"):
            self.text += data

    def _note(self, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        self.addresses += [v for k, v in values.items() if k in ("href", "xlink:href", "src") and v]

    @property
    def words(self) -> str:
        return " ".join(self.text.replace("\u00a0", " ").split())


def allowed(html: str, directive: str, tag: str) -> bool:
    """Whether the policy names the hash of the page's only element of that kind."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return policy is not None and f"{directive} 'sha256-{digest}';" in policy[1]


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures cost seconds and have tests of their own."""
    monkeypatch.setattr(page, "draw_figure", lambda run, name: (None, ""))


def test_complete_page(run_folder: Path) -> None:
    out = write_report([run_folder], run_folder / "report.html")
    html = out.read_text()
    document = Document(html)
    for phrase in (
        "Simulated data.", "11.8 %", "95 % interval 8.3 to 15.3 %", "31,937 exactly", "61.2 M", "Intel(R) Xeon(R)",
        "No ranking is justified: the 95 % intervals overlap", "APCER, replay", "ISO/IEC 30107-3",
        "3 of 8 edges of the normal cell are skip_connect", "Portraits: public domain collections.", "optimiser.betas",
        "reaches ACER 34.0 %", "48 reproduces Table 4",
        "python -m strategies.pc_darts --config", "None: every file is there",
    ):  # fmt: skip
        assert phrase in document.words, phrase
    assert html.count('<svg class="figure"') == 6  # the error against cost stands still for those without script
    for name in ("cells", "search", "distribution", "training", "baseline-cells", "baseline-search"):
        assert (run_folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert document.tags["script"] == 2 and not document.tags["link"] and not document.tags["img"]
    assert all(address.startswith("#") for address in document.addresses)
    assert not re.search(r"url\((?!#)|@import", html)
    assert {a[1:] for a in document.addresses} <= set(document.ids)
    assert max(Counter(document.ids).values()) == 1
    # the figures follow the colour scheme
    assert "var(--ink)" in html and "var(--paper)" in html
    assert "#1b1f24" not in html.split("</style>")[1]
    # nothing needs more than the policy allows: one style sheet, one script, by their hashes
    assert " style=" not in html and not re.search(r"<[^>]+\son\w+=", html)
    assert allowed(html, "style-src", "style") and allowed(html, "script-src", "script")


def test_folder_with_only_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("space: autofas\n")
    document = Document(write_report([tmp_path], tmp_path / "report.html").read_text())
    for file in ("search.csv", "architecture.json", "architectures.jsonl", "metrics.json", "training.csv", "cost.json"):
        assert f"{file} is missing" in document.words
    assert "does not say what its data are" in document.words
    assert not document.tags["svg"]


def test_values_are_escaped(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "ALL_FIGURES", ("distribution",))
    monkeypatch.setattr(page, "BASELINE_FIGURES", ())
    evil = '<script>alert("x")</script>'
    for name, key in (
        ("data.json", "credit"),
        ("data.json", "name"),
        ("provenance.json", "torch"),
        ("cost.json", "device"),
    ):
        path = run_folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: evil}))
    for folder in (run_folder, run_folder / "baseline"):
        config = yaml.safe_load((folder / "config.yaml").read_text()) | {evil: evil, "data": evil}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    history = run_folder / "architectures.jsonl"
    history.write_text(history.read_text().replace("sep_conv_5x5", "<script>x").replace("3 of 8", "<script>3 of 8"))
    html = write_report([run_folder], run_folder / "report.html").read_text()
    assert html.count("<script") == 2 and "&lt;script&gt;" in html  # the page's own: its data and its script
    Document(html)


JUNK: list[Any] = [None, "text", [1, "a", None], {"x": {"y": [{}]}}, -1e300]


@pytest.mark.parametrize("file", ["metrics.json", "cost.json", "data.json", "provenance.json"])
def test_wrong_values_anywhere_do_not_crash(run_folder: Path, file: str, no_figures: None) -> None:
    for slow in ("architecture.json", "architectures.jsonl", "search.csv", "training.csv"):
        (run_folder / slow).unlink()
    path = run_folder / file
    original = json.loads(path.read_text())
    for key, value in original.items():
        inner = [(key, name) for name in value] if isinstance(value, dict) else []
        for keys in [(key,), *inner]:
            for junk in JUNK if len(keys) == 1 else JUNK[1:3]:
                changed = json.loads(json.dumps(original))
                target = changed if len(keys) == 1 else changed[key]
                target[keys[-1]] = junk
                path.write_text(json.dumps(changed))
                views = [page._view(Run(run_folder).read_all(), run_folder, "")]
                assert "How to rebuild" in page.render(views), (keys, junk)


@pytest.mark.parametrize(
    "line",
    [
        {"epoch": "x", "probabilities": {"normal/0_2": [1, 2]}, "operations": ["none"]},
        {"probabilities": {"normal/0_2": "abc", "normal/beta_2": None}, "operations": 5},
        {"probabilities": {"normal/0_2": [0.5, float("nan")]}, "operations": ["none", "skip_connect"]},
        {"probabilities": [], "operations": []},
        {"epoch": 0, "guard": {"a": 1}},
    ],
)
def test_wrong_distributions_do_not_crash(line: dict[str, Any]) -> None:
    figure = distribution_figure([line], {"normal/input_2": "x", "normal/input_3": [[0], None]})
    assert figure is None or figure.axes or figure.subfigs


def test_distribution_has_a_panel_for_every_edge(run_folder: Path) -> None:
    run = Run(run_folder)
    figure = distribution_figure(run.history, run.architecture["choices"])
    assert figure is not None
    titles = [[ax.get_title(loc="left") for ax in part.axes if ax.axison] for part in figure.subfigs]
    assert [sum("→" in title for title in part) for part in titles] == [14, 14]
    assert [sum("β" in title for title in part) for part in titles] == [4, 4]
    assert [sum(":" in title for title in part) for part in titles] == [8, 8]  # the edges that were kept
    one = distribution_figure(run.history[:1], {})
    assert one is not None and len(one.subfigs) == 2


def test_curves_draw_what_there_is(run_folder: Path) -> None:
    run = Run(run_folder)
    assert run.baseline is not None
    full = search_figure(run.search, [3])
    assert full is not None and len(full.axes) == 5
    some = search_figure(run.search[["epoch", "val_loss"]])
    assert some is not None and len(some.axes) == 1
    assert search_figure(run.search.iloc[:0]) is None and training_figure(run.training[["epoch"]]) is None
    random = search_figure(run.baseline.search)
    assert random is not None and len(random.axes) == 2
    best = random.axes[1].get_lines()[0].get_ydata()
    assert best[-1] == run.baseline.search["val_auc"].max() and (best[:-1] <= best[1:]).all()
    assert candidates_figure(run.baseline.search.drop(columns="val_auc")) is None


def test_several_runs_share_a_page(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "ALL_FIGURES", ("cells",))
    first, second = make_run("one <b>", acer=0.05), make_run("two", acer=0.3, seed=2)
    out = tmp_path / "pages" / "both.html"
    html = write_report([first, second], out).read_text()
    document = Document(html)
    assert "2 runs" in document.words and "5.0 %" in document.words and "30.0 %" in document.words
    assert max(Counter(document.ids).values()) == 1
    assert {a[1:] for a in document.addresses} <= set(document.ids)
    assert not list(out.parent.glob("*.png"))
    write_report([first, second], out, pictures=True)
    assert sorted(path.name for path in out.parent.glob("*-cells.png")) == ["1-one-b-cells.png", "2-two-cells.png"]


def test_a_damaged_run_costs_only_itself(make_run: Callable[..., Path], tmp_path: Path, no_figures: None) -> None:
    good, torn, old, begun = (make_run(name) for name in ("good", "torn", "old", "begun"))
    (torn / "metrics.json").write_text('{"acer":')
    cost = json.loads((old / "cost.json").read_text())
    (old / "cost.json").write_text(json.dumps({**cost, "format": 7}))
    for file in ("metrics.json", "cost.json", "training.csv", "architecture.json"):
        (begun / file).unlink()
    empty = tmp_path / "empty"
    empty.mkdir()
    words = Document(write_report([good, torn, empty, old, begun], tmp_path / "x.html").read_text()).words
    assert "empty " in words and "holds no config.yaml" in words
    assert "torn is damaged: metrics.json cannot be read" in words
    assert "old is damaged: cost.json is of format 7, but this version reads format 1" in words
    assert "begun is unfinished: architecture.json, metrics.json and cost.json are not there yet." in words
    assert "good is" not in words and "4 runs" in words and "11.8 %" in words


def test_a_run_that_breaks_the_page_is_named_on_it(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(run: Run, name: str) -> tuple[None, str]:
        if run.name == "strange":
            raise KeyError("what nobody thought of")
        return None, ""

    monkeypatch.setattr(page, "draw_figure", draw)
    runs = [make_run("good"), make_run("strange")]
    words = Document(write_report(runs, tmp_path / "x.html").read_text()).words
    assert "strange KeyError: 'what nobody thought of'" in words and "1 run" in words
    with pytest.raises(RunFolderError, match="None of the folders"):
        write_report([tmp_path, tmp_path], tmp_path / "y.html")


def test_one_of_several_may_hold_no_run_but_must_be_there(
    make_run: Callable[..., Path], no_figures: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, empty, out = make_run("good"), tmp_path / "empty", ["--out", str(tmp_path / "x.html")]
    empty.mkdir()
    assert run_command(report, [str(good), str(empty), *out]) == 0
    assert run_command(report, [str(good), str(tmp_path / "nowhere"), *out]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert run_command(report, [str(empty), *out]) == 2


@pytest.mark.parametrize(
    ("acer", "half", "wording"),
    [
        (0.1, 0.02, "its whole interval lie below"),
        (0.3, 0.06, "its interval reaches the bar"),
        (0.4, 0.05, "does not beat it"),
    ],
)
def test_shortcut_bar(make_run: Callable[..., Path], acer: float, half: float, wording: str) -> None:
    assert wording in (shortcut_sentence(Run(make_run("bar", acer=acer, half=half))) or "")


def test_command(run_folder: Path, no_figures: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_command(report, [str(run_folder)]) == 0
    assert capsys.readouterr().out.strip() == str(run_folder / "report.html")
    assert (run_folder / "report.html").is_file()
    assert run_command(report, [str(run_folder), "--out", str(tmp_path / "x.html")]) == 0
    assert (tmp_path / "x.html").is_file()
    assert run_command(report, [str(run_folder), str(run_folder)]) == 2
    assert "--out" in capsys.readouterr().err
    assert run_command(report, [str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("facenas: ") and error.count("\n") == 1


def test_page_cannot_be_a_folder(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="it is a folder"):
        write_report([run_folder], tmp_path)
    with pytest.raises(RunFolderError, match="at least one"):
        write_report([], tmp_path / "x.html")
