"""How a search moved, for a page: a strip of shares for each choice over the epochs, and when the genotype changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from .choices import is_by_choice
from .compact_svg import StyleSheet
from .distribution import SOURCES, kept_operations
from .drawing import title_of
from .numbers import number, plain
from .palette import operation_colour
from .run import Run
from .shares import PATHS, History

MOST_NODES = 33  # of a tree
_EDGE = re.compile(r"(.+)/(\d+)_(\d+)")
_PYRAMID_EDGE = re.compile(r"fpn/(lateral|top_down|bottom_up)_(\d+)")
_INPUTS = ("c\u2096\u208b\u2082", "c\u2096\u208b\u2081")  # with subscripts k-2 and k-1


@dataclass(frozen=True)
class Strip:
    """Shares of the candidates of one choice.

    Attributes:
        title: the choice.
        kept: what the result has there; "" if the choice is not in it.
        names: of the candidates, ``colours`` theirs.
        shares: (epochs, candidates), NaN where an epoch says nothing.
    """

    title: str
    kept: str
    names: tuple[str, ...]
    colours: tuple[str, ...]
    shares: np.ndarray


@dataclass(frozen=True)
class Group:
    """Strips with the same candidates, such as those of a cell."""

    title: str
    strips: tuple[Strip, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates, if all strips have the same; else none."""
        every = {strip.names for strip in self.strips}
        return every.pop() if len(every) == 1 else ()

    @property
    def legend(self) -> tuple[tuple[str, str], ...]:
        """Name and colour of each candidate of any strip."""
        return tuple(dict.fromkeys(pair for s in self.strips for pair in zip(s.names, s.colours, strict=True)))


@dataclass(frozen=True)
class Change:
    """What was chosen otherwise than at the epoch before."""

    epoch: int
    choice: str
    before: str
    after: str


@dataclass(frozen=True)
class Evolution:
    """The strips of a search and the changes of its genotype.

    Attributes:
        epochs: those that the strips show.
        groups: strips, group by group.
        changes: in the order of the epochs.
        differs: epoch -> how many choices are not those of the result.
    """

    epochs: tuple[int, ...]
    groups: tuple[Group, ...]
    changes: tuple[Change, ...]
    differs: Mapping[int, int]

    @property
    def by_epoch(self) -> dict[int, list[Change]]:
        """The changes of each epoch that has any."""
        found: dict[int, list[Change]] = {}
        for change in self.changes:
            found.setdefault(change.epoch, []).append(change)
        return found

    @property
    def sentence(self) -> str:
        """When the genotype changed, in words; "" if the file does not tell."""
        if len(self.differs) < 2:
            return ""
        if not self.changes:
            return "The genotype was the same from the first epoch to the last."
        last = self.changes[-1].epoch
        epochs, total = len(self.by_epoch), len(self.differs)
        return (
            f"The genotype changed at {epochs} of {total - 1} epochs, {len(self.changes)} choices in all, for the last "
            f"time at epoch {last}."
        )


