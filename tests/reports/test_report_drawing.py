"""Drawings of cells: everything can be read, whatever the genotype."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from reports.drawing import CellDrawing, cells_of, draw_architecture, draw_cell
from reports.layout import layered_layout, spread
from searchspaces.errors import ArchitectureError

Rectangle = tuple[float, float, float, float]


def overlap(a: Rectangle, b: Rectangle) -> bool:
    slack = 1e-6
    return a[0] < b[2] - slack and b[0] < a[2] - slack and a[1] < b[3] - slack and b[1] < a[3] - slack


def draw(graph: nx.MultiDiGraph, cell: str) -> tuple[CellDrawing, Figure]:
    figure = Figure(figsize=(11, 4))
    canvas = FigureCanvasAgg(figure)
    drawing = draw_cell(graph, cell, figure.add_axes((0, 0, 1, 1)))
    canvas.get_renderer()
    return drawing, figure


def text_rectangles(drawing: CellDrawing, figure: Figure) -> list[tuple[Rectangle, Rectangle]]:
    """Every text as it is really rendered, with the box that it belongs to, in the units of the axes."""
    ax, renderer = figure.axes[0], FigureCanvasAgg(figure).get_renderer()
    pairs = []
    for box, texts in [*drawing.labels, *drawing.nodes]:
        for text in texts:
            extent = text.get_window_extent(renderer)
            (x0, y0), (x1, y1) = ax.transData.inverted().transform([[extent.x0, extent.y0], [extent.x1, extent.y1]])
            pairs.append(((x0, y0, x1, y1), box.edges))
    return pairs


def check_readable(graph: nx.MultiDiGraph) -> None:
    for cell in cells_of(graph):
        drawing, figure = draw(graph, cell)
        part = [edge for edge in graph.edges(data=True) if graph.nodes[edge[0]]["cell"] == cell]
        assert len(drawing.labels) == sum(data["operation"] is not None for *_, data in part)
        boxes = [box for box, _ in [*drawing.labels, *drawing.nodes]]
        for first, second in itertools.combinations(boxes, 2):
            assert not overlap(first.edges, second.edges), f"{cell}: {first} lies on {second}"
        for text, own in text_rectangles(drawing, figure):
            assert own[0] <= text[0] and text[2] <= own[2], f"{cell}: text wider than its box"
            assert own[1] <= text[1] and text[3] <= own[3], f"{cell}: text higher than its box"
        check_lines(drawing, boxes)
        (x0, x1), (y0, y1) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
        assert all(x0 < b.edges[0] and b.edges[2] < x1 and y0 < b.edges[1] and b.edges[3] < y1 for b in boxes)


def check_lines(drawing: CellDrawing, boxes: list) -> None:
    """A line enters no box but those of its own edge, and runs from left to right."""
    for route, curve in drawing.curves:
        own = [drawing.layout.boxes[stop] for stop in route.stops]
        points = np.concatenate(
            [piece.reshape(-1, 2) for piece in curve.interpolated(1).to_polygons(closed_only=False)]
        )
        assert (np.diff(points[:, 0]) >= -1e-9).all()
        dense = np.concatenate([np.linspace(a, b, 8) for a, b in itertools.pairwise(points)])
        for box in boxes:
            if not any(box is mine for mine in own):
                left, bottom, right, top = box.edges
                inside = (left < dense[:, 0]) & (dense[:, 0] < right) & (bottom < dense[:, 1]) & (dense[:, 1] < top)
                assert not inside.any(), f"the edge {route.source} -> {route.target} runs through {box}"


@pytest.mark.parametrize("start", range(0, 50, 10))
def test_random_genotypes_are_readable(genotype: Callable[[int], nx.MultiDiGraph], start: int) -> None:
    for seed in range(start, start + 10):
        check_readable(genotype(seed))


def test_extreme_genotypes_are_readable(extreme_genotypes: dict[str, nx.MultiDiGraph]) -> None:
    for graph in extreme_genotypes.values():
        check_readable(graph)


def test_parallel_edges_each_have_a_label(genotype: Callable[[int], nx.MultiDiGraph]) -> None:
    graph = genotype(0)
    graph.add_edge("normal/c_{k-2}", "normal/2", operation="max_pool_3x3", stride=1)
    graph.add_edge("normal/c_{k-2}", "normal/2", operation="a_very_long_operation_name", stride=1)
    check_readable(graph)


def test_stride_two_is_written_on_the_edges_that_have_it(genotype: Callable[[int], nx.MultiDiGraph]) -> None:
    graph = genotype(3)
    for cell in ("normal", "reduce"):
        drawing, _ = draw(graph, cell)
        written = sum(any("stride 2" in text.get_text() for text in texts) for _, texts in drawing.labels)
        wanted = sum(d["stride"] == 2 for u, _, d in graph.edges(data=True) if u.startswith(f"{cell}/"))
        assert written == wanted
    assert wanted > 0


def test_first_input_is_on_top(genotype: Callable[[int], nx.MultiDiGraph]) -> None:
    for seed in range(6):
        layout = draw(genotype(seed), "normal")[0].layout
        places = {name: layout.boxes[index].y for name, index in layout.nodes.items()}
        assert places["normal/c_{k-2}"] > places["normal/c_{k-1}"]


def test_pictures_are_written_and_repeatable(genotype: Callable[[int], nx.MultiDiGraph], tmp_path: Path) -> None:
    first, second = (draw_architecture(genotype(4), tmp_path / name) for name in ("a.svg", "b.svg"))
    assert first.read_bytes() == second.read_bytes()
    assert b"<svg" in first.read_bytes()
    with Image.open(draw_architecture(genotype(4), tmp_path / "a.png")) as picture:
        assert min(picture.size) > 300
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20


def test_unknown_cell_is_refused_with_the_known_ones(genotype: Callable[[int], nx.MultiDiGraph]) -> None:
    with pytest.raises(ArchitectureError, match=r"no cell 'fast'.*normal, reduce"):
        draw_cell(genotype(0), "fast", Figure().add_axes((0, 0, 1, 1)))
    with pytest.raises(ArchitectureError, match="no cells"):
        draw_architecture(nx.MultiDiGraph(), "never.png")


def test_cycle_is_refused() -> None:
    graph = nx.MultiDiGraph([("a", "b"), ("b", "a")])
    with pytest.raises(ArchitectureError, match="acyclic"):
        layered_layout(graph, {"a": (1, 1), "b": (1, 1)}, {1: (1, 1)})


def test_spread_keeps_distances_and_is_least_squares() -> None:
    assert spread([0.0, 5.0, 9.0], [1, 1, 1], [1, 1]) == [0.0, 5.0, 9.0]
    assert spread([2.0, 2.0], [1, 1], [1]) == pytest.approx([1.5, 2.5])
    assert spread([2.0, 2.0], [3, 1], [1]) == pytest.approx([1.75, 2.75])
    wanted, steps = [3.0, 1.0, 2.0, 7.0, 6.5], [1.0, 0.5, 2.0, 1.0]
    places = spread(wanted, [1] * 5, steps)
    assert all(b - a >= step - 1e-9 for a, b, step in zip(places, places[1:], steps, strict=False))
    best = sum((p - w) ** 2 for p, w in zip(places, wanted, strict=True))
    dice = np.random.default_rng(0)
    for _ in range(200):  # nothing feasible nearby is better
        other = np.array(places) + dice.normal(scale=0.2, size=5)
        if all(b - a >= step for a, b, step in zip(other, other[1:], steps, strict=False)):
            assert ((other - wanted) ** 2).sum() >= best - 1e-9
