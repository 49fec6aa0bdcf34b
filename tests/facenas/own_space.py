"""A search space as a user would write one."""

from __future__ import annotations

from searchspaces.autofas import AutoFas


class Own(AutoFas):
    """Auto-FAS without a constructor of its own."""
