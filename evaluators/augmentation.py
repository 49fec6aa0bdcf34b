"""What training does to pictures after cropping: colour jitter, the noise of a sensor at high ISO, another pose.

The PTA paper names both augmentations and gives no strengths; the defaults here are those that albumentations had for
``ColorJitter`` and ``ISONoise`` when the paper was written. Pictures are uint8, or float from 0 to 1, and keep their
type; all randomness comes from the generator that is given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as tv

from searchspaces.errors import UnknownNameError

from .deit_augmentation import deit, mix

Augmentation = Callable[[Tensor, np.random.Generator], Tensor]
Mixing = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]
ADJUSTMENTS = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


def colour_jitter(
    pictures: Tensor,
    random: np.random.Generator,
    *,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.2,
    hue: float = 0.2,
    probability: float = 0.5,
) -> Tensor:
    """Brightness, contrast, saturation and hue of some pictures, each with its own strengths in its own order.

    Args:
        pictures: ``(N, 3, H, W)``.
        brightness, contrast, saturation: s, for a factor drawn from [1 - s, 1 + s].
        hue: h, for a shift drawn from [-h, h]; a full turn is 1.
        probability: of a picture to be changed.
    """
    size = len(pictures)
    chosen = random.random(size) < probability
    strengths = np.array([brightness, contrast, saturation, hue])
    values = random.uniform(-strengths, strengths, (size, 4)) + np.array([1.0, 1.0, 1.0, 0.0])
    orders = random.permuted(np.tile(np.arange(4), (size, 1)), axis=1)
    jittered = _to_float(pictures).clone()
    for picture in np.flatnonzero(chosen).tolist():
        for adjustment in orders[picture].tolist():
            jittered[picture] = ADJUSTMENTS[adjustment](jittered[picture], float(values[picture, adjustment]))
    return _like(jittered, pictures)


def iso_noise(
    pictures: Tensor,
    random: np.random.Generator,
    *,
    colour_shift: tuple[float, float] = (0.01, 0.05),
    intensity: tuple[float, float] = (0.1, 0.5),
    probability: float = 0.5,
) -> Tensor:
    """Noise of a camera's sensor, in hue and luminance, as albumentations' ``ISONoise`` defines it.

    With a colour shift c and an intensity i drawn for each picture, and s the standard deviation of its luminance::

        H <- (H + normal(0, 360 c i)) mod 360 degrees
        L <- L + Poisson(255 s i) / 255 * (1 - L)

    Args:
        pictures: ``(N, 3, H, W)``.
        colour_shift, intensity: ranges to draw from.
        probability: of a picture to be changed.
    """
    size = len(pictures)
    chosen = np.flatnonzero(random.random(size) < probability)
    shifts, intensities = random.uniform(*colour_shift, size)[chosen], random.uniform(*intensity, size)[chosen]
    if not len(chosen):
        return pictures
    noisy = _to_float(pictures).clone()
    hue, luminance, saturation = rgb_to_hls(noisy[chosen]).unbind(1)
    shape = tuple(hue.shape)
    deviations = luminance.flatten(1).std(dim=1, correction=0).double().numpy()
    counts = random.poisson((255 * deviations * intensities)[:, None, None], shape)
    turns = random.standard_normal(shape, dtype=np.float32) * (shifts * intensities).astype(np.float32)[:, None, None]
    hue = (hue + torch.from_numpy(turns)) % 1.0
    luminance = luminance + torch.from_numpy((counts / 255).astype(np.float32)) * (1 - luminance)
    noisy[chosen] = hls_to_rgb(torch.stack([hue, luminance.clamp(0, 1), saturation], dim=1))
    return _like(noisy, pictures)


def affine(
    pictures: Tensor,
    random: np.random.Generator,
    *,
    turn: float = 0.25,
    scale: float = 0.2,
    stretch: float = 0.15,
    shear: float = 0.15,
    shift: float = 0.12,
) -> Tensor:
    """A small turn, scale, stretch, shear and shift of each picture; pixels beyond its edge repeat the edge's.

    Args:
        pictures: ``(N, 3, H, W)``.
        turn: largest angle, radians.
        scale, stretch: largest change of the size, and of the width alone.
        shear: largest one; ``shift``: largest one in halves of the picture's side.
    """
    size = len(pictures)
    angle, zoom, wide, slant, right, down = random.uniform(-1, 1, (6, size))
    zoom, wide = 1 + scale * zoom, 1 + stretch * wide
    cosine, sine = zoom * np.cos(turn * angle), zoom * np.sin(turn * angle)
    rows = [[cosine * wide, -sine + shear * slant, shift * right], [sine * wide, cosine, shift * down]]
    matrices = torch.from_numpy(np.array(rows).transpose(2, 0, 1)).float()
    values = _to_float(pictures)
    grid = functional.affine_grid(matrices, list(values.shape), align_corners=False)
    return _like(functional.grid_sample(values, grid, padding_mode="border", align_corners=False), pictures)


def exposure(
    pictures: Tensor, random: np.random.Generator, *, contrast: float = 0.3, brightness: float = 0.1
) -> Tensor:
    """Another contrast and brightness of each picture, ``(N, 3, H, W)``: ``x (1 +- contrast) +- brightness``."""
    gain = 1 + contrast * random.uniform(-1, 1, (len(pictures), 1, 1, 1))
    offset = brightness * random.uniform(-1, 1, (len(pictures), 1, 1, 1))
    changed = _to_float(pictures) * torch.from_numpy(gain).float() + torch.from_numpy(offset).float()
    return _like(changed.clamp(0, 1), pictures)


def pose(pictures: Tensor, random: np.random.Generator) -> Tensor:
    """`affine`, then `exposure`: for faces of which there are few pictures, ``(N, 3, H, W)``. It is ours."""
    return _like(exposure(affine(_to_float(pictures), random), random), pictures)


def rgb_to_hls(pictures: Tensor) -> Tensor:
    """Hue, luminance and saturation, ``(N, 3, H, W)`` float, all from 0 to 1, of RGB from 0 to 1.

    As in Python's ``colorsys``: L = (max + min) / 2, S = (max - min) / (1 - |2 L - 1|); grey has hue and saturation 0.
    """
    red, green, blue = pictures.unbind(1)
    largest, smallest = pictures.amax(1), pictures.amin(1)
    span, total = largest - smallest, largest + smallest
    tiny = torch.finfo(pictures.dtype).tiny  # grey: 0 / tiny is 0
    scale = 6 * span.clamp_min(tiny)
    by_red = (green - blue) / scale
    by_red = torch.where(by_red < 0, by_red + 1, by_red)  # a remainder costs several times more
    by_green, by_blue = (blue - red) / scale + 1 / 3, (red - green) / scale + 2 / 3
    hue = torch.where(red == largest, by_red, torch.where(green == largest, by_green, by_blue))
    saturation = span / torch.minimum(total, 2 - total).clamp_min(tiny)
    return torch.stack([hue, total / 2, saturation], dim=1)


def hls_to_rgb(pictures: Tensor) -> Tensor:
    """The inverse of `rgb_to_hls`.

    A channel is L - a max(-1, min(k - 3, 9 - k, 1)), with a = S min(L, 1 - L) and k = (n + 12 H) mod 12, where n is 0
    for red, 8 for green and 4 for blue.
    """
    hue, luminance, saturation = pictures.unbind(1)
    reach = saturation * torch.minimum(luminance, 1 - luminance)
    channels = []
    for offset in (0, 8, 4):
        position = 12 * hue + offset
        position = torch.where(position >= 12, position - 12, position)
        channels.append(luminance - reach * torch.minimum(position - 3, 9 - position).clamp(-1, 1))
    return torch.stack(channels, dim=1)


def colour_and_noise(pictures: Tensor, random: np.random.Generator) -> Tensor:
    """The colour augmentations of the PTA paper: `colour_jitter`, then `iso_noise`; ``(N, 3, H, W)``."""
    return _like(iso_noise(colour_jitter(_to_float(pictures), random), random), pictures)


# what is done to a batch after random crops and mirror images, by the name of the option
AUGMENTATIONS: dict[str, Augmentation | None] = {"crop": None, "colour": colour_and_noise, "pose": pose, "deit": deit}
# what is done to whole batches and their labels after that
MIXINGS: dict[str, Mixing] = {"deit": mix}


def find_augmentation(name: str) -> Augmentation | None:
    """The entry of `AUGMENTATIONS`.

    Raises:
        UnknownNameError: if there is none of this name.
    """
    if name not in AUGMENTATIONS:
        raise UnknownNameError("augmentation", name, AUGMENTATIONS)
    return AUGMENTATIONS[name]


def _to_float(pictures: Tensor) -> Tensor:
    return pictures if pictures.is_floating_point() else pictures.float() / 255


def _like(changed: Tensor, pictures: Tensor) -> Tensor:
    """Pictures from 0 to 1 in the type of ``pictures``; uint8 is rounded to the nearest."""
    if pictures.is_floating_point():
        return changed
    return (changed * 255 + 0.5).clamp_(0, 255).to(pictures.dtype)
