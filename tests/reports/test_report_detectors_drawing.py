"""Drawings of pyramids and trees: every operation is shown once, and everything can be read."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reports.drawing import architecture_figure, draw_architecture, title_of
from reports.pyramid import draw_pyramid, has_pyramid, pyramid_size
from searchspaces.autofem import CPM_OPERATIONS, FPN_OPERATIONS, add_pyramid, add_tree, path_weights, pyramid_edges
from tests.reports.test_report_drawing import check_readable, overlap


def pyramid(seed: int, levels=range(2, 8), chain: str = "product", weights: bool = True) -> nx.MultiDiGraph:
    random, levels = np.random.default_rng(seed), list(levels)
    choices = {f"fpn/{edge}": str(random.choice(FPN_OPERATIONS)) for edge in pyramid_edges(levels)}
    graph = nx.MultiDiGraph(levels=levels, chain=chain, output="leaves")
    add_pyramid(graph, choices, levels, chain)
    if weights:
        for _, target, data in graph.edges(data=True):
            if target.startswith("fpn/p_"):
                data["weight"] = float(random.random())
    return graph


def trees(seed: int, nodes: int, weights: bool = True) -> nx.MultiDiGraph:
    random, graph = np.random.default_rng(seed), nx.MultiDiGraph(output="leaves")
    for level in range(2, 8):
        choices = {f"cpm_{level}/input_{node}": int(random.integers(node)) for node in range(2, nodes + 1)}
        choices |= {f"cpm_{level}/op_{node}": str(random.choice(CPM_OPERATIONS)) for node in range(1, nodes + 1)}
        add_tree(graph, choices, level, nodes, nodes, "leaves")
    for *_, data in graph.edges(data=True):
        if weights and data["operation"]:
            data["weight"] = float(random.random())
    return graph


@pytest.mark.parametrize("levels", [range(2, 8), range(3, 8)])
@pytest.mark.parametrize("seed", range(4))
def test_a_pyramid_is_readable(levels, seed):
    graph = pyramid(seed, levels)
    figure = Figure(figsize=pyramid_size(graph))
    ax = figure.add_axes((0, 0, 1, 1))
    drawing = draw_pyramid(graph, ax)
    renderer = FigureCanvasAgg(figure).get_renderer()
    operations = [operation for *_, operation in graph.edges(data="operation") if operation]
    assert sorted(text.get_text() for _, text in drawing.labels) == sorted(operations)
    assert len(drawing.nodes) == sum(part == "fpn" for _, part in graph.nodes(data="part"))
    weights = [weight for *_, weight in graph.edges(data="weight") if weight is not None]
    assert sorted(text.get_text() for text in drawing.weights) == sorted(f"{weight:.2f}" for weight in weights)

    def rectangle(text):
        extent = text.get_window_extent(renderer)
        (x0, y0), (x1, y1) = ax.transData.inverted().transform([[extent.x0, extent.y0], [extent.x1, extent.y1]])
        return float(x0), float(y0), float(x1), float(y1)

    boxes = [box for box, _ in [*drawing.nodes, *drawing.labels]]
    for first, second in itertools.combinations([*boxes, *map(rectangle, drawing.weights)], 2):
        assert not overlap(first, second)
    for box, text in [*drawing.nodes, *drawing.labels]:
        own = rectangle(text)
        assert box[0] <= own[0] and own[2] <= box[2] and box[1] <= own[1] and own[3] <= box[3]
    width, height = drawing.size
    assert all(box[0] > 0 and box[2] < width and box[1] > 0 and box[3] < height for box in boxes)


@pytest.mark.parametrize("nodes", [4, 6, 8])
@pytest.mark.parametrize("weights", [False, True])
def test_trees_are_readable(nodes, weights):
    for seed in range(3):
        check_readable(trees(seed, nodes, weights))


def test_a_whole_detector_is_one_picture(tmp_path):
    graph = nx.compose(pyramid(0, range(3, 8)), trees(0, 4))
    figure = architecture_figure(graph)
    titles = [text.get_text() for text in figure.texts]
    assert titles == ["Pyramid", *(f"Tree of level {level} (stride {2**level})" for level in range(2, 8))]
    first = draw_architecture(graph, tmp_path / "a.png").read_bytes()
    assert draw_architecture(graph, tmp_path / "b.png").read_bytes() == first
    assert has_pyramid(graph) and not has_pyramid(trees(0, 4)) and title_of("normal").startswith("Normal")


def test_chains_say_how_they_join():
    for chain, sign in (("product", "\N{MULTIPLICATION SIGN}"), ("sum", "+")):
        figure = architecture_figure(pyramid(0, chain=chain))
        shown = [text.get_text() for ax in figure.axes for text in ax.texts]
        assert shown.count(sign) == 10


def test_weights_of_a_search_find_their_edges():
    graph = pyramid(0, range(5, 8), weights=False)
    weights = {"fpn/beta_6": {"lateral": 0.2, "top_down": 0.3, "bottom_up": 0.5}}
    for source, target, weight in path_weights(weights):
        assert graph.has_edge(source, target) and 0 < weight < 1


@pytest.mark.parametrize("weights", [False, True])
def test_the_legend_explains_what_is_drawn(weights):
    whole = nx.compose(pyramid(0, weights=weights), trees(0, 4, weights))
    for graph, named in ((whole, "pt"), (pyramid(0, weights=weights), "p"), (trees(0, 4, weights), "t")):
        (note,) = [legend.get_title().get_text() for legend in architecture_figure(graph).legends]
        assert ("maps are resized" in note) == ("p" in named)
        assert ("leaves are concatenated" in note) == ("t" in named)
        assert ("numbers beside the paths" in note) == ("p" in named and weights)
        assert ("sure the search was of a parent" in note) == ("t" in named and weights)
