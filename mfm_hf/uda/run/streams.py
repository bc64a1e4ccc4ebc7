"""The training streams of a run: the source's, and the target's where the recipe looks at it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator

from mfm_hf.data.class_statistics import collect_class_statistics
from mfm_hf.data.domain import Domain
from mfm_hf.data.loading import TrainingStream
from mfm_hf.data.rare_class_sampling import RareClassSampler, RareClassSampling
from mfm_hf.data.transforms import TrainingTransform
from mfm_hf.uda.recipes import Recipe
from mfm_hf.uda.run.run_state import StreamState
from mfm_hf.uda.training_args import UdaTrainingArguments

DEFAULT_BAD_TARGET_SAMPLES = 10


def batch_size_per_step(args: UdaTrainingArguments, recipe: Recipe) -> int:
    """Return how many images of each stream an optimizer step takes in a process: those of all its micro-batches."""
    return recipe.per_device_train_batch_size * args.gradient_accumulation_steps


class Streams:
    """The streams of this process by role, `source` and perhaps `target`.

    Args:
        domains: The domains by role.
        args: What the recipe does not decide.
        recipe: Crops, batch size, rare class sampling.
        accelerator: Tells this process from the others.
        states: By role, where to go on; None to start.
    """

    def __init__(
        self,
        domains: Mapping[str, Domain],
        args: UdaTrainingArguments,
        recipe: Recipe,
        accelerator: Accelerator,
        states: Mapping[str, StreamState] | None = None,
    ) -> None:
        self.streams: dict[str, TrainingStream] = {}
        for role, domain in domains.items():
            state = StreamState() if states is None else states[role]
            self.streams[role] = open_stream(domain, role, args, recipe, accelerator, state)

    def __len__(self) -> int:
        return len(self.streams)

    def next_batches(self) -> dict[str, dict[str, Any]]:
        """Return a batch of each stream; see `TrainingStream`."""
        return {role: next(stream) for role, stream in self.streams.items()}

    def state(self) -> dict[str, StreamState]:
        """Return by role where this process has to go on after the batches taken so far."""
        return {role: StreamState(stream.position, tuple(stream.bad_samples)) for role, stream in self.streams.items()}

    @property
    def num_bad(self) -> dict[str, int]:
        """Number of different bad samples that this process has met, by role."""
        return {role: len(stream.bad_samples) for role, stream in self.streams.items()}

    def close(self) -> None:
        """End the workers."""
        for stream in self.streams.values():
            stream.close()


def open_stream(
    domain: Domain,
    role: str,
    args: UdaTrainingArguments,
    recipe: Recipe,
    accelerator: Accelerator,
    state: StreamState,
) -> TrainingStream:
    """Open the stream of a domain, as this process reads it.

    Args:
        domain: The domain.
        role: `source` or `target`.
        args: What the recipe does not decide.
        recipe: Crops, batch size, rare class sampling.
        accelerator: Tells this process from the others.
        state: Where to go on.
    """
    transform = TrainingTransform(recipe.crop_size, recipe.source_cat_max_ratio, ignore_index=args.ignore_index)
    if role == "target" and args.pseudo_label_margins is not None:
        top, bottom, left, right = args.pseudo_label_margins
        transform = dataclasses.replace(transform, margins=(top, bottom, left, right))
    default_bad = DEFAULT_BAD_TARGET_SAMPLES if role == "target" else 0
    return TrainingStream(
        domain,
        transform,
        batch_size=batch_size_per_step(args, recipe),
        seed=2 * args.seed + (role == "target"),  # streams of one run must not shuffle alike
        num_workers=args.dataloader_num_workers,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        start=state.position,
        bad_samples=state.bad_samples,
        rare_class_sampling=_rare_class_sampler(domain, args, recipe, accelerator) if role == "source" else None,
        max_bad_samples=default_bad if args.max_bad_samples is None else args.max_bad_samples,
        pin_memory=accelerator.device.type == "cuda",
    )


def _rare_class_sampler(
    domain: Domain, args: UdaTrainingArguments, recipe: Recipe, accelerator: Accelerator
) -> RareClassSampler | RareClassSampling | None:
    if not recipe.rare_class_sampling:
        return None
    config = RareClassSampling(
        temperature=recipe.rare_class_temperature,
        min_pixels=recipe.rare_class_min_pixels,
        min_crop_ratio=recipe.rare_class_min_crop_ratio,
    )
    if domain.row_at is None:
        return config  # nothing can be counted beforehand
    with accelerator.main_process_first():  # the others find what it cached
        statistics = collect_class_statistics(
            domain,
            num_workers=args.dataloader_num_workers,
            progress=accelerator.is_main_process,
            max_bad_samples=args.max_bad_samples or 0,
        )
    return RareClassSampler(statistics, config)
