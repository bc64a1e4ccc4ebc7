from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mfm_hf.commands import _demo_page, _demo_result, demo, demo_app
from mfm_hf.commands._demo_page import build_page, short_names
from mfm_hf.commands._demo_result import Result, caption, legend, pictures, segment_file
from mfm_hf.commands._segmenter import Segmenter, load_segmenter
from mfm_hf.data.classes import ClassSet, class_set_from_names
from mfm_hf.evaluation.visualization import color_map
from tests.image_processors import needs_image_processor

pytestmark = needs_image_processor

MANY = 10**9


@pytest.fixture(scope="module")
def segmenter(checkpoint: Path) -> Segmenter:
    return load_segmenter(str(checkpoint), "cpu")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Noise of 60 x 40 pixels as seen, saved lying on its side."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    turned = image.getexif()
    turned[274] = 6  # turn by 90 degrees to see it upright
    image.save(tmp_path / "photo.png", exif=turned)
    return tmp_path / "photo.png"


def result_of(*labels: np.ndarray, classes: ClassSet) -> Result:
    image = np.full((*labels[0].shape, 3), 200, dtype=np.uint8)
    return Result("<b>.png", image, labels, classes, (image.shape[1], image.shape[0]))


def test_an_image_is_segmented_upright_and_at_its_own_size(segmenter: Segmenter, photo: Path) -> None:
    result = segment_file(photo, [segmenter, segmenter], MANY)
    upright = np.rot90(np.asarray(Image.open(photo)), k=-1)
    np.testing.assert_array_equal(result.image, upright)
    assert result.file_size == (60, 40)
    with torch.inference_mode():
        pixels = segmenter.processor(Image.fromarray(upright), return_tensors="pt")["pixel_values"]
        logits = segmenter.model(pixel_values=pixels).logits
    expected = torch.nn.functional.interpolate(logits, size=(40, 60), mode="bilinear", align_corners=False)
    for label in result.labels:
        np.testing.assert_array_equal(label, expected.argmax(1)[0].numpy())
    assert "60 × 40 pixels ·" in caption(result)
    assert "agree on 100 %" in caption(result)


def test_a_large_image_is_shrunk_and_the_caption_says_so(segmenter: Segmenter, photo: Path) -> None:
    result = segment_file(photo, [segmenter], max_pixels=1500)
    height, width = result.image.shape[:2]
    assert (height, width) == result.labels[0].shape == (31, 47)
    assert "47 × 31 pixels, shrunk from 60 × 40" in caption(result)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "bad.png cannot be read: it is no image"),
        (b"", "bad.png cannot be read: it is no image"),
        ("half", "bad.png cannot be read: "),
        ((31, 200), "bad.png is too small: it has 31 x 200 pixels, 32 x 32 is the least"),
        ((1001, 1000), "bad.png cannot be read: it has 1001 x 1000 pixels, and 1 million are the most"),
    ],
)
def test_a_bad_image_is_told_in_one_line(
    content: object,
    message: str,
    segmenter: Segmenter,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_demo_result, "MAX_FILE_PIXELS", 1_000_000)
    file = tmp_path / "bad.png"
    match content:
        case bytes():
            file.write_bytes(content)
        case "half":
            file.write_bytes(photo.read_bytes()[:3000])
        case (int(width), int(height)):
            Image.new("RGB", (width, height)).save(file)
    with pytest.raises(ValueError, match=re.escape(message)) as info:
        segment_file(file, [segmenter], MANY)
    assert "\n" not in str(info.value)
    assert str(tmp_path) not in str(info.value)


def test_a_network_that_fails_is_told_in_one_line(segmenter: Segmenter, photo: Path) -> None:
    def fail(**kwargs: object) -> None:
        raise RuntimeError("out of memory\nTried to allocate 20 GiB")

    class Failing:
        device, dtype, __call__ = "cpu", torch.float32, staticmethod(fail)

    failing = dataclasses.replace(segmenter, model=Failing())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^photo\.png cannot be segmented: out of memory$"):
        segment_file(photo, [failing], MANY)


