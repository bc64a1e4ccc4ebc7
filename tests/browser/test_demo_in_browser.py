"""The page of `mfm-hf demo_app`, used in Chromium as a person would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import snapshot_download
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.hub.image_processor import save_image_processor
from mfm_hf.hub.space import push_space
from tests.browser.conftest import ROOT, Serve, requested_addresses
from tests.hub_server import LoopbackHub
from tests.image_processors import needs_image_processor
from tests.tiny_models import tiny_model

pytestmark = needs_image_processor

SECONDS = 30
EXAMPLES = "streets:real:64x128#validation"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two tiny networks with random weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, name in enumerate(("adapted", "source_only")):
        torch.manual_seed(seed)
        tiny_model().save_pretrained(folder / name)
        save_image_processor(folder / name)
    return folder / "adapted", folder / "source_only"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "my photo.png")
    return tmp_path / "my photo.png"


def one(browser: Chrome, selector: str) -> WebElement:
    """Wait until an element is there, and return it."""
    return WebDriverWait(browser, SECONDS).until(lambda page: page.find_element(By.CSS_SELECTOR, selector))


def wait_for_text(browser: Chrome, selector: str, text: str) -> None:
    def is_there(page: Chrome) -> bool:
        # In one go: Gradio may replace the element between two questions.
        script = "return document.querySelector(arguments[0])?.textContent ?? ''"
        return text in page.execute_script(script, selector)

    WebDriverWait(browser, SECONDS).until(is_there, f"no {text!r} in {selector}")


def pictures(browser: Chrome) -> tuple[str, str]:
    """Return the addresses of the left and the right picture."""
    left, right = browser.find_elements(By.CSS_SELECTOR, "#pictures img")
    return left.get_attribute("src"), right.get_attribute("src")


def upload(browser: Chrome, file: Path) -> None:
    one(browser, "#drop input[type=file]").send_keys(str(file))


def keep_screenshot(browser: Chrome, file: Path, width: int, dark: bool = False) -> None:
    """Save the whole page as it looks in a window of `width` pixels."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.refresh()
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    one(browser, ".legend")
    loaded = "const all = [...document.images]; return all.length > 2 && all.every(image => image.complete)"
    WebDriverWait(browser, SECONDS).until(lambda page: page.execute_script(loaded))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    metrics["height"] = browser.execute_script("return document.documentElement.scrollHeight")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.save_screenshot(str(file))


def test_two_checkpoints_are_compared_on_ones_own_image(
    serve: Serve, browser: Chrome, checkpoints: tuple[Path, Path], photo: Path, tmp_path: Path, screenshots: Path
) -> None:
    model, compare = map(str, checkpoints)
    script = str(ROOT / "scripts/demo_app.py")
    url = serve([script, "--model", model, "--compare", compare, "--examples", EXAMPLES, "--device", "cpu"], ROOT)
    browser.get(url)

    # The first example is there at once.
    wait_for_text(browser, ".caption", "128 × 64 pixels")
    assert [side.text for side in browser.find_elements(By.CSS_SELECTOR, ".sides span")] == ["source_only", "adapted"]
    for name, width, dark in (("desktop", 1280, False), ("desktop_dark", 1280, True), ("phone", 390, False)):
        keep_screenshot(browser, screenshots / f"demo_app_{name}.png", width, dark)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    # An image of one's own.
    upload(browser, photo)
    wait_for_text(browser, ".caption", "my photo.png")
    wait_for_text(browser, ".caption", "96 × 48 pixels")
    names = [item.text for item in browser.find_elements(By.CSS_SELECTOR, ".legend .class")]
    assert names
    assert set(names) <= set(CITYSCAPES.names)
    shares = [item.text for item in browser.find_elements(By.CSS_SELECTOR, ".legend .share")]
    assert len(shares) == 2 * len(names)
    browser.save_screenshot(str(screenshots / "demo_app_own_image.png"))

    # The line between the pictures moves with the mouse, and with it what is seen of the right one.
    clip = "return document.querySelectorAll('#pictures img')[1].style.clipPath"
    before = browser.execute_script(clip)
    handle = one(browser, "#pictures [data-testid=slider] .inner")
    ActionChains(browser).drag_and_drop_by_offset(handle, 150, 0).perform()
    assert browser.execute_script(clip) != before

    # At opacity 0 both pictures are the image.
    left, right = pictures(browser)
    assert left != right
    number = one(browser, "#opacity input[type=number]")
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys("0", Keys.ENTER)
    WebDriverWait(browser, SECONDS).until(lambda page: len(set(pictures(page))) == 1)

    # What is no image is told in one line; what was there stays.
    for name, selector in (("notes.png", "#message .message"), ("notes.txt", "body")):
        (tmp_path / name).write_text("no image")
        upload(browser, tmp_path / name)
        wait_for_text(browser, selector, name)
    assert one(browser, "#message .message").text == "notes.png cannot be read: it is no image"
    wait_for_text(browser, ".caption", "my photo.png")
    browser.save_screenshot(str(screenshots / "demo_app_no_image.png"))

    # An example ends it.
    browser.find_elements(By.CSS_SELECTOR, "#examples button img, #examples .gallery-item img")[1].click()
    wait_for_text(browser, ".caption", "real_validation_00001.png")
    assert not browser.find_elements(By.CSS_SELECTOR, "#message .message")

    assert all(address.startswith((url, "data:", "blob:")) for address in requested_addresses(browser))
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_space_runs_from_its_repository_alone(
    serve: Serve,
    browser: Chrome,
    checkpoints: tuple[Path, Path],
    photo: Path,
    loopback_hub: LoopbackHub,
    tmp_path: Path,
) -> None:
    push_space("lab/demo", str(checkpoints[0]), None, EXAMPLES, retry_waits=())
    space = tmp_path / "space"
    snapshot_download("lab/demo", repo_type="space", local_dir=space)
    page = space / "mfm_hf/commands/_demo_page.py"
    page.write_text(page.read_text().replace('TITLE = "Semantic segmentation"', 'TITLE = "Not the installed package"'))
    browser.get(serve(["app.py"], space))
    wait_for_text(browser, "h1", "Not the installed package")
    wait_for_text(browser, ".sides .left", "image")
    wait_for_text(browser, ".sides .right", "adapted")
    upload(browser, photo)
    wait_for_text(browser, ".caption", "my photo.png")
