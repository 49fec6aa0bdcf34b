"""One colour for each operation, the same in every figure of a report, and the neutral inks around them."""

from __future__ import annotations

import zlib

# Neutral colours. The page swaps exactly these in an embedded SVG for CSS variables (see compact_svg.py), which is how
# one drawing serves the light and the dark scheme; nothing else in a figure may use them.
INK = "#1b1f24"
MUTED = "#667080"
NODE = "#eceff4"
PAPER = "#fefefe"

# After Okabe and Ito, moved a little so that the searched ones stay apart with any colour blindness: convolutions share
# blue (darker = larger kernel), pooling is warm, the identity green, and nothing is the palest.
OPERATIONS: dict[str, str] = {
    "none": "#d5d8dc",
    "max_pool_3x3": "#d55e00",
    "avg_pool_3x3": "#f0b429",
    "skip_connect": "#1ea05c",
    "sep_conv_3x3": "#6cc0f5",
    "sep_conv_5x5": "#0068a8",
    "dil_conv_3x3": "#cc79a7",
    "dil_conv_5x5": "#882255",
    # ASFD: square kernels blue, rectangles of 3 green, of 5 red, dilated ones purple; darker, the further it reaches
    "conv_1x1": "#e9a706",
    "dw_conv_3x3": "#5cbffb",
    "dw_conv_5x5": "#087cca",
    "dw_conv_1x3": "#b5dd6a",
    "dw_conv_3x1": "#6bb565",
    "dw_conv_1x3_3x1": "#006a40",
    "dw_conv_1x5": "#ffc1a5",
    "dw_conv_5x1": "#d56538",
    "dw_conv_1x5_5x1": "#8c2f0b",
    "dil_conv_3x3_r2": "#c4a3c8",
    "dil_conv_3x3_r3": "#ae5295",
    "dil_conv_5x5_r2": "#6d1f5e",
}
# Kinds of kernels, told apart as the operations are: what computes is blue to violet, what only moves data is warm.
KERNELS: dict[str, str] = {
    "conv": "#0068a8",
    "pointwise": "#6cc0f5",
    "depthwise": "#882255",
    "linear": "#1ea05c",
    "pool": "#f0b429",
    "layout": "#9aa1ab",
    "elementwise": "#d55e00",
}
_OTHERS = ("#44aa99", "#999933", "#aa4499", "#6699cc", "#661100", "#88ccee", "#117733", "#ddcc77")


def operation_colour(operation: str) -> str:
    """The colour of an operation; one that has no place in the palette always gets the same of a few spare ones."""
    return OPERATIONS.get(operation) or _OTHERS[zlib.crc32(operation.encode()) % len(_OTHERS)]


def relative_luminance(colour: str) -> float:
    """WCAG relative luminance, 0 (black) to 1 (white), of ``#rrggbb``."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def text_colour(background: str) -> str:
    """Black or white, whichever contrasts more with the background."""
    light = relative_luminance(background)
    return "#000000" if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else "#ffffff"
