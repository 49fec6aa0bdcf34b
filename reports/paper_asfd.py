"""Table 5 of the ASFD paper: its detectors D0 to D6, and what ours of the same names cost.

Counted on tensors without data, so nothing is executed or trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .paper_tables import ASFD_TABLE5, Column
from .papers_output import Block, Computed

PICTURE = (3, 480, 640)  # VGA, as the paper's
UNITS = {"parameters": 1e6, "macs": 1e9}
EXPLAINED_FROM = {"parameters": 0.05, "macs": 0.08}  # relative difference from which a reason is given
HALF_LAYER = (
    "half a layer of AutoFEM is not described; half of each tree's nodes, taken here, is nearest for D1 and D2, for D0 "
    "a pyramid without trees would be (-7.5 % and -7.7 %)"
)
NO_STRIDE_4 = "with maps of stride 4 as the text has it, which the printed MACs cannot contain"
TOO_WIDE = (
    "the printed D6 and D5 exclude each other at the widths of the paper's Table 1; a width of 336 in place of 384 "
    "would give -1.1 % and +3.7 %"
)
REASONS: Mapping[str, Mapping[str, str]] = {
    "table5": {"D0": HALF_LAYER, "D6": TOO_WIDE},
    "text": {"D0": f"{NO_STRIDE_4}; the profile table5 says what else", "D1": NO_STRIDE_4, "D6": TOO_WIDE},
}
NOTES = (
    "Ours: all stored parameters, and plain MACs of the second shot alone at 480x640 (height x width), which is what "
    "detects faces.",
    "The paper draws its found modules and lists no operations. Counted are laterals 1x1 (its text), top-down 3x3, "
    "bottom-up 5x5, and 3x3 in trees. One structure was fitted to all members, none to a member alone.",
    "APs and milliseconds are the paper's. Ours need a training on WIDER FACE.",
)
PROFILE_NOTES = {
    "table5": "Profile table5: no maps of stride 4 where the backbone is a MobileNet; --profile text has them too.",
    "text": "Profile text: maps of stride 4 to 128 in every member. --profile table5 fits the printed MACs.",
}


def asfd_table5(profile: str = "table5") -> Computed:
    """The paper's Table 5 with our counts.

    Args:
        profile: see `searchspaces.asfd.member_options`.

    Raises:
        ConfigError: for an unknown profile.
    """
    from searchspaces.asfd import MEMBERS

    rows = []
    for name, printed in ASFD_TABLE5.rows.items():
        ours = count_member(name, profile) if name in MEMBERS else {}
        deviation = {key: ours[key] / UNITS[key] / printed[key] - 1 for key in UNITS} if ours else {}
        remarks = {key: f"{100 * value:+.1f} %" for key, value in deviation.items()}
        if ours and (reason := _reason(name, profile, deviation)):
            remarks["why"] = reason
        rows.append({"row": name, "paper": dict(printed), "ours": ours, "remarks": remarks})
    notes = [*NOTES, PROFILE_NOTES[profile]]
    return Computed(ASFD_TABLE5, rows, (_sizes(rows), _merits(rows)), notes, None)


def count_member(member: str, profile: str) -> dict[str, int]:
    """``parameters`` and ``macs`` of a member at `PICTURE`, and how many parameters detecting uses, ``active``."""
    import torch

    from hardware.counters import count, count_parameters
    from searchspaces.asfd import table5_architecture

    with torch.device("meta"):  # shapes only: the largest has 226 billion MACs
        network = table5_architecture(member, profile).build().eval()
    parameters = count_parameters(network, PICTURE)
    return {
        "parameters": parameters["stored"],
        "active": parameters["active"],
        "macs": count(network, PICTURE),
    }


def _reason(member: str, profile: str, deviation: Mapping[str, float]) -> str:
    """Why a member is far from the printed figures; empty if it is near."""
    far = any(abs(deviation[key]) > limit for key, limit in EXPLAINED_FROM.items())
    return REASONS[profile].get(member, "not explained") if far else ""


def _sizes(rows: list[dict[str, Any]]) -> Block:
    """Ours beside the paper's, in the paper's units."""
    columns = ASFD_TABLE5.columns
    headings = ["row"]
    for key in UNITS:
        headings += [f"{columns[key].title}: paper", "ours"]
        headings += ["deviation"] if key == "parameters" else ["deviation, and why"]
    lines = []
    for row in (row for row in rows if row["ours"]):
        cells = [row["row"]]
        for key in UNITS:
            ours = f"{row['ours'][key] / UNITS[key]:.3f}"
            cells += [_printed(columns[key], row["paper"][key]), ours, row["remarks"][key]]
        why = row["remarks"].get("why")
        lines.append((*cells[:-1], f"{cells[-1]}: {why}" if why else cells[-1]))
    return Block("What the detectors cost to store and to compute", tuple(headings), lines)


def _merits(rows: list[dict[str, Any]]) -> Block:
    columns = ASFD_TABLE5.columns
    headings = ("row", *(column.title for column in columns.values()))
    lines = [(row["row"], *(_printed(column, row["paper"][key]) for key, column in columns.items())) for row in rows]
    return Block("The paper's own figures of its detectors and their rivals; none is ours", headings, lines)


def _printed(column: Column, value: float) -> str:
    return f"{value:.{column.decimals}f}"
