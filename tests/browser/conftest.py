"""A headless Chromium and the demo application, for tests that use the page as a person does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).parents[2]
START_SECONDS = 90

Serve = Callable[[Sequence[str], Path], str]


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures of the page are kept: `BROWSER_SCREENSHOTS`, or outputs/browser."""
    folder = Path(os.environ.get("BROWSER_SCREENSHOTS", ROOT / "outputs/browser"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def browser() -> Iterator[Chrome]:
    """Chromium without a window, 1280 x 1000. Where it is not installed, a test is skipped, but never in CI."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        reason = "no chromium and chromedriver: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    options = ChromeOptions()
    options.binary_location = chromium
    # A container has no kernel sandbox for root, and little shared memory.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a script in a folder, on a free port of loopback, and return the address once it answers."""
    with _ended_processes() as processes:

        def start(words: Sequence[str], folder: Path) -> str:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            own = {"GRADIO_SERVER_PORT": str(port), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen([sys.executable, *words], cwd=folder, env={**os.environ, **own})
            processes.append(process)
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    urlopen(url, timeout=5).close()
                except URLError:
                    time.sleep(0.2)
                else:
                    return url
            pytest.fail(f"{words} does not serve {url}")

        yield start


@contextmanager
def _ended_processes() -> Iterator[list[subprocess.Popen]]:
    processes: list[subprocess.Popen] = []
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=20)


def requested_addresses(browser: Chrome) -> list[str]:
    """Return the addresses of what the browser has asked for since the last call, whether it was answered or not."""
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]
