"""The image processor that is saved with every checkpoint."""

from __future__ import annotations

from transformers import SegformerImageProcessorPil
from transformers.image_processing_utils import BaseImageProcessor

from mfm_hf.data.transforms import IMAGENET_MEAN, IMAGENET_STD


def default_image_processor() -> BaseImageProcessor:
    """ImageNet's normalisation and no resizing: an image is segmented at its own size, never squashed to a square.

    `AutoImageProcessor` loads what this saves with and without torchvision.
    """
    return SegformerImageProcessorPil(do_resize=False, image_mean=list(IMAGENET_MEAN), image_std=list(IMAGENET_STD))
