"""A page in headless Chromium: the little of the DevTools protocol that tests of a page need, over a pipe."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SECONDS = 30.0  # that an answer may take
KEYS = {"Enter": (13, "\r"), "Tab": (9, "\t"), "ArrowLeft": (37, ""), "ArrowRight": (39, ""), "Home": (36, "")}
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions", "--mute-audio",
         "--disable-background-networking", "--remote-debugging-pipe")  # fmt: skip


def chromium() -> str | None:
    """The browser's command; None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """A running browser; its pipe carries JSON messages that end with a zero byte."""

    def __init__(self, command: str, profile: str) -> None:
        reads, to_browser = os.pipe()
        from_browser, writes = os.pipe()
        # the browser reads from 3 and writes to 4: out of the way first, so that neither is overwritten
        inner = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (reads, writes)]

        def connect() -> None:
            os.dup2(inner[0], 3)
            os.dup2(inner[1], 4)

        self.process = subprocess.Popen(
            [command, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=connect,
            close_fds=False,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (reads, writes, *inner):
            os.close(fd)
        self._to, self._from = to_browser, from_browser
        self._buffer, self._last = b"", 0
        self.events: list[dict[str, Any]] = []

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Sends a command and waits for its result; events that come meanwhile are kept."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + SECONDS
        while True:
            told = self._receive(until - time.monotonic())
            if told is None:
                raise TimeoutError(f"{method} was not answered within {SECONDS:g} s")
            if told.get("id") == self._last:
                assert "error" not in told, f"{method}: {told['error']}"
                return dict(told["result"])
            self.events.append(told)

    def collect(self) -> None:
        """Takes up the events that have come."""
        while (told := self._receive(0)) is not None:
            self.events.append(told)

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], max(0.0, seconds))[0]:
                return None
            part = os.read(self._from, 1 << 20)
            if not part:
                raise ConnectionError("the browser has ended")
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(text))

    def close(self) -> None:
        """Ends the browser and all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._to)
        os.close(self._from)


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser inside the block."""
    command = chromium()
    assert command is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(command, profile)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page that is shown.

    Args:
        browser: shows it.
        path: the file.
        size: width and height in pixels.
        dark: whether the reader prefers dark colours.
        script: whether scripts run.
    """

    def __init__(
        self, browser: Browser, path: Path, size: tuple[int, int] = (1200, 900), dark: bool = False, script: bool = True
    ) -> None:
        self.browser = browser
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.target, self._first = target, len(browser.events)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.resize(*size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        if not script:
            self.send("Emulation.setScriptExecutionDisabled", value=True)
        begun = time.monotonic()
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.wait_for(lambda: any(event["method"] == "Page.loadEventFired" for event in self.events))
        self.seconds = time.monotonic() - begun

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """A command for this page."""
        return self.browser.send(method, self.session, **params)

    def resize(self, width: int, height: int) -> None:
        """Shows the page as wide and as high as that."""
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.send("Emulation.setDeviceMetricsOverride", **sizes)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the browser has told of this page."""
        self.browser.collect()
        return [event for event in self.browser.events[self._first :] if event.get("sessionId") == self.session]

    def wait_for(self, found: Callable[[], Any]) -> Any:
        """Waits until a function gives something true."""
        until = time.monotonic() + SECONDS
        while not (value := found()):
            assert time.monotonic() < until, "waited in vain"
            time.sleep(0.02)
        return value

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        told = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def press(self, key: str) -> None:
        """A key, for whatever has the focus."""
        code, text = KEYS.get(key, (0, key))
        for kind, typed in (("keyDown", {"text": text} if text else {}), ("keyUp", {})):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed)

    def click(self, selector: str) -> None:
        """A click with the mouse in the middle of an element."""
        middle = (
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); "
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        x, y = self.run(middle)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def choose(self, selector: str, value: str) -> None:
        """Sets a control as a person would, with the events that follow."""
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)}; "
            "for (const k of ['input', 'change']) e.dispatchEvent(new Event(k, {bubbles: true})); })()"
        )

    @property
    def complaints(self) -> list[Any]:
        """Errors of the script, of the console and of the security policy."""
        wrong: list[Any] = []
        for event in self.events:
            params = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                wrong.append(params["exceptionDetails"])
            if event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                wrong.append(params["entry"]["text"])
            if event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                wrong.append(params["args"])
        return wrong

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        asked = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in asked]

    def picture(self, path: Path, whole: bool = True) -> Path:
        """Writes what is shown, or the whole page, as a PNG."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def close(self) -> None:
        """Closes the page."""
        self.browser.send("Target.closeTarget", targetId=self.target)
