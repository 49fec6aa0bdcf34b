"""What a search step costs as it grows: a tiny run of the benchmark, its sums, and what it refuses."""

from __future__ import annotations

import csv
import json

import pytest

from benchmarks.search_scale import BASE, Point, errors, exponents, main, measure
from searchspaces.cli import run_command
from searchspaces.errors import ConfigError


def test_sizes_are_measured_predicted_and_written(tmp_path, capsys):
    main(searches=["darts"], factors=["batch"], steps=1, warmup=0, core=-1, quick=True, out=tmp_path, json=True)
    told = json.loads(capsys.readouterr().out)
    points = told["points"]
    assert [(point["search"], point["value"]) for point in points] == [
        *(("darts", 1), ("darts", 2), ("darts recomputed", 1), ("darts recomputed", 2)),
    ]
    assert all(point["cpu"] > 0 and point["peak_mib"] > 0 and point["predicted_mib"] > 0 for point in points)
    assert set(told["exponents"]) == {"darts", "darts recomputed"} and told["prediction_errors"]
    assert json.loads((tmp_path / "scale.json").read_text())["points"] == points
    with open(tmp_path / "scale.csv", newline="") as file:
        assert [row["search"] for row in csv.DictReader(file)] == [point["search"] for point in points]
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_exponents_and_errors_by_hand():
    found = [
        Point("darts", "batch", n, cpu=3.0 * n, wall=1.0, peak_mib=5.0 * n**2, predicted_mib=6.0 * n**2) for n in (2, 4)
    ]
    assert exponents(found)["darts"]["batch"] == pytest.approx({"seconds": 1.0, "memory": 2.0})
    found.append(Point("darts", "batch", 8, cpu=1.0, wall=1.0, peak_mib=10.0, predicted_mib=8.0))
    assert errors(found) == pytest.approx({"mean": 0.2, "lowest": -0.2, "highest": 0.2})
    assert exponents([Point("darts", "batch", 2, failure="no memory")]) == {} and errors([]) == {}


def test_a_size_that_cannot_be_is_a_row_that_says_so():
    size = {**BASE, "batch": 2, "width": 4, "layers": 3, "nodes": 2, "input": 16}
    found = measure(Point("pc_darts", "width", 4), size, steps=1, warmup=0, core=-1)
    assert found.cpu is None and found.failure


@pytest.mark.parametrize(
    ("options", "message"),
    [({"searches": ["dart"]}, "darts"), ({"factors": ["depth"]}, "batch"), ({"steps": 0}, "least one step")],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        main(**{"quick": True, "steps": 1, **options})


def test_a_word_in_the_place_of_a_list_is_answered_with_how_to_write_it(capsys):
    assert run_command(main, ["--searches", "darts", "--quick"]) == 2
    assert "expected list[str], written as '[\"darts\"]'" in capsys.readouterr().err
