"""How long training steps wait for their batches."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from mfm_hf.benchmarking.data import noisy_streets
from mfm_hf.data.domain import Domain
from mfm_hf.data.domains import load_domain
from mfm_hf.data.folders import write_folder
from mfm_hf.data.resizing import resized
from mfm_hf.uda.adaptation_step import AdaptationStep
from mfm_hf.uda.recipes import Recipe
from mfm_hf.uda.run.streams import Streams
from mfm_hf.uda.training_args import UdaTrainingArguments

_NUM_IMAGES = 2
# Of the files, and of what they are fitted into in sides of a crop (the papers': 1280 x 720 and 1024 x 512 for 512).
SIZES = {"source": ((1052, 1914), (2.5, 1.40625)), "target": ((1024, 2048), (2.0, 1.0))}


def measure_data_wait(step: AdaptationStep, args: UdaTrainingArguments, recipe: Recipe, steps: int) -> dict[str, float]:
    """Train on raw PNG files of GTA's and Cityscapes' sizes, read as training reads them.

    Args:
        step: The step; it learns.
        args: Number of workers and the like.
        recipe: Crops and batches.
        steps: Measured steps; one more warms up.

    Returns:
        Seconds per step that were spent waiting, `wait`; in all, `step`; and the `share` of the first in the second.
    """
    recipe = replace(recipe, rare_class_sampling=False)  # the few files may lack a class
    waited, start = 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        domains = {role: _domain(Path(folder) / role, role, recipe) for role in SIZES if role in _roles(recipe)}
        with closing(Streams(domains, args, recipe, step.accelerator)) as streams:
            for index in range(steps + 1):
                if index == 1:
                    waited, start = 0.0, time.perf_counter()
                asked = time.perf_counter()
                batches = streams.next_batches()
                waited += time.perf_counter() - asked
                step(batches["source"], batches.get("target"))["source"].item()  # waits for the device
            taken = time.perf_counter() - start
    return {"wait": waited / steps, "step": taken / steps, "share": waited / taken}


def _roles(recipe: Recipe) -> tuple[str, ...]:
    return ("source", "target") if recipe.uses_target else ("source",)


def _domain(folder: Path, role: str, recipe: Recipe) -> Domain:
    image_size, (long, short) = SIZES[role]
    write_folder(noisy_streets(image_size, _NUM_IMAGES), folder)
    height, width = recipe.crop_size
    box = round(long * max(height, width)), round(short * max(height, width))
    return resized(load_domain(str(folder), "source" if role == "source" else "target"), box, labels=True)
