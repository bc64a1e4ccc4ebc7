"""The training stream: endless, shuffled, exactly resumable, and the same for any number of workers.

Two rules make it so. Light rows are shuffled and counted in the main process, and workers only decode and transform.
And the random numbers of a sample are a function of (seed, position in the stream), so that no worker has a state. To
resume is to start at a position.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mfm_hf.data.domain import BadExampleError, Domain
from mfm_hf.data.draws import Draw, draws, rare_class_draws
from mfm_hf.data.rare_class_sampling import RareClassSampler, RareClassSampling
from mfm_hf.data.stream_sampling import rare_class_draws_in_blocks
from mfm_hf.data.transforms import TrainingTransform
from mfm_hf.data.workers import WorkerDiedError, heed_parent_alone

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BadSample:
    """Takes the place of a sample that could not be made."""

    reason: str


class TrainingStream:
    """An endless iterator of training batches of one domain.

    A batch holds `pixel_values`, a `uint8` tensor `(B, 3, h, w)`; `labels`, an `int64` tensor `(B, h, w)`, if the
    domain is labelled; `valid`, a `bool` tensor `(B, h, w)`, if the transform has margins; `names` and `positions`,
    lists of length B.

    Args:
        domain: Where the examples come from.
        transform: What is made of them.
        batch_size: Samples per batch of this process.
        seed: A non-negative number. Two streams of one run are given different ones.
        num_workers: Processes that decode; 0 decodes in this one. It changes no sample.
        rank: This process among `world_size`.
        world_size: Number of processes that share the stream. Together, their batches are the batches of a
            single process with a batch `world_size` times as large.
        start: The position to start from: 0, or the saved `position` of the run to resume.
        max_bad_samples: Number of different bad samples to skip, each with a warning, before an error.
        bad_samples: Those that were met before the start, to resume.
        pin_memory: Put batches into page-locked memory, from where they are copied to a GPU faster.
        rare_class_sampling: Draws examples by their classes: from the whole domain; or, given the numbers alone, from
            blocks of a domain whose rows can only be streamed. None draws every example once per epoch.

    Attributes:
        position: The position to resume from after the batches that were taken. Bad samples count. Processes differ
            in it only where they met different numbers of bad samples.
    """

    def __init__(
        self,
        domain: Domain,
        transform: TrainingTransform,
        batch_size: int,
        seed: int,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        max_bad_samples: int = 0,
        bad_samples: Collection[str] = (),
        pin_memory: bool = False,
        rare_class_sampling: RareClassSampler | RareClassSampling | None = None,
    ) -> None:
        self.domain = domain
        self.batch_size = batch_size
        self.max_bad_samples = max_bad_samples
        self.position = start
        self._world_size = world_size
        self._pin_memory = pin_memory
        self._bad = dict.fromkeys(bad_samples)
        shard = (seed, start, rank, world_size)
        self._num_usable = domain.num_rows
        if rare_class_sampling is None:
            sampler = draws(domain, *shard)
        elif isinstance(rare_class_sampling, RareClassSampling):
            sampler = rare_class_draws_in_blocks(domain, rare_class_sampling, *shard, max_bad_samples=max_bad_samples)
        else:
            self._num_usable = rare_class_sampling.num_drawable
            sampler = rare_class_draws(domain, rare_class_sampling, *shard)
        self._samples: Iterator[dict[str, Any] | BadSample] = iter(
            DataLoader(
                _Samples(domain, transform, seed),
                batch_size=None,  # batches are made here, where bad samples are known
                sampler=sampler,
                collate_fn=_unchanged,
                num_workers=num_workers,
                worker_init_fn=heed_parent_alone,
                # Two batches ahead in all; the default of 2 samples per worker can be less than one batch.
                prefetch_factor=max(2, math.ceil(2 * batch_size / num_workers)) if num_workers else None,
                generator=torch.Generator(),  # a loader draws a number on creation: not from the global generator
            )
        )

    @property
    def bad_samples(self) -> tuple[str, ...]:
        """What is wrong with each of the different bad samples met so far."""
        return tuple(self._bad)

    @property
    def num_bad(self) -> int:
        """Number of different bad samples met since the start."""
        return len(self._bad)

    def __iter__(self) -> TrainingStream:
        return self

    def __next__(self) -> dict[str, Any]:
        """Return the next batch.

        Raises:
            BadExampleError: There were more than `max_bad_samples` bad samples, or no others.
            WorkerDiedError: A process that decodes has died.
            StopIteration: The stream was closed.
        """
        samples: list[dict[str, Any]] = []
        while len(samples) < self.batch_size:
            try:
                sample = next(self._samples)
            except (ConnectionError, EOFError) as error:  # met before PyTorch has noticed why
                raise WorkerDiedError(f"the connection to it was lost, {error}") from error
            self.position += self._world_size
            if isinstance(sample, BadSample):
                self._note_bad(sample)
            else:
                samples.append(sample)
        tensors = [key for key, value in samples[0].items() if isinstance(value, Tensor)]
        return {
            **{key: self._stack([sample[key] for sample in samples]) for key in tensors},
            "names": [sample["name"] for sample in samples],
            "positions": [sample["position"] for sample in samples],
        }

    def close(self) -> None:
        """End the workers. The stream has no batches afterwards."""
        self._samples = iter(())  # a loader's iterator that nobody holds ends its workers

    def _stack(self, tensors: list[Tensor]) -> Tensor:
        shape = (len(tensors), *tensors[0].shape)
        batch = torch.empty(shape, dtype=tensors[0].dtype, pin_memory=self._pin_memory)
        return torch.stack(tensors, out=batch)

    def _note_bad(self, sample: BadSample) -> None:
        if sample.reason in self._bad:
            return  # met again in a later epoch
        self._bad[sample.reason] = None
        if self.num_bad > self.max_bad_samples or self.num_bad == self._num_usable:
            raise BadExampleError(
                f"{self.num_bad} of {self._num_usable} samples in {self.domain.name} are bad (--max_bad_samples is "
                f"{self.max_bad_samples}); the last: {sample.reason}"
            )
        logger.warning("skipped a bad sample of %s: %s", self.domain.name, sample.reason)


class _Samples(Dataset):
    """Makes the sample of a draw. Lives in the workers, each of which PyTorch gives one thread."""

    def __init__(self, domain: Domain, transform: TrainingTransform, seed: int) -> None:
        self._decode = domain.decode  # and not the domain: its rows stay in the main process
        self._transform = transform
        self._seed = seed

    def __getitem__(self, draw: Draw) -> dict[str, Any] | BadSample:
        rng = np.random.default_rng([self._seed, draw.position])
        try:
            sample = self._transform(self._decode(draw.row), rng, draw.required)
        except BadExampleError as error:
            return BadSample(str(error))
        return sample | {"position": draw.position}


def _unchanged(sample: dict[str, Any] | BadSample) -> dict[str, Any] | BadSample:
    return sample
