from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, SegformerImageProcessorPil

from mfm_hf.data.resizing import fit_size, resize_image
from mfm_hf.data.transforms import normalize
from mfm_hf.hub.image_processor import box_of, save_image_processor
from tests.image_processors import needs_image_processor

pytestmark = needs_image_processor


def draw_image(height: int, width: int) -> np.ndarray:
    """Stripes of 1 to 64 pixels, and noise: what a photo has of detail, at its worst."""
    rng = np.random.default_rng(0)
    stripes = [128 + 80 * np.sin(np.arange(width) * np.pi / period) for period in (1.5, 4, 64)]
    noise = rng.normal(0, 6, (height, width, 3))
    return np.clip(np.stack(stripes, axis=-1)[None] + noise, 0, 255).astype(np.uint8)


def test_the_file_is_that_of_transformers_processor_without_resizing(tmp_path: Path) -> None:
    save_image_processor(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == SegformerImageProcessorPil(do_resize=False).to_dict()
    assert box_of(loaded.to_dict()) is None


@pytest.mark.parametrize("box", [None, (128, 64)])
def test_the_loaded_processor_prepares_pixels_as_training_does(tmp_path: Path, box: tuple[int, int] | None) -> None:
    """Where nothing is resized, which holds for images that fill the box as well."""
    save_image_processor(tmp_path, box)
    image = draw_image(64, 128)
    prepared = AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"]
    expected = normalize(torch.from_numpy(image).permute(2, 0, 1)[None])
    torch.testing.assert_close(prepared, expected, rtol=0, atol=1e-6)


# The native sizes of the benchmarks and the boxes of the papers: GTA, SYNTHIA, Cityscapes, ACDC and Dark Zurich.
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((1052, 1914), (1280, 720)),
        ((1046, 1914), (1280, 720)),
        ((760, 1280), (2560, 1520)),
        ((1024, 2048), (1024, 512)),
        ((1080, 1920), (960, 540)),
        ((64, 24), (16, 8)),  # upright
    ],
)
def test_images_are_fitted_into_the_box_as_in_training(
    tmp_path: Path, size: tuple[int, int], box: tuple[int, int]
) -> None:
    save_image_processor(tmp_path, box)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    image = Image.new("RGB", size[::-1])
    assert processor(image, return_tensors="pt")["pixel_values"].shape[-2:] == fit_size(size, box)
    assert box_of(processor.to_dict()) == box


def test_how_far_antialiasing_goes(tmp_path: Path) -> None:
    """Pixels of the processor and of training, in grey levels: docs/evaluation.md states them."""
    save_image_processor(tmp_path, (256, 128))
    processor = AutoImageProcessor.from_pretrained(tmp_path)

    def difference(height: int, width: int, **options: object) -> np.ndarray:
        image = draw_image(height, width)
        theirs = processor(image, do_normalize=False, do_rescale=False, return_tensors="np", **options)
        ours = resize_image(image, (128, 256)).astype(float)
        return np.abs(theirs["pixel_values"][0].transpose(1, 2, 0) - ours)

    assert 1 < difference(256, 512).mean() < 20  # halved: another image
    assert difference(64, 128).max() <= 2  # enlarged: the same up to rounding
    # Halved by Pillow's box filter, which takes the mean of 2 x 2 pixels, it is the image of training.
    assert difference(256, 512, resample=Image.Resampling.BOX).max() <= 1


def test_a_processor_that_squashes_has_no_box() -> None:
    assert box_of(SegformerImageProcessorPil(size={"height": 512, "width": 512}).to_dict()) is None
