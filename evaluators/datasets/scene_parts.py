"""What scenes are composed of: people cut out of portraits, backgrounds, and things that are no faces.

Everything is numpy and Pillow: the processes that compose scenes need no torch. Pictures are float32 ``(H, W, 3)`` from
0 to 1, cut-outs have their opacity as a fourth channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

Array = np.ndarray
Random = np.random.Generator

WHITE, COLOURLESS = 0.80, 0.10  # of a portrait's background: darkest value, largest difference of channels
SMALLEST_BACKGROUND = 0.08  # share of a portrait; less means that the background is not white
CLEAR_CORNERS = 0.95  # share of background in the two upper corners; a flag or a wall is no background to remove
FACE_SHARE = 0.97  # of the face's ellipse that must be left


@dataclass(frozen=True)
class CutOut:
    """A person: ``pixels`` (H, W, 4), and the ``box`` of the face in pixels, x0, y0, x1, y1."""

    pixels: Array
    box: tuple[float, float, float, float]


def cut_out_person(picture: Image.Image, box: Sequence[float]) -> CutOut | None:
    """The person of a portrait in front of a white background; None if there is another one, or it runs into the face.

    Args:
        box: of the face, parts of the picture's width and height.
    """
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    height, width = pixels.shape[:2]
    smooth = ndimage.uniform_filter(pixels, (3, 3, 1))
    bright = (smooth.min(axis=2) > WHITE) & (channel_range(smooth) < COLOURLESS)
    regions, _ = ndimage.label(bright)
    border = np.unique(np.concatenate([regions[0], regions[: height // 2, 0], regions[: height // 2, -1]]))
    background = np.isin(regions, border[border > 0])
    corner = height // 6, width // 6
    corners = background[: corner[0], : corner[1]], background[: corner[0], -corner[1] :]
    if background.mean() < SMALLEST_BACKGROUND or min(each.mean() for each in corners) < CLEAR_CORNERS:
        return None
    person, _ = ndimage.label(ndimage.binary_opening(~background, iterations=2))
    sizes = np.bincount(person.ravel())
    if len(sizes) < 2:
        return None
    mask = ndimage.binary_fill_holes(person == 1 + int(sizes[1:].argmax()))
    x0, y0, x1, y1 = (part * side for part, side in zip(box, (width, height) * 2, strict=True))
    if (
        ellipse(height, width, (x0, y0, x1, y1))[mask].sum()
        < FACE_SHARE * ellipse(height, width, (x0, y0, x1, y1)).sum()
    ):
        return None
    # half a pixel inside, so that no white rim is left, and soft
    matte = ndimage.gaussian_filter(ndimage.binary_erosion(mask, iterations=2).astype(np.float32), 1.2)
    return CutOut(np.dstack([pixels, matte]), (x0, y0, x1, y1))


def channel_range(pixels: Array) -> Array:
    """(H, W): the largest channel of a picture (H, W, 3) less the smallest; numpy's ptp takes ten times as long."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    return np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)


def ellipse(height: int, width: int, box: Sequence[float], grow: float = 1.0) -> Array:
    """(H, W) bool: the ellipse in a box, ``grow`` times as large."""
    x0, y0, x1, y1 = box
    rows, columns = np.ogrid[:height, :width]
    across = (columns + 0.5 - (x0 + x1) / 2) / max(1e-6, grow * (x1 - x0) / 2)
    down = (rows + 0.5 - (y0 + y1) / 2) / max(1e-6, grow * (y1 - y0) / 2)
    return across**2 + down**2 <= 1


def without_face(person: CutOut, random: Random) -> CutOut:
    """The same head with no face: inside the face's ellipse is its mean colour, or a texture."""
    height, width = person.pixels.shape[:2]
    soft = ndimage.gaussian_filter(ellipse(height, width, person.box, 1.25).astype(np.float32), 4)[..., None]
    colours = person.pixels[..., :3]
    if random.random() < 0.6:
        x0, y0, x1, y1 = (int(value) for value in person.box)
        inside = colours[max(0, y0) : y1, max(0, x0) : x1].reshape(-1, 3)
        filled = np.broadcast_to(inside.mean(axis=0), colours.shape)
    else:
        filled = texture(max(height, width), random)[:height, :width]
    return CutOut(
        np.dstack([colours * (1 - soft) + filled * soft, person.pixels[..., 3]]).astype(np.float32), person.box
    )


@dataclass(frozen=True)
class Layer:
    """Something to paste: ``pixels`` (h, w, 4) with premultiplied opacity, their corner at (left, top) of a scene."""

    pixels: Array
    left: int
    top: int

    def window(self, scene: Array) -> Array:
        """The part of a scene (H, W, ...) that the layer lies on; a view."""
        height, width = self.pixels.shape[:2]
        return scene[self.top : self.top + height, self.left : self.left + width]


@dataclass(frozen=True)
class Placement:
    """Where a person stands: ``forward`` (2, 2) maps the portrait's pixels, its face's centre to ``centre``."""

    forward: Array
    centre: tuple[float, float]
    box: tuple[float, float, float, float]


