"""How strong the paths of a found pyramid and of found trees are: numbers on the drawing's edges.

A pyramid's paths have trained weights, those of the network. A tree's parents have weights in the search only: how sure
it was of the parent that was kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx

if TYPE_CHECKING:
    from .run import Run

WEIGHTS = "weights.safetensors"


def add_path_weights(graph: nx.MultiDiGraph, run: Run) -> None:
    """Set ``weight`` of the edges that a run says something of; a graph of cells or branches stays as it is.

    ``weights`` of the graph becomes ``trained`` or ``searched``: where the weights of the pyramid's paths are from.
    """
    levels = graph.graph.get("levels")
    if levels is None:
        return
    from searchspaces.autofem import path_weights

    trained = trained_weights(run, levels)
    graph.graph["weights"] = "trained" if trained else "searched"
    known = {**searched_weights(run, levels), **trained}
    for source, target, weight in path_weights(known):
        for data in graph.get_edge_data(source, target, default={}).values():
            data["weight"] = weight


def searched_weights(run: Run, levels: Sequence[int]) -> dict[str, dict[Any, float]]:
    """Weights of parents and paths in the epoch whose choices are the result, ``cpm_5/beta_3`` by parent."""
    from searchspaces.autofem import FPN, paths_of

    epoch = run.architecture.get("found_by", {}).get("epoch")
    records = [record for record in run.history if record.get("epoch") == epoch and "probabilities" in record]
    found: dict[str, dict[Any, float]] = {}
    for label, row in (records[-1]["probabilities"] if records else {}).items():
        cell, beta, place = str(label).partition("/beta_")
        if not beta or not place.isdigit() or not isinstance(row, list):
            continue
        keys: Sequence[Any] = paths_of(levels, int(place)) if cell == FPN else range(int(place))
        if len(keys) == len(row) and all(isinstance(value, int | float) for value in row):
            found[label] = dict(zip(keys, row, strict=True))
    return found


def trained_weights(run: Run, levels: Sequence[int]) -> dict[str, Mapping[Any, float]]:
    """The trained network's weights of the paths of its first pyramid, ``fpn/beta_5`` by path; none if unknown."""
    from safetensors import SafetensorError, safe_open

    from searchspaces.autofem import FPN, paths_of

    found: dict[str, Mapping[Any, float]] = {}
    try:
        with safe_open(run.path / WEIGHTS, framework="numpy") as file:
            names = set(file.keys())
            for level in levels:
                name = f"pyramids.0.betas.{level}"
                if name in names:
                    powers = [math.exp(value) for value in file.get_tensor(name).tolist()]
                    shares = [power / sum(powers) for power in powers]
                    found[f"{FPN}/beta_{level}"] = dict(zip(paths_of(levels, level), shares, strict=True))
    except (OSError, SafetensorError, ValueError, OverflowError):
        return {}  # a drawing without numbers is still one; what is wrong with the weights is said where they are used
    return found
