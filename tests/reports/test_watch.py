"""A running search in the terminal: real processes, files that are cut anywhere, names that are no plain text."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from rich.console import Console

from reports.__main__ import main
from reports.progress import Course, Stage, Watched, genotype_of, stages_of, table_rows
from reports.watch import Log, ending_of, page_of
from reports.watch_frame import as_line, frame, left, safe, sparkline
from searchspaces.errors import ConfigError, RunFolderError
from searchspaces.folder import is_held, open_run

from ..evaluators.test_training import write_folder
from .conftest import write_baseline, write_pta_run, write_run

TINY = [
    "--space", "autofas", "--space-options", '{"channels": 4, "layout": "RN", "image_size": 20, "nodes": 2}',
    "--search-epochs", "4", "--search-batch", "6", "--train-epochs", "2", "--train-batch", "6", "--accelerator", "cpu",
    "--guard", "warn", "--no-baseline", "--threads", "1",
]  # fmt: skip
# who runs the tests may have switched Ctrl-C off, which a child would inherit
INTERRUPTIBLE = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from reports.__main__ import main; sys.exit(main())"
)
HOLDER = (
    "import sys; from pathlib import Path; from searchspaces.folder import open_run\n"
    "with open_run(Path(sys.argv[1]), resume=True, overwrite=False): print('held', flush=True); input()"
)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "a")


@contextmanager
def held(run: Path):
    """Another process works on the run, until the block ends or it is killed."""
    work = [sys.executable, "-c", HOLDER, str(run)]
    holder = subprocess.Popen(work, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline().strip() == "held"
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def watching(*arguments: object, **options):
    work = [sys.executable, "-c", INTERRUPTIBLE, "watch", *map(str, arguments)]
    return subprocess.Popen(work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def look(run: Path):
    return Watched(run).look(time.time())


def drawn(seen, width: int = 80, **options) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(frame(seen, **options))
    return console.file.getvalue()


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


# --- a real search ---------------------------------------------------------------------------------------------------


def test_a_search_is_watched_from_before_its_beginning_to_its_end(tmp_path):
    pictures, run = write_folder(tmp_path / "pictures"), tmp_path / "run"
    watcher = watching(run, "--every", 0.1)
    assert "waiting for one to begin" in watcher.stdout.readline()
    assert not run.exists()
    work = [sys.executable, "-m", "strategies.darts", *TINY, "--data", "folder", "--data-root", str(pictures)]
    search = subprocess.Popen([*work, "--out", str(run)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    versions = set()
    while watcher.poll() is None:
        if (run / "watch.html").exists():
            versions.add((run / "watch.html").stat().st_ino)
        time.sleep(0.02)
    told, errors = watcher.communicate()
    assert search.wait(10) == 0, search.stdout.read()
    assert (watcher.returncode, errors) == (0, "")
    for stage, file in (("search", "search.csv"), ("training", "training.csv")):
        table = pd.read_csv(run / file)
        losses = [f"{index + 1} {loss:.3f}" for index, loss in zip(table["epoch"], table["train_loss"], strict=True)]
        assert [f"{i} {x}" for i, x in re.findall(rf"{stage}  epoch (\d+)/\d+  training loss ([\d.]+)", told)] == losses
    assert told.rstrip().splitlines()[-2:] == [
        f"report: {run / 'report.html'}", f"page: {run / 'watch.html'} (of the whole run)",
    ]  # fmt: skip
    assert len(versions) > 1  # it was rewritten
    assert "Finished. ACER" in told and str(json.loads((run / "metrics.json").read_text())["acer"]["high"])[:3] in told
    assert not [path.name for path in run.rglob("*.part")]


# --- what state a run is in ------------------------------------------------------------------------------------------


def test_a_run_is_at_work_while_a_process_holds_it_and_left_when_that_is_killed(run, capsys):
    (run / "metrics.json").unlink()
    with held(run) as holder:
        assert is_held(run)
        assert (look(run).status, look(run).current.title) == ("running", "training")
        assert main(["watch", str(run), "--once"]) == 0
        assert "No process" not in capsys.readouterr().out
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert look(run).status == "left"
    assert main(["watch", str(run), "--once"]) == 1
    assert "No process on this machine is working on it" in capsys.readouterr().out
    assert main(["watch", str(run), "--out", str(run.parent / "page.html")]) == 1
    assert "not finished. Continue with: " in capsys.readouterr().out
    assert (run.parent / "page.html").stat().st_size > 10_000


def test_how_to_go_on_is_the_command_of_the_strategy(run):
    provenance = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps({**provenance, "strategy": "gumbel"}))
    (run / "cost.json").unlink()
    assert f"python -m strategies.gumbel --resume --out {run}" in ending_of(look(run))[0]
    (run / "provenance.json").write_text(json.dumps({**provenance, "strategy": "x; rm -r /"}))
    assert "rm" not in ending_of(look(run))[0]


def test_to_ask_who_works_does_not_get_in_the_way_of_who_begins(run):
    (run / ".lock").touch()
    import fcntl

    asker = (run / ".lock").open()
    fcntl.flock(asker, fcntl.LOCK_SH)
    timer = threading.Timer(0.05, asker.close)
    timer.start()
    with open_run(run, resume=True, overwrite=False):
        assert is_held(run)
    timer.join()
    assert not is_held(run)


def test_the_stage_is_that_of_the_first_file_that_lacks(run, tmp_path):
    (run / "config.yaml").write_text(yaml.safe_dump({"space": "autofas", "strategy": "darts", "baseline": True}))
    (run / "report.html").touch()
    assert look(run).current.title == "baseline: search"  # though someone has made a report meanwhile
    write_baseline(run / "baseline")
    assert (look(run).current, look(run).status) == (None, "finished")
    found = []
    files = ("report.html", "baseline/cost.json", "baseline/metrics.json", "baseline/architecture.json")
    for file in (*files, "cost.json", "metrics.json", "architecture.json", "data.json"):
        (run / file).unlink()
        found.append(look(run).current.title)
    beside = ["baseline: measuring", "baseline: training", "baseline: search"]
    assert found == ["report", *beside, "measuring", "training", "search", "data"]


def test_every_kind_of_run_has_its_own_stages():
    def titles(config, **provenance):
        return [stage.title for stage in stages_of(config, provenance)][1:]

    search = ["search", "training", "measuring"]
    assert titles({"space": "autofas", "baseline": True}, strategy="random_search") == [*search, "report"]
    assert titles({"space": "autofas", "baseline": False}, strategy="darts") == [*search, "report"]
    detector = titles({"space": "autofem-fpn", "baseline": True}, strategy="random_search", task="detection")
    assert detector == [*search, "random AutoFEM", "without AutoFEM", "report"]
    pta = titles({"space": "pta", "baseline": True}, strategy="single_path")
    assert pta == ["sampled training", "judging", "measuring", "exporting", "MobileNetV2", "report"]
    assert titles({"space": "autofas", "architecture": "runs/a", "epochs": 3}) == ["training"]
    assert titles({"space": ["autofas"]}, strategy=["darts"], task={}) == [*search, "report"]  # damaged


def test_what_is_no_run_is_refused_and_what_may_become_one_is_waited_for(tmp_path, capsys):
    assert look(tmp_path / "nowhere").status == "waiting"
    assert look(tmp_path).status == "waiting"  # empty
    assert main(["watch", str(tmp_path / "nowhere"), "--once"]) == 2
    assert "No run folder" in capsys.readouterr().err
    (tmp_path / "notes.txt").touch()
    for arguments in ([str(tmp_path)], [str(tmp_path), "--once"]):
        assert main(["watch", *arguments]) == 2
        assert "is not a run folder: it holds no config.yaml" in capsys.readouterr().err
    assert main(["watch", str(tmp_path / "notes.txt")]) == 2
    assert "it is a file" in capsys.readouterr().err
    for wrong in ("0", "-1", "1e9"):
        assert main(["watch", str(tmp_path), "--every", wrong]) == 2
        assert "every is" in capsys.readouterr().err


def test_the_page_never_takes_the_place_of_a_file_of_the_run(run):
    assert page_of(run, None) == run / "watch.html"
    assert page_of(run, run.parent / "page.html") == run.parent / "page.html"
    for name in ("report.html", "config.yaml", "baseline/report.html", "../a/search.csv"):
        with pytest.raises(ConfigError, match="the run's own"):
            page_of(run, run / name)
    with pytest.raises(RunFolderError, match="it is a folder"):
        page_of(run, run.parent)


# --- what it reads ---------------------------------------------------------------------------------------------------


def test_files_that_are_cut_anywhere_cost_at_most_their_last_row(run):
    whole = (run / "search.csv").read_text()
    rows = table_rows(whole)
    assert [row["epoch"] for row in rows] == list(range(30))
    for cut in range(len(whole)):
        part = table_rows(whole[:cut])
        assert part == rows[: len(part)]
        assert len(part) == max(0, whole[:cut].count("\n") - 1)
    (run / "architecture.json").unlink()
    lines = (run / "architectures.jsonl").read_bytes()
    for cut in range(0, len(lines), 1009):
        (run / "architectures.jsonl").write_bytes(lines[:cut])
        drawn(look(run))


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe\x00",
        b"{",
        b"[1, 2]\n",
        b"a: [\n",
        b"a: 2024-99-99\n",
        b"epoch,seconds\n,\n",
        b"[" * 1200,
    ],
)
def test_a_file_that_cannot_be_read_now_is_as_it_was(run, damage):
    watched = Watched(run)
    before = watched.look(0)
    for name in ("config.yaml", "provenance.json", "metrics.json"):
        (run / name).write_bytes(damage)
    after = watched.look(0)
    assert after.config and drawn(after) == drawn(before)
    for name in ("search.csv", "architectures.jsonl", "training.csv", "architecture.json", "data.json"):
        (run / name).write_bytes(damage)
    drawn(watched.look(0), notes=ending_of(watched.look(0)))
    drawn(look(run), notes=ending_of(look(run)))  # and so for who has not seen it before
    for name in ("search.csv", "training.csv", "config.yaml"):
        (run / name).unlink()
        (run / name).mkdir()
    shutil.rmtree(run)
    assert watched.look(0).status == "waiting"


def test_options_of_any_kind_are_shown(run):
    nested = "space: &a [*a]\ndata: *a\nseed: *a\nwarmup_epochs: *a\nsearch_epochs: *a\nbudget_macs: *a\nbaseline: *a\n"
    (run / "config.yaml").write_text(nested)
    (run / "architecture.json").unlink()
    assert "training loss" in drawn(look(run))


def test_it_shows_a_run_while_its_files_are_replaced(run):
    """A writer replaces the files as a search does, as fast as it can; every look finds whole epochs."""
    table, over = (run / "search.csv").read_text().splitlines(keepends=True), threading.Event()
    (run / "architecture.json").unlink()

    def write() -> None:
        while not over.is_set():
            for end in range(2, len(table) + 1):
                (run / ".new").write_text("".join(table[:end]))
                os.replace(run / ".new", run / "search.csv")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        watched, rows = Watched(run), table_rows("".join(table))
        counts = set()
        for _ in range(300):
            seen = watched.look(time.time())
            assert seen.shown.rows == rows[: len(seen.shown.rows)]
            counts.add(len(seen.shown.rows))
    finally:
        over.set()
        writer.join()
    assert len(counts) > 5


def test_the_genotype_is_that_of_the_last_epoch_and_what_changed_is_named():
    epochs = [{"epoch": i, "choices": {"a": a, "b": "x"}, "guard": None} for i, a in enumerate("ppq")]
    found = genotype_of(epochs)
    assert (found.choices, found.changes) == ({"a": "q", "b": "x"}, {"a": ("p", "q")})
    assert genotype_of(epochs[:2]).changes == {}
    scores = (0.2, 0.7, 0.1, 0.9, 0.8)
    candidates = [
        {"candidate": i, "choices": {"a": i}, "metrics": {"default": value}} for i, value in enumerate(scores)
    ]
    best = genotype_of(candidates)
    assert (best.changes, best.source) == ({"a": (1, 3)}, "of the best so far, candidate 4")
    assert genotype_of([{"epoch": 0, "drawn": {"HHH": 3}}]) is None
    assert genotype_of([{"epoch": "x", "choices": {"a": 1}}, {"choices": "?"}]) is None


def test_the_time_left_is_that_of_the_last_epochs_times_those_to_come():
    rows = tuple({"epoch": float(i), "seconds": s} for i, s in enumerate([90.0, 10, 12, 11, 10, 30]))
    course = Course(Stage("search", "a"), rows, total=16, idle_s=4)
    assert course.seconds_left == 10 * 11 - 4  # the median of 10, 12, 11, 10 and 30 is 11
    assert Course(course.stage, rows, total=16, idle_s=500).seconds_left == 9 * 11  # no more than an epoch has passed
    assert Course(course.stage, rows, total=6).seconds_left == 0
    assert Course(course.stage, rows).seconds_left is None
    candidates = tuple({"candidate": float(i), "seconds": 20.0} for i in range(3))
    assert Course(course.stage, candidates, share=0.25).seconds_left == pytest.approx(9 * 20)
    assert [left(s) for s in (0.2, 89, 600, 7200, 3 * 86400)] == [
        "about 1 s left", "about 89 s left", "about 10 min left", "about 2.0 h left", "about 3.0 days left",
    ]  # fmt: skip


# --- what it shows ---------------------------------------------------------------------------------------------------


def test_a_frame_tells_what_the_files_hold(run):
    (run / "architecture.json").unlink()
    lines = [json.loads(line) for line in (run / "architectures.jsonl").read_text().splitlines()]
    label = "normal/op_2_0"
    lines[-1]["choices"] = {**lines[-1]["choices"], label: "something_new"}
    (run / "architectures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "config.yaml").write_text(yaml.safe_dump({"space": "autofas", "search_epochs": 40, "seed": 1}))
    with held(run):
        seen = Watched(run).look((run / "search.csv").stat().st_mtime)
    text = drawn(seen)
    table, squeezed = pd.read_csv(run / "search.csv"), " ".join(text.split())
    last, before = table.iloc[-1], table.iloc[-2]
    assert f"training loss {last['train_loss']:.3f} {before['train_loss']:.3f}" in squeezed
    assert f"entropy, 1: undecided {last['entropy']:.3f} {before['entropy']:.3f}" in squeezed
    assert f"skip connections {100 * last['skip_share']:.0f}%" in squeezed
    assert "[>] search" in text and "epoch 30 of 40" in text and "simulated data" in text
    minutes = round(10 * table["seconds"][-5:].median() / 60)
    assert f"about {minutes} min left (estimate)" in squeezed
    assert "guard against collapse, at epoch 27: 3 of 8 edges of the normal cell are skip_connect" in squeezed
    assert f"Changed since the epoch before: 1 of 24 choices {label}: " in squeezed
    assert f"{label}: {lines[-2]['choices'][label]} -> something_new" in squeezed
    assert "Genotype at epoch 30" in text and sparkline(list(table["train_loss"])) in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("write", [write_run, write_baseline, write_pta_run])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(write, width, tmp_path):
    run = write(tmp_path / "a")
    (run / "metrics.json").unlink()
    for missing in ("metrics.json", "architecture.json", "weights.safetensors"):
        (run / missing).unlink(missing_ok=True)
        lines = drawn(look(run), width).splitlines()
        assert max(map(len, lines)) <= width


def test_trends_against_a_calculation_by_hand():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5, 5]) == "▁▁▁"
    assert sparkline([1.0, float("nan"), 3.0]) == "▁ █"
    assert sparkline([float("nan")]) == "" == sparkline([])
    assert sparkline([0, 2, 10, 12, 4, 4], width=3) == "▁█▃"  # means 1, 11 and 4: 7 * 3/10 rounds to 2
    assert len(sparkline(list(range(1000)))) == 30


def test_names_are_text_and_nothing_else(run, capsys):
    named = run.parent / "[red]x[" / "red]"
    named.parent.mkdir()
    run.rename(named)
    config = {"space": "[bold]autofas", "data": "a\x1b[31m\x07b", "search_epochs": 40, "recipe": "\u202egnp", "seed": 0}
    (named / "config.yaml").write_text(yaml.safe_dump(config))
    table = pd.read_csv(named / "search.csv").rename(columns={"val_loss": "[blink]\x1b]0;title\x07[/]"})
    table.to_csv(named / "search.csv", index=False)
    lines = [json.loads(line) for line in (named / "architectures.jsonl").read_text().splitlines()]
    lines[-1] |= {"guard": "[link=x]\x1b[2J", "choices": {"[/]\x1bc/op": "\x1b[1m[/bold]"}}
    lines[-2] |= {"choices": {"[/]\x1bc/op": "[i]"}}
    (named / "architectures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (named / "architecture.json").unlink()
    seen = look(named)
    text = drawn(seen, 200, notes=ending_of(seen))
    assert main(["watch", str(named), "--once"]) == 1
    printed = capsys.readouterr().out
    log = Console(file=io.StringIO(), width=80)
    Log(log)(seen, ending_of(seen))
    for shown in (text, printed, log.file.getvalue()):
        assert not [c for c in shown if not c.isprintable() and c not in "\n\u00a0"]
        assert "[link=x]" in shown or "[i]" in shown
    for part in ("[red]x[/red]", "[bold]autofas", r"a\x1b[31m\x07b", r"\u202egnp", r"[blink]\x1b]0;title", "[/]"):
        assert part in text, part
    assert safe("é 名") == "é 名" and len(safe("x" * 10**6)) < 1000


def test_a_frame_where_the_terminal_has_no_blocks_is_ascii(run):
    (run / "architecture.json").unlink()
    (run / "config.yaml").write_text("space: autofas\n")
    work = [sys.executable, "-m", "reports", "watch", str(run), "--once"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(work, capture_output=True, env=environment, timeout=60)
    assert done.returncode == 1, done.stderr
    assert b"training loss" in done.stdout and max(done.stdout) < 128


def test_once_prints_a_frame_and_touches_nothing(run, capsys):
    (run / "report.html").touch()
    before = contents(run)
    assert main(["watch", str(run), "--once"]) == 0
    text = capsys.readouterr().out
    assert "training" in text and "Finished. ACER 11.8" in text
    assert str(run / "report.html") in text.replace("\n", "")  # a line is as wide as the terminal
    assert contents(run) == before and not list(run.glob("*.part"))
    page = run.parent / "page.html"
    assert main(["watch", str(run), "--once", "--out", str(page)]) == 0
    assert f"page: {page}" in capsys.readouterr().out.replace("\n", "")
    assert page.read_text().startswith("<!DOCTYPE html>") and contents(run) == before


def test_a_page_that_cannot_be_written_is_said_and_ends_nothing(run, capsys):
    (run / "report.html").touch()
    (run.parent / "file").touch()
    assert main(["watch", str(run), "--once", "--out", str(run.parent / "file" / "page.html")]) == 0
    assert "page not written: Cannot write" in capsys.readouterr().out


def test_ctrl_c_ends_it_quietly(run):
    (run / "cost.json").unlink()
    with held(run):
        watcher = watching(run, "--every", 0.1, "--out", run.parent / "page.html")
        while not (run.parent / "page.html").exists():
            assert watcher.poll() is None
            time.sleep(0.05)
        watcher.send_signal(signal.SIGINT)
        _, errors = watcher.communicate(timeout=30)
    assert (watcher.returncode, errors) == (0, "")
    assert not [path for path in run.parent.iterdir() if path.name.endswith(".part")]


def test_a_row_as_a_line():
    rows = ({"epoch": 0.0, "train_loss": 0.5, "val_eer": 0.25, "seconds": 8.0}, {"epoch": 1.0, "train_loss": 0.25})
    course = Course(Stage("training", "metrics.json"), rows, total=3)
    assert as_line(course, rows[0], True) == "training  epoch 1/3  training loss 0.500, validation EER 25.0%"
    assert as_line(course, rows[1], True) == "training  epoch 2/3  training loss 0.250  (about 8 s left, an estimate)"
    assert as_line(course, rows[1], False) == "training  epoch 2/3  training loss 0.250"
