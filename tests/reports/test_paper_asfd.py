"""Table 5 of the ASFD paper beside what our detectors of the same names cost."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from hardware.counters import count
from reports.__main__ import main
from reports.paper_asfd import EXPLAINED_FROM, HALF_LAYER, PICTURE, REASONS, TOO_WIDE, UNITS, asfd_table5
from reports.paper_tables import ASFD_TABLE5
from reports.papers import Computed, compute
from reports.papers_output import as_csv, as_html, as_json, as_markdown, as_text
from searchspaces import Architecture
from searchspaces.asfd import MEMBERS, table5_architecture


@pytest.fixture(scope="module")
def table5() -> Computed:
    return compute("asfd-table5", 1)


def deviations(architecture: Architecture, member: str) -> tuple[float, float]:
    """Percent from the paper's parameters and MACs."""
    with torch.device("meta"):
        network = architecture.build().eval()
    ours = {"parameters": sum(p.numel() for p in network.parameters()), "macs": count(network, PICTURE)}
    parameters, macs = (
        100 * (ours[key] / UNITS[key] / ASFD_TABLE5.rows[member][key] - 1) for key in ("parameters", "macs")
    )
    return parameters, macs


def test_counts_and_deviations(table5: Computed) -> None:
    found = {row["row"]: row for row in table5.rows if row["ours"]}
    assert list(found) == list(MEMBERS)
    assert (found["D1"]["ours"]["parameters"], found["D1"]["ours"]["macs"]) == (3908819, 4149934080)
    remarks = {name: (row["remarks"]["parameters"], row["remarks"]["macs"]) for name, row in found.items()}
    assert remarks["D0"] == ("+10.8 %", "+11.8 %") and remarks["D6"] == ("+7.8 %", "+23.2 %")
    for member in ("D0", "D3"):
        expected = deviations(table5_architecture(member), member)
        assert remarks[member] == tuple(f"{value:+.1f} %" for value in expected)
    assert all(row["ours"]["active"] < row["ours"]["parameters"] for row in found.values())  # the first shot's laterals


@pytest.mark.parametrize("profile", ["table5", "text"])
def test_a_reason_where_and_only_where_it_is_far(profile: str) -> None:
    for row in (row for row in asfd_table5(profile).rows if row["ours"]):
        far = any(
            abs(row["ours"][key] / UNITS[key] / row["paper"][key] - 1) > limit for key, limit in EXPLAINED_FROM.items()
        )
        assert ("why" in row["remarks"]) == far, row["row"]
        assert row["remarks"].get("why") != "not explained"
        assert not far or row["remarks"]["why"] == REASONS[profile][row["row"]]


def test_figures_in_the_reasons_are_ours() -> None:
    d0, d6 = table5_architecture("D0"), table5_architecture("D6")
    pyramid = {label: choice for label, choice in d0.choices.items() if label.startswith("fpn/")}
    without_trees = deviations(Architecture("asfd", {**d0.options, "cpm": False}, pyramid), "D0")
    assert "({:+.1f} % and {:+.1f} %)".format(*without_trees) in HALF_LAYER
    narrower = deviations(Architecture("asfd", {**d6.options, "width": 336}, d6.choices), "D6")
    assert "{:+.1f} % and {:+.1f} %".format(*narrower) in TOO_WIDE and d6.options["width"] == 384


def test_profile_of_the_text_has_larger_small_members(table5: Computed) -> None:
    by_profile = [{row["row"]: row["ours"] for row in computed.rows} for computed in (table5, asfd_table5("text"))]
    for member in MEMBERS:
        assert (by_profile[1][member]["macs"] > by_profile[0][member]["macs"]) == (member in ("D0", "D1")), member


def test_rivals_are_the_papers_alone(table5: Computed) -> None:
    assert [row["row"] for row in table5.rows if not row["ours"]] == [
        name for name in ASFD_TABLE5.rows if name not in MEMBERS
    ]
    assert "none is ours" in table5.blocks[1].title and len(table5.blocks[0].lines) == len(MEMBERS)
    assert len(table5.blocks[1].lines) == len(ASFD_TABLE5.rows)


def test_formats(table5: Computed) -> None:
    text = as_text(table5)
    assert "92.808" in text and "…" not in text and f"D6: {TOO_WIDE}" in text
    rows = list(csv.DictReader(as_csv(table5).splitlines()))
    assert rows[6]["paper.macs"] == "183.11" and rows[6]["ours.macs"] == "225506603520"
    assert json.loads(as_json(table5))["rows"][0]["ours"]["parameters"] == 686819
    assert "0.687" in as_markdown(table5) and "0.687" in as_html(table5)


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["papers", "--table", "asfd-table5", "--profile", "text"]) == 0
    assert "Profile text" in capsys.readouterr().out
    assert main(["papers", "--table", "pta-table4", "--profile", "text"]) == 2
    assert "asfd-table5" in capsys.readouterr().err
    assert main(["papers", "--table", "asfd-table5", "--profile", "other"]) == 2
    assert "profile" in capsys.readouterr().err
