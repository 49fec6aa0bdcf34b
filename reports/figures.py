"""Figures out of matplotlib as files."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from searchspaces.files import write_bytes


def figure_bytes(figure: Figure, kind: str = "png", dpi: int = 160) -> bytes:
    """The figure as a file: text as outlines (in a PDF as embedded fonts), no date: equal runs give equal files."""
    buffer = io.BytesIO()
    settings = {"svg.fonttype": "path", "svg.hashsalt": "facenas", "path.simplify": True, "pdf.fonttype": 42}
    with matplotlib.rc_context(settings):
        if kind == "png":
            FigureCanvasAgg(figure)
            figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        else:
            FigureCanvasSVG(figure)
            figure.savefig(buffer, format=kind, metadata={"CreationDate" if kind == "pdf" else "Date": None})
    return buffer.getvalue()


def fix_layout(figure: Figure) -> Figure:
    """Arranges a figure once, so that writing it in a second format does not do it again."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Writes a figure in the format of the path's suffix (.png, .svg, .pdf).

    Raises:
        RunFolderError: if the file cannot be written.
    """
    return write_bytes(path, figure_bytes(figure, Path(path).suffix.lstrip(".").lower() or "png"))
