"""The strong augmentation of mixed images: colour jitter and blur, with the functions of the references.

They are those of kornia 0.5.8, which the references use; the colour jitter of today's kornia is another function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mfm_hf.data.transforms import standardize, unstandardize

COLOR_OPERATIONS = 4  # brightness, contrast, saturation, hue


@dataclass(frozen=True)
class ColorJitter:
    """The colour changes of one image.

    Args:
        brightness: Factor b; b - 1 is added to the image, which is then clamped to 0..1.
        contrast: Factor that multiplies the image, which is then clamped.
        saturation: Factor that multiplies the saturation (HSV), which is then clamped.
        hue: Shift of the hue in turns.
        order: Permutation of 0 (brightness), 1 (contrast), 2 (saturation), 3 (hue): the order in which they happen.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    order: tuple[int, ...]

    @classmethod
    def draw(cls, strength: float, generator: torch.Generator) -> ColorJitter:
        """Draw the factors uniformly from 1 +- strength, the hue from 0 +- strength, and the order."""
        offsets = (torch.rand(COLOR_OPERATIONS, generator=generator) * 2 - 1) * strength
        brightness, contrast, saturation, hue = offsets.tolist()
        order = torch.randperm(COLOR_OPERATIONS, generator=generator).tolist()
        return cls(1 + brightness, 1 + contrast, 1 + saturation, hue, tuple(order))


@dataclass(frozen=True)
class AugmentationConfig:
    """How strong the strong augmentation is (`dacs.py` in lhoyer/DAFormer).

    Args:
        color_jitter_strength: Half the range of each colour factor.
        color_jitter_probability: How often a batch is colour-jittered.
        blur_probability: How often a batch is blurred.
    """

    color_jitter_strength: float = 0.2
    color_jitter_probability: float = 0.8
    blur_probability: float = 0.5


@dataclass(frozen=True)
class StrongAugmentation:
    """What happens to one image; None means that it does not."""

    color_jitter: ColorJitter | None = None
    blur_sigma: float | None = None


def draw_strong_augmentations(
    number: int, config: AugmentationConfig, generator: torch.Generator, shared: bool = False
) -> tuple[StrongAugmentation, ...]:
    """Draw the augmentations of the images of a batch (`dacs_transforms.py` in lhoyer/DAFormer).

    Whether there is jitter, and whether there is blur, is decided once for the batch; the factors and the width of
    the blur (0.15 to 1.15 pixels) are drawn for each image.

    Args:
        number: Images in the batch.
        config: How strong the augmentation is.
        generator: Source of randomness.
        shared: Whether the images share the order of the colour operations and the width of the blur, as they do in
            MIC, which augments its batch at once.
    """
    jitter_gate, blur_gate = torch.rand(2, generator=generator).tolist()
    augmentations = []
    for _ in range(number):
        jitter = ColorJitter.draw(config.color_jitter_strength, generator)
        sigma = 0.15 + torch.rand((), generator=generator).item()
        augmentations.append(
            StrongAugmentation(
                color_jitter=jitter if jitter_gate < config.color_jitter_probability else None,
                blur_sigma=sigma if blur_gate < config.blur_probability else None,
            )
        )
    return tuple(_share(augmentations) if shared else augmentations)


def _share(augmentations: list[StrongAugmentation]) -> list[StrongAugmentation]:
    first = augmentations[0]
    shared = []
    for augmentation in augmentations:
        jitter = augmentation.color_jitter
        if jitter is not None and first.color_jitter is not None:
            jitter = replace(jitter, order=first.color_jitter.order)
        shared.append(StrongAugmentation(jitter, first.blur_sigma))
    return shared


def augment(pixel_values: Tensor, augmentations: tuple[StrongAugmentation, ...]) -> Tensor:
    """Apply to every image of a normalised batch (batch, 3, height, width) its own augmentation: jitter, then blur."""
    images = []
    for image, augmentation in zip(pixel_values.split(1), augmentations, strict=True):
        if augmentation.color_jitter is not None:
            image = standardize(jitter_colors(unstandardize(image), augmentation.color_jitter))
        if augmentation.blur_sigma is not None:
            image = gaussian_blur(image, augmentation.blur_sigma)
        images.append(image)
    return torch.cat(images)


def jitter_colors(image: Tensor, jitter: ColorJitter) -> Tensor:
    """Change the colours of RGB images (batch, 3, height, width) in 0..1."""
    for operation in jitter.order:
        if operation == 0:
            image = (image + (jitter.brightness - 1)).clamp(0, 1)
        elif operation == 1:
            image = (image * jitter.contrast).clamp(0, 1)
        else:
            hue, saturation, value = rgb_to_hsv(image)
            if operation == 2:
                saturation = (saturation * jitter.saturation).clamp(0, 1)
            else:
                hue = hue + 6 * jitter.hue
            image = hsv_to_rgb(hue, saturation, value)
    return image


def rgb_to_hsv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue (0..6, a sixth of a turn is 1), saturation and value, each (batch, height, width)."""
    red, green, blue = image.unbind(dim=1)
    value, brightest = image.max(dim=1)
    delta = value - image.amin(dim=1)
    saturation = delta / (value + 1e-6)
    delta = torch.where(delta == 0, torch.ones_like(delta), delta)
    sectors = torch.stack([(green - blue) / delta, 2 + (blue - red) / delta, 4 + (red - green) / delta], dim=1)
    hue = sectors.gather(1, brightest.unsqueeze(1)).squeeze(1)
    return torch.remainder(hue, 6), saturation, value


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return RGB (batch, 3, height, width) of what `rgb_to_hsv` returns; any hue is taken modulo 6."""
    channels = []
    for start in (5, 3, 1):  # red, green, blue
        distance = torch.remainder(hue + start, 6)
        ramp = torch.minimum(distance, 4 - distance).clamp(0, 1)
        channels.append(value - value * saturation * ramp)
    return torch.stack(channels, dim=1)


def blur_kernel_size(side: int) -> int:
    """Return the kernel's size for images of this height or width: about a tenth, odd (51 for 512, 103 for 1024)."""
    tenth = math.ceil(0.1 * side)
    return math.floor(tenth - 0.5 + tenth % 2)


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur images (batch, channels, height, width) with a Gaussian of `sigma` pixels, reflecting at the border."""
    channels = image.shape[1]
    for dim, side in ((2, image.shape[2]), (3, image.shape[3])):
        size = blur_kernel_size(side)
        offsets = torch.arange(size, device=image.device, dtype=image.dtype) - size // 2
        weights = torch.softmax(-(offsets**2) / (2 * sigma**2), dim=0)
        shape, padding = (
            ([1, 1, size, 1], (0, 0, size // 2, size // 2))
            if dim == 2
            else ([1, 1, 1, size], (size // 2,) * 2 + (0, 0))
        )
        kernel = weights.reshape(shape).expand(channels, -1, -1, -1)
        image = F.conv2d(F.pad(image, padding, mode="reflect"), kernel, groups=channels)
    return image