def test_pictures_are_two_overlays_or_the_image_and_one() -> None:
    classes = class_set_from_names(("road", "car"))
    zeros, ones = np.zeros((4, 6), dtype=np.uint8), np.ones((4, 6), dtype=np.uint8)
    two = result_of(zeros, ones, classes=classes)
    for picture, label in zip(pictures(two, opacity=1), (zeros, ones), strict=True):
        np.testing.assert_array_equal(picture, color_map(label, classes))
    for picture in pictures(two, opacity=0):
        np.testing.assert_array_equal(picture, two.image)
    left, right = pictures(result_of(ones, classes=classes), opacity=1)
    np.testing.assert_array_equal(left, two.image)
    np.testing.assert_array_equal(right, color_map(ones, classes))


def test_legend_has_the_classes_that_occur_with_their_shares() -> None:
    classes = class_set_from_names(("road", "car", "<i>sky", "train"))
    left, right = np.zeros((50, 100), dtype=np.uint8), np.full((50, 100), 2, dtype=np.uint8)
    right[:10] = 0
    right[-1, -1] = 1
    html = legend(result_of(left, right, classes=classes))
    items = re.findall(r"<li>(.*?)</li>", html)
    assert [re.search(r'class="class">(.*?)<', item)[1] for item in items] == ["road", "&lt;i&gt;sky", "car"]
    shares = [re.findall(r'class="share">(.*?)<', item) for item in items]
    assert shares == [["100.0 %", "20.0 %"], ["–", "80.0 %"], ["–", "&lt; 0.1 %"]]
    assert "rgb(128,0,0)" in items[0]
    assert "<b>.png" not in caption(result_of(left, classes=classes))


def test_checkpoints_of_other_classes_are_not_compared(segmenter: Segmenter, photo: Path) -> None:
    other = dataclasses.replace(segmenter, name="other", classes=class_set_from_names(("road", "sky")))
    with pytest.raises(ValueError, match=r"other cannot be compared: they have different classes \(3 and 2\)"):
        build_page([segmenter, other], [photo], MANY)


def test_checkpoints_are_called_by_what_tells_them_apart(segmenter: Segmenter, tmp_path: Path) -> None:
    for folder in ("a/run", "b/run", "c"):
        (tmp_path / folder).mkdir(parents=True)
    a, b, c = (dataclasses.replace(segmenter, name=str(tmp_path / name)) for name in ("a/run", "b/run", "c"))
    on_hub = dataclasses.replace(segmenter, name="lab/run")
    assert short_names([a, c]) == ["run", "c"]
    assert short_names([a, b]) == [a.name, b.name]
    assert short_names([on_hub, a]) == ["lab/run", "run"]


def test_defaults_are_what_the_demo_leaves() -> None:
    folders = {f"outputs/demo/{run.folder}" for run in demo.RUNS}
    assert {demo_app.DEMO_MODEL, demo_app.DEMO_BASELINE} < folders


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--compare", "x"], "--compare needs --model"),
        ([], "there is no outputs/demo/dacs_mfm: run `mfm-hf demo` first, or give a checkpoint by --model"),
        (["--model", "nowhere"], "cannot load the model 'nowhere'"),
        (["--model", "CHECKPOINT", "--examples", "nowhere"], "'nowhere' is neither"),
        (["--model", "CHECKPOINT", "--device", "abacus"], "cannot use the device 'abacus'"),
        (["--model", "CHECKPOINT", "--port", "100000"], "'100000' is not a port: give a number from 1 to 65535"),
    ],
)
def test_bad_options_get_one_line(
    options: list[str],
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        demo_app.main([str(checkpoint) if option == "CHECKPOINT" else option for option in options])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_missing_gradio_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo_app, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        demo_app.main([])
    assert capsys.readouterr().err == 'error: the page needs Gradio: pip install "gradio>=6,<7"\n'


def test_a_space_without_its_checkpoint_tells_so_on_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = []
    monkeypatch.setattr(_demo_page, "launch", lambda page: pages.append(page))
    demo_app.serve_space(str(tmp_path), None, "streets:real:64x64")
    (page,) = pages
    texts = [component["props"].get("value") or "" for component in page.get_config_file()["components"]]
    assert any("holds no config.json" in text and 'role="alert"' in text for text in texts)
