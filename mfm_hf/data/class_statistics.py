"""How many pixels of each class the examples of a domain show. Rare class sampling goes by these numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mfm_hf.data.class_statistics_cache import ClassStatisticsCache
from mfm_hf.data.domain import BadExampleError, Domain, Example, Row

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Pixels by example and class, wherever they were counted.

    Attributes:
        counts: `int64` array `(examples, classes)`; row i belongs to row i of the domain. Ignored pixels are not
            counted.
        names: The names of the classes, by id.

    Raises:
        ValueError: The counts do not have a column for each name.
    """

    counts: np.ndarray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.counts.ndim != 2 or self.counts.shape[1] != len(self.names):
            raise ValueError(f"counts of shape {self.counts.shape} do not fit {len(self.names)} classes")

    @property
    def pixels_per_class(self) -> np.ndarray:
        """Pixels of each class over all examples, `int64` array `(classes,)`."""
        return self.counts.sum(axis=0)


def collect_class_statistics(
    domain: Domain, num_workers: int = 0, progress: bool = False, max_bad_samples: int = 0
) -> ClassStatistics:
    """Count the pixels of a labelled domain by class, at the labels' own size, or read what was counted before.

    The cache lies beside the data of a folder, else in the user's cache folder (see `ClassStatisticsCache`). It is
    left alone when the data has changed since, or when an example is bad, so that a bad one is met again next time.
    Of several processes, let one collect first: the others find its cache.

    Args:
        domain: The domain.
        num_workers: Processes that read labels; 0 reads them in this one.
        progress: Whether to show a progress bar while counting.
        max_bad_samples: Number of examples without a usable label that are allowed. They count 0 pixels.

    Raises:
        ValueError: The domain has no labels.
        BadExampleError: More than `max_bad_samples` examples are bad; the message names the last of them.
    """
    if not domain.labelled:
        raise ValueError(f"{domain.name} has no labels to count classes in: choose a labelled domain")
    if domain.class_counts is not None:
        return ClassStatistics(domain.class_counts(), domain.classes.names)
    cache = ClassStatisticsCache.of(domain)
    counts = cache.load() if cache is not None else None
    if counts is None:
        counts, num_bad = _count(domain, num_workers, progress, max_bad_samples)
        if cache is not None and num_bad == 0:
            cache.save(counts)
    return ClassStatistics(counts, domain.classes.names)


def _count(domain: Domain, num_workers: int, progress: bool, max_bad_samples: int) -> tuple[np.ndarray, int]:
    counts = np.zeros((domain.num_rows, len(domain.classes)), np.int64)
    num_bad = 0
    bar = tqdm(total=domain.num_rows, desc=f"count classes of {domain.name}", unit="image", disable=not progress)
    with bar:
        for index, result in enumerate(_pixel_counts(domain, num_workers)):
            bar.update()
            if isinstance(result, np.ndarray):
                counts[index] = result
                continue
            num_bad += 1
            if num_bad > max_bad_samples:
                raise BadExampleError(
                    f"{num_bad} labels of {domain.name} are bad (--max_bad_samples is {max_bad_samples}): {result}"
                )
            logger.warning("left a bad label of %s out of the class statistics: %s", domain.name, result)
    return counts, num_bad


def _pixel_counts(domain: Domain, num_workers: int) -> Iterator[np.ndarray | str]:
    """For every row in order, its pixels by class, or what is wrong with it."""
    return iter(
        DataLoader(
            PixelCounts(domain),
            batch_size=None,
            sampler=domain.rows,  # light, so the main process reads them and workers share the labels out
            collate_fn=_unchanged,
            num_workers=num_workers,
            prefetch_factor=16 if num_workers else None,
            generator=torch.Generator(),  # a loader draws a number on creation: not from the global generator
        )
    )


class PixelCounts(Dataset):
    """The pixels of each class in the label of a row, or what is wrong with it. Lives in the workers."""

    def __init__(self, domain: Domain) -> None:
        self._read = domain.label_source.read if domain.label_source else _LabelOfExample(domain.decode)
        self._num_classes = len(domain.classes)
        self._ignore_index = domain.ignore_index

    def __getitem__(self, row: Row) -> np.ndarray | str:
        try:
            label = self._read(row)
        except BadExampleError as error:
            return str(error)
        return np.bincount(label[label != self._ignore_index], minlength=self._num_classes)


@dataclass(frozen=True)
class _LabelOfExample:
    """Reads a label in the way that every labelled domain has."""

    decode: Callable[[Row], Example]

    def __call__(self, row: Row) -> np.ndarray:
        label = self.decode(row).label
        assert label is not None  # the domain is labelled
        return label


def _unchanged(result: np.ndarray | str) -> np.ndarray | str:
    return result
