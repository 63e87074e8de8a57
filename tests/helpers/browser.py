"""A headless Chromium that is offline, driven through its debugging pipe, without a library."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    """The browser of this machine, if there is one."""
    return next(filter(None, map(shutil.which, EXECUTABLES)), None)


class Browser:
    """One page of a browser, and all that it said.

    Attributes
    ----------
    said : list of str
        Messages on the console, errors, and refusals of the page's own policy.
    asked_for : list of str
        Every address that was asked for, but for those that hold their content.
    """

    def __init__(self, commands: Any, answers: Any) -> None:
        self._commands, self._answers = commands, answers
        self._number, self._rest, self._session = 0, b"", None
        self._events: list[str] = []
        self.said: list[str] = []
        self.asked_for: list[str] = []
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        found = self.do("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")
        self.do(
            "Network.emulateNetworkConditions",
            offline=True, latency=0, downloadThroughput=0, uploadThroughput=0,
        )  # fmt: skip

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        """Run one command of the DevTools protocol, and wait for its answer."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        command |= {"sessionId": self._session} if self._session else {}
        self._commands.write(json.dumps(command).encode() + b"\0")
        self._commands.flush()
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._answers.fileno(), 2**16)
            assert part, "the browser has ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self._hear(message["method"], message.get("params", {}))
        return message

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        self._events.append(method)
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(json.dumps(params))
        if method == "Network.requestWillBeSent":
            address = params["request"]["url"]
            if not address.startswith(("data:", "about:")):
                self.asked_for.append(address)

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a file anew and wait until it is loaded."""
        self._load("about:blank")  # another fragment of one file would load nothing
        self._load(path.absolute().as_uri() + fragment)

    def _load(self, address: str) -> None:
        self._events.clear()
        self.do("Page.navigate", url=address)
        while "Page.loadEventFired" not in self._events:
            self._next()

    def value(self, expression: str) -> Any:
        """What an expression is, in the page; promises are waited for."""
        found = self.do(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {}
        self.do("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.do("Input.dispatchKeyEvent", type="keyUp", key=key)

    def click(self, selector: str) -> None:
        """Click into the middle of an element."""
        x, y = self.value(
            f"(() => {{ const e = document.querySelector({selector!r});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            where = {"x": x, "y": y, "button": "left", "clickCount": 1}
            self.do("Input.dispatchMouseEvent", type=kind, **where)
        # What a click leads to, such as another fragment, comes in a later task.
        self.value("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")

    def look(self, width: int, height: int, *, scheme: str = "light") -> None:
        """Take a size of the window, and light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.do("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.do("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self, *, whole: bool = False) -> Image.Image:
        """Take a picture of the window, or of the whole page."""
        found = self.do("Page.captureScreenshot", captureBeyondViewport=whole)
        return Image.open(io.BytesIO(base64.b64decode(found["data"]))).convert("RGB")


@contextmanager
def started(executable: str, profile: Path) -> Iterator[Browser]:
    """Start a browser, and end it."""
    read_commands, write_commands = os.pipe()
    read_answers, write_answers = os.pipe()
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars "
        "--no-first-run --disable-background-networking --remote-debugging-pipe"
    )
    # Chromium takes commands from file 3 and answers to file 4.
    script = f'exec "$0" {flags} --user-data-dir="$1" 3<&{read_commands} 4>&{write_answers}'
    process = subprocess.Popen(
        ["bash", "-c", script, executable, str(profile)],
        pass_fds=(read_commands, write_answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_commands)
    os.close(write_answers)
    with os.fdopen(write_commands, "wb") as commands, os.fdopen(read_answers, "rb") as answers:
        try:
            yield Browser(commands, answers)
        finally:
            process.terminate()
            process.wait(30)
