"""A portrait shown on a screen: panel pixels with red, green and blue sub-pixels, gamma, black lift, glare and flicker.

Everything is emitted or reflected light, linear, 1 = the panel's white. The sub-pixels are drawn finely enough for a
camera's sampling to alias them: moire is not painted on, it happens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .colour import LUMINANCE, blob, jpeg


@dataclass(frozen=True)
class Screen:
    """What makes one replay differ from another.

    Attributes:
        pixels: panel pixels across the scene.
        gamma: exponent from stored value to light.
        purity: 1 shows sRGB's primaries; less mixes every primary with grey of its own luminance.
        white: the panel's white, linear RGB.
        gap: dark part of a sub-pixel's width and of a pixel's height, 0..1.
        bgr: sub-pixels run blue, green, red; upright: stripes run along rows (a panel turned by 90 degrees).
        black: light of a black pixel and of the room in the glass, linear RGB.
        glare: peak of a reflected lamp; glare_centre, glare_radius in parts of the side.
        flicker: relative amplitude of bands across the rows; flicker_period in parts of the side, flicker_phase cycles.
        quality: JPEG quality of the file that is shown.
    """

    pixels: int
    gamma: float
    purity: float
    white: tuple[float, float, float]
    gap: float
    bgr: bool
    upright: bool
    black: tuple[float, float, float]
    glare: float
    glare_centre: tuple[float, float]
    glare_radius: tuple[float, float]
    flicker: float
    flicker_period: float
    flicker_phase: float
    quality: int


def draw_screen(rng: np.random.Generator) -> Screen:
    """A screen at random: from a monitor at close range to a panel whose pixels the camera hardly resolves."""
    black, warm = rng.uniform(0.0, 0.025), rng.uniform(0.75, 1.25)
    return Screen(
        pixels=round(float(np.exp(rng.uniform(np.log(95), np.log(155))))),
        gamma=float(rng.uniform(2.0, 2.4)),
        purity=float(rng.uniform(0.85, 1.0)),
        white=(float(rng.uniform(0.9, 1.1)), 1.0, float(rng.uniform(0.9, 1.15))),
        gap=float(rng.uniform(0.12, 0.3)),
        bgr=bool(rng.random() < 0.25),
        upright=bool(rng.random() < 0.4),
        black=(float(black * warm), float(black), float(black / warm)),
        glare=float(rng.uniform(0.0, 0.2) * (rng.random() < 0.4)),
        glare_centre=(float(rng.uniform(0, 1)), float(rng.uniform(0, 1))),
        glare_radius=(float(rng.uniform(0.05, 0.25)), float(rng.uniform(0.05, 0.25))),
        flicker=float(rng.uniform(0.0, 0.12) * (rng.random() < 0.5)),
        flicker_period=float(rng.uniform(0.15, 0.8)),
        flicker_phase=float(rng.random()),
        quality=int(rng.integers(45, 93)),
    )


def bars(size: int, period: float, start: float, width: float) -> np.ndarray:
    """Share of each of ``size`` scene pixels that bars cover, (size,): exact area, so that the mean is kept.

    Bars of ``width`` begin at ``start`` in every period; both are in parts of the ``period``, which is in pixels.
    """

    def covered(position: np.ndarray) -> np.ndarray:
        """Length of bar between 0 and a position, in periods."""
        whole, part = np.divmod(position - start, 1.0)
        return whole * width + np.minimum(part, width)

    edges = covered(np.arange(size + 1, dtype=np.float64) / period)
    return (np.diff(edges) * period).astype(np.float32)


def subpixel_mask(size: int, period: float, gap: float, bgr: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The panel's aperture as a product of stripes (3, size) along x and rows (size,) along y.

    ``period`` is the width of a panel pixel in scene pixels. Each colour owns a third of the width less ``gap`` of it;
    a black matrix takes ``gap`` of the height. Both are scaled to mean 1: the panel's white stays white.
    """
    third = 1.0 / 3.0
    stripes = np.stack([bars(size, period, (c + 0.5 * gap) * third, (1.0 - gap) * third) for c in range(3)])
    rows = bars(size, period, 0.5 * gap, 1.0 - gap)
    stripes, rows = stripes * (3.0 / (1.0 - gap)), rows / (1.0 - gap)
    return (stripes[::-1] if bgr else stripes), rows


def panel_light(values: np.ndarray, gamma: float, purity: float, white: tuple[float, float, float]) -> np.ndarray:
    """Light (3, h, w) of panel pixels from stored values (h, w, 3) uint8: white x M (v / 255)^gamma.

    M = purity I + (1 - purity) 1 Y^T mixes every primary with the grey of its luminance (rows sum to 1: grey stays
    grey).
    """
    curve = ((np.arange(256) / 255.0) ** gamma).astype(np.float32)
    light = curve[values].transpose(2, 0, 1)
    grey = np.tensordot(LUMINANCE, light, axes=1)
    return (purity * light + (1.0 - purity) * grey) * np.array(white, dtype=np.float32)[:, None, None]


def render_screen(source: Image.Image, setting: Screen, size: int) -> np.ndarray:
    """What the screen sends to the camera, linear RGB (3, size, size), when it shows the portrait ``source``."""
    small = source.resize((setting.pixels, setting.pixels), Image.Resampling.BICUBIC)
    light = panel_light(np.asarray(jpeg(small, setting.quality)), setting.gamma, setting.purity, setting.white)
    pixel = np.minimum((np.arange(size) + 0.5) * setting.pixels / size, setting.pixels - 1).astype(np.intp)
    light = light.take(pixel, axis=2).take(pixel, axis=1)  # leaves rows together, as indexing would not
    stripes, rows = subpixel_mask(size, size / setting.pixels, setting.gap, setting.bgr)
    if setting.upright:
        light *= stripes[:, :, None]
        light *= rows[None, None, :]
    else:
        light *= stripes[:, None, :]
        light *= rows[None, :, None]
    if setting.flicker:
        phase = np.arange(size) / (size * setting.flicker_period) + setting.flicker_phase
        light *= (1.0 + setting.flicker * np.cos(2 * np.pi * phase)).astype(np.float32)[None, :, None]
    light += np.array(setting.black, dtype=np.float32)[:, None, None]
    if setting.glare:
        light += setting.glare * blob(size, setting.glare_centre, setting.glare_radius)
    return light
