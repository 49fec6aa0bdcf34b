"""One camera for live faces and attacks: pose, optics, exposure, white balance, Bayer mosaic, noise, sharpening, JPEG.

`draw_camera` knows nothing of what is in front of it, and auto-exposure and auto-white-balance see the light alone:
what the camera does to a picture cannot tell a live face from an attack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from .colour import LUMINANCE, jpeg, linear_to_srgb

FINEST = 0.8  # sensor pixels: Gaussian that parts the very finest detail from the rest
VIEW = 1.3  # side of the scene in views: room for the pose to turn, shift and tilt within


@dataclass(frozen=True)
class Camera:
    """Settings of one shot.

    Attributes:
        size: sensor pixels along the view's side (even).
        yaw, pitch, roll: the scene plane's angles, radians; distance: of the camera, half-views.
        zoom: views per picture side; shift: (x, y) of the face, half-views.
        blur: standard deviation of the lens's Gaussian spread, sensor pixels; fill: side of a photosite, sensor pixels.
        light: change of the light across the view, (x, y), relative; veil: stray light, parts of the mean.
        exposure: mean of the raw picture that auto-exposure aims for, parts of full well.
        shot_noise: variance per signal (1 / electrons at full well); read_noise: standard deviation, parts of full
        well.
        illuminant: (red, blue) of the room's light over green; balance: how far auto-white-balance corrects, 0..1;
        tint: (red, blue) error that remains.
        saturation, contrast: of the colour matrix and of the tone curve, 1 = neutral; local_contrast: see `map_tones`.
        radius, detail, adaptation: see `adapt_detail`; crispness: gain of the very finest detail, 1 = neutral.
        quality: of the JPEG.
    """

    size: int
    yaw: float
    pitch: float
    roll: float
    distance: float
    zoom: float
    shift: tuple[float, float]
    blur: float
    fill: float
    light: tuple[float, float]
    veil: float
    exposure: float
    shot_noise: float
    read_noise: float
    illuminant: tuple[float, float]
    balance: float
    tint: tuple[float, float]
    saturation: float
    contrast: float
    local_contrast: float
    radius: float
    detail: float
    adaptation: float
    crispness: float
    quality: int


def draw_camera(rng: np.random.Generator) -> Camera:
    """A camera, its place and its settings at random: the same distribution whatever it looks at."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def near_one(spread: float) -> float:
        return float(np.exp(rng.normal(0.0, spread)))

    return Camera(
        size=2 * int(rng.integers(54, 81)),
        yaw=between(-0.3, 0.3),
        pitch=between(-0.2, 0.2),
        roll=between(-0.12, 0.12),
        distance=between(5.0, 10.0),
        zoom=between(0.9, 1.05),
        shift=(between(-0.05, 0.05), between(-0.05, 0.05)),
        blur=between(0.2, 0.54),
        fill=between(0.6, 0.95),
        light=(between(-0.7, 0.7), between(-0.5, 0.5)),
        veil=between(0.0, 0.25),
        exposure=between(0.14, 0.4),
        shot_noise=float(np.exp(rng.uniform(np.log(1e-4), np.log(8e-4)))),
        read_noise=between(0.001, 0.005),
        illuminant=(near_one(0.3), near_one(0.3)),
        balance=between(0.3, 1.0),
        tint=(near_one(0.12), near_one(0.12)),
        saturation=between(0.25, 1.8),
        contrast=between(0.7, 1.35),
        local_contrast=between(0.3, 1.7),
        radius=between(0.5, 3.5),
        detail=float(np.exp(rng.uniform(np.log(0.012), np.log(0.08)))),
        adaptation=between(0.5, 1.0),
        crispness=float(np.exp(rng.uniform(np.log(0.3), np.log(4.0)))),
        quality=int(rng.integers(75, 98)),
    )


def homography(yaw: float, pitch: float, roll: float, distance: float) -> np.ndarray:
    """The pinhole map (3, 3) from points (X, Y, 1) of a turned plane to the view, both in half-views.

    With R = R_roll R_pitch R_yaw, a point (X, Y, 0) of the plane goes to R (X, Y, 0) and is seen at
    (x, y) d / (d + z): the third row is (R20 / d, R21 / d, 1).
    """
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    R = turn_z @ turn_x @ turn_y
    return np.array([[R[0, 0], R[0, 1], 0], [R[1, 0], R[1, 1], 0], [R[2, 0] / distance, R[2, 1] / distance, 1]])


