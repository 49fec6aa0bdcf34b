"""Figures as small SVG elements: what is drawn stays where it is, in classes, with text as text."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from reports.compact_svg import StyleSheet, _digits, _path, compact_svg
from reports.palette import INK, PAPER


def drawn() -> Figure:
    figure = Figure(figsize=(4, 3), facecolor=PAPER)
    ax = figure.subplots()
    ax.plot([0, 1, 2], [3, 1, 2], color=INK)
    ax.set_title("errors < 5 % & more")
    return figure


def test_it_is_one_small_element_without_styles_or_foreign_ids() -> None:
    styles = StyleSheet()
    svg = compact_svg(drawn(), 'a "figure"', styles)
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'a "figure"' and root.get("role") == "img"
    assert "style=" not in svg and INK not in svg + styles.text and "var(--ink)" in styles.text
    assert "errors &lt; 5 % &amp; more" in svg
    used = {name for element in root.iter() for name in (element.get("class") or "").split()}
    assert used - {"figure"} == set(re.findall(r"\.(\w+) \{", styles.text))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert all(f"#{name}" in svg for name in ids)
    other = ElementTree.fromstring(compact_svg(drawn(), "b", styles))
    assert not set(ids) & {element.get("id") for element in other.iter()}
    assert len(svg) < 0.6 * len(matplotlib_svg(drawn()))


def matplotlib_svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    FigureCanvasSVG(figure)
    figure.savefig(buffer, format="svg")
    return buffer.getvalue().decode()


def points_of(d: str) -> list[tuple[float, float]]:
    """The ends of all lines and curves of path data, absolute and relative commands alike."""
    place, found = (0.0, 0.0), []
    for command, rest in re.findall(r"([A-Za-z])([^A-Za-z]*)", d):
        numbers = [float(number) for number in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", rest)]
        if command in "zZ":
            continue
        if command in "hv":
            numbers = [numbers[0], 0.0] if command == "h" else [0.0, numbers[0]]
        relative = command.islower()
        end = (numbers[-2] + place[0] * relative, numbers[-1] + place[1] * relative)
        place = end
        found.append(end)
    return found


def test_relative_paths_end_where_absolute_ones_do() -> None:
    dice = np.random.default_rng(0)
    given = dice.uniform(-300, 600, (400, 2))
    d = "M" + " L ".join(f"{x:.6f} {y:.6f}" for x, y in given) + " C 1 2 3 4 5.55 6.66 z"
    found = points_of(_path(d))
    assert np.allclose(found[:-1], given, atol=0.0501) and found[-1] == pytest.approx((5.5, 6.7), abs=0.1)
    assert _path("M 1 1 L 1 1 L 4 1 L 4 0.5 z") == "M1 1h3v-.5z"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (-0.04, "0"), (0.25, ".2"), (-0.5, "-.5"), (100.0, "100"), (10.06, "10.1")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert _digits(value, 1) == text
