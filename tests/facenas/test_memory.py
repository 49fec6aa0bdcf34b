"""A search in a given memory."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from facenas.memory import count, fit_memory, parse_bytes
from facenas.options import DartsOptions, PCDartsOptions, resolve
from facenas.pipeline import search_command
from searchspaces.errors import ConfigError
from strategies.memory import process_bytes, resident

from .test_pipeline import TINY, arguments, guarded, pictures  # noqa: F401  fixtures

SPACE = {"channels": 8, "layout": "NRN", "image_size": 32, "nodes": 3}


OPTIONS = ["--no-baseline", "--partial-channels", "2"]


def options_of(kind=DartsOptions, **more):
    return resolve(kind(space="autofas", space_options=SPACE, search_batch=512, threads=1, **more))


class Lines:
    def __init__(self):
        self.told = []

    def line(self, stage, text):
        self.told.append(text)


def limit_between(options, *sides):
    """A budget that the second of two settings fits into and the first does not."""
    needed, program = [], resident()
    for width, recompute, batch in sides:
        step = count(options, width, recompute, plain=False)
        needed.append(process_bytes(step.peak(batch), recompute, program))
    return f"{sum(needed) / 2:.0f}", needed


def test_what_fits_is_left_alone():
    options, lines = options_of(memory_budget="64GiB"), Lines()
    assert fit_memory(options, lines) == options
    (told,) = lines.told
    assert "batch 512, modules kept" in told and "fits into 64.00 GiB" in told
    assert fit_memory(options_of(), lines) == options_of() and len(lines.told) == 1


def test_modules_are_recomputed_first_then_k_grows_then_the_batch_is_halved():
    options = options_of()
    limit, (kept, again) = limit_between(options, (None, False, 512), (None, True, 512))
    assert again < kept
    found = fit_memory(replace(options, memory_budget=limit), lines := Lines())
    assert (found.search_batch, found.recompute) == (512, True) and "results are equal" in lines.told[-1]
    partial = options_of(PCDartsOptions, partial_channels=2, recompute=True)
    limit, (two, four) = limit_between(partial, (2, True, 512), (4, True, 512))
    assert four < two
    found = fit_memory(replace(partial, memory_budget=limit), lines := Lines())
    assert (found.search_batch, found.partial_channels) == (512, 4) and "another search" in lines.told[-1]
    limit, _ = limit_between(options, (None, True, 512), (None, True, 256))
    found = fit_memory(replace(options, memory_budget=limit), Lines())
    assert found.search_batch == 256 and found.memory_budget == limit


def test_nothing_fits_is_one_line_and_no_folder(tmp_path, capsys):
    with pytest.raises(ConfigError, match="the least that would do is"):
        fit_memory(options_of(memory_budget="1MiB"), Lines())
    for wrong in ("much", "0", "-1GiB", "4iB", "4Q", "nan"):
        with pytest.raises(ConfigError, match="4GiB"):
            parse_bytes(wrong)
    command = ["--space-options", json.dumps(SPACE), "--out", str(tmp_path / "a"), "--memory-budget"]
    assert search_command("darts", [*command, "1MiB"]) != 0
    assert "No step of this search fits" in capsys.readouterr().err and not (tmp_path / "a").exists()


def test_the_run_has_what_was_chosen_and_goes_on_with_it(guarded, tmp_path, capsys):  # noqa: F811
    folder = tmp_path / "a"
    command = [*guarded, "--no-baseline", "--out", str(folder), "--memory-budget", "64GiB", "--recompute"]
    assert search_command("darts", command) == 0
    assert "memory    batch 6, modules recomputed: about" in capsys.readouterr().out
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["search_batch"], config["recompute"], config["memory_budget"]) == (6, True, "64GiB")
    (folder / "report.html").unlink()
    assert search_command("darts", ["--resume", "--out", str(folder)]) == 0
    assert "memory  " not in capsys.readouterr().out and (folder / "report.html").exists()


def test_a_recomputed_search_finds_the_same_to_the_last_bit(guarded, tmp_path):  # noqa: F811
    found = []
    for name, more in (("kept", []), ("again", ["--recompute"])):
        folder = tmp_path / name
        assert search_command("pc_darts", [*guarded, *OPTIONS, "--out", str(folder), *more]) == 0
        lines = [json.loads(line) for line in (folder / "architectures.jsonl").read_text().splitlines()]
        for line in lines:
            line.pop("seconds")
        found.append((lines, (folder / "weights.safetensors").read_bytes()))
    assert found[0] == found[1]
