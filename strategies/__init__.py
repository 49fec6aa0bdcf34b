"""Searches, as strategies of NNI.

Names are imported on first use, so that a command's help does not wait for torch and NNI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from searchspaces.lazy import lazy_names

if TYPE_CHECKING:
    from .collapse import CollapseGuard as CollapseGuard
    from .darts import DARTS as DARTS
    from .evolution import Evolution as Evolution
    from .gumbel import GumbelSinglePath as GumbelSinglePath
    from .pc_darts import PCDARTS as PCDARTS
    from .random_search import RandomSearch as RandomSearch
    from .single_path import SinglePath as SinglePath


_WHERE = {
    "DARTS": "darts",
    "PCDARTS": "pc_darts",
    "Evolution": "evolution",
    "GumbelSinglePath": "gumbel",
    "RandomSearch": "random_search",
    "SinglePath": "single_path",
    "CollapseGuard": "collapse",
}
__all__ = list(_WHERE)
__getattr__ = lazy_names(__name__, _WHERE)
