"""Searches that are killed at random instants, again and again, end as one that was never stopped, bit for bit."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from searchspaces.folder import check_run

from ..evaluators.test_training import write_folder

TINY = [
    "--space-options", '{"channels": 4, "layout": "RN", "image_size": 20, "nodes": 2}', "--search-epochs", "3",
    "--search-batch", "6", "--train-epochs", "2", "--train-batch", "6", "--accelerator", "cpu", "--no-baseline",
]  # fmt: skip
GUARD = ["--guard", "warn"]  # these small cells collapse, which is not what is tested
SEARCHES = {
    "darts": ["darts", *GUARD],
    "second order": ["darts", "--order", "second", *GUARD],
    "pc_darts": ["pc_darts", "--partial-channels", "2", "--warmup-epochs", "1", *GUARD],
    "gumbel": ["gumbel", "--partial-channels", "1", *GUARD],
    "single_path": ["single_path", "--judged-paths", "3"],
    "evolution": [
        "evolution",
        "--max-candidates",
        "4",
        "--population",
        "2",
        "--tournament",
        "2",
        "--candidate-epochs",
        "1",
    ],
    "random_search": ["random_search", "--max-candidates", "3", "--candidate-epochs", "1"],
}
KILLS = 3  # of each search: 21 in all
MANY = 10
CLOCKS = ("seconds", "started", "finished")  # what two runs may differ in


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    return ["--data", "folder", "--data-root", str(write_folder(tmp_path_factory.mktemp("pictures"))), *TINY]


@pytest.fixture(scope="module")
def runner():
    """Asks `runner` to run a search, and gives its answer."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.reliability.runner"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )

    def ask(**request):
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield ask
    process.stdin.close()
    process.wait(timeout=60)


@pytest.fixture(scope="module")
def whole(runner, arguments, tmp_path_factory):
    """By name: the folder of a search that is not stopped, and when it has touched which of its files."""
    found = {}

    def run(name):
        if name not in found:
            strategy, *own = SEARCHES[name]
            out = tmp_path_factory.mktemp("whole") / "run"
            request = {"strategy": strategy, "arguments": [*arguments, *own]}
            runner(**request, out=str(out.with_name("first")))  # with all imports, which take longer than the search
            answer = runner(**request, out=str(out))
            assert answer["status"] == 0, Path(f"{out}.log").read_text()[-2000:]
            found[name] = out, answer["touches"]
        return found[name]

    return run


def without_clocks(value):
    if isinstance(value, dict):
        return {key: without_clocks(each) for key, each in value.items() if key not in CLOCKS}
    if isinstance(value, list | tuple):
        return [without_clocks(each) for each in value]
    return value


def assert_same(first, second, where):
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert list(first) == list(second), where
        for key, each in first.items():
            assert_same(each, second[key], f"{where}.{key}")
    elif isinstance(first, list):
        assert len(first) == len(second), where
        for number, each in enumerate(first):
            assert_same(each, second[number], f"{where}.{number}")
    else:
        assert first == second or (first != first and second != second), where


def content(path):
    """What a file says, without times."""
    if path.suffix == ".csv":
        return pd.read_csv(path).drop(columns="seconds").to_csv()
    if path.suffix == ".jsonl":
        return [without_clocks(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".ckpt":  # weights, architecture parameters, optimizers, schedules, position, history
        return without_clocks(torch.load(path, weights_only=True))
    return path.read_bytes()


RESULTS = {
    *("config.yaml", "search.csv", "architectures.jsonl", "architecture.json", "training.csv", "metrics.json"),
    *("weights.safetensors", "best.safetensors", "last.ckpt", "previous.ckpt"),
}


def compare(stopped, reference):
    """All that a run leaves, but for its report and the milliseconds that were measured; and nothing else is left."""
    names = {path.relative_to(reference) for path in reference.rglob("*") if path.is_file()}
    assert {path.relative_to(stopped) for path in stopped.rglob("*") if path.is_file()} == names
    for name in sorted(name for name in names if name.name in RESULTS):
        if name.name == "config.yaml":
            texts = [(run / name).read_text().replace(str(run), "RUN") for run in (stopped, reference)]
            assert texts[0] == texts[1]
        else:
            assert_same(content(stopped / name), content(reference / name), str(name))


def go_on(runner, request, out, **limits):
    """Start a search, or resume it if it has begun; the signal that ended it, or 0."""
    arguments = ["--resume"] if (out / "config.yaml").exists() else request["arguments"]
    found = runner(strategy=request["strategy"], arguments=arguments, out=str(out), **limits)
    assert found["status"] in (0, -signal.SIGKILL), Path(f"{out}.log").read_text()[-2000:]
    return found["status"]


def instants(touches, draw):
    """Endless instants to be killed at: before a file of the search is touched, at any time, and before any file."""
    names, times = [name for _, name in touches], [seconds for seconds, _ in touches]
    found, trained = names.index("architecture.json"), names.index("weights.safetensors")
    begun = names.index("checkpoint/search/last.ckpt" if "checkpoint/search/last.ckpt" in names else "search.csv")
    while True:
        yield {"touch": draw.randint(begun + 2, found + 1)}
        yield {"seconds": draw.uniform(times[1], times[trained])}
        yield {"touch": draw.randint(2, trained)}


def killed_again_and_again(runner, touches, request, out, kills, seed):
    """Kill a search and resume it so often, then let it end; how many have hit.

    Args:
        touches: of a search that is not stopped.
    """
    limits = instants(touches, random.Random(seed))
    hit = sum(go_on(runner, request, out, **next(limits)) != 0 for _ in range(kills))
    assert go_on(runner, request, out) == 0
    return hit


def check(name, kills, seed, runner, whole, arguments, out):
    strategy, *own = SEARCHES[name]
    reference, touches = whole(name)
    request = {"strategy": strategy, "arguments": [*arguments, *own]}
    hit = killed_again_and_again(runner, touches, request, out, kills, seed)
    assert hit >= kills // 2  # an instant that lies behind what was left of the run hits nothing
    compare(out, reference)


@pytest.mark.parametrize("name", SEARCHES)
def test_killed_at_random_instants_a_search_ends_as_if_it_had_not_been(name, runner, whole, arguments, tmp_path):
    check(name, KILLS, name, runner, whole, arguments, tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("name", SEARCHES)
def test_killed_many_times(name, runner, whole, arguments, tmp_path):
    for seed in range(MANY):
        check(name, KILLS, seed, runner, whole, arguments, tmp_path / str(seed))


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_a_search_says_how_to_go_on(ending, runner, whole, arguments, tmp_path):
    reference, touches = whole("darts")
    out = tmp_path / "run"
    request = {"strategy": "darts", "arguments": [*arguments, *GUARD], "out": str(out)}
    found = runner(**request, signal=ending, touch=[name for _, name in touches].index("architecture.json"))
    log = Path(f"{out}.log").read_text()
    assert found["status"] == 130 and f"python -m strategies.darts --resume --out {out}" in log, log
    assert "Traceback" not in log
    assert runner(strategy="darts", arguments=["--resume"], out=str(out))["status"] == 0
    compare(out, reference)


@pytest.mark.parametrize("touch", range(1, 6))
def test_killed_before_it_has_begun_a_search_can_be_started_again(touch, runner, arguments, tmp_path):
    """While config.yaml is written: there is nothing to resume, and nothing in the way."""
    out = tmp_path / "run"
    assert go_on(runner, {"strategy": "darts", "arguments": [*arguments, *GUARD]}, out, touch=touch) != 0
    check_run(out, resume=(out / "config.yaml").exists(), overwrite=False)
