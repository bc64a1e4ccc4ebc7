"""The image processor that is saved with every checkpoint."""

from __future__ import annotations

from pathlib import Path

from transformers.utils import IMAGE_PROCESSOR_NAME

from mfm_hf.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from mfm_hf.files import write_json


def save_image_processor(folder: Path) -> None:
    """Write the `preprocessor_config.json` of a checkpoint, which `AutoImageProcessor` loads.

    It says: ImageNet's normalisation and no resizing, so that an image is segmented at its own size, never squashed.

    The file is written here because `transformers` before 5.22 makes an image processor only where torchvision is
    installed, which training does not need.
    """
    settings = {
        "image_processor_type": "SegformerImageProcessor",
        "do_resize": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    }
    write_json(folder / IMAGE_PROCESSOR_NAME, settings)
