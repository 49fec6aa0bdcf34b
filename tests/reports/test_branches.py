"""Drawings of networks with branches: what runs, what does not, nothing cut off and nothing on top of another."""

from __future__ import annotations

import itertools
from pathlib import Path

import networkx as nx
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reports import branches
from reports.branches import BranchesDrawing, branches_figure, draw_branches, has_branches, units_of
from reports.drawing import architecture_figure, draw_architecture
from searchspaces import Architecture
from searchspaces.pta import CONFIGURATIONS, choices_of


def graph_of(configuration: str, **options: object) -> nx.MultiDiGraph:
    return Architecture("pta", options, choices_of(configuration)).graph()


@pytest.fixture(scope="module")
def graphs() -> dict[str, nx.MultiDiGraph]:
    return {name: graph_of(name) for name in CONFIGURATIONS}


def draw(graph: nx.MultiDiGraph) -> tuple[BranchesDrawing, Figure]:
    rows = branches._wrap(units_of(graph))
    width, height = branches._place(rows)
    figure = Figure(figsize=(width + 1, height + 1))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(-0.5, width + 0.5)
    ax.set_ylim(-height - 0.5, 0.5)
    FigureCanvasAgg(figure)
    return draw_branches(ax, rows), figure


def overlap(a: branches.Edges, b: branches.Edges) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_boxes_keep_apart_and_hold_their_texts(graphs: dict[str, nx.MultiDiGraph]) -> None:
    for name, graph in graphs.items():
        drawing, figure = draw(graph)
        for (first, _), (second, _) in itertools.combinations(drawing.boxes, 2):
            assert not overlap(first, second), name
        inverse, renderer = figure.axes[0].transData.inverted(), FigureCanvasAgg(figure).get_renderer()
        for edges, texts in [*drawing.boxes, *drawing.frames]:
            places = []
            for text in texts:
                extent = text.get_window_extent(renderer)
                (x0, y0), (x1, y1) = inverse.transform([(extent.x0, extent.y0), (extent.x1, extent.y1)])
                assert edges[0] <= x0 and x1 <= edges[2] and edges[1] <= y0 and y1 <= edges[3], (name, text.get_text())
                places.append((x0, y0, x1, y1))
            assert not any(overlap(a, b) for a, b in itertools.combinations(places, 2)), name


def test_lines_cross_no_box(graphs: dict[str, nx.MultiDiGraph]) -> None:
    for name in ("HHH", "LHB", "BBB"):
        drawing, _ = draw(graphs[name])
        for points, _ in drawing.lines:
            for (x0, y0), (x1, y1) in itertools.pairwise(points):
                middle = ((x0 + x1) / 2, (y0 + y1) / 2)
                for (left, bottom, right, top), texts in drawing.boxes:
                    inside = left < middle[0] < right and bottom < middle[1] < top
                    assert not inside, (name, texts[0].get_text())


@pytest.mark.parametrize(("name", "unused", "means"), [("HHH", 3, 0), ("LHB", 2, 1), ("BBB", 0, 3)])
def test_what_does_not_run_is_dashed_and_both_meet_in_a_mean(
    graphs: dict[str, nx.MultiDiGraph], name: str, unused: int, means: int
) -> None:
    drawing, figure = draw(graphs[name])
    words = [text.get_text() for _, texts in drawing.boxes for text in texts]
    assert words.count("mean") == means
    assert sum(not used for _, used in drawing.lines) == 2 * unused  # a line to the branch and one from it
    dashed = [patch for patch in figure.axes[0].patches if patch.get_linestyle() not in ("solid", "-")]
    assert len(dashed) == unused


def test_sizes_follow_from_the_strides() -> None:
    lines = [unit.lines for unit in units_of(graph_of("LHB"))]
    assert lines[0] == ["input", "3 ch", "128\u00d7128"]
    assert lines[1][-2:] == ["32 ch", "64\u00d764"]
    assert lines[6] == ["Block 1 runs light", "64 ch, 8\u00d78"]
    assert lines[10] == ["Block 3 runs both", "160 ch, 4\u00d74"]
    assert lines[-2][-2:] == ["1280 ch", "1\u00d71"] and lines[-1] == ["2 logits"]
    assert [unit.lines[-1] for unit in units_of(graph_of("HHH", image_size=100))][1] == "50\u00d750"


def test_the_kind_of_graph_decides_the_drawing(graphs: dict[str, nx.MultiDiGraph], tmp_path: Path) -> None:
    assert has_branches(graphs["HHH"]) and not has_branches(nx.MultiDiGraph([("a", "b")]))
    width, height = architecture_figure(graphs["HHL"]).get_size_inches()
    assert (width, height) == tuple(branches_figure(graphs["HHL"]).get_size_inches())
    files = [draw_architecture(graphs["HHL"], tmp_path / name) for name in ("a.svg", "b.svg")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_nothing_of_the_legend_is_cut_off(graphs: dict[str, nx.MultiDiGraph]) -> None:
    figure = branches_figure(graphs["LLL"])
    canvas = FigureCanvasAgg(figure)
    box, frame = figure.legends[0].get_window_extent(canvas.get_renderer()), figure.bbox
    assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    bottom = figure.axes[0].get_window_extent().y0
    assert box.y1 <= bottom + 0.15 * figure.dpi + 1  # below the drawing, whose axes have a margin of their own
