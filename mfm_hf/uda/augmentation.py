"""The strong augmentation of mixed images: colour jitter and blur, with the functions of the references.

They are those of kornia 0.5.8, which the references use; the colour jitter of today's kornia is another function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mfm_hf.data.transforms import standardize, unstandardize

COLOR_OPERATIONS = 4  # brightness, contrast, saturation, hue
BLUR_RADIUS = 6  # standard deviations of a Gaussian, beyond which lie 2e-9 of it: less than float32 can see


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
    pixel_values = _jitter(pixel_values, [augmentation.color_jitter for augmentation in augmentations])
    sigmas = [augmentation.blur_sigma for augmentation in augmentations]
    return pixel_values if sigmas.count(None) == len(sigmas) else gaussian_blur(pixel_values, sigmas)


def _jitter(pixel_values: Tensor, jitters: Sequence[ColorJitter | None]) -> Tensor:
    """Jitter the colours of a normalised batch, all images of one order at once."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, jitter in enumerate(jitters):
        if jitter is not None:
            groups.setdefault(jitter.order, []).append(index)
    if not groups:
        return pixel_values
    images = list(pixel_values.unbind())
    for indices in groups.values():
        group = unstandardize(torch.stack([images[index] for index in indices]))
        group = standardize(jitter_colors(group, [jitter for index in indices if (jitter := jitters[index])]))
        for index, image in zip(indices, group, strict=True):
            images[index] = image
    return torch.stack(images)


def jitter_colors(images: Tensor, jitters: Sequence[ColorJitter]) -> Tensor:
    """Change the colours of RGB images (batch, 3, height, width) in 0..1, of each by its own factors.

    Args:
        images: The images.
        jitters: For each image its changes, which come in the same order for all.
    """
    factors = torch.tensor([(j.brightness - 1, j.contrast, j.saturation, 6 * j.hue) for j in jitters])
    brightness, contrast, saturation, hue = factors.to(images, non_blocking=True).view(-1, 4, 1, 1, 1).unbind(dim=1)
    for operation in jitters[0].order:
        if operation == 0:
            images = (images + brightness).clamp_(0, 1)
        elif operation == 1:
            images = (images * contrast).clamp_(0, 1)
        elif operation == 2:
            images = saturate(images, saturation)
        else:
            old_hue, *rest = rgb_to_hsv(images)
            images = hsv_to_rgb(old_hue + hue.squeeze(1), *rest)
    return images


def saturate(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the saturation (HSV) and clamp it to 0..1, as on the way through `rgb_to_hsv` and `hsv_to_rgb`.

    The hue need not be known for that: the distances of the channels to the brightest keep their ratios.

    Args:
        images: RGB (batch, 3, height, width) in 0..1.
        factor: (batch, 1, 1, 1).
    """
    value = images.amax(dim=1, keepdim=True)
    delta = value - images.amin(dim=1, keepdim=True)
    scale = torch.minimum(factor * value / (value + 1e-6), value / delta.masked_fill_(delta == 0, 1))
    return value - (value - images).mul_(scale)


def rgb_to_hsv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue (0..6, a sixth of a turn is 1), saturation and value, each (batch, height, width)."""
    red, green, blue = image.unbind(dim=1)
    value = image.amax(dim=1)
    delta = value - image.amin(dim=1)
    saturation = delta / (value + 1e-6)
    delta.masked_fill_(delta == 0, 1)
    from_green, from_blue = 2 + (blue - red) / delta, 4 + (red - green) / delta
    hue = torch.where(value == red, (green - blue) / delta, torch.where(value == green, from_green, from_blue))
    return torch.remainder(hue, 6), saturation, value


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return RGB (batch, 3, height, width) of what `rgb_to_hsv` returns; any hue is taken modulo 6."""
    chroma = value * saturation
    channels = []
    for start in (5, 3, 1):  # red, green, blue
        distance = torch.remainder(hue + start, 6)
        ramp = torch.minimum(distance, 4 - distance).clamp_(0, 1)
        channels.append(value - chroma * ramp)
    return torch.stack(channels, dim=1)


def blur_kernel_size(side: int) -> int:
    """Return the kernel's size for images of this height or width: about a tenth, odd (51 for 512, 103 for 1024)."""
    tenth = math.ceil(0.1 * side)
    return math.floor(tenth - 0.5 + tenth % 2)


def gaussian_blur(images: Tensor, sigmas: Sequence[float | None]) -> Tensor:
    """Blur each image (batch, channels, height, width) with its own Gaussian, reflecting at the border.

    The kernels end where `blur_kernel_size` says or, mostly earlier, six sigmas from the middle (15 weights for 1.15
    pixels): the weights further out come to less than 2e-9 of the sum.

    Args:
        images: The images.
        sigmas: For each image the standard deviation in pixels; None leaves it as it is.
    """
    batch, channels, height, width = images.shape
    widest = math.ceil(BLUR_RADIUS * max(sigma for sigma in sigmas if sigma is not None))
    rows, columns = (min(blur_kernel_size(side) // 2, widest) for side in (height, width))
    blurred = F.pad(images.reshape(1, -1, height, width), (columns, columns, rows, rows), mode="reflect")
    if images.device.type == "cpu":  # where PyTorch's kernel for contiguous maps takes four times as long
        blurred = blurred.contiguous(memory_format=torch.channels_last)
    for radius, shape in ((rows, (-1, 1, 1 + 2 * rows, 1)), (columns, (-1, 1, 1, 1 + 2 * columns))):
        kernels = torch.stack([_gaussian(sigma, radius) for sigma in sigmas]).to(images, non_blocking=True)
        blurred = F.conv2d(blurred, kernels.repeat_interleave(channels, dim=0).view(shape), groups=batch * channels)
    return blurred.contiguous().view(batch, channels, height, width)


def _gaussian(sigma: float | None, radius: int) -> Tensor:
    offsets = torch.arange(-radius, radius + 1)
    if sigma is None:
        return (offsets == 0).float()
    return torch.softmax(-(offsets**2) / (2 * sigma**2), dim=0)
