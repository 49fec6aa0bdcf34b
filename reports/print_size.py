"""The figures of a run at the width that they are printed at: a column of a paper or its whole page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.offsetbox import DrawingArea, PackerBase
from matplotlib.patches import FancyArrowPatch, Patch
from matplotlib.text import Text
from matplotlib.transforms import Affine2D

from .figures import fix_layout
from .palette import INK
from .pictures import PLACED, draw_figure
from .run import Run
from .strokes import text_width

WIDTHS = {"column": 3.3, "page": 7.0}  # inches, of a paper with two columns
LEAST, MOST, USUAL = 7.0, 8.0, 7.5  # points of text: the smallest, the largest where panels are stacked, and of labels
DRAWN_AT = 9.0  # points of the labels of figures that are `PLACED`
PANEL = 1.75  # inches of height of a panel that is as wide as a column
LINE = 0.15  # inches of a line of text
MARGIN = 0.75  # inches beside a panel, of the labels of its scale
TOP = 0.5  # inches above and below it, of its title and its label
SAMPLE = 0.6  # inches of an entry of a legend beside its words
BOLD = 1.15  # times the width of usual text
LARGEST = 1.5  # times its width on a screen
STACKED = 2  # panels side by side that may be put below each other


def printed_figure(run: Run, name: str, width: str) -> tuple[Figure | None, str]:
    """A figure of a run for print, with its caption; None if the run has nothing to draw it from.

    A drawing, or a grid of many panels, that could not be read at that width is as wide as its smallest text needs.

    Args:
        run: the run.
        name: one of `pictures.ALL_FIGURES`.
        width: one of `WIDTHS`.
    """
    wide = WIDTHS[width]
    factor = USUAL / DRAWN_AT
    ratio = 1.05 if width == "column" else 0.65
    figure, caption = draw_figure(run, name, (wide / factor, ratio * wide / factor))
    if figure is None:
        return None, caption
    if name in PLACED:
        scale(figure, factor)
    elif figure.get_layout_engine() is None:
        natural = figure.get_figwidth()
        scale(figure, max(min(1.0, wide / natural), LEAST / min(_points(text) for text in shown_texts(figure))))
    else:
        _rearrange(figure, wide)
    return fix_layout(figure), caption


def shown_texts(figure: Figure) -> Iterator[Text]:
    """All text that a reader sees."""
    return (text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible())


def _points(text: Text) -> float:
    return float(text.get_fontsize())


def scale(figure: Figure, factor: float) -> None:
    """Make a figure with all its text and lines larger or smaller, without arranging anything anew."""
    figure.set_size_inches(*(factor * side for side in figure.get_size_inches()))
    for text in figure.findobj(Text):
        text.set_fontsize(factor * _points(text))
    for line in figure.findobj(Line2D):
        line.set_linewidth(factor * line.get_linewidth())
        line.set_markersize(factor * line.get_markersize())
    for patch in figure.findobj(Patch):
        patch.set_linewidth(factor * patch.get_linewidth())
        if isinstance(patch, FancyArrowPatch):
            patch.set_mutation_scale(factor * patch.get_mutation_scale())
    _scale_legends(figure, factor)


def _scale_legends(figure: Figure, factor: float) -> None:
    """The samples of a legend and the gaps between its entries, which matplotlib keeps in points."""
    for area in figure.findobj(DrawingArea):
        area.width, area.height = factor * area.width, factor * area.height
        for sample in area.get_children():
            sample.set_transform(Affine2D().scale(factor) + Artist.get_transform(sample))
    for box in figure.findobj(PackerBase):
        box.pad, box.sep = factor * (box.pad or 0), factor * (box.sep or 0)


def _rearrange(figure: Figure, wide: float) -> None:
    """Panels at a width: those of a narrow figure below each other, those of a grid at the width of a page."""
    for text in figure.findobj(Text):
        text.set_fontsize(min(max(_points(text), LEAST), MOST))
    columns = _columns(figure)
    stacked = columns <= STACKED and wide < WIDTHS["page"]
    below = [_narrow_legend(ax, stacked) for ax in figure.axes] if columns <= STACKED else []
    if stacked:
        heights = [PANEL + LINE * (_wrap(ax, wide) + lines) for ax, lines in zip(figure.axes, below, strict=True)]
        grid = GridSpec(len(figure.axes), 1, figure=figure, height_ratios=heights)
        for place, ax in enumerate(figure.axes):
            ax.set_subplotspec(grid[place, 0])
        figure.set_size_inches(wide, sum(heights))
    else:
        _widen(figure, WIDTHS["page"])


def _widen(figure: Figure, wide: float) -> None:
    """A grid of panels at a width, or at the next larger one at which no title is cut off."""
    natural, ratio = figure.get_figwidth(), figure.get_figheight() / figure.get_figwidth()
    while True:
        figure.set_size_inches(wide, ratio * wide)
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()
        if figure.get_tightbbox().x1 <= wide or wide > LARGEST * natural:
            return
        wide *= 1.05


def _wrap(ax: Axes, wide: float) -> int:
    """Break titles and labels that are longer than their panel; how many lines of height that adds."""
    titles = {ax.get_title(place) for place in ("left", "center", "right")}
    added = 0
    for text in ax.findobj(Text):
        upright = text is ax.yaxis.label
        if text.get_text().strip() and (upright or text is ax.xaxis.label or text.get_text() in titles):
            room = PANEL - TOP if upright else wide - MARGIN
            lines = _broken(text.get_text(), room, text)
            text.set_text("\n".join(lines))
            added += 0 if upright else len(lines) - 1
    return added


def _broken(words: str, room: float, like: Text) -> list[str]:
    """Words in lines of at most ``room`` inches, where no single word is longer."""
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _inches(longer, like) > room:
            lines.append(word)
        else:
            lines[-1:] = [longer]
    return lines


def _inches(words: str, like: Text) -> float:
    return (BOLD if like.get_fontweight() == "bold" else 1.0) * text_width(words, _points(like))


def _narrow_legend(ax: Axes, stacked: bool) -> int:
    """A legend with few columns; one below its panel goes further down, where the panel's label is above it.

    Returns:
        How many lines below the panel it needs.
    """
    legend = ax.get_legend()
    if legend is None:
        return 0
    below = legend.get_bbox_to_anchor().transformed(ax.transAxes.inverted()).y1 < 0
    where: dict[str, Any] = (
        {"loc": "upper center", "bbox_to_anchor": (0.5, -0.38 if stacked else -0.2)} if below else {}
    )
    handles, labels = ax.get_legend_handles_labels()
    if below:
        columns = 2 if 2 * (SAMPLE + max(text_width(name, USUAL) for name in labels)) <= WIDTHS["column"] else 1
    else:
        columns = 3 if len(labels) > 3 else 1
    ax.legend(handles, labels, fontsize=USUAL, frameon=False, labelcolor=INK, ncols=columns, **where)
    return -(-len(labels) // columns) + 1 if below else 0


def _columns(figure: Figure) -> int:
    """How many panels stand side by side; a figure of figures counts as a grid of many."""
    if figure.subfigs:
        return STACKED + 1
    places = [ax.get_subplotspec() for ax in figure.axes]
    return max((place.get_geometry()[1] for place in places if place is not None), default=1)
