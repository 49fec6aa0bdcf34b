"""Frames of a video file, through PyAV (FFmpeg's libraries, in its wheel)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from searchspaces.errors import ConfigError, DatasetError

from .pictures import MOST_PIXELS

INSTALL = 'pip install "facenas[video]"'


def require_decoder() -> Any:
    """The module ``av``, quiet.

    Raises:
        ConfigError: saying what to install.
    """
    try:
        import av
    except ImportError as error:
        raise ConfigError(f"Reading videos needs the package av: {INSTALL} ({error}).") from error
    av.logging.set_level(None)
    return av


class BrokenVideoError(DatasetError):
    """A file that is no video, or of which nothing can be decoded."""


def count_frames(path: str | Path) -> int:
    """How many frames a video holds: its packets, since headers of cut-off files still promise all of them.

    Raises:
        BrokenVideoError: if the file cannot be opened as a video.
    """
    av = require_decoder()
    count = 0
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container, path)
            for packet in container.demux(stream):
                count += packet.size > 0
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if not count:
            raise BrokenVideoError(f"{path} cannot be read as a video: {_reason(error)}.") from error
    return count


def read_frames(path: str | Path, wanted: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Frames of a video by their number from 0, ascending: number and picture (H, W, 3) uint8 RGB, upright.

    Frames are decoded one after another: seeking by time is not exact in every container. Where a file is damaged, what
    comes before the damage is given.

    Raises:
        BrokenVideoError: if no frame at all can be decoded.
    """
    av = require_decoder()
    missing, number = set(wanted), -1
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container, path)
            stream.codec_context.thread_count = 1  # several videos are read at once, each by a process of its own
            for number, frame in enumerate(container.decode(stream)):
                if number in missing:
                    missing.discard(number)
                    yield number, _upright(frame, path)
                if not missing:
                    return
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if number < 0:
            raise BrokenVideoError(f"{path} cannot be read as a video: {_reason(error)}.") from error
    if number < 0:
        raise BrokenVideoError(f"{path} cannot be read as a video: it has no frame that can be decoded.")


def _video_stream(container: Any, path: str | Path) -> Any:
    if not container.streams.video:
        raise BrokenVideoError(f"{path} cannot be read as a video: it has no pictures.")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise BrokenVideoError(f"{path} cannot be read as a video: no decoder knows its pictures.")
    return stream


def _upright(frame: Any, path: str | Path) -> np.ndarray:
    """The frame's pixels, turned as a phone says that it was held."""
    if frame.width * frame.height > MOST_PIXELS:
        raise BrokenVideoError(f"{path} has frames of {frame.width} x {frame.height} pixels, which is too large.")
    pixels = frame.to_ndarray(format="rgb24")
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _reason(error: Exception) -> str:
    """FFmpeg's own words without its numbers and the file's name."""
    words = getattr(error, "strerror", None) or str(error)
    return " ".join(str(words).split()) or type(error).__name__
