"""A found pyramid and found trees in one detector: ``python -m searchspaces.cascade PYRAMID TREES --member D1``."""

from __future__ import annotations

if __name__ == "__main__":  # before the heavy imports

    def command(
        pyramid: str, trees: str, member: str | None = None, profile: str = "table5", out: str = "architecture.json"
    ) -> None:
        """Put the pyramid of one search and the trees of another into one detector, pyramid first.

        Args:
            pyramid: run folder or architecture.json of a search on autofem-fpn or asfd.
            trees: run folder or architecture.json of a search on autofem-cpm or asfd.
            member: D0 to D6: backbone, width and depth of the paper's family; by default those of the trees' search.
            profile: of the family, table5 or text; see `searchspaces.asfd.member_options`.
            out: where to write the architecture, for python -m evaluators.train.
        """
        from searchspaces import Architecture
        from searchspaces.asfd import member_options
        from searchspaces.cascade import cascade

        options = member_options(member, profile) if member else {}
        both = cascade(Architecture.load(pyramid), Architecture.load(trees), **options)
        print(both.save(out))

    from searchspaces.cli import run_command

    raise SystemExit(run_command(command, prog="python -m searchspaces.cascade"))

from typing import Any

from .architecture import Architecture
from .asfd import BACKBONE_LEVELS, TOP_LEVEL
from .autofem import FPN, pyramid_edges


def cascade(pyramid: Architecture, trees: Architecture, **options: Any) -> Architecture:
    """A found pyramid and found trees in one detector, the pyramid first (section 4.2 of the paper).

    Args:
        pyramid: an architecture of ``autofem-fpn`` or ``asfd``; trees: of ``autofem-cpm`` or ``asfd``.
        options: of the space ``asfd``, on top of those of the trees, for example `member_options` ("D1").

    Raises:
        FacenasError: if either has not the choices that the detector needs.
    """
    used = {**trees.options, **options}
    choices = {label: choice for label, choice in pyramid.choices.items() if label.startswith(f"{FPN}/")}
    choices |= {label: choice for label, choice in trees.choices.items() if label.startswith("cpm_")}
    levels = range(used.get("lowest_level", BACKBONE_LEVELS[0]), TOP_LEVEL + 1)
    known = {f"{FPN}/{edge}" for edge in pyramid_edges(levels)}
    choices = {
        label: choice
        for label, choice in choices.items()
        if label in known or (label.startswith("cpm_") and int(label[4 : label.index("/")]) in levels)
    }
    found_by = {"pyramid": dict(pyramid.found_by), "trees": dict(trees.found_by)}
    return Architecture("asfd", {**used, "fpn": True, "cpm": True}, choices, found_by)
