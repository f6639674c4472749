"""Chromium without a window, which a test drives by clicks and keys through the DevTools protocol on two pipes."""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

_SECONDS = 120  # of a page on a busy machine


def find_chromium():
    """Path of Chromium; skips the test where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if not path:
        pytest.skip("needs Chromium, which shows the page (Debian package chromium)")
    return path


class Tab:
    """A page in a browser of its own.

    Args:
      width, height: of the window, in CSS pixels.
      dark: whether the page is told that dark colors are preferred.
    """

    def __init__(self, width=1280, height=900, dark=False):
        chromium = find_chromium()
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        words = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
        profile = f"--user-data-dir={self._profile.name}"
        self._process = subprocess.Popen(
            ["bash", "-c", words, "bash", chromium, *flags, profile, "about:blank"],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        self._numbers, self._buffer, self.events = itertools.count(1), b"", []
        self._session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.send(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Emulation.setScrollbarsHidden", hidden=True)
        if dark:
            feature = {"name": "prefers-color-scheme", "value": "dark"}
            self.send("Emulation.setEmulatedMedia", features=[feature])

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def send(self, method, **parameters):
        """Sends a command and returns its result; what the browser tells meanwhile goes to `events`."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def _receive(self):
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._buffer:
            assert select.select([self._from], [], [], max(deadline - time.monotonic(), 0))[0]
            self._buffer += os.read(self._from, 1 << 16)
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def value(self, expression):
        """Value of an expression of JavaScript in the page."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, f"{expression}: {result}"
        return result["result"].get("value")

    def open(self, address):
        """Opens an address and waits until all of the page is there."""
        with self._loading():
            self.send("Page.navigate", url=address)

    def click(self, selector, loads=True):
        """Clicks in the middle of the first element of a selector, as a mouse does; waits for the page it opens."""
        element = f"document.querySelector({json.dumps(selector)})"
        # Not smoothly, and away from the edges.
        self.value(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.value(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])({element}.getClientRects()[0])"
        )
        with self._loading() if loads else contextlib.nullcontext():
            for kind in ("mousePressed", "mouseReleased"):
                mouse = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
                self.send("Input.dispatchMouseEvent", **mouse)

    def press(self, key, loads=False):
        """Presses a key: Enter, Tab, or a letter."""
        codes = {"Enter": (13, "\r"), "Tab": (9, "")}
        code, text = codes.get(key, (ord(key[0].upper()), key))
        with self._loading() if loads else contextlib.nullcontext():
            for kind in ("keyDown", "keyUp"):
                stroke = {"key": key, "windowsVirtualKeyCode": code}
                if kind == "keyDown" and text:
                    stroke["text"] = text
                self.send("Input.dispatchKeyEvent", type=kind, **stroke)

    def type(self, text):
        """Types a text where the focus is."""
        self.send("Input.insertText", text=text)

    def screenshot(self, height=None):
        """The page from its top as a PNG file, as high as the page or `height`."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"]}
        image = self.send(
            "Page.captureScreenshot", clip={**clip, "scale": 1}, captureBeyondViewport=True
        )
        return base64.b64decode(image["data"])

    def requests(self):
        """Addresses that pages of this tab asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def complaints(self):
        """Errors that the browser has of pages, such as what their security policy forbids."""
        return [
            event["params"]
            for event in self.events
            if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")
        ]

    @contextlib.contextmanager
    def _loading(self):
        before = self._loads()
        yield
        deadline = time.monotonic() + _SECONDS
        while self._loads() == before or self.value("document.readyState") != "complete":
            assert time.monotonic() < deadline, "the page did not load"
            time.sleep(0.02)

    def _loads(self):
        self.value("0")  # so that what the browser has told is read
        return sum(event.get("method") == "Page.loadEventFired" for event in self.events)
