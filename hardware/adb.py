"""A phone behind ``adb``, the Android Debug Bridge: commands, files, and what it is. Nothing is installed on it.

Only the adb program is called, with argument lists; what runs in the phone's shell is quoted. The phone's serial
number stays on the command line: no message and no file holds it.
"""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from searchspaces.errors import ConfigError, CostError

from .runtimes.memory import last_line

FOLDER = "/data/local/tmp"  # where a phone lets adb execute files
EXIT = "facenas-exit="  # old phones do not hand the exit code on, so the shell prints it
SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
SECONDS = 900
HELP = {
    "unauthorized": "the phone has not accepted this computer: unlock it and accept the question on its screen.",
    "offline": "the phone does not answer: plug it in again.",
    "not found": "no phone with this serial is connected: `adb devices` lists those that are.",
    "no devices": "no phone is connected, or its USB debugging is off.",
    "no permissions": "this user may not use the phone's USB connection: see Android's page on udev rules.",
    "No space left": "the phone's storage is full: free some.",
    "Permission denied": "the phone refuses it.",
}


@dataclass(frozen=True)
class Adb:
    """One phone.

    Attributes:
        serial: as ``adb devices`` prints it.
        program: the adb program.
    """

    serial: str
    program: str

    def run(self, *arguments: str, seconds: float = SECONDS) -> str:
        """Run adb for this phone; its output.

        Raises:
            CostError: if adb fails, with what to do where the reason is known.
        """
        command = [self.program, "-s", self.serial, *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=seconds, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise CostError(
                f"adb {arguments[0]} did not finish within {seconds:g} s. Is the phone connected?"
            ) from error
        except OSError as error:
            raise CostError(f"Cannot run {self.program}: {error.strerror}.") from error
        if done.returncode != 0:
            raise CostError(f"adb {arguments[0]} failed: {self.explained(done.stderr or done.stdout)}")
        return done.stdout

    def shell(self, command: str, seconds: float = SECONDS) -> tuple[int, str]:
        """Run a line in the phone's shell; quote its parts with `quoted`. Exit code, and output with errors.

        Raises:
            CostError: if adb itself fails.
        """
        output = self.run("shell", f"{{ {command}; }} 2>&1; code=$?; echo; echo {EXIT}$code", seconds=seconds)
        text, _, code = output.replace("\r\n", "\n").rpartition(EXIT)
        if not code.strip().isdecimal():
            raise CostError(f"The phone's shell did not finish: {self.explained(output)}")
        return int(code), text.strip()

    def push(self, source: Path, target: str) -> None:
        """Copy a file to the phone."""
        self.run("push", str(source), target)

    def property(self, name: str) -> str:
        """A system property, "" if the phone does not tell it."""
        return self.shell(quoted(["getprop", name]))[1]

    def explained(self, text: str) -> str:
        """adb's last line without the serial, and what to do about it."""
        line = last_line(text).replace(self.serial, "(serial)")
        hint = next((advice for key, advice in HELP.items() if key.lower() in text.lower()), "")
        return f"{line.rstrip('.')}. {hint[:1].upper()}{hint[1:]}".strip()


def connect(serial: str) -> Adb:
    """The phone with this serial, after asking whether it is there and lets us in.

    Raises:
        ConfigError: if the serial is not one.
        CostError: if there is no adb, or no such phone.
    """
    if not SERIAL.fullmatch(serial):
        raise ConfigError(f"--adb takes a serial number as `adb devices` prints it, not {serial!r}.")
    program = shutil.which("adb")
    if program is None:
        raise CostError("No program adb: install Android's platform tools (Debian's package is called adb).")
    phone = Adb(serial, program)
    state = phone.run("get-state", seconds=30).strip()
    if state != "device":
        raise CostError(f"The phone is {phone.explained(state)}")
    return phone


def quoted(parts: Sequence[str]) -> str:
    """Words for the phone's shell, each as one word whatever it holds.

    >>> quoted(["rm", "a; reboot"])
    "rm 'a; reboot'"
    """
    return shlex.join(parts)


@contextmanager
def temporary_folder(phone: Adb, warnings: list[str]) -> Iterator[str]:
    """A new folder on the phone, removed with its content afterwards; if that fails, a warning says what is left."""
    folder = f"{FOLDER}/facenas-{secrets.token_hex(6)}"
    code, told = phone.shell(quoted(["mkdir", folder]))
    if code != 0:
        raise CostError(f"Cannot make a folder on the phone: {phone.explained(told)}")
    try:
        yield folder
    finally:
        try:
            code, told = phone.shell(quoted(["rm", "-rf", folder]), seconds=60)
        except CostError as error:
            code, told = 1, str(error)
        if code != 0:
            warnings.append(f"{folder} is left on the phone: {last_line(told)}")
