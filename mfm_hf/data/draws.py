"""The order in which a training stream takes the rows of a domain: a function of (seed, position), so it resumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from mfm_hf.data.domain import Domain, Row
from mfm_hf.data.rare_class_sampling import RareClassSampler
from mfm_hf.data.transforms import RequiredClass

# Sets the random numbers that choose an example apart from those of its crop. Not 0, which would change nothing.
RARE_CLASS_STREAM = 1


@dataclass(frozen=True)
class Draw:
    """A row to be used, its global number in the endless stream, and the class that it was drawn for, if any."""

    position: int
    row: Row
    required: RequiredClass | None = None


def draws(domain: Domain, seed: int, start: int = 0, rank: int = 0, world_size: int = 1) -> Iterator[Draw]:
    """Yield the rows of a domain for ever, in an order that is a function of (seed, epoch).

    Args:
        domain: The domain.
        seed: A non-negative number.
        start: The first position, to resume.
        rank: This process, which takes the positions with `position % world_size == rank`.
        world_size: Number of processes.

    Raises:
        ValueError: An epoch had more or fewer rows than the domain has.
    """
    rows = domain.rows.shuffle(seed=seed, buffer_size=min(domain.num_rows, domain.shuffle_buffer))
    epoch, skip = divmod(start, domain.num_rows)
    while True:
        rows.set_epoch(epoch)
        first = epoch * domain.num_rows
        position = first + skip - 1
        # islice, since `skip` of a shuffled stream is not exact.
        for position, row in islice(enumerate(rows, first), skip, None):
            if position % world_size == rank:
                yield Draw(position, row)
        check_epoch(domain, epoch, position + 1 - first)
        epoch, skip = epoch + 1, 0


def check_epoch(domain: Domain, epoch: int, num_rows: int) -> None:
    """Raise `ValueError` if an epoch had another number of rows: positions would be wrong from there on."""
    if num_rows != domain.num_rows:
        raise ValueError(
            f"{domain.name} has {num_rows} rows in epoch {epoch}, not {domain.num_rows} as at the start: files were "
            "added, cut short or removed; put them back and resume"
        )


def rare_class_draws(
    domain: Domain, sampler: RareClassSampler, seed: int, start: int = 0, rank: int = 0, world_size: int = 1
) -> Iterator[Draw]:
    """Yield rows of a domain for ever, with replacement, each drawn for a class by a function of (seed, position).

    Args:
        domain: The domain, with random access to its rows.
        sampler: Draws a class and an example; made from the statistics of the same domain.
        seed, start, rank, world_size: As for `draws`.

    Raises:
        ValueError: The domain has no random access, or the sampler was made for another one.
    """
    row_at = domain.row_at
    if row_at is None:
        raise ValueError(f"{domain.name} can only be read in order, but rare class sampling by statistics jumps")
    if sampler.num_examples != domain.num_rows:
        raise ValueError(
            f"the class statistics are of {sampler.num_examples} examples, but {domain.name} has {domain.num_rows}: "
            "collect them from this domain"
        )

    def draw(position: int) -> Draw:
        class_id, index = sampler.draw(np.random.default_rng([seed, position, RARE_CLASS_STREAM]))
        return Draw(position, row_at(index), RequiredClass(class_id, sampler.min_crop_pixels))

    return map(draw, count(start + (rank - start) % world_size, world_size))
