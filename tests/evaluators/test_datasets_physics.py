"""The physics of the simulated attacks, one formula at a time. No portrait is needed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from evaluators.datasets import camera as cam
from evaluators.datasets import colour, printing, replaying
from evaluators.datasets.portrait_worker import KINDS, generator


def peak_frequency(signal: np.ndarray) -> float:
    """The strongest frequency of a 1-D signal, cycles a sample, to a small part of a bin (zero-padded FFT)."""
    windowed = (signal - signal.mean()) * np.hanning(len(signal))
    return float(np.argmax(np.abs(np.fft.rfft(windowed, 16 * len(signal)))) / (16 * len(signal)))


def plain_camera(**changes: object) -> cam.Camera:
    """A camera that changes nothing: straight view, sharp lens, no noise, neutral colour."""
    neutral = cam.Camera(
        size=128, yaw=0.0, pitch=0.0, roll=0.0, distance=8.0, zoom=1.0, shift=(0.0, 0.0), blur=0.0, fill=0.0,
        light=(0.0, 0.0), veil=0.0, exposure=0.2, shot_noise=0.0, read_noise=0.0, illuminant=(1.0, 1.0), balance=0.0,
        tint=(1.0, 1.0), saturation=1.0, contrast=1.0, local_contrast=1.0, radius=1.0, detail=0.03, adaptation=0.0,
        crispness=1.0, quality=95,
    )  # fmt: skip
    return dataclasses.replace(neutral, **changes)  # type: ignore[arg-type]


# ---- colour -----------------------------------------------------------------------------------------------------


def test_srgb_curve_is_the_published_one_and_its_inverse_undoes_it() -> None:
    # IEC 61966-2-1: mid-grey 0.5 stored is 0.21404 of full light
    assert colour.srgb_to_linear(np.array(0.5)) == pytest.approx(0.214041, abs=1e-5)
    values = np.linspace(0, 1, 257)
    np.testing.assert_allclose(colour.linear_to_srgb(colour.srgb_to_linear(values)), values, atol=2e-6)


# ---- print ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coverage", [0.05, 0.25, 0.5, 0.75, 0.95])
def test_a_flat_tint_reflects_what_murray_davies_says(coverage: float) -> None:
    spot = printing.spot_function(480, 7.3, 15.0, np.array([0.2, 0.7]))
    dots = printing.halftone(np.full((480, 480), coverage, dtype=np.float32), spot, 7.3)
    reflectance = dots * 0.07 + (1 - dots) * 0.9
    expected = printing.murray_davies(np.array(coverage), ink=0.07, paper=0.9)
    assert reflectance.mean() == pytest.approx(expected, abs=0.012)


def test_halftone_has_dots_and_not_grey() -> None:
    spot = printing.spot_function(480, 10.0, 45.0, np.zeros(2))
    dots = printing.halftone(np.full((480, 480), 0.4, dtype=np.float32), spot, 10.0)
    assert ((dots < 0.02) | (dots > 0.98)).mean() > 0.6


def test_no_ink_stays_paper_and_full_ink_has_no_holes() -> None:
    spot = printing.spot_function(200, 6.0, 75.0, np.zeros(2))
    assert not printing.halftone(np.zeros((200, 200), dtype=np.float32), spot, 6.0).any()
    assert printing.halftone(np.ones((200, 200), dtype=np.float32), spot, 6.0).min() == 1.0


@pytest.mark.parametrize("angle", printing.SCREEN_ANGLES)
def test_screen_angle_and_period_are_found_in_the_spectrum_of_a_flat_tint(angle: float) -> None:
    size, period = 512, 8.0
    spot = printing.spot_function(size, period, angle, np.array([0.1, 0.4]))
    dots = printing.halftone(np.full((size, size), 0.35, dtype=np.float32), spot, period)
    window = np.outer(np.hanning(size), np.hanning(size))
    spectrum = np.abs(np.fft.fft2((dots - dots.mean()) * window))
    fy, fx = np.unravel_index(np.argmax(spectrum), spectrum.shape)
    frequency = np.fft.fftfreq(size)[[fx, fy]]
    assert np.hypot(*frequency) == pytest.approx(1 / period, rel=0.03)
    found = np.degrees(np.arctan2(frequency[1], frequency[0])) % 90  # a square lattice repeats every 90 degrees
    assert min(abs(found - angle), 90 - abs(found - angle)) < 1.5


def test_the_four_screens_stand_at_the_offset_printers_angles() -> None:
    assert printing.SCREEN_ANGLES == (15.0, 75.0, 0.0, 45.0)


def test_coverage_for_inverts_murray_davies() -> None:
    coverage = np.linspace(0, 1, 11)
    np.testing.assert_allclose(
        printing.coverage_for(printing.murray_davies(coverage, 0.08), 0.08), coverage, atol=1e-12
    )


def test_dot_gain_is_stated_at_fifty_percent_and_leaves_paper_and_solid() -> None:
    np.testing.assert_allclose(printing.dot_gain(np.array([0.0, 0.5, 1.0]), 0.12), [0.0, 0.62, 1.0], atol=1e-12)


@pytest.mark.parametrize("black_generation", [0.0, 0.8])
def test_separated_inks_print_the_colour_that_was_asked_for(black_generation: float) -> None:
    skin = np.array([0.55, 0.32, 0.24], dtype=np.float32)
    inks = printing.separate(skin[:, None, None] * np.ones((1, 2, 2), dtype=np.float32), black_generation, steps=20)
    printed = np.prod([printing.murray_davies(inks[i, 0, 0], printing.INKS[i]) for i in range(4)], axis=0)
    np.testing.assert_allclose(printed, skin, atol=0.01)


def test_paper_texture_has_the_stated_mean_and_deviation() -> None:
    paper = printing.paper_texture(320, 0.02, 2.0, np.random.default_rng(0))
    assert paper.mean() == pytest.approx(1.0, abs=0.005)
    assert paper.std() == pytest.approx(0.02, rel=0.02)


def test_sheen_and_paper_show_in_the_rendered_sheet() -> None:
    setting = dataclasses.replace(
        printing.draw_print(np.random.default_rng(0), 160),
        curl=0.0, texture=1e-6, sheen=0.0, paper=(0.9, 0.85, 0.8),
    )  # fmt: skip
    white = np.ones((3, 40, 40), dtype=np.float32)
    bare = printing.render_print(white, setting, 160, np.random.default_rng(1))
    np.testing.assert_allclose(bare.mean(axis=(1, 2)), [0.9, 0.85, 0.8], atol=1e-3)
    glossy = dataclasses.replace(setting, sheen=0.1, sheen_centre=(0.25, 0.75))
    shine = printing.render_print(white, glossy, 160, np.random.default_rng(1)) - bare
    assert np.unravel_index(np.argmax(shine[1]), shine[1].shape) == pytest.approx((119.5, 39.5), abs=1.5)
    assert shine.max() == pytest.approx(0.1, abs=1e-3)


# ---- replay -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [4.26, 5.0, 6.4])
def test_subpixel_mask_has_the_panels_period_and_keeps_white_white(period: float) -> None:
    stripes, rows = replaying.subpixel_mask(640, period, gap=0.2)
    for profile in (*stripes, rows):
        assert peak_frequency(profile) == pytest.approx(1 / period, rel=0.01)
        assert profile.mean() == pytest.approx(1.0, abs=0.02)


def test_subpixels_stand_a_third_of_a_pixel_apart() -> None:
    stripes, _ = replaying.subpixel_mask(600, 6.0, gap=0.1)
    phases = np.angle(np.exp(-2j * np.pi * np.arange(600) / 6.0) @ stripes.T)
    np.testing.assert_allclose(np.diff(phases) % (2 * np.pi), np.full(2, 4 * np.pi / 3), atol=1e-3)  # each 1/3 later
    mirrored, _ = replaying.subpixel_mask(600, 6.0, gap=0.1, bgr=True)
    np.testing.assert_array_equal(mirrored, stripes[::-1])


def test_panel_gamma_and_primaries() -> None:
    grey = np.full((1, 1, 3), 128, dtype=np.uint8)
    light = replaying.panel_light(grey, gamma=2.2, purity=0.8, white=(1.0, 1.0, 1.0))
    np.testing.assert_allclose(light.ravel(), np.full(3, (128 / 255) ** 2.2), rtol=1e-5)  # grey stays grey
    red = np.array([[[255, 0, 0]]], dtype=np.uint8)
    mixed = replaying.panel_light(red, gamma=2.2, purity=0.8, white=(1.0, 1.0, 1.0)).ravel()
    np.testing.assert_allclose(mixed, [0.8 + 0.2 * 0.2126, 0.2 * 0.2126, 0.2 * 0.2126], rtol=1e-4)


def plain_screen(**changes: object) -> replaying.Screen:
    """A screen without gloss, bands and black lift."""
    drawn = replaying.draw_screen(np.random.default_rng(0))
    still = {"black": (0.0, 0.0, 0.0), "glare": 0.0, "flicker": 0.0, "white": (1.0, 1.0, 1.0), "upright": False}
    return dataclasses.replace(drawn, **{**still, **changes})


def test_black_lift_flicker_and_glare_do_what_they_say() -> None:
    black, grey = Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64), (200, 200, 200))
    lifted = replaying.render_screen(black, plain_screen(black=(0.02, 0.03, 0.04)), 320)
    np.testing.assert_allclose(lifted.mean(axis=(1, 2)), [0.02, 0.03, 0.04], atol=1e-3)
    banded = replaying.render_screen(grey, plain_screen(pixels=160, flicker=0.1, flicker_period=0.25), 320)
    rows = banded.mean(axis=(0, 2)).reshape(160, 2).mean(axis=1)  # a panel row each
    assert peak_frequency(rows) == pytest.approx(4 / 160, rel=0.05)
    lamp = replaying.render_screen(black, plain_screen(glare=0.3, glare_centre=(0.5, 0.25)), 320)
    assert lamp[:, 80, 160] == pytest.approx(0.3, rel=0.01)


def test_moire_is_the_alias_of_the_subpixel_mask_at_the_cameras_sampling_rate() -> None:
    """A row of the mosaic's red sites (every second photosite) shows the mask's frequency folded at its own rate."""
    size, sensor, pixels = 640, 128, 130
    screen = plain_screen(pixels=pixels, bgr=False, gap=0.1)
    scene = replaying.render_screen(Image.new("RGB", (64, 64), (255, 255, 255)), screen, size)
    raw = cam.expose(scene, plain_camera(size=sensor, blur=0.2, fill=0.5))
    red = raw[::2, ::2].mean(axis=0)
    mask = pixels / cam.VIEW / (sensor / 2)  # panel pixels a red site: above 0.5, so it must alias
    assert mask > 0.5
    assert peak_frequency(red) == pytest.approx(abs(mask - round(mask)), abs=0.01)


# ---- camera -----------------------------------------------------------------------------------------------------


def test_mosaic_and_demosaic_reproduce_a_constant_colour_up_to_the_border() -> None:
    colour_of = np.array([0.3, 0.5, 0.2], dtype=np.float32)
    raw = colour_of[cam.bayer(32)]
    np.testing.assert_allclose(cam.demosaic(raw), np.broadcast_to(colour_of[:, None, None], (3, 32, 32)), rtol=1e-6)


def test_demosaic_keeps_measured_values() -> None:
    raw = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    image, sites = cam.demosaic(raw), cam.bayer(16)
    for channel in range(3):
        np.testing.assert_allclose(image[channel][sites == channel], raw[sites == channel], rtol=1e-6)


def test_noise_variance_grows_linearly_with_the_signal() -> None:
    rng, levels = np.random.default_rng(0), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    shot, read = 1e-3, 0.01
    variance = [cam.sensor_noise(np.full((300, 300), x, dtype=np.float32), shot, read, rng).var() for x in levels]
    slope, offset = np.polyfit(levels, variance, 1)
    assert slope == pytest.approx(shot, rel=0.05)
    assert offset == pytest.approx(read**2, abs=1.5e-5)


def test_lens_keeps_light_and_follows_its_transfer_function() -> None:
    size, frequency = 256, 16 / 256
    wave = 0.5 + 0.4 * np.cos(2 * np.pi * frequency * np.arange(size, dtype=np.float32))
    scene = np.broadcast_to(wave, (3, size, size)).astype(np.float32)
    image = cam.through_lens(scene, blur=2.0, fill=3.0)
    assert image.mean() == pytest.approx(0.5, abs=1e-4)
    expected = np.exp(-2 * np.pi**2 * 4 * frequency**2) * np.sinc(3 * frequency)
    assert np.ptp(image[0, 0]) / 0.8 == pytest.approx(expected, rel=1e-3)


def test_homography_is_a_pinhole_view_of_a_turned_plane() -> None:
    np.testing.assert_allclose(cam.homography(0, 0, 0, 6.0), np.eye(3), atol=1e-12)
    x, y, w = cam.homography(0.3, 0.0, 0.0, 6.0) @ np.array([1.0, 0.5, 1.0])
    depth = 6.0 - np.sin(0.3)  # the edge that comes nearer
    assert (x / w, y / w) == pytest.approx((6 * np.cos(0.3) / depth, 6 * 0.5 / depth))


def test_a_bent_sheet_is_seen_by_its_arc() -> None:
    seen = np.linspace(-0.9, 0.9, 7)
    np.testing.assert_allclose(np.sin(0.5 * cam.unbend(seen, 0.5)) / 0.5, seen, atol=1e-12)
    np.testing.assert_array_equal(cam.unbend(seen, 0.0), seen)


def test_auto_exposure_and_grey_world_hide_how_bright_and_how_blue_the_scene_was() -> None:
    rng = np.random.default_rng(3)
    scene = rng.uniform(0.2, 0.8, (1, 160, 160)).astype(np.float32) * np.ones((3, 1, 1), dtype=np.float32)
    tinted = scene * np.array([0.4, 0.5, 0.8], dtype=np.float32)[:, None, None]
    settings = plain_camera(balance=1.0, exposure=0.2, blur=0.5, fill=1.0)
    plain = cam.take_picture(scene, settings, np.random.default_rng(0), 128).astype(float)
    balanced = cam.take_picture(tinted, settings, np.random.default_rng(0), 128).astype(float)
    ratio = balanced.mean(axis=(1, 2)) / balanced.mean()
    np.testing.assert_allclose(ratio, plain.mean(axis=(1, 2)) / plain.mean(), atol=0.02)


def test_full_adaptation_gives_every_picture_the_same_amount_of_detail() -> None:
    rng = np.random.default_rng(0)
    for strength in (0.02, 0.05):
        stored = (0.5 + strength * rng.standard_normal((1, 96, 96))).astype(np.float32) * np.ones((3, 1, 1), np.float32)
        _, detail = cam.split_luma(stored, 1.0)
        rms = float(np.sqrt(np.mean(detail**2)))
        _, adapted = cam.split_luma(cam.adapt_detail(stored, 1.0, 2 * rms, 1.0), 1.0)
        _, untouched = cam.split_luma(cam.adapt_detail(stored, 1.0, 2 * rms, 0.0), 1.0)
        assert float(np.sqrt(np.mean(untouched**2))) == pytest.approx(rms, rel=1e-4)
        assert 1.5 * rms < float(np.sqrt(np.mean(adapted**2))) < 2.1 * rms


def test_tone_mapping_changes_large_areas_and_leaves_fine_dots() -> None:
    step = np.where(np.arange(140) < 70, 0.3, 0.7).astype(np.float32)
    dots = 0.05 * np.cos(np.pi * np.arange(140, dtype=np.float32))
    stored = np.broadcast_to(step + dots, (3, 140, 140)).astype(np.float32)
    row = cam.map_tones(stored, 0.5)[0, 70]
    assert row[120:].mean() - row[:20].mean() == pytest.approx(0.2, abs=0.01)
    assert np.ptp(row[5:15]) == pytest.approx(np.ptp(stored[0, 70, 5:15]), rel=0.02)


def test_live_and_attack_draw_their_cameras_from_one_distribution() -> None:
    keys = [f"{person:016x}" for person in range(300)]
    drawn = {kind: [dataclasses.asdict(cam.draw_camera(generator(0, key, kind))) for key in keys] for kind in KINDS}
    for setting, value in drawn["live"][0].items():
        if isinstance(value, tuple):
            continue
        for attack in ("print", "replay"):
            live, other = ([camera[setting] for camera in drawn[kind]] for kind in ("live", attack))
            assert stats.ks_2samp(live, other).pvalue > 1e-4, setting
    # and each picture has its own camera
    assert len({camera["blur"] for cameras in drawn.values() for camera in cameras}) == 3 * len(keys)


def test_quick_forms_are_bit_for_bit_the_plain_formulas() -> None:
    rng = np.random.default_rng(5)
    stored = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    linear = colour.srgb_to_linear(np.arange(256) / 255.0)
    assert np.array_equal(colour.bytes_to_linear(stored), linear[stored].transpose(2, 0, 1))

    period, ends = 5.3, np.array([0.0, 0.004, 0.996, 1.0], dtype=np.float32)
    coverage = np.concatenate([np.tile(ends, 24), rng.random(96 * 95, dtype=np.float32)]).reshape(96, 96)
    spot = printing.spot_function(96, period, 15.0, np.array([0.1, 0.7]))
    index = np.clip((1.0 - coverage) * 1024.0 + 0.5, 0, 1024).astype(np.int32)
    ink = (spot - printing._spot_quantiles()[index]) * np.float32(period / np.pi) + np.float32(0.5)
    ink = np.where(coverage <= 0.004, 0, np.where(coverage >= 0.996, 1, np.clip(ink, 0.0, 1.0)))
    assert np.array_equal(printing.halftone(coverage, spot, period), ink)


@pytest.mark.parametrize("seed", range(3))
def test_a_print_is_the_product_of_its_inks_bit_for_bit(seed: int) -> None:
    size, rng = 96, np.random.default_rng(seed)
    setting = dataclasses.replace(printing.draw_print(rng, size), sheen=0.0, curl=0.0)
    source = rng.random((3, 48, 48), dtype=np.float32)
    inks = printing.dot_gain(printing.separate(source, setting.black_generation), setting.dot_gain)
    inks = colour.resize_planes(inks.astype(np.float32), size)
    grain = printing.paper_texture(size, setting.texture, setting.grain, np.random.default_rng(9))
    sheet = grain * np.array(setting.paper, dtype=np.float32)[:, None, None]
    for ink, angle, phase, light in zip(inks, printing.SCREEN_ANGLES, setting.phases, printing.INKS, strict=True):
        dots = printing.halftone(ink, printing.spot_function(size, setting.period, angle, phase), setting.period)
        for channel in range(3):
            sheet[channel] = sheet[channel] * (1.0 - dots * (1.0 - light[channel]))
    assert np.array_equal(printing.render_print(source, setting, size, np.random.default_rng(9)), sheet)
