"""The guard against collapse: searches that drift to skip connections or to ``none``.

Differentiable search tends to favour operations without weights, which are trained from the first step on; the
derived network is then shallow and poor (DARTS+, Liang et al. 2019; R-DARTS, Zela et al. ICLR 2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Probabilities = Mapping[str, Mapping[str, float]]  # edge -> operation -> weight


def operation_shares(choices: Mapping[str, Any]) -> dict[str, float]:
    """Share of each operation among the derived edges of all cells.

    >>> operation_shares({"n/op_2_0": "skip_connect", "n/op_2_1": "max_pool_3x3", "n/input_2": [0, 1]})
    {'skip_connect': 0.5, 'max_pool_3x3': 0.5}
    """
    chosen = [value for label, value in choices.items() if isinstance(value, str)]
    return {value: chosen.count(value) / len(chosen) for value in dict.fromkeys(chosen)}


def skip_share(choices: Mapping[str, Any]) -> float:
    """Largest share of ``skip_connect`` among the derived edges of one cell type, 0 to 1."""
    cells: dict[str, dict[str, Any]] = {}
    for label, value in choices.items():
        cells.setdefault(label.partition("/")[0], {})[label] = value
    return max((operation_shares(cell).get("skip_connect", 0.0) for cell in cells.values()), default=0.0)


def none_share(probabilities: Probabilities) -> float:
    """Share of the edges whose largest weight is that of ``none``, 0 to 1."""
    rows = [row for row in probabilities.values() if "none" in row]
    return sum(max(row, key=lambda name: row[name]) == "none" for row in rows) / len(rows) if rows else 0.0


def normalised_entropy(probabilities: Probabilities) -> float:
    """Mean entropy of the edges' distributions over the entropy of the uniform one: 1 undecided, 0 decided."""
    values = [
        -sum(p * math.log(p) for p in row.values() if p > 0) / math.log(len(row))
        for row in probabilities.values()
        if len(row) > 1
    ]
    return sum(values) / len(values) if values else 0.0


@dataclass(frozen=True)
class CollapseGuard:
    """Judges an epoch of a search.

    Attributes:
        mode: ``stop`` ends the search at the last healthy epoch, ``warn`` only says so, ``off`` is silent.
        largest_skip_share: more skip connections than this share of a cell's derived edges is a collapse. The
            default allows 4 of 8; DARTS+ stops at 2 of 8, which on a space of six operations chance often reaches.
        largest_none_share: a warning (never a stop, since ``none`` is not derived) above this share.
    """

    mode: Literal["stop", "warn", "off"] = "stop"
    largest_skip_share: float = 0.5
    largest_none_share: float = 0.5

    def judge(self, choices: Mapping[str, Any], probabilities: Probabilities) -> tuple[bool, str | None]:
        """Whether the search should stop, and what is wrong with this epoch (None if nothing)."""
        if self.mode == "off":
            return False, None
        share = skip_share(choices)
        if share > self.largest_skip_share:
            reason = (
                f"{share:.0%} of the derived edges of a cell are skip connections (limit {self.largest_skip_share:.0%})"
            )
            return self.mode == "stop", reason
        share = none_share(probabilities)
        if share > self.largest_none_share:
            limit = f"{self.largest_none_share:.0%}"
            return (
                False,
                f"'none' has the largest weight on {share:.0%} of the edges (limit {limit}); it is never derived",
            )
        return False, None
