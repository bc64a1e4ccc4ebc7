"""What is measured: a network as the arguments of a run describe it, and batches for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.hub.encoders import default_encoder
from mfm_hf.mfm.auto import AutoModelForDomainAdaptation
from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.adaptation_step import Batch
from mfm_hf.uda.choices import StepChoices
from mfm_hf.uda.drawing import draw_choices
from mfm_hf.uda.recipes import Recipe
from mfm_hf.uda.resolution import resolve_rebuilder, resolve_recipe
from mfm_hf.uda.training_args import UdaTrainingArguments

BLOCK = 32
"""Side of the blocks of one label in pixels: a cell of the deepest features, so that the feature distance has some."""


@dataclass(frozen=True)
class Inputs:
    """What a step is given: batches of noise images with blocks of labels, and the choices of chance."""

    source: Batch
    target: Batch | None
    choices: StepChoices


def random_network(args: UdaTrainingArguments) -> tuple[DomainAdaptationModel, Recipe]:
    """Build the network of a run with the 19 classes of Cityscapes and random weights, which are as fast as others.

    The recipe is the one for a pretrained encoder, feature distance included.

    Raises:
        ValueError: If there is no such encoder, or the arguments do not go together.
    """
    recipe = resolve_recipe(args)
    height, width = recipe.crop_size
    torch.manual_seed(args.seed)
    student = AutoModelForDomainAdaptation.from_scratch(
        args.backbone or default_encoder(recipe.model, args.hrda_base),
        recipe.model,
        rebuilder=resolve_rebuilder(args),
        hrda_base=args.hrda_base,
        id2label=CITYSCAPES.id2label,
        label2id=CITYSCAPES.label2id,
        detail_crop_size=[height // 16 * 8, width // 16 * 8],
    )
    return student, recipe


def with_mfm(args: UdaTrainingArguments, mfm: bool) -> UdaTrainingArguments:
    """Return the arguments of the same run with or without Masked Feature Modeling."""
    return replace(args, mfm=mfm)


def make_inputs(recipe: Recipe, student: DomainAdaptationModel, number: int, seed: int) -> list[Inputs]:
    """Make the inputs of several steps, on the CPU.

    With and without Masked Feature Modeling they are the same, but for the Rebuilder's masks of the first steps: each
    step's choices have a seed of their own.
    """
    size, (height, width) = recipe.per_device_train_batch_size, recipe.crop_size
    inputs = []
    for index in range(number):
        generator = torch.Generator().manual_seed(seed + index)
        images = torch.randint(0, 256, (2, size, 3, height, width), dtype=torch.uint8, generator=generator)
        rows, columns = -(-height // BLOCK), -(-width // BLOCK)
        blocks = torch.randint(0, student.config.num_labels, (size, 1, rows, columns), generator=generator)
        labels = F.interpolate(blocks.float(), scale_factor=BLOCK)[:, 0, :height, :width].long()
        target = {"pixel_values": images[1]} if recipe.uses_target else None
        choices = draw_choices(recipe, student, labels, generator)
        inputs.append(Inputs({"pixel_values": images[0], "labels": labels}, target, choices))
    return inputs
