from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil, pipeline

from mfm_hf.commands import _inputs
from mfm_hf.commands._inputs import find_inputs
from mfm_hf.commands._segmenter import Segmenter, load_segmenter
from mfm_hf.commands.predict import main
from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.data.resizing import resize_image
from mfm_hf.data.transforms import normalize
from mfm_hf.hub.image_processor import save_image_processor
from mfm_hf.models.sliding_window import SlidingWindow
from tests.image_processors import needs_image_processor
from tests.tiny_models import tiny_model

pytestmark = needs_image_processor


def predict(checkpoint: Path, output: Path, *inputs: Path, options: Sequence[str] = ("--device", "cpu")) -> dict:
    main(["--model", str(checkpoint), "--input", *map(str, inputs), "--output", str(output), *options])
    return json.loads((output / "results.json").read_text())


def test_folder_is_segmented_at_its_own_sizes(checkpoint: Path, folder_domain: Path, tmp_path: Path) -> None:
    results = predict(checkpoint, tmp_path / "out", folder_domain / "images")
    assert [Path(entry["input"]).name for entry in results["images"]] == ["a.png", "b.png", "c.png"]
    assert results["failed"] == []
    assert (tmp_path / "out" / "legend.png").exists()
    for entry in results["images"]:
        size = Image.open(entry["input"]).size
        assert size == (entry["width"], entry["height"])
        label = Image.open(tmp_path / "out" / entry["label"])
        assert (label.mode, label.size) == ("L", size)
        assert Image.open(tmp_path / "out" / entry["overlay"]).size == size
        assert Image.open(tmp_path / "out" / entry["side_by_side"]).width > 2 * size[0]
        ids = np.asarray(label)
        shares = {name: float((ids == index).mean()) for index, name in enumerate(("road", "car", "sky"))}
        assert entry["class_shares"] == pytest.approx({name: share for name, share in shares.items() if share})


def test_labels_are_those_of_the_pipeline(checkpoint: Path, folder_domain: Path, tmp_path: Path) -> None:
    predict(checkpoint, tmp_path, folder_domain / "images")
    pipe = pipeline("image-segmentation", model=str(checkpoint), device="cpu")
    for name in "abc":
        label = np.asarray(Image.open(tmp_path / f"{name}_label.png"))
        for segment in pipe(Image.open(folder_domain / f"images/{name}.png")):
            index = ("road", "car", "sky").index(segment["label"])
            np.testing.assert_array_equal(label == index, np.asarray(segment["mask"]) > 0)


@torch.no_grad()
def test_images_can_be_seen_in_windows_and_in_half_precision(tmp_path: Path) -> None:
    model = tiny_model(rebuilder=None).to_inference().eval()
    model.save_pretrained(tmp_path)
    save_image_processor(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "x.png")
    options = ["--window_size", "32", "32", "--window_blending", "gaussian", "--precision", "bfloat16"]
    predict(tmp_path, tmp_path / "out", tmp_path / "x.png", options=options)
    found = torch.from_numpy(np.array(Image.open(tmp_path / "out/x_label.png")))
    pixels = normalize(torch.from_numpy(image).permute(2, 0, 1)[None]).bfloat16()
    window = SlidingWindow((32, 32), (16, 16), blending="gaussian")
    logits = window(pixels, lambda seen: model.bfloat16()(pixel_values=seen).logits.float())
    assert (found == logits.argmax(dim=1)[0]).float().mean() > 0.99  # ties aside


@torch.no_grad()
def test_windows_that_hrda_brings_can_be_blended(tmp_path: Path) -> None:
    hrda = tiny_model("hrda", rebuilder=None).to_inference().eval()
    hrda.config.window_size, hrda.config.window_stride = [64, 64], [32, 32]
    hrda.save_pretrained(tmp_path)
    save_image_processor(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "x.png")
    pixels = normalize(torch.from_numpy(image).permute(2, 0, 1)[None])
    own = hrda(pixel_values=pixels).logits.argmax(dim=1)[0]
    predict(tmp_path, tmp_path / "own", tmp_path / "x.png")
    assert torch.from_numpy(np.array(Image.open(tmp_path / "own/x_label.png"))).equal(own.byte())
    results = predict(tmp_path, tmp_path / "out", tmp_path / "x.png", options=["--window_blending", "gaussian"])
    blended = torch.from_numpy(np.array(Image.open(tmp_path / "out" / results["images"][0]["label"])))
    assert not blended.equal(own.byte())


