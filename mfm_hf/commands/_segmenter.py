"""A checkpoint as a command uses it: images in, class ids of the same size out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers import BaseImageProcessor, PreTrainedModel
from transformers.modeling_outputs import SemanticSegmenterOutput

from mfm_hf.commands._checkpoint import load_image_processor, load_model
from mfm_hf.data.classes import CITYSCAPES, ClassSet, class_set_from_names
from mfm_hf.data.image_files import rgb
from mfm_hf.data.resizing import fit_size, resize_image
from mfm_hf.evaluation.inference import segment
from mfm_hf.hub.image_processor import box_of
from mfm_hf.models.sliding_window import SlidingWindow

# What Pillow raises for what is no image, or a damaged one.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Segmenter:
    """A network in eval mode, the image processor that was saved beside it, and its classes.

    Attributes:
        window: Windows in which the network sees an image. None: what its `forward` does, as in `evaluate_model`.
    """

    name: str
    model: PreTrainedModel
    processor: BaseImageProcessor
    classes: ClassSet
    window: SlidingWindow | None = None

    def segment(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """Segment RGB images of one size.

        What the processor of a network of ours would resize is resized as in training, see `mfm_hf.data.resizing`.

        Returns:
            Class ids of every image, `uint8` or (above 256 classes) `uint16` (height, width), at the image's size.
        """
        sizes = [(image.height, image.width) for image in images]
        box, resizing = box_of(self.processor.to_dict()), {}
        arrays = [np.asarray(image) for image in images]
        if box is not None:
            arrays = [resize_image(array, fit_size(size, box)) for array, size in zip(arrays, sizes, strict=True)]
            resizing = {"do_resize": False}
        pixel_values = self.processor(images=arrays, return_tensors="pt", **resizing)["pixel_values"]
        with torch.inference_mode():
            logits = segment(self.model, pixel_values.to(self.model.device, self.model.dtype), self.window)
            outputs = SemanticSegmenterOutput(logits=logits)
            labels = self.processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
        dtype = np.uint8 if len(self.classes) <= 256 else np.uint16
        return [label.cpu().numpy().astype(dtype) for label in labels]


def load_segmenter(name: str, device: str | None = None) -> Segmenter:
    """Load a checkpoint and what belongs to it.

    Args:
        name: A checkpoint folder or a Hub id. Ours and those of `transformers` alike.
        device: Where to put it, as PyTorch writes it. Default: the GPU if there is one.

    Raises:
        ValueError: If the device, the checkpoint or its image processor cannot be used.
    """
    model = load_model(name, device)
    processor = load_image_processor(name)
    if processor is None:
        raise ValueError(f"{name} has no image processor (preprocessor_config.json): save one beside the model")
    id2label = model.config.id2label
    names = tuple(id2label[index] for index in sorted(id2label))
    classes = CITYSCAPES if names == CITYSCAPES.names else class_set_from_names(names)
    return Segmenter(name, model, processor, classes)


def read_image(path: Path, max_file_pixels: int | None = None) -> Image.Image:
    """Read an image file as a person sees it: upright, in RGB.

    Args:
        path: The file.
        max_file_pixels: Refuse larger images, before their pixels are decoded. Default: Pillow's own limit.

    Raises:
        ValueError: If it is too large or no image that can be read; one line that says so.
    """
    try:
        with Image.open(path) as file:
            if max_file_pixels is not None and file.width * file.height > max_file_pixels:
                size, most = f"{file.width} x {file.height}", max_file_pixels // 10**6
                raise ValueError(f"it has {size} pixels, and {most} million are the most: shrink it")
            return Image.fromarray(rgb(ImageOps.exif_transpose(file), path.name))
    except _UNREADABLE as error:
        raise ValueError(" ".join(str(error).split())) from error
