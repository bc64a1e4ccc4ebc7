"""Rare class sampling (RCS): a source image is drawn for a class, and a rare class is drawn more often.

Hoyer et al., DAFormer, CVPR 2022. Follows `mmseg/datasets/uda_dataset.py` of lhoyer/MIC (`get_rcs_class_probs`,
`UDADataset.get_rare_class_sample`). The crop that has to show the class is `TrainingTransform`'s part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfm_hf.data.class_statistics import ClassStatistics


@dataclass(frozen=True)
class RareClassSampling:
    """The numbers of rare class sampling. The defaults are DAFormer's, for crops of 512 x 512.

    Attributes:
        temperature: T of the softmax over classes; the lower, the rarer the classes that are drawn. Positive.
        min_pixels: An example is drawn for a class only if it shows more than this many pixels of it, at the size
            of the domain's labels.
        min_crop_ratio: A crop is accepted if it shows more than `min_pixels * min_crop_ratio` pixels of the class.
        leave_out_scarce: Whether to leave out a class that no example shows enough of; else it is an error.

    Raises:
        ValueError: A number is out of its range.
    """

    temperature: float = 0.01
    min_pixels: int = 3000
    min_crop_ratio: float = 0.5
    leave_out_scarce: bool = False

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"--rare_class_temperature is {self.temperature}: give a positive number")
        if self.min_pixels < 0 or self.min_crop_ratio < 0:
            raise ValueError(
                f"--rare_class_min_pixels is {self.min_pixels} and --rare_class_min_crop_ratio {self.min_crop_ratio}: "
                "give 0 or more"
            )

    @classmethod
    def for_crop(cls, crop_size: tuple[int, int]) -> RareClassSampling:
        """The papers' numbers for their crops, and numbers in proportion for crops of `(height, width)` pixels.

        What a crop must show is the same share of its area as in the papers: 1500 pixels of 512 x 512 (DAFormer) and
        6000 of 1024 x 1024 (HRDA, MIC), 0.57 % both. The papers get there from 3000 pixels of a native image of
        1914 x 1052 (GTA), whatever the crop, by ratios of 0.5 and 2. So larger crops raise the ratio; smaller
        ones lower the 3000 pixels, because they come from smaller images.
        """
        area = crop_size[0] * crop_size[1] / 512**2
        return cls(min_pixels=round(3000 * min(1.0, area)), min_crop_ratio=0.5 * max(1.0, area))


class RareClassSampler:
    """Draws a class, then an example that shows it.

    Args:
        statistics: Of the domain to draw from.
        config: The numbers.

    Attributes:
        probabilities: P(c), `float32` array `(classes,)`.
        min_crop_pixels: A crop should show more pixels than this of the class that it was drawn for.
        num_examples: Number of examples in the statistics.

    Raises:
        ValueError: No example shows enough of a class that occurs, or of any class.
    """

    def __init__(self, statistics: ClassStatistics, config: RareClassSampling | None = None) -> None:
        config = config or RareClassSampling()
        shows: np.ndarray = statistics.counts > config.min_pixels
        drawable = np.asarray(shows.any(axis=0))
        if not drawable.any() or not config.leave_out_scarce:
            _check_drawable(statistics, drawable, config.min_pixels)
        self.probabilities = class_probabilities(statistics.pixels_per_class, config.temperature, drawable)
        self.min_crop_pixels = config.min_pixels * config.min_crop_ratio
        self.num_examples = len(statistics.counts)
        self._examples = [np.flatnonzero(column) for column in shows.T]
        weights = self.probabilities.astype(np.float64)
        self._weights = weights / weights.sum()  # NumPy wants a sum of 1 in double precision

    @property
    def num_drawable(self) -> int:
        """Number of different examples that can be drawn."""
        return len(np.unique(np.concatenate(self._examples)))

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Draw a class by P(c), and one of the examples that show it, uniformly. Returns class id, example's index."""
        class_id = int(rng.choice(len(self._weights), p=self._weights))
        examples = self._examples[class_id]
        return class_id, int(examples[rng.integers(len(examples))])


def class_probabilities(
    pixels_per_class: np.ndarray, temperature: float, among: np.ndarray | None = None
) -> np.ndarray:
    """P(c) = exp((1 - f_c) / T) / sum over c' of exp((1 - f_c') / T), with f_c the share of class c in all pixels.

    Args:
        pixels_per_class: Pixels of each class, integers `(classes,)`.
        temperature: T.
        among: `bool` array `(classes,)`: the classes that the softmax runs over. Default: those that occur.

    Returns:
        `float32` array `(classes,)`, computed in that precision as the reference does; 0 for the other classes.
    """
    among = pixels_per_class > 0 if among is None else among
    frequencies = pixels_per_class.astype(np.float32) / np.float32(pixels_per_class.sum())
    logits = (1 - frequencies[among]) / np.float32(temperature)
    exponentials = np.exp(logits - logits.max())
    probabilities = np.zeros(len(pixels_per_class), np.float32)
    probabilities[among] = exponentials / exponentials.sum()
    return probabilities


def _check_drawable(statistics: ClassStatistics, drawable: np.ndarray, min_pixels: int) -> None:
    scarce = np.flatnonzero(~drawable & (statistics.pixels_per_class > 0))
    if len(scarce):
        listed = ", ".join(
            f"{statistics.names[class_id]} (at most {statistics.counts[:, class_id].max()})" for class_id in scarce
        )
        raise ValueError(f"no example shows more than {min_pixels} pixels of {listed}: lower --rare_class_min_pixels")
    if not drawable.any():
        raise ValueError("no example shows a pixel of any class: rare class sampling needs labels")
