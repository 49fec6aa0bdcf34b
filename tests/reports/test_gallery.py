"""The gallery: a page of Markdown and files beside it that say what the runs say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from facenas.options import OPTIONS, from_run
from reports.__main__ import main
from reports.gallery import LARGEST_PICTURE, verdicts, write_gallery
from reports.run import Run
from searchspaces import Architecture
from searchspaces.registry import list_spaces

from .made_up_detector import write_detector_run

GALLERY = Path(__file__).parents[2] / "docs" / "gallery"
PICTURE = re.compile(r"!\[([^\]]+)\]\(([^)]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)#]+)\)")


def pictures_of(folder: Path) -> list[str]:
    return [file for _, file in PICTURE.findall((folder / "README.md").read_text(encoding="utf-8"))]


@pytest.fixture
def runs(run_folder: Path, pta_folder: Path, tmp_path: Path) -> list[Path]:
    return [run_folder, pta_folder, write_detector_run(tmp_path / "detector")]


def test_each_run_has_a_section_with_its_figures_verdict_and_files(runs: list[Path], tmp_path: Path) -> None:
    page, *files = write_gallery(runs, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    joined = " ".join(text.split())
    for folder in runs:
        run = Run(folder)
        assert f"## {folder.name}\n" in text and f"(#{folder.name.lower()})" in text
        assert yaml.safe_load((tmp_path / f"out/{folder.name}.yaml").read_text())["space"] == run.config["space"]
        found = verdicts(run)
        assert found and all(" ".join(verdict.sentence.split())[:60] in joined for verdict in found)
    assert "simulated" in text
    assert len(pictures_of(page.parent)) >= 6
    assert {page.parent / name for name in pictures_of(page.parent)} <= set(files)
    assert all(file.stat().st_size <= LARGEST_PICTURE for file in files)


def test_the_files_beside_it_build_the_network_and_repeat_the_run(run_folder: Path, tmp_path: Path) -> None:
    write_gallery([run_folder], tmp_path)
    own = Architecture.load(run_folder / "architecture.json")
    copied = Architecture.load(tmp_path / f"{run_folder.name}.json")
    assert (copied.space, copied.options, copied.choices) == (own.space, own.options, own.choices)
    options = yaml.safe_load((tmp_path / f"{run_folder.name}.yaml").read_text())
    assert "out" not in options and None not in options.values()


def test_the_same_runs_give_the_same_files(run_folder: Path, tmp_path: Path) -> None:
    first, second = (write_gallery([run_folder], tmp_path / name) for name in ("a", "b"))
    for one, other in zip(first[1:], second[1:], strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_names_from_runs_stay_text(run_folder: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "<b>*x*](evil) | y"
    shutil.copytree(run_folder, hostile)
    config = yaml.safe_load((hostile / "config.yaml").read_text())
    (hostile / "config.yaml").write_text(yaml.safe_dump({**config, "strategy": "<i>`x`"}))
    text = write_gallery([hostile], tmp_path / "out")[0].read_text(encoding="utf-8")
    outside_code = re.sub(r"`[^`]*`|^    .*$", "", text, flags=re.MULTILINE)
    assert "<b>" not in text and not re.search(r"(?<!\\)<i>", outside_code)


def test_the_gallery_of_the_docs_is_whole() -> None:
    """Of a real run of every space: all files are there and used, networks are built, options are those of today."""
    files = {path.name for path in GALLERY.iterdir()}
    text = (GALLERY / "README.md").read_text(encoding="utf-8")
    pictures, links = pictures_of(GALLERY), LINK.findall(text)
    assert files == {"README.md", *pictures, *links}
    spaces = set()
    for file in GALLERY.glob("*.json"):
        architecture = Architecture.load(file)
        assert sum(parameter.numel() for parameter in architecture.build().parameters()) > 0
        spaces.add(architecture.space)
    assert spaces >= set(list_spaces()) - {"asfd"}  # which joins the two halves of a detector
    commands = re.findall(r"^    python -m strategies\.(\w+) --config docs/gallery/(\S+)$", text, re.MULTILINE)
    assert len(commands) == len(spaces)
    for strategy, config in commands:
        options = yaml.safe_load((GALLERY / config).read_text(encoding="utf-8"))
        from_run(OPTIONS[strategy](resume=True), options)
    for picture in pictures:
        with Image.open(GALLERY / picture) as opened:
            assert opened.width >= 500
    readme = (GALLERY.parents[1] / "README.md").read_text(encoding="utf-8")
    assert "docs/gallery/README.md" in readme
    shown = re.findall(r"docs/gallery/([\w.-]+\.png)", readme)
    assert shown and set(shown) <= set(pictures)


def test_what_cannot_be_shown_is_refused(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    other, begun = tmp_path / "elsewhere" / run_folder.name, tmp_path / "begun"
    shutil.copytree(run_folder, other)
    shutil.copytree(run_folder, begun)
    (begun / "metrics.json").unlink()
    for arguments, reason in (
        ([str(run_folder), str(other)], "called"),
        ([str(tmp_path / "nowhere")], "nowhere"),
        ([str(run_folder), str(begun)], "begun is unfinished: metrics.json is not there yet"),
        ([str(run_folder), "--out", str(run_folder / "config.yaml")], "is a file"),
    ):
        out = [] if "--out" in arguments else ["--out", str(tmp_path / "made")]
        assert main(["gallery", *arguments, *out]) != 0
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
