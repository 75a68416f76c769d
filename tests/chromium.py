"""A headless Chromium driven through its DevTools protocol: pages are opened, clicked, looked at and listened to."""

from __future__ import annotations

import base64
import io
import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
_SIZE = (1000, 680)
_PATIENCE_S = 60.0


def find_chromium() -> str | None:
    """The browser's program, if there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    """One tab of a fresh browser.

    Attributes:
        errors: messages of console errors, uncaught exceptions and refused requests.
        requests: every address asked for, from the page and its workers.
    """

    def __init__(self, profile: Path, size: tuple[int, int] = _SIZE) -> None:
        from websockets.sync.client import connect

        program = find_chromium()
        assert program is not None
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._ids, self._answers = itertools.count(1), {}
        command = [program, *_FLAGS, f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [*command, "--remote-debugging-port=0", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self._socket = connect(_address(profile / "DevToolsActivePort"), max_size=None, close_timeout=1)
            targets = self._call("Target.getTargets")["targetInfos"]
            page = next(target["targetId"] for target in targets if target["type"] == "page")
            self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self._call(f"{domain}.enable")
            self._call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
            width, height = size
            self._call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
        except BaseException:
            self._process.kill()
            raise

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._socket.close()

    def open(self, url: str) -> None:
        """Go to an address."""
        self._call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page; promises are waited for."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Until a JavaScript expression is true."""
        end = time.monotonic() + _PATIENCE_S
        while not self.run(script):
            assert time.monotonic() < end, f"waited in vain for {script}; errors: {self.errors}"
            time.sleep(0.05)

    def click(self, text: str) -> None:
        """Click, as a mouse would, on the smallest element whose text is exactly this."""
        find = f"""(() => {{
            const found = [...document.querySelectorAll('button, label, span, div, input')].filter(
                (e) => e.textContent.trim() === {json.dumps(text)} && e.getClientRects().length);
            if (!found.length) return null;
            const box = found.at(-1).getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        self.wait_for(f"{find} !== null")
        self.click_at(*self.run(find))

    def click_at(self, x: float, y: float) -> None:
        """Click on a point of the page."""
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def text(self) -> str:
        """What can be read on the page."""
        return self.run("document.body.innerText")

    def screenshot(self, path: Path | None = None) -> np.ndarray:
        """The page as (H, W, 3) uint8 RGB; also written to ``path``."""
        data = base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.write_bytes(data)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def settled(self, path: Path | None = None) -> np.ndarray:
        """The screenshot once two in a row are the same."""
        end = time.monotonic() + _PATIENCE_S
        last = self.screenshot()
        while True:
            time.sleep(0.25)
            image = self.screenshot(path)
            if np.array_equal(image, last):
                return image
            assert time.monotonic() < end, "the page never comes to rest"
            last = image

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while number not in self._answers:
            self._hear(json.loads(self._socket.recv(_PATIENCE_S)))
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def _hear(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        method, told = message["method"], message["params"]
        if method == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in told["args"]))
        elif method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.errors.append(f"{details['text']} {details.get('exception', {}).get('description', '')}")
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(told["url"])
        elif method == "Target.attachedToTarget":
            worker = {"sessionId": told["sessionId"]}
            for domain in ("Runtime", "Network"):  # nobody waits for these answers
                self._socket.send(json.dumps({"id": next(self._ids), "method": f"{domain}.enable", **worker}))


def _address(file: Path) -> str:
    """Where the browser listens, which it writes into its profile."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            port, path = file.read_text().split()
            return f"ws://127.0.0.1:{port}{path}"
        except (OSError, ValueError):
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(0.05)
