"""A headless Chromium, controlled over its debugging pipe, to inspect a page.

In: the path of an HTML file, a width, a color scheme. Out: values of JavaScript expressions,
requests, console messages, screenshots and PDFs.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
MISSING = "needs Chromium: apt-get install chromium"


class Page:
    """The one page of a browser.

    Args:
        commands: The pipe to the browser.
        answers: The pipe from the browser.

    Attributes:
        requests: The addresses that were requested since the page was opened.
        messages: The messages of the console and of the browser's log.
    """

    def __init__(self, commands: FileIO, answers: FileIO) -> None:
        self._commands, self._answers = commands, answers
        self._unread, self._number, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.messages: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def open(self, file: Path, width: int, scheme: str) -> None:
        """Open a file in a window of that width, with the color scheme "light" or "dark"."""
        self.requests.clear()
        self.messages.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=file.as_uri())
        self._until("Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, out: Path) -> None:
        """The whole page as a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        out.write_bytes(base64.b64decode(found["data"]))

    def pdf(self, out: Path) -> None:
        """The printed page as a PDF."""
        found = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        out.write_bytes(base64.b64decode(found["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol, and return the answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            pass
        assert "error" not in answer, (method, answer)
        return dict(answer["result"])

    def _until(self, event: str) -> None:
        while self._read().get("method") != event:
            pass

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            part = self._answers.read(1 << 16)
            assert part, "the browser ended"
            self._unread += part
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        found, method = message.get("params", {}), message.get("method")
        if method == "Network.requestWillBeSent":
            self.requests.append(found["request"]["url"])
        elif method == "Log.entryAdded":
            self.messages.append(found["entry"]["text"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.messages.append(json.dumps(found))
        return message


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A browser with an empty page; it ends with the block.

    Args:
        profile: A folder that does not exist yet, for its files.
    """
    assert BROWSER is not None
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    # The browser reads descriptor 3 and writes 4.
    line = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--remote-debugging-pipe", f"--user-data-dir={profile}"),
    ]
    with FileIO(commands, "wb") as asking, FileIO(answers, "rb") as answering:
        try:
            process = subprocess.Popen(
                ["bash", "-c", line, "browser", BROWSER, *options],
                pass_fds=(to_browser, from_browser),
                stderr=subprocess.DEVNULL,
            )
        finally:
            os.close(to_browser)
            os.close(from_browser)
        try:
            yield Page(asking, answering)
        finally:
            process.terminate()
            asking.close()  # a browser that ignores the signal ends, too
            answering.close()
            process.wait()
