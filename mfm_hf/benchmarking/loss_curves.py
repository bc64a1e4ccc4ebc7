"""Whether faster ways to do a step learn the same: their losses over many steps, beside those of the plain step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from accelerate.state import AcceleratorState
from torch import nn
from transformers.models.segformer.modeling_segformer import SegformerDropPath

from mfm_hf.benchmarking.plain_step import Handicaps, PlainStep
from mfm_hf.benchmarking.setup import make_inputs, random_network
from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.adaptation_step import AdaptationStep
from mfm_hf.uda.run.accelerator import make_accelerator
from mfm_hf.uda.training_args import UdaTrainingArguments

PLAIN, FLOAT32, BFLOAT16 = "plain step", "float32", "bf16"


def compare_losses(args: UdaTrainingArguments, steps: int) -> dict[str, Any]:
    """Train three copies of a network on the same batches: plainly, by this package, and by it in bf16.

    Dropout and stochastic depth are off, since the ways draw their noise in different orders.

    Args:
        args: Describe the network and the recipe.
        steps: Steps to train.

    Returns:
        `losses`, the weighted sum at every step by way; and `differences` to the plain step in float32, and of bf16 to
        float32: the mean and the largest difference of the curves' means over ten steps, as shares of the loss.
    """
    args = replace(args, mixed_precision="no", max_steps=max(steps, args.max_steps or 0))
    half = replace(args, mixed_precision="bf16")
    student, recipe = random_network(args)
    without_noise(student)
    accelerator = make_accelerator(args)
    inputs = make_inputs(recipe, student, steps, args.seed)
    ways: dict[str, PlainStep | AdaptationStep] = {
        PLAIN: PlainStep(copy.deepcopy(student), recipe, args, accelerator.device, Handicaps()),
        FLOAT32: AdaptationStep(copy.deepcopy(student), recipe, args, accelerator),
    }
    weights = {term.name: term.weight for term in recipe.objectives}

    def learn(step: PlainStep | AdaptationStep) -> list[float]:
        parts = (step(given.source, given.target, given.choices) for given in inputs)
        return [sum(weights[name] * loss.item() for name, loss in losses.items()) for losses in parts]

    curves = {name: learn(step) for name, step in ways.items()}
    AcceleratorState._reset_state()  # it holds the precision of the first accelerator for all that follow
    curves[BFLOAT16] = learn(AdaptationStep(copy.deepcopy(student), recipe, half, make_accelerator(half)))
    AcceleratorState._reset_state()
    return {
        "arguments": args.changed(),
        "steps": steps,
        "losses": curves,
        "differences": {
            f"{one} to {other}": _difference(curves[one], curves[other])
            for one, other in ((FLOAT32, PLAIN), (BFLOAT16, FLOAT32))
        },
    }


def _difference(one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    window = min(10, len(one))
    smooth, base = (np.convolve(curve, np.full(window, 1 / window), mode="valid") for curve in (one, other))
    shares = np.abs(smooth - base) / np.abs(base)
    return {"mean": float(shares.mean()), "largest": float(shares.max())}


def without_noise(student: DomainAdaptationModel) -> None:
    """Switch dropout and stochastic depth off."""
    for module in student.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
        elif isinstance(module, SegformerDropPath):
            module.drop_prob = 0.0
