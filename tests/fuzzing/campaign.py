"""Gives a reader many damaged files and collects what it should not have done."""

from __future__ import annotations

import contextlib
import io
import shutil
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from PIL import Image

from searchspaces.errors import FacenasError

from .mutations import mutate
from .readers import Reader
from .watch import REPOSITORY, Bait, Harm, watched


@dataclass
class Found:
    """What came of a campaign: how the inputs ended, and one input for each kind of failure."""

    ends: Counter[str] = field(default_factory=Counter)
    failures: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)


class Ground:
    """The valid files of a reader in a folder, with bait beside it.

    Args:
        reader: whose files.
        folder: an empty one; everything lies below it.
    """

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self.template, self.folder = reader, folder / "template", folder / "files"
        self.folder.mkdir(parents=True)
        Image.init()  # Pillow imports its formats when it is first asked
        files = reader.make(self.folder)
        self.bait = Bait(folder / "outside")
        self.valid = {name: ((self.folder / name).read_bytes(), kind) for name, kind in files.items()}
        tried = list(files)[: 1 if reader.whole else None]
        reader_ends_well(reader, self.folder, [self.folder / name for name in tried])
        shutil.copytree(self.folder, self.template)
        for name in tried:  # what is imported for an error is imported now
            (self.folder / name).write_bytes(b"damaged")
            with quiet(), contextlib.suppress(Exception):
                reader.read(self.folder, self.folder / name)
            self._restore()

    def damaged(self, random: Random) -> tuple[str, bytes]:
        """The name of a file and what is to stand in it."""
        name = random.choice(list(self.valid))
        data, kind = self.valid[name]
        return name, mutate(data, kind, random)

    def read(self, name: str, data: bytes) -> str:
        """Let the reader read it; how it ended: "value" or the name of the error.

        Raises:
            BaseException: whatever else the reader raised, or `Harm`.
        """
        file = self.folder / name
        file.write_bytes(data)
        self.bait.taken()
        try:
            with quiet(), watched(self.folder, self.bait, self.reader.seconds):
                self.reader.read(self.folder, file)
            return "value"
        except FacenasError as error:
            text = str(error)
            if not text or len(text) > 3_000:
                raise AssertionError(f"the message has {len(text)} characters") from error
            return type(error).__name__
        finally:
            self._restore()

    def _restore(self) -> None:
        for name, (data, _) in self.valid.items():
            file = self.folder / name
            if not file.is_file() or file.read_bytes() != data:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
        kept = {path.relative_to(self.template) for path in self.template.rglob("*")}
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.relative_to(self.folder) not in kept:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def reader_ends_well(reader: Reader, folder: Path, files: list[Path]) -> None:
    """A reader whose valid files it refuses would prove nothing; the first call also imports what is needed."""
    with quiet():
        for file in files:
            reader.read(folder, file)


def campaign(ground: Ground, inputs: int, seed: int = 0) -> Found:
    """Read so many damaged files; the same ones for the same seed."""
    found = Found()
    for number in range(inputs):
        name, data = ground.damaged(Random(f"{seed} {number}"))
        try:
            end = ground.read(name, data)
        except (Exception, Harm, SystemExit, RecursionError) as error:
            end = "failure"
            found.failures.setdefault(place(error), (f"{name}: {traceback.format_exc()}", data))
            found.errors[place(error)] += 1
        found.ends[end] += 1
    return found


def place(error: BaseException) -> str:
    """The kind of a failure, and the last line of ours that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(REPOSITORY)]
    ours = [frame for frame in frames if "/tests/" not in frame.filename] or frames
    where = f"{ours[-1].filename.removeprefix(REPOSITORY)}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {where}"


@contextmanager
def quiet() -> Iterator[None]:
    """What readers print is not kept."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
