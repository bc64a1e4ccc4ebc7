from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoImageProcessor, SegformerImageProcessorPil

from mfm_hf.data.transforms import normalize
from mfm_hf.hub.image_processor import save_image_processor
from tests.image_processors import needs_image_processor


@needs_image_processor
def test_the_file_is_that_of_transformers_processor_without_resizing(tmp_path: Path) -> None:
    save_image_processor(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == SegformerImageProcessorPil(do_resize=False).to_dict()


@needs_image_processor
def test_the_loaded_processor_prepares_pixels_as_training_does(tmp_path: Path) -> None:
    save_image_processor(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    prepared = AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"]
    expected = normalize(torch.from_numpy(image).permute(2, 0, 1)[None])
    torch.testing.assert_close(prepared, expected, rtol=0, atol=1e-6)