def unbend(along: np.ndarray, curl: float) -> np.ndarray:
    """Position on a sheet bent to a cylinder of curvature ``curl``, seen at ``along``: s = arcsin(c x) / c."""
    if curl < 1e-6:
        return along
    return np.arcsin(np.clip(curl * along, -0.98, 0.98)) / curl


def sight_lines(camera: Camera, scene_size: int, curl: float = 0.0, curl_angle: float = 0.0) -> np.ndarray:
    """Where each photosite looks: (y, x) in scene pixels, (2, size, size)."""
    view = ((np.arange(camera.size) + 0.5) / camera.size * 2 - 1) * camera.zoom
    x, y = np.meshgrid(view - camera.shift[0], view - camera.shift[1])
    back = np.linalg.inv(homography(camera.yaw, camera.pitch, camera.roll, camera.distance))
    px, py, w = np.tensordot(back, np.stack([x, y, np.ones_like(x)]), axes=1)
    px, py = px / w, py / w
    across, up = np.cos(curl_angle), np.sin(curl_angle)
    along = across * px + up * py
    shift = unbend(along, curl) - along
    plane = np.stack([py + shift * up, px + shift * across]) / VIEW
    return ((plane + 1) * 0.5 * scene_size - 0.5).astype(np.float32)


def transfer(size: int, blur: float, fill: float) -> np.ndarray:
    """MTF of lens and photosite along one axis at ``fft.fftfreq(size)``, (size,): exp(-2 pi^2 s^2 f^2) sinc(a f).

    ``blur`` (s, a Gaussian's standard deviation) and ``fill`` (a, a photosite's side) are in pixels of the grid.
    """
    f = fft.fftfreq(size)
    return (np.exp(-2 * np.pi**2 * blur**2 * f**2) * np.sinc(fill * f)).astype(np.float32)


def through_lens(scene: np.ndarray, blur: float, fill: float) -> np.ndarray:
    """The scene (3, H, W) as lens and photosites smear it, before it is sampled; lengths in scene pixels."""
    height, width = scene.shape[-2:]
    down, across = transfer(height, blur, fill), transfer(width, blur, fill)[: width // 2 + 1]
    spectrum = fft.rfft2(scene, axes=(-2, -1))
    spectrum *= down[:, None]
    spectrum *= across
    return fft.irfft2(spectrum, s=(height, width), axes=(-2, -1))


def bayer(size: int) -> np.ndarray:
    """Colour of each photosite, RGGB: (size, size) of 0, 1, 2."""
    pattern = np.array([[0, 1], [1, 2]])
    return np.tile(pattern, (size // 2, size // 2))


def expose(scene: np.ndarray, camera: Camera, curl: float = 0.0, curl_angle: float = 0.0) -> np.ndarray:
    """The noiseless raw mosaic (size, size): light that each photosite gathers behind its colour filter."""
    scale = scene.shape[-1] / VIEW * camera.zoom / camera.size  # scene pixels per sensor pixel
    image = through_lens(scene, camera.blur * scale, camera.fill * scale)
    lines, colours = sight_lines(camera, scene.shape[-1], curl, curl_angle), bayer(camera.size)
    raw = np.empty((camera.size, camera.size), dtype=np.float32)
    for channel, gain in enumerate((camera.illuminant[0], 1.0, camera.illuminant[1])):
        sites = colours == channel
        raw[sites] = gain * ndimage.map_coordinates(image[channel], lines[:, sites], order=1, mode="mirror")
    ramp = np.linspace(-1, 1, camera.size, dtype=np.float32)
    raw *= 1.0 + camera.light[0] * ramp[None, :] + camera.light[1] * ramp[:, None]
    raw = np.maximum(raw, 0.0)
    raw = (1 - camera.veil) * raw + camera.veil * raw.mean()
    return raw * np.float32(camera.exposure / max(float(raw.mean()), 1e-6))


def sensor_noise(raw: np.ndarray, shot: float, read: float, rng: np.random.Generator) -> np.ndarray:
    """Photon and read noise, signal in parts of full well: variance = shot x signal + read^2; then clipped at 1."""
    deviation = np.sqrt(shot * np.maximum(raw, 0.0) + read**2).astype(np.float32)
    return np.clip(raw + deviation * rng.standard_normal(raw.shape, dtype=np.float32), 0.0, 1.0)


_CROSS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], dtype=np.float32) / 4
_SQUARE = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=np.float32) / 4


