"""The figures of a run, by name, with their captions."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from searchspaces.errors import FacenasError

from .branches import has_branches
from .choices import choices_figure, is_by_choice
from .configurations import configurations_figure
from .curves import is_random_search, is_sampled, search_figure, training_figure
from .distribution import distribution_figure
from .drawing import architecture_figure
from .numbers import number, plain
from .pareto import SIZE
from .rivals import rival_figure
from .run import Run
from .scores import scores_figure
from .sentences import can_collapse
from .shares import shares_figure
from .stages import has_stages

ALL_FIGURES = ("cells", "configurations", "rivals", "scores", "search", "distribution", "training")
BASELINE_FIGURES = ("cells", "search")
PLACED = ("configurations", "rivals")


def draw_figure(run: Run, name: str, size: tuple[float, float] = SIZE) -> tuple[Figure | None, str]:
    """One of `ALL_FIGURES` with its caption; None if the run has nothing to draw it from.

    Args:
        run: the run.
        name: of the figure.
        size: in inches, of the figures whose labels are placed for their size (`PLACED`).
    """
    if name == "cells":
        return _cells(run), _cells_caption(run)
    if name == "configurations":
        return configurations_figure(run.configurations, size), CONFIGURATIONS_CAPTION
    if name == "search":
        warned = [int(number(line.get("epoch")) or 0) for line in run.history if line.get("guard")]
        random = is_random_search(run.search)
        caption = "The candidates that were trained, one after the other." if random else "The search, epoch by epoch."
        if not is_sampled(run.search):
            return search_figure(run.search, warned, can_collapse=can_collapse(run)), caption
        reference = run.reference.training if run.reference and run.trained_once else None
        return search_figure(run.search, warned, reference), _sampled_caption(run)
    if name == "training":
        if run.trained_once and run.training.empty:
            figure = training_figure(run.reference.training) if run.reference else None
            return figure, "The training of the plain MobileNetV2, with the same recipe."
        beside = {name: rival.training for name, rival in run.rivals.items()}
        return training_figure(run.training, beside), _training_caption(run)
    if name == "rivals":
        return (rival_figure(run, size) if run.rivals else None), RIVALS_CAPTION
    if name == "scores":
        return scores_figure(run.scores, run.baseline.scores if run.baseline else None), SCORES_CAPTION
    choices = run.architecture.get("choices")
    choices = choices if isinstance(choices, Mapping) else {}
    if run.finds_faces:
        return shares_figure(run.history, choices), SHARES_CAPTION
    if is_by_choice(run.history, choices):
        return choices_figure(run.history, choices), CHOICES_CAPTION
    return (
        distribution_figure(run.history, choices),
        "Every edge that a cell could have: a panel's row is where the edge comes from, its column where it goes "
        "to. The height of a colour is the share of its operation at that epoch; framed edges were kept.",
    )


CONFIGURATIONS_CAPTION = (
    "Error against cost. Bars: 95 % interval of ACER over people, and the middle half of the times. The Pareto front "
    "(ringed) joins measured values: where intervals overlap, another test set could give another front."
)


RIVALS_CAPTION = (
    "AP against time. The Pareto front (ringed) joins measured values: where intervals overlap, another test set could "
    "give another front."
)
SHARES_CAPTION = (
    "How the search decided. The height of a colour is the share of its operation, or of its path or parent, at that "
    "epoch; a panel's title says what was kept."
)


CHOICES_CAPTION = (
    "How the search decided. The height of a colour is the share of its candidate at that epoch; a panel's title says "
    "what was kept."
)
SCORES_CAPTION = (
    "The scores of the test split. Right: a threshold is a point of the curve; near the lower left corner both errors "
    "are rare. A rate below one over the number of pairs cannot be told."
)


def _cells_caption(run: Run) -> str:
    if run.graph is not None and has_stages(run.graph):
        return "The network that was found, from input to output; a box is as wide as the logarithm of its channels."
    if run.finds_faces:
        return "The feature enhancement that was found: its pyramid, its trees, or both."
    if run.graph is not None and has_branches(run.graph):
        return "The configuration that was selected, from input to output: branches that it does not run are dashed."
    return "The cells that were found, drawn from left to right."


def _sampled_caption(run: Run) -> str:
    validated = run.config.get("validated")
    judged = f" Validation is of {plain(validated)} after each epoch." if run.trained_once and validated else ""
    return f"The sampled training, epoch by epoch.{judged}"


def _training_caption(run: Run) -> str:
    losses = " Its training loss is of both shots, its validation loss of the second alone." if run.finds_faces else ""
    others = " The others were trained in the same way." if run.rivals else ""
    return f"The training of the final network.{losses}{others}"


def _cells(run: Run) -> Figure | None:
    try:
        return None if run.graph is None else architecture_figure(run.graph)
    except Exception as error:  # whatever goes wrong in a drawing costs the drawing, not the page
        reason = error if isinstance(error, FacenasError) else f"{type(error).__name__}: {error}"
        run.note("architecture.json", "damaged", f"cannot be drawn: {reason}")
        return None
