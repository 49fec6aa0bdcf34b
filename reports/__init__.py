"""Finished runs as drawings, tables and one web page.

Names are imported on first use, so that a command's help does not wait for torch and matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from searchspaces.lazy import lazy_names

if TYPE_CHECKING:
    from .drawing import draw_architecture as draw_architecture
    from .drawing import draw_cell as draw_cell
    from .page import write_report as write_report
    from .run import Run as Run

_WHERE = {"Run": "run", "draw_architecture": "drawing", "draw_cell": "drawing", "write_report": "page"}
__all__ = list(_WHERE)
__getattr__ = lazy_names(__name__, _WHERE)
