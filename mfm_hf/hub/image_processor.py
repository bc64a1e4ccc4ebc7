"""The image processor that is saved with every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import IMAGE_PROCESSOR_NAME

from mfm_hf.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from mfm_hf.files import write_json

_BILINEAR = 2  # as Pillow numbers it


def save_image_processor(folder: Path, box: tuple[int, int] | None = None) -> None:
    """Write the `preprocessor_config.json` of a checkpoint, which `AutoImageProcessor` loads.

    It says: ImageNet's normalisation, and images at the size at which the network was trained, never squashed.

    The processor resizes bilinearly with antialiasing, since that is all that Pillow and torchvision offer alike;
    `mfm_hf.data.resizing` without, as the references do. So pixels differ a little where an image is made smaller, and
    what is measured should be resized by the latter: see docs/evaluation.md.

    The file is written here because `transformers` before 5.22 makes an image processor only where torchvision is
    installed, which training does not need.

    Args:
        folder: The checkpoint.
        box: The longer and the shorter side in pixels that images are fitted into, their aspect ratio kept. None: they
            keep their size.
    """
    resizing = {} if box is None else {"size": {"shortest_edge": min(box), "longest_edge": max(box)}}
    settings = {
        "image_processor_type": "SegformerImageProcessor",
        "do_resize": box is not None,
        **resizing,
        "resample": _BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    }
    write_json(folder / IMAGE_PROCESSOR_NAME, settings)


def box_of(settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the box that `save_image_processor` wrote, `(long, short)` side in pixels.

    None where an image processor does not resize, or squashes images into one size as those of other checkpoints do.

    Args:
        settings: The content of a `preprocessor_config.json`, or `to_dict()` of an image processor.
    """
    match settings:
        case {"do_resize": True, "size": {"longest_edge": int(long), "shortest_edge": int(short)}}:
            return long, short
    return None