def test_any_mode_and_orientation_of_image(checkpoint: Path, tmp_path: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8))
    sideways = photo.getexif()
    sideways[274] = 6  # turn by 90 degrees to see it upright
    (tmp_path / "in").mkdir()
    photo.save(tmp_path / "in/photo.jpg", exif=sideways)
    for mode in ("L", "RGBA", "P"):
        photo.convert(mode).save(tmp_path / f"in/{mode}.png")
    predict(checkpoint, tmp_path / "out", tmp_path / "in")
    assert Image.open(tmp_path / "out/photo_label.png").size == (40, 64)
    for mode in ("L", "RGBA", "P"):
        assert Image.open(tmp_path / f"out/{mode}_label.png").size == (64, 40)


def test_unreadable_image_is_named_at_the_end_and_the_others_are_done(
    checkpoint: Path, folder_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, output = folder_domain / "images", tmp_path / "out"
    (images / "b.png").write_bytes((images / "b.png").read_bytes()[:200])
    with pytest.raises(SystemExit) as stopped:
        predict(checkpoint, output, images)
    assert stopped.value.code == 1
    assert f"error: cannot read {images / 'b.png'}" in capsys.readouterr().err
    results = json.loads((output / "results.json").read_text())
    assert [entry["input"] for entry in results["failed"]] == [str(images / "b.png")]
    assert {path.name for path in output.glob("*_label.png")} == {"a_label.png", "c_label.png"}


def test_cityscapes_names_bring_cityscapes_colors_and_many_classes_16_bits(checkpoint: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (90, 10, 200)).save(tmp_path / "x.png")
    many = {index: f"class {index}" for index in range(300)}
    for name, id2label in {"cityscapes": CITYSCAPES.id2label, "many": many}.items():
        config = AutoConfig.from_pretrained(checkpoint)
        config.id2label = id2label
        config.label2id = {label: index for index, label in id2label.items()}
        model = SegformerForSemanticSegmentation(config)
        with torch.no_grad():
            model.decode_head.classifier.bias[len(id2label) - 1] = 1e4
        model.save_pretrained(tmp_path / name)
        SegformerImageProcessorPil(do_resize=False).save_pretrained(tmp_path / name)
        predict(tmp_path / name, tmp_path / name, tmp_path / "x.png", options=["--opacity", "1"])
    assert np.unique(np.asarray(Image.open(tmp_path / "cityscapes/x_label.png"))) == [18]
    assert Image.open(tmp_path / "cityscapes/x_overlay.png").getpixel((5, 5)) == CITYSCAPES.colors[18]
    label = Image.open(tmp_path / "many/x_label.png")
    assert label.mode == "I;16"
    assert np.unique(np.asarray(label)) == [299]


def test_only_the_pictures_that_are_asked_for(checkpoint: Path, folder_domain: Path, tmp_path: Path) -> None:
    image = folder_domain / "images/a.png"
    results = predict(checkpoint, tmp_path / "out", image, options=["--write", "label", "color"])
    assert {path.name for path in (tmp_path / "out").glob("a_*")} == {"a_label.png", "a_color.png"}
    [entry] = results["images"]
    assert (entry["color"], "overlay" in entry) == ("a_color.png", False)
    label, color = (np.asarray(Image.open(tmp_path / "out" / entry[kind])) for kind in ("label", "color"))
    colors = {index: {tuple(pixel) for pixel in color[label == index]} for index in np.unique(label)}
    assert all(len(found) == 1 for found in colors.values())


def test_images_of_one_size_share_batches_and_results_keep_the_order(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for index in range(6):
        Image.new("RGB", (64, 32) if index % 2 else (48, 40), (40 * index, 0, 0)).save(tmp_path / f"in/{index}.png")
    batches = []
    segment = Segmenter.segment

    def counted(self: Segmenter, images: Sequence[Image.Image]) -> list[np.ndarray]:
        batches.append([image.size for image in images])
        return segment(self, images)

    monkeypatch.setattr(Segmenter, "segment", counted)
    results = predict(checkpoint, tmp_path / "out", tmp_path / "in", options=["--batch_size", "2"])
    assert [len(batch) for batch in batches] == [2, 1, 2, 1]
    assert [Path(entry["input"]).name for entry in results["images"]] == [f"{index}.png" for index in range(6)]


def write_video(file: Path, frames: Sequence[np.ndarray]) -> None:
    av = pytest.importorskip("av")
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 10**7
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def test_frames_of_a_video_are_images(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    greys = [10, 60, 110, 160, 210]
    write_video(tmp_path / "in/drive.mp4", [np.full((32, 64, 3), grey, np.uint8) for grey in greys])
    for number, frame in _inputs.read_frames(tmp_path / "in/drive.mp4"):
        assert frame.size == (64, 32)
        np.testing.assert_allclose(np.asarray(frame), greys[number], atol=4)
    Image.new("RGB", (64, 32)).save(tmp_path / "in/photo.png")
    results = predict(checkpoint, tmp_path / "out", tmp_path / "in", options=["--frame_step", "2"])
    assert [entry.get("frame") for entry in results["images"]] == [0, 2, 4, None]
    assert [entry["label"] for entry in results["images"]] == [
        *(f"drive/{number:06}_label.png" for number in (0, 2, 4)),
        "photo_label.png",
    ]
    assert all(Image.open(tmp_path / "out" / entry["label"]).size == (64, 32) for entry in results["images"])


def test_damaged_video_is_named_and_what_came_before_is_kept(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "drive.mp4", [np.zeros((32, 64, 3), np.uint8)])
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(SystemExit) as stopped:
        predict(checkpoint, tmp_path / "out", tmp_path / "broken.mp4", tmp_path / "drive.mp4")
    assert stopped.value.code == 1
    assert f"error: cannot read {tmp_path / 'broken.mp4'}: " in capsys.readouterr().err
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [Path(entry["input"]).name for entry in results["images"]] == ["drive.mp4"]
    assert [Path(failure["input"]).name for failure in results["failed"]] == ["broken.mp4"]


def names(paths: list[Path], output: Path) -> list[str]:
    return [image.name for image in find_inputs(paths, output)]


def test_names_keep_apart_what_shares_a_stem(tmp_path: Path) -> None:
    for name in ("a/x.png", "a/y.PNG", "b/x.jpg", "b/x.png", "b/deep/z.webp", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    output = tmp_path / "out"
    assert names([tmp_path / "a"], output) == ["x", "y"]
    assert names([tmp_path / "a", tmp_path / "a/x.png"], output) == ["x", "y"]
    assert names([tmp_path / "b/deep/z.webp", tmp_path / "a/x.png"], output) == ["z", "x"]
    assert names([tmp_path / "a/x.png", tmp_path / "b/x.jpg"], output) == ["a/x", "b/x"]
    assert names([tmp_path / "b"], output) == ["deep/z.webp", "x.jpg", "x.png"]
    assert names([tmp_path], output) == ["a/x.png", "a/y.PNG", "b/deep/z.webp", "b/x.jpg", "b/x.png"]


def test_links_are_inputs_and_earlier_outputs_are_not(tmp_path: Path) -> None:
    for name in ("elsewhere/x.png", "in/out/y_label.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in/link.png").symlink_to(tmp_path / "elsewhere/x.png")
    assert names([tmp_path / "in"], tmp_path / "in/out") == ["link"]
    assert names([tmp_path / "in"], tmp_path) == ["link", "out/y_label"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "nowhere.png"], "nowhere.png does not exist"),
        (["--input", "empty"], "no image or video in"),
        (["--input", "empty", "--output", "empty"], "is input and output"),
        (["--input", "x.png", "--opacity", "2"], "--opacity must be between 0 and 1, not 2.0"),
        (["--input", "x.png", "--output", "x.png"], "is a file, not a folder"),
        (["--input", "x.png", "clip.mp4"], "clip.mp4 is a video, and to read it needs PyAV: pip install av"),
        (["--input", "x.png"], "has no image processor"),
    ],
)
def test_bad_input_gets_one_line(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save("x.png")
    Path("empty").mkdir()
    Path("clip.mp4").touch()
    monkeypatch.setattr(_inputs, "find_spec", lambda package: None)
    SegformerForSemanticSegmentation.from_pretrained(checkpoint).save_pretrained("model")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["--model", "model", "--output", "out", *options])
    assert stopped.value.code == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not Path("out").exists()


def test_images_are_resized_as_in_training(tmp_path):
    """And not as the image processor does it, which antialiases."""
    model = tiny_model().eval()
    model.save_pretrained(tmp_path)
    save_image_processor(tmp_path, box=(64, 32))
    image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    (found,) = load_segmenter(str(tmp_path), "cpu").segment([Image.fromarray(image)])
    pixels = normalize(torch.from_numpy(resize_image(image, (32, 64))).permute(2, 0, 1)[None])
    with torch.no_grad():
        logits = model.decode(model.encode(pixels))
    wanted = torch.nn.functional.interpolate(logits, size=(64, 128), mode="bilinear").argmax(1)[0]
    assert (torch.from_numpy(found) == wanted).float().mean() > 0.999
