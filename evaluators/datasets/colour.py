"""Colour between stored pictures and light: sRGB (IEC 61966-2-1) and linear light, both on a scale of 0..1."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

# ITU-R BT.709: the luminance of linear RGB with sRGB's primaries
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def srgb_to_linear(value: np.ndarray) -> np.ndarray:
    """The sRGB electro-optical transfer function (IEC 61966-2-1): stored value 0..1 to linear light 0..1."""
    value = np.asarray(value, dtype=np.float32)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb(light: np.ndarray) -> np.ndarray:
    """The inverse of `srgb_to_linear`; light outside 0..1 is clipped."""
    light = np.clip(np.asarray(light, dtype=np.float32), 0.0, 1.0)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)


_LINEAR_OF_BYTE = srgb_to_linear(np.arange(256) / 255.0)


def bytes_to_linear(picture: np.ndarray) -> np.ndarray:
    """A stored picture (H, W, 3) uint8 as linear light (3, H, W) float32."""
    return _LINEAR_OF_BYTE.take(picture.transpose(2, 0, 1), mode="clip")  # a byte is within, so nothing is clipped


def jpeg(picture: Image.Image, quality: int, chroma: str = "4:2:0") -> Image.Image:
    """The picture after one round of JPEG compression."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=int(quality), subsampling=chroma)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")


def resize_planes(planes: np.ndarray, size: int) -> np.ndarray:
    """Bilinear resize of float planes (C, h, w) to (C, size, size)."""
    scaled = [np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR)) for plane in planes]
    return np.stack(scaled)


def blob(size: int, centre: tuple[float, float], radius: tuple[float, float]) -> np.ndarray:
    """A Gaussian lobe (size, size) with peak 1: ``centre`` (x, y) and ``radius`` (x, y) in parts of the side."""
    position = (np.arange(size, dtype=np.float32) + 0.5) / size
    x = np.exp(-0.5 * ((position - centre[0]) / radius[0]) ** 2)
    y = np.exp(-0.5 * ((position - centre[1]) / radius[1]) ** 2)
    return np.outer(y, x).astype(np.float32)
