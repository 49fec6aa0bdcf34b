"""What the fuzzing has found, each defect by its name."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from searchspaces.errors import LONGEST_MESSAGE, ConfigError, CostError, DatasetError, FacenasError
from searchspaces.yaml_files import read_yaml

from .mutations import LAUGHS
from .readers_of_data import _fddb, _pairs, _prepared, _read_detection, _read_prepared, _wider
from .readers_of_networks import small
from .readers_of_runs import _candidates, _read_candidates, _read_given_config


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "a: &a [*a]\n",
        "a: 2001-13-45\n",
        "a: !!float x\n",
        "a: !!int ''\n",
        "!!python/name:os.system\n",
        b"\xff\xfe",
    ],
)
def test_yaml_that_is_hostile_or_that_its_reader_stumbles_over(text: str | bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "config.yaml", text)
    with pytest.raises(ConfigError, match="Cannot read"):
        read_yaml(path)
    with pytest.raises(FacenasError):
        _read_given_config(tmp_path, path)


def test_yaml_with_few_aliases_is_read(tmp_path: Path) -> None:
    assert read_yaml(write(tmp_path / "a.yaml", "a: &x [1, 2]\nb: *x\n")) == {"a": [1, 2], "b": [1, 2]}


def test_messages_are_short_and_obey_no_terminal_codes() -> None:
    text = str(FacenasError("\x1b[2J" + "x" * 100_000 + "\x1b[0m"))
    assert len(text) < LONGEST_MESSAGE + 10 and "\x1b" not in text and "\\x1b[2J" in text


@pytest.mark.parametrize(
    "line", ["{outside},P0/P0_0001.jpg,1", "../outside/secret.jpg,P0/P0_0001.jpg,1", "/etc/passwd,a.jpg,0"]
)
def test_a_list_of_pairs_names_nothing_outside_of_its_folder(line: str, tmp_path: Path) -> None:
    _pairs(tmp_path / "set")
    outside = write(tmp_path / "outside/secret.jpg", b"x")
    write(tmp_path / "set/pairs.txt", line.format(outside=outside) + "\n")
    from evaluators.datasets import build_dataset

    with pytest.raises(DatasetError, match="is no file below"):
        build_dataset("pairs", root=tmp_path / "set", progress=False)


@pytest.mark.parametrize("make", [_wider, _fddb])
@pytest.mark.parametrize("name", ["../../outside/secret", "/etc/passwd", "x" * 300])
def test_annotations_name_nothing_outside_of_their_folder(make: Callable[..., Any], name: str, tmp_path: Path) -> None:
    damaged = next(iter(make(tmp_path)))
    lines = (tmp_path / damaged).read_text().splitlines()
    write(tmp_path / damaged, "\n".join([name, *lines[1:]]) + "\n")
    with pytest.raises(DatasetError, match="is no file below"):
        _read_detection("wider-face" if make is _wider else "fddb")(tmp_path, tmp_path)


def test_an_architecture_in_a_list_is_no_path_elsewhere(tmp_path: Path) -> None:
    from hardware.measurements import check_architecture

    own = small().save(tmp_path / "architecture.json")
    for name in (str(own), "../architecture.json", "/etc/passwd"):
        with pytest.raises(FacenasError, match="not below this folder"):
            check_architecture("autofas", name)
    with pytest.raises(FacenasError):
        check_architecture("autofas", None)


def test_a_small_packed_table_that_is_huge_unpacked(tmp_path: Path) -> None:
    from hardware.measurements import LARGEST_FILE, read_measurements

    write(tmp_path / "m.csv.gz", gzip.compress(bytes(LARGEST_FILE + 1)))
    with pytest.raises(CostError, match="too large for measurements"):
        read_measurements(tmp_path / "m.csv.gz")


def test_a_picture_whose_format_runs_another_program(tmp_path: Path) -> None:
    """Pillow gives EPS to Ghostscript."""
    from evaluators.pictures import read_rgb

    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "EPS")
    with pytest.raises(DatasetError, match="cannot be read as a picture"):
        read_rgb(write(tmp_path / "face.jpg", buffer.getvalue()))


def test_a_tar_archive_in_the_place_of_weights_is_not_unpacked(tmp_path: Path) -> None:
    from evaluators.teachers import _read_state

    with tarfile.open(tmp_path / "s.pth", "w") as archive:
        archive.add(write(tmp_path / "storages", b"x"), "storages")
    with pytest.raises(ConfigError, match="tar archive"):
        _read_state(tmp_path / "s.pth")
    torch.save({"w": torch.zeros(2)}, tmp_path / "t.pth", _use_new_zipfile_serialization=False)
    assert _read_state(tmp_path / "t.pth")["w"].tolist() == [0, 0]


@pytest.mark.parametrize("cell", ["", "1e30", "9" * 30, "x"])
def test_an_index_of_prepared_data_with_no_number(cell: str, tmp_path: Path) -> None:
    _prepared(tmp_path)
    first, second, *rest = (tmp_path / "index.csv").read_text().splitlines()
    cells = second.split(",")
    cells[6] = cell
    write(tmp_path / "index.csv", "\n".join([first, ",".join(cells), *rest]) + "\n")
    with pytest.raises(DatasetError, match=r"index.csv is damaged"):
        _read_prepared(tmp_path, tmp_path / "index.csv")


@pytest.mark.parametrize("metrics", [1, {}, {"macs_spent": "x"}, {"macs_spent": None}])
def test_candidates_without_numbers(metrics: object, tmp_path: Path) -> None:
    _candidates(tmp_path)
    line = {"candidate": 0, "choices": {}, "metrics": metrics, "seconds": 1.0}
    write(tmp_path / "architectures.jsonl", json.dumps(line) + "\n")
    with pytest.raises(FacenasError, match="is damaged"):
        _read_candidates(tmp_path, tmp_path)


def test_points_that_are_not_in_a_picture(tmp_path: Path) -> None:
    from evaluators.datasets.identities import read_landmarks

    _pairs(tmp_path)
    text = (tmp_path / "landmarks.csv").read_text()
    for number in ("1e308", "nan", "inf"):
        write(tmp_path / "landmarks.csv", text.replace("30,30", f"{number},30", 1))
        with pytest.raises(DatasetError, match="line 2"):
            read_landmarks(tmp_path / "landmarks.csv")


def test_latencies_that_are_too_large_for_a_number() -> None:
    from hardware.tiers import check_figure

    with pytest.raises(CostError):
        check_figure(10**400, "a latency", positive=True)
