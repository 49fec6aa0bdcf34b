"""What a reader does to the machine while it reads: files, processes, connections, imports, time and memory.

Python tells its audit hook of what it opens, starts and imports. A hook cannot be removed, so there is one, which
looks only inside of `watched`. What C code opens without Python is seen by inotify, in the folder of bait alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import sysconfig
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 3.0  # of processor time for one file
ADDRESS_SPACE = 4 << 30  # bytes above what the process has already
MOST_GROWTH = 700 << 20  # bytes of memory for one file: a picture of 50 million pixels in RGBA and RGB, and some
MARKER = "facenas_bait"  # in every name that hostile files ask to be imported, run or written

FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen", "os.kill", "pty.spawn"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"),
    *("pickle.find_class", "shutil.rmtree", "ftplib.connect", "smtplib.connect", "webbrowser.open", "sqlite3.enable"),
)
PATHS = ("open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink")
READ_ONLY = ("/proc/", "/sys/devices/", "/dev/null", "/dev/urandom")
LIBRARIES = tuple(
    {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, "/usr/share/zoneinfo", "/etc/localtime"}
)
REPOSITORY = str(Path(__file__).parents[2])


class Harm(BaseException):
    """What a reader did that no file may make it do."""


class _Hook:
    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        self.known: set[str] = set()
        self.modules = 0

    def know(self) -> None:
        """All packages that are imported already, and Python's own, may be imported from."""
        if len(sys.modules) != self.modules:
            self.modules = len(sys.modules)
            self.known = {name.partition(".")[0] for name in (*sys.modules, *sys.stdlib_module_names)}

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.folder is None:
            return
        if event in FORBIDDEN:
            self._harm(f"{event} {arguments!r:.200}")
        elif event in PATHS:
            self._path(event, arguments)
        elif event == "import":
            name = str(arguments[0])
            if name.partition(".")[0] not in self.known or MARKER in name:
                self._harm(f"import {name}")
        elif event == "exec" and MARKER in str(getattr(arguments[0], "co_names", arguments[0])):
            self._harm(f"{event} {arguments[0]!r:.200}")

    def _path(self, event: str, arguments: tuple[object, ...]) -> None:
        if not isinstance(arguments[0], str | bytes | os.PathLike) or self.folder is None:
            return  # a file that is open already
        path = os.path.realpath(os.path.abspath(os.fsdecode(arguments[0])))
        writes = event != "open" or _writes(arguments)
        if path == self.folder or path.startswith(self.folder + os.sep):
            return
        if not writes and (path.startswith((*LIBRARIES, REPOSITORY, *READ_ONLY))):
            return
        self._harm(f"{event} {path}")

    def _harm(self, what: str) -> None:
        self.seen.append(what)
        raise Harm(what)


def _writes(arguments: tuple[object, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


_hook: _Hook | None = None


def _installed() -> _Hook:
    global _hook
    if _hook is None:
        _hook = _Hook()
        sys.addaudithook(_hook)
    return _hook


class Bait:
    """A folder beside that of the reader's files, with files that no reader may open.

    Args:
        folder: made with ``secret.json``, ``secret.jpg`` and others of the same content.
    """

    ENDINGS = ("json", "jpg", "bin", "faces", "yaml", "txt", "csv", "safetensors")

    def __init__(self, folder: Path, content: bytes = b"{}") -> None:
        folder.mkdir(parents=True)
        for ending in self.ENDINGS:
            (folder / f"secret.{ending}").write_bytes(content)
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(os.O_NONBLOCK)
        weakref.finalize(self, _closed, self._handle)  # a user has only 128 of these
        opened, inside = 0x20, 0x3C0  # IN_OPEN; IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE
        if libc.inotify_add_watch(self._handle, os.fsencode(folder), opened | inside) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def taken(self) -> bool:
        """Whether anything in the folder has been opened or changed since this was last asked."""
        try:
            return bool(os.read(self._handle, 1 << 16))
        except BlockingIOError:
            return False


def _closed(handle: int) -> None:
    with contextlib.suppress(OSError):
        os.close(handle)


@contextmanager
def watched(folder: Path, bait: Bait | None = None, seconds: float = SECONDS) -> Iterator[None]:
    """Raises `Harm` out of the block at once for what is not allowed, or at its end for what was only seen then.

    Args:
        folder: the only one that may be written, and read besides what is installed.
        bait: what must not be touched.
        seconds: of processor time.
    """
    hook = _installed()
    hook.seen.clear()
    hook.know()
    before = _start_of_memory()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + ADDRESS_SPACE, hard))
    handler = signal.signal(signal.SIGPROF, _too_slow)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # overflows and divisions by zero in our arithmetic
            signal.setitimer(signal.ITIMER_PROF, seconds)
            hook.folder = os.path.realpath(folder)
            yield
    finally:
        hook.folder = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    grown = _status("VmHWM") - before
    if hook.seen:  # where a reader caught what the hook raised
        raise Harm(hook.seen[0])
    if bait is not None and bait.taken():
        raise Harm("a file beside the folder was opened")
    if grown > MOST_GROWTH:
        raise Harm(f"{grown / 2**20:.0f} MiB of memory")


def _too_slow(*_: object) -> None:
    raise Harm("too slow")


def _start_of_memory() -> int:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:  # not on every kernel: then only what exceeds all before is seen
        return _status("VmHWM")
    return _status("VmRSS")


def _status(name: str) -> int:
    """A figure of this process, in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:")) * 1024
