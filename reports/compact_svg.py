"""Figures of matplotlib as small SVG elements of a page: text stays text, and styles become classes of one style sheet.

A page that holds fifty runs has hundreds of figures. As classes their styles are written once, and a content security
policy that allows no style attributes can hold.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from .palette import INK, MUTED, NODE, PAPER

VARIABLES = {INK: "--ink", MUTED: "--muted", NODE: "--node", PAPER: "--paper"}
_NUMBER = re.compile(r"-?\d*\.?\d+(?:e-?\d+)?")
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$")
_HREF = "{http://www.w3.org/1999/xlink}href"
_SVG = "{http://www.w3.org/2000/svg}"
NO_TURN = "rotate(-0 "  # which matplotlib writes for every text that lies level
_NEEDLESS = ("stroke-linejoin: miter", "stroke-dashoffset: 0", "opacity: 1")


class StyleSheet:
    """Classes for styles, in the order of their first use."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}
        self._figures = 0

    def new_figure(self) -> str:
        """What the ids of one more figure begin with."""
        self._figures += 1
        return f"g{self._figures}"

    def class_of(self, style: str) -> str:
        """The class that stands for declarations such as ``fill: none; stroke: #000``."""
        told = [part.strip() for part in style.split(";")]
        kept = "; ".join(_short(part) for part in told if part and part not in _NEEDLESS)
        return self._classes.setdefault(kept, f"f{len(self._classes)}")

    @property
    def text(self) -> str:
        """The rules."""
        return "\n".join(f".{name} {{ {style} }}" for style, name in self._classes.items())


def compact_svg(figure: Figure, description: str, styles: StyleSheet, clip: bool = True) -> Markup:
    """A figure as an ``<svg>`` element for a page; neutral colours are taken from CSS variables.

    Args:
        figure: the figure.
        description: plain text for readers who cannot see the figure.
        styles: of the page: takes the styles up, and keeps the ids of its figures apart.
        clip: whether something may have to be cut off at the frames of axes.
    """
    root = ElementTree.fromstring(_matplotlib_svg(figure))
    for element in list(root.iter()):
        for child in list(element):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                element.remove(child)
    name = styles.new_figure()
    known = {reference: f"{name}-{i}" for i, reference in enumerate(dict.fromkeys(_references(root, clip)))}
    inner = "".join(_written(child, known, styles, clip) for child in root)
    box = _rounded(root.get("viewBox", "0 0 1 1"))
    width, height = (side for side in box.split()[2:])
    label = escape(description)
    head = f'<svg class="figure" role="img" aria-label="{label}" viewBox="{box}" width="{width}" height="{height}">'
    return Markup(f"{head}{inner}</svg>")


def _matplotlib_svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "facenas", "path.simplify": True}):
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().decode()


def _references(root: ElementTree.Element, clip: bool) -> Iterator[str]:
    for element in root.iter():
        for key, value in element.attrib.items():
            match = _REFERENCE.search(value)
            if match and (clip or key != "clip-path"):
                yield match[1] or match[2]


def _written(element: ElementTree.Element, known: dict[str, str], styles: StyleSheet, clip: bool) -> str:
    """An element as text; groups that say nothing, and definitions that nothing refers to, leave no trace."""
    tag = element.tag.removeprefix(_SVG)
    if tag == "clipPath" and element.get("id") not in known:
        return ""
    attributes = dict(_attributes(element, known, styles, clip))
    inner = str(escape(element.text)) if element.text and element.text.strip() else ""
    for child in element:
        inner += _written(child, known, styles, clip)
        inner += str(escape(child.tail)) if child.tail and child.tail.strip() else ""
    if tag in ("g", "defs") and not inner:
        return ""
    if tag == "g" and not attributes:
        return inner
    told = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    return f"<{tag}{told}>{inner}</{tag}>" if inner else f"<{tag}{told}/>"


def _attributes(
    element: ElementTree.Element, known: dict[str, str], styles: StyleSheet, clip: bool
) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        if key == "id":
            if value in known:
                yield key, known[value]
        elif key == "style":
            yield "class", styles.class_of(value)
        elif key == _HREF:
            yield "href", f"#{known[value[1:]]}"
        elif key == "clip-path":
            if clip:
                yield key, f"url(#{known[value[5:-1]]})"
        elif key == "d":
            yield key, _path(value)
        elif not value.startswith(NO_TURN):
            yield key, _rounded(value)


def _path(d: str) -> str:
    """Path data in tenths, relative to the last point; lines to where the pen is already are left out."""
    parts: list[str] = []
    place = (0, 0)
    for command, rest in re.findall(r"([A-Za-z])([^A-Za-z]*)", d):
        tenths = [round(10 * float(number)) for number in _NUMBER.findall(rest)]
        if command not in "MLCQ":
            parts.append("z" if command in "zZ" else command + _told(tenths))
            continue
        end = (tenths[-2], tenths[-1])
        moved = [value - place[i % 2] for i, value in enumerate(tenths)]
        if command != "L" or end != place:
            parts.append(
                _line(moved)
                if command == "L"
                else f"M{_told(tenths)}"
                if command == "M"
                else command.lower() + _told(moved)
            )
        place = end
    return "".join(parts)


def _line(moved: list[int]) -> str:
    across, down = moved
    return f"h{_told([across])}" if not down else f"v{_told([down])}" if not across else f"l{_told(moved)}"


def _told(tenths: list[int]) -> str:
    """Numbers with one decimal; a minus parts them as well as a space does."""
    return " ".join(_digits(value / 10, 1) for value in tenths).replace(" -", "-")


def _rounded(text: str) -> str:
    return _NUMBER.sub(lambda match: _digits(float(match[0]), 1), text)


def _digits(value: float, decimals: int) -> str:
    """
    >>> _digits(0.5, 1), _digits(-0.04, 1), _digits(12.0, 1)
    ('.5', '0', '12')
    """
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return re.sub(r"^(-?)0\.", r"\1.", "0" if text in ("-0", "") else text)


def _short(declaration: str) -> str:
    """A declaration with its colour as a variable, one family of fonts, and two decimals."""
    key, _, value = declaration.partition(":")
    value = value.strip()
    if key == "font" or key == "font-family":
        value = re.sub(r"(?<=px)\s.*", " var(--figure-font)", value) if "px" in value else "var(--figure-font)"
    if "#" not in value:
        value = re.sub(r"\d+\.\d+", lambda match: _digits(float(match[0]), 2), value)
    for colour, variable in VARIABLES.items():
        value = value.replace(colour, f"var({variable})")
    return f"{key}: {value}"
