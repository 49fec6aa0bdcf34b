"""What every registered space must do; a new one is tested by being registered."""

from __future__ import annotations

from facenas.testing import SpaceTestCase
from searchspaces import list_spaces

from .small_spaces import SMALL


def _case(name: str) -> type:
    return type(
        f"Test{name.title().replace('-', '')}", (SpaceTestCase,), {"space": name, "options": SMALL.get(name, {})}
    )


globals().update({case.__name__: case for case in map(_case, list_spaces())})
