"""From a decoded example to a training sample: crop, flip, tensors; and the normalisation of pixels.

Crop and flip follow the pipelines of the reference implementations (lhoyer/MIC, `seg/configs/_base_/datasets`), which
use `RandomCrop` and `RandomFlip` of mmsegmentation. No random scaling and no colour jitter: the recipes of domain
adaptation do their own, on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mfm_hf.data.classes import IGNORE_INDEX
from mfm_hf.data.domain import BadExampleError, Example

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

CROP_REDRAWS = 10  # as mmsegmentation's RandomCrop

Box = tuple[slice, slice]


@dataclass(frozen=True)
class TrainingTransform:
    """Random crop and horizontal flip of an image and its label.

    Attributes:
        crop_size: Height and width of the crop in pixels.
        cat_max_ratio: A crop is drawn again, up to 10 times, until it shows more than one class and its most
            frequent class covers less than this share of the labelled pixels. 1 accepts the first crop, as do
            examples without a label.
        flip_probability: Probability of a horizontal flip.
        ignore_index: The label of pixels without a class.
    """

    crop_size: tuple[int, int]
    cat_max_ratio: float = 0.75
    flip_probability: float = 0.5
    ignore_index: int = IGNORE_INDEX

    def __call__(self, example: Example, rng: np.random.Generator) -> dict[str, Any]:
        """Return the sample that the random numbers of `rng` make of an example.

        Returns:
            `pixel_values`: `uint8` tensor `(3, h, w)`, 0 to 255, not normalised: that is done for the whole batch on
            the device, see `normalize`. `labels`: `int64` tensor `(h, w)`, absent without a label. `name`.

        Raises:
            BadExampleError: The image is smaller than the crop.
        """
        box = self._draw_box(example, rng)
        flip = slice(None, None, -1) if rng.random() < self.flip_probability else slice(None)
        pixels = example.image[box][:, flip].transpose(2, 0, 1)
        sample = {"pixel_values": torch.from_numpy(np.ascontiguousarray(pixels)), "name": example.name}
        if example.label is not None:
            sample["labels"] = torch.from_numpy(example.label[box][:, flip].astype(np.int64))
        return sample

    def _draw_box(self, example: Example, rng: np.random.Generator) -> Box:
        height, width = example.image.shape[:2]
        if self.crop_size[0] > height or self.crop_size[1] > width:
            crop = "x".join(map(str, self.crop_size))
            raise BadExampleError(f"{example.name} is {height}x{width}, smaller than the crop {crop}")
        box = random_box((height, width), self.crop_size, rng)
        if example.label is None or self.cat_max_ratio >= 1:
            return box
        for _ in range(CROP_REDRAWS):
            if is_varied(example.label[box], self.cat_max_ratio, self.ignore_index):
                break
            box = random_box((height, width), self.crop_size, rng)
        return box


def random_box(image_size: tuple[int, int], crop_size: tuple[int, int], rng: np.random.Generator) -> Box:
    """Draw a crop's rows and columns. Offsets are uniform in [0, margin], both ends included; sizes in pixels."""
    top, left = (
        int(rng.integers(image - crop, endpoint=True)) for image, crop in zip(image_size, crop_size, strict=True)
    )
    return slice(top, top + crop_size[0]), slice(left, left + crop_size[1])


def is_varied(label: np.ndarray, max_ratio: float, ignore_index: int) -> bool:
    """Whether a label `(h, w)` has several classes, the largest of them under `max_ratio` of the labelled pixels."""
    counts = np.bincount(label[label != ignore_index])
    return bool(np.count_nonzero(counts) > 1 and counts.max() < max_ratio * counts.sum())


def normalize(pixel_values: Tensor) -> Tensor:
    """Turn `uint8` pixels `(..., 3, H, W)` into the `float32` input of a network, as the saved image processor does."""
    return standardize(pixel_values / 255)


def denormalize(pixel_values: Tensor) -> Tensor:
    """Invert `normalize`: `float32` `(..., 3, H, W)` to `uint8`, rounded and clipped to 0 to 255."""
    return (unstandardize(pixel_values) * 255).round().clamp(0, 255).to(torch.uint8)


def standardize(image: Tensor) -> Tensor:
    """Turn RGB `(..., 3, H, W)` in 0..1 into the input of a network, by the mean and deviation of ImageNet."""
    return (image - _channels(IMAGENET_MEAN, image.device)) / _channels(IMAGENET_STD, image.device)


def unstandardize(pixel_values: Tensor) -> Tensor:
    """Invert `standardize`."""
    device = pixel_values.device
    return pixel_values * _channels(IMAGENET_STD, device) + _channels(IMAGENET_MEAN, device)


def _channels(values: tuple[float, float, float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(3, 1, 1)
