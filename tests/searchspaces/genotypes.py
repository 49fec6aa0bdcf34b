"""Genotypes for tests, written as the papers print them: node -> (operation, predecessor) pairs."""

from __future__ import annotations

from typing import Any

SHORT = {
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "skip": "skip_connect",
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
}

# reproduces Table 4 of the Auto-FAS paper with the default options: 0.27 M parameters, 0.53 G MACs
TABLE_4 = {
    "normal": [
        [("max", 1), ("sep3", 0)],
        [("max", 1), ("skip", 2)],
        [("sep3", 1), ("sep3", 3)],
        [("sep3", 4), ("max", 2)],
    ],
    "reduce": [
        [("sep3", 1), ("sep3", 0)],
        [("sep3", 0), ("sep3", 1)],
        [("max", 1), ("max", 3)],
        [("avg", 0), ("sep5", 3)],
    ],
}
# the same table with eleven cells of width 36
TABLE_4_DEEP = {
    "normal": [
        [("skip", 1), ("skip", 0)],
        [("sep5", 1), ("skip", 0)],
        [("avg", 1), ("max", 2)],
        [("sep5", 0), ("sep3", 2)],
    ],
    "reduce": [
        [("skip", 0), ("avg", 1)],
        [("sep5", 0), ("sep5", 1)],
        [("max", 0), ("sep3", 2)],
        [("skip", 1), ("sep3", 2)],
    ],
}


def choices(genotype: dict[str, list[list[tuple[str, int]]]]) -> dict[str, Any]:
    """The genotype as an NNI sample."""
    result: dict[str, Any] = {}
    for cell, nodes in genotype.items():
        for node, pairs in enumerate(nodes, start=2):
            result[f"{cell}/input_{node}"] = [source for _, source in pairs]
            for slot, (operation, _) in enumerate(pairs):
                result[f"{cell}/op_{node}_{slot}"] = SHORT[operation]
    return result
