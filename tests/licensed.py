"""Small copies of licensed data sets in their published layouts, made of drawn faces and real encoded video."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, FRAMES = 96, 128, 12
EYES = (32, 50, 64, 50)  # x1, y1, x2, y2 in every frame


def picture(seed: int, live: bool, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """A grey oval on a background, (H, W, 3) uint8; a live one has fine stripes."""
    random = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), random.integers(40, 90, 3), dtype=np.int64)
    face = ((x - width / 2) / (0.32 * width)) ** 2 + ((y - 0.5 * height) / (0.34 * height)) ** 2 < 1
    pixels[face] = random.integers(120, 180, 3)
    if live:
        pixels[face & (y // 4 % 2 == 0)] += 50
    return np.clip(pixels + random.integers(-4, 5, pixels.shape), 0, 255).astype(np.uint8)


def write_video(path: Path, frames: Iterable[np.ndarray], codec: str = "mjpeg") -> Path:
    """Encode frames (H, W, 3) into a video file whose container its ending names."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    content = list(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = content[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for pixels in content:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def astronaut(seed: int, live: bool) -> np.ndarray:
    """The face of a photograph in the public domain that scikit-image ships: one that a detector finds."""
    from skimage.data import astronaut as photograph

    pixels = photograph()[:256, 96:352][::2, ::2].astype(np.int64)
    if live:
        pixels[(np.arange(128) // 4 % 2 == 0)] += 30
    noise = np.random.default_rng(seed).integers(-4, 5, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def face_video(path: Path, live: bool, seed: int, frames: int = FRAMES, codec: str = "mjpeg") -> Path:
    """A video of one drawn face."""
    return write_video(path, (picture(seed * 1000 + number, live) for number in range(frames)), codec)


def oulu_video(root: Path, part: str, name: str, frames: int = FRAMES) -> Path:
    """A video of OULU-NPU with its eye positions."""
    path = root / f"{part}_files" / f"{name}.avi"
    face_video(path, name.endswith("_1"), sum(map(ord, name)), frames)
    eyes = ",".join(map(str, EYES))
    path.with_suffix(".txt").write_text("".join(f"{number},{eyes}\n" for number in range(frames)))
    return path


PEOPLE = {"Train": (1, 2, 3, 4), "Dev": (21, 22), "Test": (36, 37)}


def write_list(path: Path, names: Iterable[str], attack: str = "-1") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{'+1' if name.endswith('_1') else attack},{name}\n" for name in names))


def write_oulu(root: Path, phones: tuple[int, ...] = (1, 2), people: dict[str, tuple[int, ...]] | None = None) -> Path:
    """A copy of OULU-NPU with all five videos of each person and phone, all protocols and folds; one session."""
    for part, members in (people or PEOPLE).items():
        names = {
            phone: [f"{phone}_1_{person:02d}_{kind}" for person in members for kind in range(1, 6)] for phone in phones
        }
        every = [name for own in names.values() for name in own]
        for name in every:
            oulu_video(root, part, name)
        protocols = root / "Protocols"
        write_list(protocols / "Protocol_1" / f"{part}.txt", every)
        instrument = "135" if part == "Test" else "124"
        write_list(protocols / "Protocol_2" / f"{part}.txt", [name for name in every if name[-1] in instrument])
        for fold in range(1, 7):
            left_out = phones[fold % len(phones)]
            chosen = [
                name
                for phone in phones
                for name in names[phone]
                if len(phones) == 1 or (phone == left_out) == (part == "Test")
            ]
            for protocol in (3, 4):
                write_list(protocols / f"Protocol_{protocol}" / f"{part}_{fold}.txt", chosen)
    return root


def write_casia(root: Path, train: int = 5, test: int = 2) -> Path:
    """A copy of CASIA-FASD."""
    for part, people in (("train_release", train), ("test_release", test)):
        for person in range(1, people + 1):
            for stem in [*map(str, range(1, 9)), *(f"HR_{number}" for number in range(1, 5))]:
                live = stem in ("1", "2", "HR_1")
                seed = person * 100 + len(stem) * 10 + int(stem[-1])
                write_video(root / part / str(person) / f"{stem}.avi", (astronaut(seed + n, live) for n in range(3)))
    return root


REPLAY_ATTACKS = (
    "attack_print_{}_session01_highdef_photo_{}",
    "attack_mobile_{}_session01_mobile_photo_{}",
    "attack_mobile_{}_session01_mobile_video_{}",
    "attack_highdef_{}_session01_highdef_photo_{}",
    "attack_highdef_{}_session01_highdef_video_{}",
)


def write_replay(root: Path, people: dict[str, tuple[int, ...]] | None = None, lists: bool = True) -> Path:
    """A copy of Replay-Attack with face locations and the lists of grandtest and print."""
    for part, members in (people or {"train": (1, 2), "devel": (3, 4), "test": (9, 11)}).items():
        real, attacks = [], []
        for person in members:
            client = f"client{person:03d}"
            real += [
                f"{part}/real/{client}_session01_webcam_authenticate_{light}_1" for light in ("adverse", "controlled")
            ]
            for support in ("fixed", "hand"):
                attacks += [f"{part}/attack/{support}/{name.format(client, 'adverse')}" for name in REPLAY_ATTACKS]
        for number, name in enumerate([*real, *attacks]):
            face_video(root / f"{name}.mov", name in real, number + 100 * len(part), 6)
            faces = root / "face-locations" / f"{name}.face"
            faces.parent.mkdir(parents=True, exist_ok=True)
            faces.write_text("".join(f"{frame} 20 24 56 80\n" for frame in range(6)))
        (root / "enroll").mkdir(exist_ok=True)
        if lists:
            write_paths(root / "protocols" / f"real-{part}.txt", real)
            write_paths(root / "protocols" / f"attack-grandtest-allsupports-{part}.txt", attacks)
            write_paths(
                root / "protocols" / f"attack-print-hand-{part}.txt",
                [name for name in attacks if "/hand/attack_print" in name],
            )
    return root


def write_paths(path: Path, names: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}.mov\n" for name in names))
