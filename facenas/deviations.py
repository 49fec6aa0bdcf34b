"""What a run chose where its paper says nothing, and where it differs from the paper: shown in every report."""

from __future__ import annotations

from typing import Any

from .options import SearchOptions

WHY_QUICK = "quick recipe: two CPU cores, minutes"


def open_choices(options: SearchOptions) -> list[dict[str, Any]]:
    """A row for each choice: ``option``, ``value``, ``paper`` and ``why``."""
    from evaluators.recipes import deviations
    from searchspaces.registry import find_space

    used = {**options.space_options, **options.train_options}
    rows = []
    for choice in find_space(options.space).open_choices:
        value = used.get(choice.option, choice.default)
        why = choice.why if value == choice.default else f"{WHY_QUICK}; default {choice.default}: {choice.why}"
        rows.append({"option": choice.option, "value": value, "paper": "not given", "why": why})
    for row in deviations(options.space, options.recipe):
        if row["option"] in ("search_space", "train_space"):
            continue  # the widths are in the rows of the space
        value = getattr(options, row["option"], row["value"])
        rows.append({**row, "value": value, "why": WHY_QUICK})
    if getattr(options, "order", "second") == "first":
        why = "The released PC-DARTS, which the paper builds on, takes the first order; --order second is Eq. 5."
        rows.append({"option": "order", "value": "first", "paper": "second (Eq. 5)", "why": why})
    return rows
