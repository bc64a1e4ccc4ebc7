"""A dry run: two steps and two evaluated images tell the memory and the time of a run, which writes nothing."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta

import torch

from mfm_hf.evaluation.evaluator import evaluate_model
from mfm_hf.uda.run.accelerator import peak_memory
from mfm_hf.uda.run.streams import Streams
from mfm_hf.uda.trainer import UdaTrainer


@dataclass(frozen=True)
class RunEstimate:
    """What a run will take, as measured on its first steps.

    Args:
        peak_memory: Of this process, in bytes: what PyTorch has reserved on a GPU, the resident size on a CPU.
        num_steps: Steps of the run.
        seconds_per_step: Of the second step, its batch included.
        num_evaluations: Evaluations of the run, the final one included.
        seconds_per_evaluation: Of all its images together.
    """

    peak_memory: int
    num_steps: int
    seconds_per_step: float
    num_evaluations: int
    seconds_per_evaluation: float

    @property
    def seconds(self) -> float:
        """Estimated time of the whole run, without checkpoints."""
        return self.num_steps * self.seconds_per_step + self.num_evaluations * self.seconds_per_evaluation

    def __str__(self) -> str:
        """Four lines to print."""
        return "\n".join(
            [
                f"peak memory: {self.peak_memory / 2**30:.2f} GiB",
                f"time of a step: {self.seconds_per_step:.3f} s, {self.num_steps} steps",
                f"time of an evaluation: about {self.seconds_per_evaluation:.0f} s, {self.num_evaluations} evaluations",
                f"time in all: about {timedelta(seconds=round(self.seconds))}",
            ]
        )


def dry_run(trainer: UdaTrainer) -> RunEstimate:
    """Do two steps, the first of which warms up, and evaluate two images likewise. Nothing is written to any folder.

    The trainer is of no use afterwards: it has learned from the two steps.
    """
    adaptation, accelerator = trainer.adaptation, trainer.accelerator
    adaptation.number = max(term.start_step for term in trainer.recipe.objectives)  # at which all of them count
    with closing(Streams(trainer.domains, trainer.args, trainer.recipe, accelerator)) as streams:
        for _ in range(2):
            start = time.perf_counter()
            batches = streams.next_batches()
            adaptation(batches["source"], batches.get("target"))
            _wait_for(accelerator.device)
            seconds_per_step = time.perf_counter() - start
    args, num_steps = trainer.args, trainer.recipe.max_steps
    num_evaluations = args.final_evaluation + ((num_steps - 1) // args.eval_steps if args.eval_steps else 0)
    return RunEstimate(
        peak_memory=peak_memory(accelerator.device),
        num_steps=num_steps,
        seconds_per_step=seconds_per_step,
        num_evaluations=num_evaluations,
        seconds_per_evaluation=_seconds_per_evaluation(trainer) if num_evaluations else 0.0,
    )


def _seconds_per_evaluation(trainer: UdaTrainer) -> float:
    """Return the time of an evaluated image times the images of an evaluation, which the processes share."""
    evaluations, num_processes = trainer.evaluations, trainer.accelerator.num_processes
    labelled = [domain for domain in (evaluations.eval_domain, evaluations.source_eval_domain) if domain is not None]
    if not labelled:
        return 0.0  # what is measured without labels is not timed
    num_images = sum(domain.num_rows for domain in labelled)
    if evaluations.label_free is not None:
        num_networks = 1 if trainer.adaptation.teacher is None else 2
        num_images += num_networks * evaluations.label_free.domain.num_rows
    student = trainer.student.to_inference()
    for _ in range(2):
        scores = evaluate_model(
            student, labelled[0], batch_size=1, accelerator=trainer.accelerator, limit=num_processes, progress=False
        )
    return scores["seconds"] * num_images / num_processes


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
