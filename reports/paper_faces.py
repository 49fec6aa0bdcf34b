"""What the networks of the AirFace and HaTFAS papers cost, and what our networks of the same names do.

Counted on tensors without data, so nothing is executed or trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .paper_tables import AIRFACE, HATFAS, PaperTable
from .papers_output import Block, Computed

READINGS = {
    "airface": "Table 1 as printed: n counts the bottlenecks of stride 1. 5 % above the competition's 1 GFLOP",
    "airface-cbam": "with the attention that the text describes",
    "airface-strict": "Table 1 with n as the number of all bottlenecks of a stage: within 1 GFLOP",
    "airface-128": "",
    "mobilefacenet-128": "",
    "mobilefacenet-512": "",
    "mobilefacenet-y2": "",
}
AIRFACE_NOTES = (
    "FLOPs are counted as InsightFace does (the convention lfr): two for each multiply-accumulate but the first.",
    "1G is printed with one digit: both readings round to it.",
    "The paper's accuracies on LFW, CFP-FP, AgeDB and MegaFace need data that are not here: python -m evaluators.train "
    "with --data packed trains on them.",
)
HATFAS_NOTES = (
    "5 MB is how the paper's title counts parameters: 5.5 million, 22 MB in float32 and 5.5 MB in int8.",
    "MACs are of convolutions and linear layers; the products of queries, keys and values are beside them.",
    "Its error rates need licensed videos that are not here.",
)


def airface(repetitions: int = 0) -> Computed:
    """Table 1 of the AirFace paper in both readings, and its relatives."""
    from searchspaces.airface import PUBLISHED, published

    rows = []
    for name in PUBLISHED:
        ours = _counts(published(name), "lfr")
        rows.append(_row(AIRFACE, name, ours, {"parameters": 1e6, "macs": 1e6, "flops": 1e6}, READINGS[name]))
    return Computed(AIRFACE, rows, (_block(AIRFACE, rows, "What the networks cost"),), list(AIRFACE_NOTES), None)


def hatfas(repetitions: int = 0) -> Computed:
    """The student and the teacher of HaTFAS."""
    from searchspaces.hatfas import PUBLISHED, published

    rows = []
    for name in PUBLISHED:
        architecture = published(name)
        ours = _counts(architecture, None) | {"attention": attention_macs(architecture)}
        why = "the paper's 5 MB are its parameters, rounded down" if name == "deit-tiny" else ""
        rows.append(_row(HATFAS, name, ours, {"parameters": 1e6, "macs": 1e9, "attention": 1e9}, why))
    return Computed(HATFAS, rows, (_block(HATFAS, rows, "What the networks cost"),), list(HATFAS_NOTES), None)


def attention_macs(architecture: Any) -> int:
    """Multiply-accumulates of ``Q K^T`` and of its product with V, in all blocks: ``2 T^2 C`` each."""
    space = architecture.model_space()
    tokens = (space.image_size // space.patch_size) ** 2 + 1
    return int(2 * tokens**2 * architecture.choices["embed"] * architecture.choices["depth"])


def _counts(architecture: Any, convention: str | None) -> dict[str, int]:
    import warnings

    import torch

    from hardware.counters import count

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that products of attention are no layer is said in a column of its own
        network = architecture.build().eval()
        found = {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "macs": count(network, architecture.input_size),
        }
        if convention:
            found["flops"] = count(network, architecture.input_size, convention)
    return found


def _row(table: PaperTable, name: str, ours: Mapping[str, int], units: Mapping[str, float], why: str) -> dict[str, Any]:
    printed = dict(table.rows.get(name, {}))
    remarks = {key: f"{100 * (ours[key] / units[key] / value - 1):+.1f} %" for key, value in printed.items()}
    return {"row": name, "paper": printed, "ours": dict(ours), "units": dict(units), "remarks": {**remarks, "why": why}}


def _block(table: PaperTable, rows: list[dict[str, Any]], title: str) -> Block:
    headings = ["row"]
    for column in table.columns.values():
        headings += [f"{column.title}: published", "ours"]
    lines = []
    for row in rows:
        cells = [row["row"]]
        for key, column in table.columns.items():
            known = row["paper"].get(key)
            cells.append("" if known is None else f"{known:.{column.decimals}f}")
            value = row["ours"][key] / row["units"][key]
            deviation = row["remarks"].get(key)
            cells.append(f"{value:.3f}" + (f" ({deviation})" if deviation else ""))
        lines.append((*cells, row["remarks"]["why"]))
    return Block(title, (*headings, "remark"), lines)


COMPUTED_HERE: Mapping[str, Callable[[int], Computed]] = {"airface": airface, "hatfas": hatfas}