def draw_placement(person: CutOut, face_width: float, centre: tuple[float, float], random: Random) -> Placement:
    """Turned, mirrored, sheared and scaled; the box is that of the face's ellipse after all of this.

    Args:
        face_width: of the face before it is turned, pixels.
        centre: of the face, x and y.
    """
    x0, y0, x1, y1 = person.box
    scale = face_width / (x1 - x0)
    angle = float(np.clip(random.normal(0, 10), -25, 25)) * np.pi / 180
    stretch = float(np.exp(random.uniform(-0.10, 0.10)))
    mirror = -1.0 if random.random() < 0.5 else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, float(random.uniform(-0.08, 0.08))], [0.0, 1.0]])
    forward = turn @ shear @ np.diag([mirror * scale, scale * stretch])
    # extent of the image of an ellipse with these half axes under a linear map
    half = np.sqrt(((forward * np.array([(x1 - x0) / 2, (y1 - y0) / 2])) ** 2).sum(axis=1))
    box = (centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1])
    return Placement(forward, centre, (float(box[0]), float(box[1]), float(box[2]), float(box[3])))


def place(person: CutOut, placement: Placement, size: int) -> Layer:
    """The person where the placement says, cut at the edges of a scene of ``size``."""
    x0, y0, x1, y1 = person.box
    height, width = person.pixels.shape[:2]
    old = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) - old
    reached = corners @ placement.forward.T + np.asarray(placement.centre)
    low = np.clip(np.floor(reached.min(axis=0)).astype(int), 0, size - 1)
    high = np.clip(np.ceil(reached.max(axis=0)).astype(int), low + 1, size)
    # Pillow samples at points, so a person who gets much smaller is averaged before, and smoothed
    scale = float(np.sqrt(abs(np.linalg.det(placement.forward))))
    factor = max(1, int(0.7 / scale))
    reduced = [Image.fromarray(np.ascontiguousarray(person.pixels[..., channel])) for channel in range(4)]
    source = [np.asarray(each.reduce(factor) if factor > 1 else each) for each in reduced]
    left_over = scale * factor
    if left_over < 0.8:
        source = [ndimage.gaussian_filter(plane, 0.4 / left_over) for plane in source]
    *colours, opacity = source
    premultiplied = [*(plane * opacity for plane in colours), opacity]
    backward = np.linalg.inv(placement.forward)
    offset = (old - backward @ (np.asarray(placement.centre) - low)) / factor
    coefficients = (*(backward[0] / factor), offset[0], *(backward[1] / factor), offset[1])
    moved = [
        Image.fromarray(plane).transform(
            tuple((high - low).tolist()), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
        for plane in premultiplied
    ]
    return Layer(np.dstack([np.asarray(each) for each in moved]), int(low[0]), int(low[1]))


def relight(colours: Array, random: Random, strength: float = 1.0) -> Array:
    """Another light: exposure, gamma, white balance, contrast and a gradient across the picture."""
    height, width = colours.shape[:2]
    gain = np.exp(strength * random.normal(0, 0.22)) * np.exp(strength * random.normal(0, 0.06, 3))
    gamma = float(np.exp(strength * random.normal(0, 0.18)))
    lit = np.clip(colours, 0, 1) ** gamma * gain.astype(np.float32)
    middle = 0.45
    lit = middle + (lit - middle) * float(np.exp(strength * random.normal(0, 0.15)))
    if random.random() < 0.5 * strength:
        angle, depth = random.uniform(0, 2 * np.pi), random.uniform(0.1, 0.55)
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        ramp = np.cos(angle) * (columns / width - 0.5) + np.sin(angle) * (rows / height - 0.5)
        lit = lit * (1 - depth * (ramp + 0.5))[..., None]
    return np.clip(lit, 0, 1).astype(np.float32)


def read_photograph(path: Path) -> Array:
    """A background photograph."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255


def background(photographs: Sequence[Array], size: int, random: Random) -> Array:
    """A background (size, size, 3): a part of a photograph, or a texture."""
    if random.random() < 0.25 or not photographs:
        return texture(size, random)
    photograph = photographs[int(random.integers(len(photographs)))]
    height, width = photograph.shape[:2]
    side = min(height, width) * float(random.uniform(0.3, 1.0))
    left, top = random.uniform(0, width - side), random.uniform(0, height - side)
    region = Image.fromarray((photograph * 255).astype(np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side)
    )
    if random.random() < 0.5:
        region = region.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < 0.25:
        region = region.transpose(Image.Transpose.ROTATE_90)
    if random.random() < 0.4:
        region = region.filter(ImageFilter.GaussianBlur(float(random.uniform(0.5, 5))))
    pixels = np.asarray(region, dtype=np.float32) / 255
    if channel_range(pixels).max() < 0.02 or random.random() < 0.15:  # a grey photograph gets a colour
        tint = random.uniform(0.4, 1.0, 3)
        pixels = pixels.mean(axis=2, keepdims=True) * (tint / tint.max()).astype(np.float32)
    return relight(pixels, random)


def texture(size: int, random: Random) -> Array:
    """A made-up background (size, size, 3): clouds, stripes, bricks, blobs or plain colours."""
    first, second = random.uniform(0.05, 0.95, (2, 3)).astype(np.float32)
    rows, columns = np.mgrid[:size, :size].astype(np.float32) / size
    kind = int(random.integers(5))
    if kind == 0:  # clouds of several sizes
        field = sum(
            ndimage.zoom(random.standard_normal((n, n)).astype(np.float32), size / n, order=1) / (i + 1)
            for i, n in enumerate((4, 8, 20, 40))
        )
        field = (field - field.min()) / max(1e-6, np.ptp(field))
    elif kind == 1:
        angle = random.uniform(0, np.pi)
        wave = np.cos(angle) * columns + np.sin(angle) * rows
        field = 0.5 + 0.5 * np.sin(2 * np.pi * random.uniform(2, 40) * wave)
        field = (field > 0.5).astype(np.float32) if random.random() < 0.5 else field
    elif kind == 2:
        high, wide = random.uniform(0.03, 0.2), random.uniform(0.05, 0.4)
        row = np.floor(rows / high)
        edge = (rows % high < 0.006) | ((columns + 0.5 * wide * (row % 2)) % wide < 0.006)
        field = np.where(
            edge, 0.0, 0.6 + 0.4 * random.random((64, 64))[row.astype(int) % 64, (columns / wide).astype(int) % 64]
        )
    elif kind == 3:
        field = np.zeros((size, size), np.float32)
        for _ in range(int(random.integers(5, 40))):
            x, y, r = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.02, 0.2)
            field[(columns - x) ** 2 + (rows - y) ** 2 < r * r] = random.random()
    else:
        field = random.uniform(-1, 1) * rows + random.uniform(-1, 1) * columns
        field = (field - field.min()) / max(1e-6, np.ptp(field))
    field = np.asarray(field, dtype=np.float32)[..., None]
    pixels = first * field + second * (1 - field)
    return np.clip(pixels + random.normal(0, random.uniform(0, 0.04), pixels.shape), 0, 1).astype(np.float32)


def paste(scene: Array, layer: Layer) -> None:
    """Put a layer on a scene (H, W, 3), in place."""
    window = layer.window(scene)
    window *= 1 - layer.pixels[..., 3:]
    window += layer.pixels[..., :3]


def distractor(size: int, random: Random, people: Sequence[CutOut]) -> Layer:
    """Something that is no face: a head without one, clothes, a skin-coloured ellipse, a patch."""
    kind = float(random.random())
    centre = (float(random.uniform(0.05 * size, 0.95 * size)), float(random.uniform(0.05 * size, 0.95 * size)))
    if people and kind < 0.55:
        person = people[int(random.integers(len(people)))]
        if kind < 0.30:
            person = without_face(person, random)
        else:  # clothes and hair: what is left when the face and its surroundings are cut away
            height, width = person.pixels.shape[:2]
            hole = ndimage.gaussian_filter(ellipse(height, width, person.box, 1.35).astype(np.float32), 3)
            person = CutOut(np.dstack([person.pixels[..., :3], person.pixels[..., 3] * (1 - hole)]), person.box)
        face_width = float(np.exp(random.uniform(np.log(18), np.log(110))))
        return recoloured(place(person, draw_placement(person, face_width, centre, random), size), random)
    half = np.exp(random.uniform(np.log(0.03), np.log(0.2), 2)) * size
    left, top = (max(0, int(c - h)) for c, h in zip(centre, half, strict=True))
    width, height = (min(size, int(c + h) + 1) - low for c, h, low in zip(centre, half, (left, top), strict=True))
    shape = np.ones((height, width), np.float32)
    if kind < 0.8:
        shape = ellipse(height, width, (1, 1, width - 1, height - 1)).astype(np.float32)
        shape = ndimage.gaussian_filter(shape, random.uniform(0.5, 3), mode="constant")
        skin = np.array([0.85, 0.62, 0.50]) * random.uniform(0.35, 1.1) * np.exp(random.normal(0, 0.08, 3))
        colours = relight(np.broadcast_to(np.clip(skin, 0, 1), (height, width, 3)).astype(np.float32), random)
    else:
        colours = texture(max(height, width), random)[:height, :width]
    return Layer(np.dstack([colours * shape[..., None], shape]).astype(np.float32), left, top)


def recoloured(layer: Layer, random: Random) -> Layer:
    """A placed cut-out in another light."""
    opacity = layer.pixels[..., 3:]
    colours = np.clip(layer.pixels[..., :3] / np.maximum(opacity, 1e-3), 0, 1)
    return Layer(
        np.dstack([relight(colours, random, 0.8) * opacity, opacity]).astype(np.float32), layer.left, layer.top
    )
