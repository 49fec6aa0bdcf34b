"""Finished runs as drawings, tables and one web page."""

from .drawing import draw_architecture, draw_cell
from .page import write_report
from .run import Run

__all__ = ["Run", "draw_architecture", "draw_cell", "write_report"]
