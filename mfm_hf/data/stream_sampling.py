"""Rare class sampling on a domain that can only be streamed: an approximation, drawn from one block after another.

Exactly, a class is drawn by its share of the pixels of the whole domain, and then one of all examples that show it. A
stream tells neither beforehand. So the next rows, a block, are read into memory and their labels counted; as many draws
are made from the block as if it were the whole domain; then comes the next block. What that means:

- In each block, draws follow the formula with the block's own shares, which scatter around those of the domain: the
  less, the larger the blocks.
- A class that no example of a block shows enough of is not drawn from it. Over all blocks, a class is drawn with the
  mean of its probabilities in them: a class that few blocks show is drawn less often than the formula says.
- An example competes with its neighbours in the stream. Only the order of the dataset's files is shuffled beyond.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np

from mfm_hf.data.class_statistics import ClassStatistics, PixelCounts
from mfm_hf.data.domain import BadExampleError, Domain, Row
from mfm_hf.data.draws import RARE_CLASS_STREAM, Draw, check_epoch
from mfm_hf.data.rare_class_sampling import RareClassSampler, RareClassSampling
from mfm_hf.data.transforms import RequiredClass

logger = logging.getLogger(__name__)

_THREADS = 4  # that count labels; pictures are decoded outside of Python's lock


def rare_class_draws_in_blocks(
    domain: Domain,
    config: RareClassSampling,
    seed: int,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
    *,
    max_bad_samples: int = 0,
) -> Iterator[Draw]:
    """Yield rows of a streamed domain for ever, drawn for classes from blocks of at most `domain.shuffle_buffer` rows.

    Each draw is a function of (seed, position). To resume, the rows before the block are read and passed over.

    Args:
        domain: The domain; its rows carry the labels.
        config: The numbers. A class that a block does not show enough of is left out there.
        seed, start, rank, world_size: As for `draws`.
        max_bad_samples: Number of different rows without a usable label that are never drawn, each with a warning.

    Raises:
        BadExampleError: There are more such rows.
        ValueError: A block shows enough of no class, or an epoch had more or fewer rows than the domain has.
    """
    config = replace(config, leave_out_scarce=True)
    bounds = block_bounds(domain.num_rows, domain.shuffle_buffer)
    rows = domain.rows.shuffle(seed=seed, buffer_size=1)  # the order of files alone: the block is the buffer
    counter = _BlockCounter(domain, max_bad_samples)
    epoch, skip = divmod(start, domain.num_rows)
    while True:
        rows.set_epoch(epoch)
        pending = [(begin, end) for begin, end in pairwise(bounds) if end > skip]
        stream = islice(rows, pending[0][0], None)
        for begin, end in pending:
            block = list(islice(stream, end - begin))
            if len(block) < end - begin:
                check_epoch(domain, epoch, begin + len(block))
            sampler = RareClassSampler(counter.statistics(block), config)
            first = epoch * domain.num_rows
            for position in range(first + max(begin, skip), first + end):
                if position % world_size == rank:
                    class_id, index = sampler.draw(np.random.default_rng([seed, position, RARE_CLASS_STREAM]))
                    yield Draw(position, block[index], RequiredClass(class_id, sampler.min_crop_pixels))
        check_epoch(domain, epoch, domain.num_rows + sum(1 for _ in stream))
        epoch, skip = epoch + 1, 0


def block_bounds(num_rows: int, max_size: int) -> list[int]:
    """Return where blocks begin, and the end of the last. They are of one size up to 1 row, at most `max_size`."""
    num_blocks = -(-num_rows // max_size)
    return [index * num_rows // num_blocks for index in range(num_blocks + 1)]


class _BlockCounter:
    """Counts the classes of blocks, and remembers the bad rows that it met."""

    def __init__(self, domain: Domain, max_bad_samples: int) -> None:
        self._count = PixelCounts(domain).__getitem__
        self._name = domain.name
        self._class_names = domain.classes.names
        self._max_bad_samples = max_bad_samples
        self._bad: set[str] = set()

    def statistics(self, block: Sequence[Row]) -> ClassStatistics:
        """Return the statistics of a block, in which bad rows show no class."""
        counts = np.zeros((len(block), len(self._class_names)), np.int64)
        with ThreadPoolExecutor(_THREADS) as pool:
            for index, result in enumerate(pool.map(self._count, block)):
                if isinstance(result, str):
                    self._note_bad(result)
                else:
                    counts[index] = result
        return ClassStatistics(counts, self._class_names)

    def _note_bad(self, reason: str) -> None:
        if reason in self._bad:
            return  # met again in a later epoch
        self._bad.add(reason)
        if len(self._bad) > self._max_bad_samples:
            raise BadExampleError(
                f"{len(self._bad)} labels of {self._name} are bad (--max_bad_samples is {self._max_bad_samples}); the "
                f"last: {reason}"
            )
        logger.warning("never draw a bad sample of %s: %s", self._name, reason)
