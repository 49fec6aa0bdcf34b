"""What a run chose where its paper says nothing, and where it differs from the paper: shown in every report."""

from __future__ import annotations

from typing import Any

from .options import SearchOptions

# option, what the paper says of it, the reason for our default
OPEN_OPTIONS = [
    ("order", "second (Eq. 5)", "The released PC-DARTS, on which the paper builds, takes the first; --order has both."),
    ("partial_channels", "K not given", "4 is PC-DARTS' own value."),
    ("edge_normalisation", "not mentioned", "Part of PC-DARTS; --no-edge-normalisation leaves it out."),
    ("warmup_epochs", "not given", "PC-DARTS warms up for 15 of 50 epochs, DARTS not at all."),
    ("gradient_clip", "not given", "DARTS' value."),
]
# what is fixed
RULES = [
    ("score", "mean of the map of probabilities", "As DeepPixBiS does."),
    ("threshold", "equal errors on the validation split", "As DeepPixBiS does; the test split decides nothing."),
    ("training of the result", "as in the search: SGD, cosine", "The paper gives no recipe for it."),
]
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
        if row["option"] not in ("search_space", "train_space", "warmup_epochs"):  # other rows speak of these
            rows.append({**row, "value": getattr(options, row["option"], row["value"]), "why": WHY_QUICK})
    for option, paper, why in OPEN_OPTIONS:
        if hasattr(options, option):
            rows.append({"option": option, "value": getattr(options, option), "paper": paper, "why": why})
    rows.extend({"option": option, "value": value, "paper": "not given", "why": why} for option, value, why in RULES)
    return rows