def evolution(run: Run, most_epochs: int) -> Evolution:
    """What architectures.jsonl tells of a search; without strips and changes if it tells nothing.

    Args:
        run: the run.
        most_epochs: columns of a strip; of a longer search every so many epochs are shown.
    """
    choices = run.architecture.get("choices")
    choices = choices if isinstance(choices, Mapping) else {}
    lines = [line for line in run.history if isinstance(line.get("probabilities"), Mapping)]
    lines = lines[:: -(-len(lines) // most_epochs) or 1]
    history = History(lines, choices)
    epochs = tuple(int(epoch) for epoch in history.epochs)
    groups = [group for group in _groups(run, history) if group.strips]
    changes, differs = _changes(run.history, choices) if "candidate" not in run.search else ([], {})
    return Evolution(epochs, tuple(groups), tuple(changes), differs)


# --- changes ---------------------------------------------------------------------------------------------------------


def _changes(history: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> tuple[list[Change], dict[int, int]]:
    changes: list[Change] = []
    differs: dict[int, int] = {}
    before: Mapping[str, Any] | None = None
    for line in history:
        choices, epoch = line.get("choices"), number(line.get("epoch"))
        if not isinstance(choices, Mapping) or epoch is None:
            continue
        for label, choice in choices.items() if before is not None else ():
            if before is not None and label in before and before[label] != choice:
                changes.append(Change(int(epoch), str(label), plain(before[label]), plain(choice)))
        differs[int(epoch)] = sum(choices.get(label, choice) != choice for label, choice in result.items())
        before = choices
    return changes, differs


# --- strips ----------------------------------------------------------------------------------------------------------


def _groups(run: Run, history: History) -> Iterable[Group]:
    if not history.lines:
        return ()
    if run.finds_faces:
        return _detector_groups(history)
    if is_by_choice(history.lines, history.choices):
        return [Group("Shares of the candidates", tuple(_choice_strips(history)))]
    return _cell_groups(history)


def _strip(history: History, key: str, title: str, kept: Any, names: Sequence[str], colours: Sequence[str]) -> Strip:
    told = "" if kept is None else plain(kept)
    return Strip(title, told, tuple(names), tuple(colours), history.values(key, len(names)))


def _shades(count: int) -> list[str]:
    return [SOURCES[i % len(SOURCES)] for i in range(count)]


def _cell_groups(history: History) -> Iterable[Group]:
    """A group for each cell, its strips by the node that they lead to; then the weights of its edges."""
    told = next((line.get("operations") for line in history.lines), None)
    operations = [str(name) for name in told] if isinstance(told, list) else []
    colours = [operation_colour(name) for name in operations]
    edges = [match for key in history.keys if (match := _EDGE.fullmatch(key)) and "beta" not in match[2]]
    for cell in dict.fromkeys(match[1] for match in edges) if operations else ():
        kept = kept_operations(history.choices, cell)
        own = sorted((int(match[3]), int(match[2]), match[0]) for match in edges if match[1] == cell)
        strips = [_strip(history, key, f"{_node(a)} → {b}", kept.get((a, b)), operations, colours) for b, a, key in own]
        yield Group(f"{title_of(cell).partition(':')[0]}: operations of each edge", tuple(strips))
        weights = [
            _strip(history, key, f"into {b}", None, [f"from {_node(a)}" for a in range(b)], _shades(b))
            for b in sorted({b for b, *_ in own})
            if (key := f"{cell}/beta_{b}") in history.keys
        ]
        yield Group(f"{title_of(cell).partition(':')[0]}: weights of the edges into a node (β)", tuple(weights))


def _node(index: int) -> str:
    return _INPUTS[index] if index < len(_INPUTS) else str(index)


def _choice_strips(history: History) -> Iterable[Strip]:
    told: Mapping[str, Any] = next(
        (line["names"] for line in reversed(history.lines) if isinstance(line.get("names"), Mapping)), {}
    )
    for label, choice in history.choices.items():
        names = told.get(label)
        if isinstance(names, list) and len(names) > 1:
            shown = label.replace("_", " ")
            yield _strip(history, label, shown, choice, [str(name) for name in names], _shades(len(names)))


def _detector_groups(history: History) -> Iterable[Group]:
    """The pyramid's edges and path weights; of each tree the parents, and the edge from the parent that was kept."""
    from searchspaces.autofem import CPM_OPERATIONS, FPN_OPERATIONS

    choices, keys = history.choices, set(history.keys)
    colours = [operation_colour(name) for name in FPN_OPERATIONS]
    edges = [match for key in history.keys if (match := _PYRAMID_EDGE.fullmatch(key))]
    strips = [_strip(history, m[0], f"{PATHS[m[1]]} {m[2]}", choices.get(m[0]), FPN_OPERATIONS, colours) for m in edges]
    yield Group("Pyramid: operations of each edge", tuple(strips))
    weights = []
    for level in sorted({int(match[2]) for match in edges}):
        paths = [path for path in PATHS if f"fpn/{path}_{level}" in keys]
        names, key = [PATHS[path] for path in paths], f"fpn/beta_{level}"
        weights += [_strip(history, key, f"level {level}", None, names, _shades(len(paths)))] if key in keys else []
    yield Group("Pyramid: weights of a level's paths (β)", tuple(weights))
    colours = [operation_colour(name) for name in CPM_OPERATIONS]
    trees = sorted({match[1] for key in keys if (match := re.fullmatch(r"(cpm_\d+)/\d+_\d+", key))})
    for tree in trees:
        yield Group(f"{title_of(tree)}: operations of each edge", tuple(_tree_strips(history, tree, colours)))
    for tree in trees:
        yield Group(f"{title_of(tree)}: parents", tuple(_parent_strips(history, tree, keys)))


def _parent_strips(history: History, tree: str, keys: set[str]) -> Iterable[Strip]:
    for node in range(2, MOST_NODES):
        if (key := f"{tree}/beta_{node}") in keys:
            kept = history.choices.get(f"{tree}/input_{node}")
            names = [f"node {parent}" for parent in range(node)]
            yield _strip(history, key, f"parent of {node}", kept, names, _shades(node))


def _tree_strips(history: History, tree: str, colours: Sequence[str]) -> Iterable[Strip]:
    from searchspaces.autofem import CPM_OPERATIONS

    for node in range(1, MOST_NODES):
        parent = 0 if node == 1 else history.choices.get(f"{tree}/input_{node}")
        key = f"{tree}/{parent}_{node}"
        if key in history.keys:
            kept = history.choices.get(f"{tree}/op_{node}")
            yield _strip(history, key, f"{parent} → {node}", kept, CPM_OPERATIONS, colours)


def strip_svg(strip: Strip, styles: StyleSheet, steps: int) -> Markup:
    """A strip: a unit wide for each epoch, ``steps`` high, the first candidate at the bottom.

    Each path is the area below the sum of the shares so far, the largest one first, so that the next covers it.
    """
    count = len(strip.shares)
    told = np.nan_to_num(strip.shares)
    sums = np.rint(np.cumsum(told, axis=1) * steps).astype(int).clip(0, steps)
    parts = [
        f'<path class="{styles.class_of(f"fill: {colour}")}" d="{_area(sums[:, index], steps)}"/>'
        for index, colour in reversed(list(enumerate(strip.colours)))
    ]
    box = f'viewBox="0 0 {count} {steps}" preserveAspectRatio="none"'
    return Markup(f'<svg aria-hidden="true" {box}>{"".join(parts)}</svg>')


def _area(heights: np.ndarray, steps: int) -> str:
    """Steps of the given heights, closed along the bottom; an epoch holds until the next."""
    path, run, last = f"M0 {steps}", 0, None
    for height in heights.tolist():
        if height != last:
            path += (f"h{run}" if run else "") + f"V{steps - height}"
            run, last = 0, height
        run += 1
    return f"{path}h{run}V{steps}z"
