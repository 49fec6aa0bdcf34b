"""Reading run folders that are complete, incomplete and damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.run import PURPOSE, Run, flatten
from searchspaces.errors import RunFolderError

FILES = [name for name in PURPOSE if name not in ("config.yaml", "baseline", "configurations.json")]


def test_complete_folder_has_no_problems(run_folder: Path) -> None:
    run = Run(run_folder).read_all()
    assert run.problems == []
    assert run.config["optimiser.betas"] == [0.5, 0.999]
    assert len(run.search) == 30 and len(run.training) == 20 and len(run.history) == 30
    assert run.simulated is True
    assert run.graph is not None and run.graph.number_of_edges() == 24
    assert run.baseline is not None and "candidate" in run.baseline.search


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not found"):
        Run(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"no config\.yaml.*--out"):
        Run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="it is a file"):
        Run(tmp_path / "file")


@pytest.mark.parametrize("file", FILES)
def test_missing_file_is_one_problem(run_folder: Path, file: str) -> None:
    (run_folder / file).unlink()
    run = Run(run_folder).read_all()
    assert [(p.file, p.kind) for p in run.problems] == [(file, "missing")]
    assert PURPOSE[file] in str(run.problems[0])


@pytest.mark.parametrize("file", [*FILES, "config.yaml"])
@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[" * 20000, b"", b'a,b\n1,2,3,4\n"5'])
def test_damaged_file_is_a_problem_not_a_crash(run_folder: Path, file: str, content: bytes) -> None:
    (run_folder / file).write_bytes(content)
    run = Run(run_folder).read_all()
    assert {p.file for p in run.problems} <= {file}
    if content and not (file.endswith(".csv") and content in (b"{", b"[" * 20000)):  # those are a header without rows
        assert [p.kind for p in run.problems] == ["damaged"]


def test_cut_line_costs_only_itself(run_folder: Path) -> None:
    path = run_folder / "architectures.jsonl"
    path.write_text(path.read_text()[:-100])
    run = Run(run_folder)
    assert len(run.history) == 29
    assert "line 30" in str(run.problem("architectures.jsonl"))


def test_entries_that_are_no_numbers_are_left_out(run_folder: Path) -> None:
    (run_folder / "search.csv").write_text("epoch,val_loss,remark\n0,0.5,fine\n1,oops,bad\n2,inf,\n")
    run = Run(run_folder)
    assert run.search["val_loss"].tolist()[0] == 0.5 and run.search["val_loss"].isna().sum() == 2
    assert "remark" not in run.search
    assert "1 of 9 entries" in str(run.problem("search.csv"))


def test_architecture_of_an_unknown_space_is_a_problem(run_folder: Path) -> None:
    path = run_folder / "architecture.json"
    path.write_text(path.read_text().replace('"autofas"', '"autofoss"'))
    run = Run(run_folder)
    assert run.graph is None
    assert "autofas" in str(run.problem("architecture.json"))  # the nearest name


def test_baseline_without_config_is_a_problem(run_folder: Path) -> None:
    (run_folder / "baseline" / "config.yaml").unlink()
    run = Run(run_folder)
    assert run.baseline is None
    assert "config.yaml" in str(run.problem("baseline"))


def test_flatten() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2], "e": {}}
