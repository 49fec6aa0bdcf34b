"""Searches, as strategies of NNI.

Names are imported on first use, so that a command's help does not wait for torch and NNI.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .collapse import CollapseGuard as CollapseGuard
    from .darts import DARTS as DARTS
    from .pc_darts import PCDARTS as PCDARTS
    from .random_search import RandomSearch as RandomSearch

warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"nni\.nas\.nn\.pytorch\.layers")

_WHERE = {
    "DARTS": "darts",
    "PCDARTS": "pc_darts",
    "RandomSearch": "random_search",
    "CollapseGuard": "collapse",
}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
