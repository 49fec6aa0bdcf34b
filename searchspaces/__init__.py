"""What can be built: NNI model spaces, their operations, and Architecture, one point of a space.

Names are imported on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from .lazy import lazy_names

if TYPE_CHECKING:
    from .architecture import Architecture as Architecture
    from .registry import build_space as build_space
    from .registry import list_spaces as list_spaces
    from .registry import register_space as register_space

# NNI 3.0 wraps every name of torch.nn once per process and warns of two newer ones that are no modules: harmless
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"nni\.nas\.nn\.pytorch\.layers")

_WHERE = {
    "Architecture": "architecture",
    "build_space": "registry",
    "list_spaces": "registry",
    "register_space": "registry",
}
__all__ = list(_WHERE)
__getattr__ = lazy_names(__name__, _WHERE)
