"""Inputs that show a quantiser what ranges a network's activations take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hardware.norms import averaging, restore, statistics, tracked_norms
from hardware.tracing import evaluating, run
from searchspaces.errors import CostError

from .base import Array

COUNT = 16  # inputs to calibrate on
HELD_OUT = 3  # pictures kept from calibration, to compare on
MOST_PIXELS = 50_000_000  # a larger picture is refused by its header
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def random_inputs(input_size: Sequence[int], count: int = COUNT, seed: int = 1000) -> list[Array]:
    """Normal noise, (1, C, H, W) float32 each, from 1: enough to time int8, not to judge its accuracy."""
    generator = np.random.default_rng(seed)
    return [generator.standard_normal((1, *input_size)).astype(np.float32) for _ in range(count)]


def picture_inputs(folder: str | Path, input_size: Sequence[int], count: int = COUNT + HELD_OUT) -> list[Array]:
    """Pictures of a folder, in the order of their names: RGB, resized, (value / 255 - 0.5) / 0.5.

    Args:
        folder: searched with all its subfolders.
        input_size: 3, height, width.
        count: of more pictures, evenly spaced ones are taken.

    Returns:
        (1, 3, H, W) float32 each.

    Raises:
        CostError: if there are fewer than two pictures, one cannot be read, or the network does not take RGB.
    """
    from PIL import Image

    if len(input_size) != 3 or input_size[0] != 3:
        raise CostError(f"Pictures have 3 channels, but the network takes {tuple(input_size)}: calibrate without them.")
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in PICTURES)
    if len(files) < 2:
        raise CostError(f"{folder} holds {len(files)} pictures ({', '.join(PICTURES)}): calibration needs at least 2.")
    chosen = [files[index] for index in np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)]
    arrays = []
    for file in chosen:
        try:
            with Image.open(file, formats=FORMATS) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise ValueError(f"it has {picture.width} x {picture.height} pixels, more than {MOST_PIXELS}")
                resized = picture.convert("RGB").resize((input_size[2], input_size[1]))
        except Exception as error:  # Pillow's readers raise many kinds for damaged files
            raise CostError(f"Cannot read the picture {file}: {error}.") from error
        values = np.asarray(resized, np.float32).transpose(2, 0, 1)
        arrays.append(((values / 255 - 0.5) / 0.5)[None])
    return arrays


def split(pictures: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Pictures to calibrate on, and up to `HELD_OUT` others to compare on, spread over all of them."""
    held_out = max(1, min(HELD_OUT, len(pictures) // 4))
    places = {round((index + 0.5) * len(pictures) / held_out - 0.5) for index in range(held_out)}
    return (
        [x for place, x in enumerate(pictures) if place not in places],
        [x for place, x in enumerate(pictures) if place in places],
    )


def settle_norms(model: nn.Module, inputs: Sequence[Array]) -> bool:
    """Give an untrained network's batch norms the statistics of some inputs.

    Without it the outputs of a deep random network vanish (1e-8), and no quantiser can keep them. Nothing else of
    the network changes, and its latency does not.

    Returns:
        Whether it was done; False if the network has no batch norms or takes only one input at a time.
    """
    x, saved = torch.from_numpy(np.concatenate(inputs)), statistics(model)
    try:
        with evaluating(model), averaging(model):
            run(model, x)
    except CostError:
        restore(saved)
        return False
    return bool(tracked_norms(model))
