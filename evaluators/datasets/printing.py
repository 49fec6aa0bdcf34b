"""A portrait as a printed photograph: halftone dots of four inks on paper with a tint, a texture, a sheen and a curl.

Everything is reflectance, 0..1 of the light that falls on the paper. Lengths are in scene pixels (the fine grid on
which the print is drawn before a camera samples it) or, where noted, in parts of the scene's side.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from .colour import blob, resize_planes

# Angles of the four screens, degrees, in the order C, M, Y, K: the offset printer's standard set, 30 degrees between
# the strong inks so that they form a rosette and no moire among themselves.
SCREEN_ANGLES = (15.0, 75.0, 0.0, 45.0)
# What a solid layer of ink lets through twice (in and out of the paper), linear RGB, in the order C, M, Y, K.
INKS = np.array([[0.07, 0.47, 0.72], [0.66, 0.09, 0.40], [0.93, 0.82, 0.10], [0.04, 0.04, 0.04]], dtype=np.float32)


@dataclass(frozen=True)
class Print:
    """What makes one print differ from another.

    Attributes:
        period: distance of two rows of dots, scene pixels.
        phases: where each screen's lattice begins, cycles, (4, 2).
        dot_gain: growth of a 50 % dot that the printer did not allow for, in coverage.
        black_generation: share of the common grey of C, M, Y that black ink replaces, 0..1.
        paper: reflectance of bare paper, linear RGB.
        texture: standard deviation of the paper's reflectance, relative.
        grain: correlation length of that texture, scene pixels.
        sheen: peak of the gloss added to the reflectance; sheen_centre and sheen_radius in parts of the side.
        curl: curvature of the paper, 1 / half-sides; curl_angle: direction across the bend, radians.
    """

    period: float
    phases: np.ndarray
    dot_gain: float
    black_generation: float
    paper: tuple[float, float, float]
    texture: float
    grain: float
    sheen: float
    sheen_centre: tuple[float, float]
    sheen_radius: tuple[float, float]
    curl: float
    curl_angle: float


def draw_print(rng: np.random.Generator, size: int) -> Print:
    """A print at random for a scene of ``size`` pixels: from coarse dots to screens finer than a camera resolves."""
    lines_across = np.exp(rng.uniform(np.log(80), np.log(140)))
    white, tint = rng.uniform(0.82, 0.96), rng.normal(0.0, 0.015, 2)
    return Print(
        period=float(size / lines_across),
        phases=rng.random((4, 2)),
        dot_gain=float(rng.uniform(-0.05, 0.12)),
        black_generation=float(rng.uniform(0.2, 0.9)),
        paper=(float(white + tint[0]), float(white), float(white + tint[1])),
        texture=float(rng.uniform(0.004, 0.03)),
        grain=float(rng.uniform(1.0, 4.0)),
        sheen=float(rng.uniform(0.0, 0.12) * (rng.random() < 0.5)),
        sheen_centre=(float(rng.uniform(0, 1)), float(rng.uniform(0, 1))),
        sheen_radius=(float(rng.uniform(0.1, 0.35)), float(rng.uniform(0.1, 0.35))),
        curl=float(rng.uniform(0.0, 0.55)),
        curl_angle=float(rng.uniform(0.0, np.pi)),
    )


def murray_davies(coverage: np.ndarray, ink: np.ndarray | float, paper: np.ndarray | float = 1.0) -> np.ndarray:
    """Mean reflectance of a tint, Murray-Davies: R = a R_ink + (1 - a) R_paper, with the coverage a in 0..1."""
    return coverage * ink + (1.0 - coverage) * paper


def coverage_for(reflectance: np.ndarray, ink: np.ndarray | float) -> np.ndarray:
    """Murray-Davies solved for the coverage that gives a reflectance relative to the paper; clipped to 0..1."""
    return np.clip((1.0 - reflectance) / (1.0 - ink), 0.0, 1.0)


def dot_gain(coverage: np.ndarray, gain: float) -> np.ndarray:
    """Coverage after dots have spread: a + 4 g a (1 - a), so that a 50 % dot grows by exactly ``gain``."""
    return np.clip(coverage + 4.0 * gain * coverage * (1.0 - coverage), 0.0, 1.0)


def separate(reflectance: np.ndarray, black_generation: float, steps: int = 3) -> np.ndarray:
    """Coverages of the four inks (4, H, W) that show a linear RGB reflectance (3, H, W).

    Each of C, M, Y answers for the colour that it absorbs most. What the other inks absorb there as well is divided out
    first, by fixed-point iteration on the mean of independent screens (Demichel's product of Murray-Davies tints).
    Colours outside the inks' gamut are clipped.
    """
    grey = np.clip(1.0 - reflectance.max(axis=0), 0.0, 1.0)
    inks = np.zeros((4, *reflectance.shape[1:]), dtype=np.float32)
    # black begins at the mid-tones, as grey component replacement does: faces keep their highlights free of black dots
    inks[3] = np.clip(black_generation * (grey - 0.35) / 0.65, 0.0, 1.0)
    for _ in range(steps):
        for channel in range(3):
            others = [i for i in range(4) if i != channel]
            veil = np.prod([murray_davies(inks[i], INKS[i, channel]) for i in others], axis=0)
            inks[channel] = coverage_for(reflectance[channel] / np.maximum(veil, 1e-3), INKS[channel, channel])
    return inks


@functools.lru_cache(maxsize=1)
def _spot_quantiles() -> np.ndarray:
    """Values of the spot function at its 0/1024, 1/1024, ... 1024/1024 quantiles over one cell."""
    phase = (np.arange(512) + 0.5) / 512 * 2 * np.pi
    spot = 0.5 * (np.cos(phase)[:, None] + np.cos(phase)[None, :])
    return np.quantile(spot, np.linspace(0, 1, 1025)).astype(np.float32)


def spot_function(size: int, period: float, angle: float, phase: np.ndarray) -> np.ndarray:
    """The round-dot spot function (size, size): (cos u + cos v) / 2 on a lattice turned by ``angle`` degrees.

    ``period`` is in pixels, ``phase`` in cycles along u and v. cos(a x + b y) is made from four outer products,
    which is exact and needs 2 x size cosines in place of size x size.
    """
    turn, position = np.deg2rad(angle), np.arange(size, dtype=np.float64)
    kx, ky = 2 * np.pi * np.cos(turn) / period, 2 * np.pi * np.sin(turn) / period
    waves = []
    for (wx, wy), start in zip(((kx, ky), (-ky, kx)), phase, strict=True):
        x, y = wx * position, wy * position + 2 * np.pi * start
        across = np.stack([np.cos(x), -np.sin(x)]).astype(np.float32)
        down = np.stack([np.cos(y), np.sin(y)], axis=1).astype(np.float32)
        waves.append(down @ across)
    return 0.5 * (waves[0] + waves[1])


def halftone(coverage: np.ndarray, spot: np.ndarray, period: float) -> np.ndarray:
    """Clustered dots: ink where the spot function exceeds the quantile that leaves ``coverage`` of the cell.

    Edges are one pixel wide (the slope of the spot function is about pi / period), which is what a pixel of the scene
    that is partly inked reflects. Returns ink per pixel 0..1, (H, W); its mean is the coverage.
    """
    index = np.clip((1.0 - coverage) * 1024.0 + 0.5, 0, 1024).astype(np.int32)
    ink = spot - _spot_quantiles().take(index, mode="clip")
    ink *= np.float32(period / np.pi)
    ink += np.float32(0.5)
    np.clip(ink, 0.0, 1.0, out=ink)
    ink[coverage <= 0.004] = 0.0
    ink[coverage >= 0.996] = 1.0
    return ink


def paper_texture(size: int, texture: float, grain: float, rng: np.random.Generator) -> np.ndarray:
    """Relative reflectance of bare paper (size, size): mean 1, deviation ``texture``, grain of ``grain`` pixels."""
    coarse = max(8, round(size / grain))
    fibres = resize_planes(rng.standard_normal((1, coarse, coarse), dtype=np.float32), size)[0]
    return 1.0 + np.float32(texture / max(float(fibres.std()), 1e-6)) * fibres


def curl_shading(size: int, curl: float, angle: float) -> np.ndarray:
    """Lambert's law on a bent sheet (size, size): the cosine of the angle between its normal and the light ahead."""
    position = np.linspace(-1, 1, size, dtype=np.float32)
    along = np.cos(angle) * position[None, :] + np.sin(angle) * position[:, None]
    return np.cos(np.float32(curl) * (along + 0.5)).astype(np.float32)


def render_print(source: np.ndarray, setting: Print, size: int, rng: np.random.Generator) -> np.ndarray:
    """What the printed sheet reflects, linear RGB (3, size, size).

    Args:
        source: the portrait to print, linear RGB (3, h, w); inks are separated at its resolution, dots at ``size``.
    """
    inks = separate(source, setting.black_generation)
    inks = resize_planes(dot_gain(inks, setting.dot_gain).astype(np.float32), size)
    sheet = np.empty((3, size, size), dtype=np.float32)
    sheet[:] = paper_texture(size, setting.texture, setting.grain, rng)
    sheet *= np.array(setting.paper, dtype=np.float32)[:, None, None]
    through = np.empty_like(sheet[0])  # of one colour's light, what passes one ink
    for ink, angle, phase, colour in zip(inks, SCREEN_ANGLES, setting.phases, INKS, strict=True):
        dots = halftone(ink, spot_function(size, setting.period, angle, phase), setting.period)
        for channel in range(3):
            np.multiply(dots, 1.0 - colour[channel], out=through)
            sheet[channel] *= np.subtract(1.0, through, out=through)
    if setting.sheen:
        sheet += setting.sheen * blob(size, setting.sheen_centre, setting.sheen_radius)
    return sheet * curl_shading(size, setting.curl, setting.curl_angle)