def demosaic(raw: np.ndarray) -> np.ndarray:
    """Bilinear demosaic of an RGGB mosaic (H, W) to (3, H, W): each missing colour is the mean of its nearest sites."""
    colours = bayer(raw.shape[0])
    planes = [np.where(colours == channel, raw, 0.0).astype(np.float32) for channel in range(3)]
    # mirrored borders keep the pattern's parity, so that a constant stays a constant up to the edge
    return np.stack(
        [
            ndimage.convolve(plane, _CROSS if channel == 1 else _SQUARE, mode="mirror")
            for channel, plane in enumerate(planes)
        ]
    )


def white_balance(image: np.ndarray, camera: Camera) -> np.ndarray:
    """Grey-world balance (3, H, W): red and blue gains (mean G / mean C)^balance, with the camera's remaining tint."""
    means = np.maximum(image.mean(axis=(1, 2)), 1e-4)
    red, blue = (means[1] / means[[0, 2]]) ** camera.balance * np.array(camera.tint)
    # raw values stop at full well: clipping here as cameras do keeps burnt highlights white
    return np.clip(image * np.array([red, 1.0, blue], dtype=np.float32)[:, None, None], 0.0, 1.0)


def split_luma(stored: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """The luma of a picture (3, H, W) as its base, which a Gaussian of ``radius`` pixels keeps, and its detail."""
    luma = np.tensordot(LUMINANCE, stored, axes=1)
    base = ndimage.gaussian_filter(luma, radius, truncate=2.5)
    return base, luma - base


def map_tones(stored: np.ndarray, contrast: float) -> np.ndarray:
    """Local tone mapping, as phones do it: large areas keep ``contrast`` of their distance from the mean."""
    base, _ = split_luma(stored, stored.shape[-1] / 14)
    return stored + np.float32(contrast - 1.0) * (base - base.mean())


def adapt_detail(stored: np.ndarray, radius: float, target: float, adaptation: float) -> np.ndarray:
    """An unsharp mask whose strength adapts to the picture, as phones sharpen soft pictures and smooth busy ones.

    The fine detail d of the luma (below ``radius`` pixels) is scaled by (target / rms(d))^adaptation, within 1/3..4:
    ``adaptation`` 1 gives every picture the same amount of fine detail, 0 leaves it alone. (3, H, W).
    """
    _, detail = split_luma(stored, radius)
    rms = max(float(np.sqrt(np.mean(detail**2))), 1e-4)
    gain = np.clip((target / rms) ** adaptation, 1 / 3, 4.0)
    return stored + np.float32(gain - 1.0) * detail


def develop(image: np.ndarray, camera: Camera) -> np.ndarray:
    """Colour matrix, sRGB curve, contrast, tone mapping, sharpening: linear (3, H, W) to stored values 0..1."""
    grey = np.tensordot(LUMINANCE, image, axes=1)
    stored = linear_to_srgb(grey + camera.saturation * (image - grey))
    stored = map_tones(0.5 + camera.contrast * (stored - 0.5), camera.local_contrast)
    stored = adapt_detail(stored, camera.radius, camera.detail, camera.adaptation)
    _, crisp = split_luma(stored, FINEST)
    return np.clip(stored + (camera.crispness - 1.0) * crisp, 0.0, 1.0)


def take_picture(
    scene: np.ndarray,
    camera: Camera,
    rng: np.random.Generator,
    image_size: int,
    curl: float = 0.0,
    curl_angle: float = 0.0,
) -> np.ndarray:
    """A stored picture (3, image_size, image_size) uint8 of a scene of linear light (3, H, W)."""
    raw = sensor_noise(expose(scene, camera, curl, curl_angle), camera.shot_noise, camera.read_noise, rng)
    stored = develop(white_balance(demosaic(raw), camera), camera)
    pixels = (stored * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    picture = jpeg(Image.fromarray(np.ascontiguousarray(pixels)), camera.quality, chroma="4:4:4")
    picture = picture.resize((image_size, image_size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))
