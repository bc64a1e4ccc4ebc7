"""From a decoded example to a training sample: crop, flip, tensors; and the normalisation of pixels.

Crop and flip follow the pipelines of the reference implementations (lhoyer/MIC, `seg/configs/_base_/datasets`), which
use `RandomCrop` and `RandomFlip` of mmsegmentation. No random scaling and no colour jitter: the recipes of domain
adaptation do their own, on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from mfm_hf.data.classes import IGNORE_INDEX
from mfm_hf.data.domain import BadExampleError, Example

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PIXEL_MEAN = (123.675, 116.28, 103.53)  # the same for pixels from 0 to 255, as the references write them
PIXEL_STD = (58.395, 57.12, 57.375)

CROP_REDRAWS = 10  # as mmsegmentation's RandomCrop
REQUIRED_CLASS_REDRAWS = 10  # as UDADataset.get_rare_class_sample of lhoyer/MIC

Box = tuple[slice, slice]


@dataclass(frozen=True)
class RequiredClass:
    """A class that a crop should show more than `pixels` pixels of."""

    class_id: int
    pixels: float


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
        margins: Widths in pixels of the top, bottom, left and right margin of the image, before crop and flip, whose
            pseudo-labels are not to be trusted. Part of the target domain, not of a recipe: HRDA and MIC cut
            the rectified borders of Cityscapes off so (`valid_pseudo_mask`; 30, 240, 30, 30 at 1024 x 2048).
    """

    crop_size: tuple[int, int]
    cat_max_ratio: float = 0.75
    flip_probability: float = 0.5
    ignore_index: int = IGNORE_INDEX
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        if min(self.margins) < 0:
            raise ValueError(f"margins are {self.margins}: give pixels at the top, bottom, left and right, 0 or more")

    def __call__(
        self, example: Example, rng: np.random.Generator, required: RequiredClass | None = None
    ) -> dict[str, Any]:
        """Return the sample that the random numbers of `rng` make of an example.

        Args:
            example: The decoded image; with its label, if a class is required.
            rng: Where crop and flip come from.
            required: Crop and flip are drawn again, up to 10 times, until the crop shows enough of this class.

        Returns:
            `pixel_values`: `uint8` tensor `(3, h, w)`, 0 to 255, not normalised: that is done for the whole batch on
            the device, see `normalize`. `labels`: `int64` tensor `(h, w)`, absent without a label. `valid`: `bool`
            tensor `(h, w)`, False in the margins, absent where there are none. `name`.

        Raises:
            BadExampleError: The image is smaller than the crop, or lies in its margins as a whole.
        """
        box, flip = self._draw(example, rng)
        if required is not None:
            for _ in range(REQUIRED_CLASS_REDRAWS):
                if _shows(example, box, required):
                    break
                box, flip = self._draw(example, rng)
        pixels = example.image[box][:, flip].transpose(2, 0, 1)
        sample = {"pixel_values": torch.from_numpy(np.ascontiguousarray(pixels)), "name": example.name}
        if example.label is not None:
            sample["labels"] = torch.from_numpy(example.label[box][:, flip].astype(np.int64))
        if any(self.margins):
            sample["valid"] = torch.from_numpy(self._inside_margins(example)[box][:, flip].copy())
        return sample

    def _draw(self, example: Example, rng: np.random.Generator) -> tuple[Box, slice]:
        box = self._draw_box(example, rng)
        return box, slice(None, None, -1 if rng.random() < self.flip_probability else 1)

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

    def _inside_margins(self, example: Example) -> np.ndarray:
        height, width = example.image.shape[:2]
        top, bottom, left, right = self.margins
        if top + bottom >= height or left + right >= width:
            raise BadExampleError(
                f"{example.name} is {height}x{width}, of which the margins {self.margins} leave nothing"
            )
        inside = np.zeros((height, width), bool)
        inside[top : height - bottom, left : width - right] = True
        return inside


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


def _shows(example: Example, box: Box, required: RequiredClass) -> bool:
    label = cast(np.ndarray, example.label)[box]
    return bool(np.count_nonzero(label == required.class_id) > required.pixels)


def normalize(pixel_values: Tensor) -> Tensor:
    """Turn `uint8` pixels `(..., 3, H, W)` into the `float32` input of a network.

    In the order of the references' arithmetic, `(x - 255 mean) / (255 std)`: the saved image processor divides by 255
    first, which differs in the last bit, and a replayed training step notices even that.
    """
    mean, std = _channels(PIXEL_MEAN, pixel_values.device), _channels(PIXEL_STD, pixel_values.device)
    return (pixel_values - mean) / std


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
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1).to(device, non_blocking=True)
