"""The optimizer's parameter groups and the learning-rate schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.recipes import Recipe

WARMUP_START = 1e-6  # `warmup_ratio` in the references' configs


def parameter_groups(
    student: DomainAdaptationModel, recipe: Recipe, rebuilder_learning_rate: float
) -> list[dict[str, Any]]:
    """Group the parameters by role (`schedules/adamw.py` and `experiments.py` in lhoyer/MIC).

    Encoder: the base rate, without weight decay for LayerNorms. Decoder: its multiple, with decay for everything.
    Rebuilder: a rate of its own, without decay for LayerNorms (the paper gives the rate alone).
    """
    decoder_rate = recipe.learning_rate * recipe.decoder_learning_rate_factor
    rebuilder = [] if student.rebuilder is None else [student.rebuilder]
    roles = (
        ("encoder", [student.encoder], recipe.learning_rate, True),
        ("decoder", student.decoders, decoder_rate, False),
        ("rebuilder", rebuilder, rebuilder_learning_rate, True),
    )
    groups = []
    for role, parts, rate, spare_norms in roles:
        layers = [layer for part in parts for layer in part.modules()]
        norms = [layer for layer in layers if spare_norms and isinstance(layer, nn.LayerNorm)]
        others = [layer for layer in layers if layer not in norms]
        for name, members, decay in ((role, others, recipe.weight_decay), (f"{role}_norms", norms, 0.0)):
            parameters = [parameter for layer in members for parameter in layer.parameters(recurse=False)]
            if parameters:
                groups.append({"name": name, "params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay})
    return groups


def make_optimizer(
    student: DomainAdaptationModel, recipe: Recipe, rebuilder_learning_rate: float
) -> torch.optim.Optimizer:
    """AdamW with betas (0.9, 0.999) and eps 1e-8, as in the references, in one pass over the parameters (`fused`)."""
    groups = parameter_groups(student, recipe, rebuilder_learning_rate)
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, fused=True)


def learning_rate_factor(step: int, max_steps: int, warmup_steps: int) -> float:
    """Return what multiplies the base rates at a step: linear decay to 0, with a linear warm-up.

    The warm-up multiplies the decayed rate, from 1e-6 of it (mmcv's `poly` policy of power 1 with `linear` warm-up).

    Args:
        step: Optimizer steps done so far.
        max_steps: Step at which the rate would be 0.
        warmup_steps: Steps of warm-up; 0 for none.
    """
    factor = 1 - step / max_steps
    if step < warmup_steps:
        factor *= 1 - (1 - step / warmup_steps) * (1 - WARMUP_START)
    return factor


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group its base rate times the factor. The schedule has no state, so nothing of it is saved."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
