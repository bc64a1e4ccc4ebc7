"""A picture of the views of a step: what the student was shown, told, and how far to believe it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from mfm_hf.data.classes import ClassSet
from mfm_hf.data.transforms import denormalize
from mfm_hf.evaluation.visualization import color_map, grid
from mfm_hf.uda.views import View

TITLES = ("image", "label", "weight", "prediction")


@torch.no_grad()
def draw_views(views: Mapping[str, View], network: PreTrainedModel, classes: ClassSet) -> Image.Image:
    """Draw the first image of every view: pixels, label, weight (black 0, white 1), and the network's prediction.

    Args:
        views: The views of a step by name.
        network: An inference network in eval mode, on the device of the views.
        classes: The classes with their colours.
    """
    rows = []
    for view in views.values():
        pixels, label = view.pixel_values[:1], view.labels[0]
        logits = F.interpolate(network(pixel_values=pixels).logits, size=label.shape, mode="bilinear")
        weight = torch.ones_like(label, dtype=torch.float32) if view.weights is None else view.weights[0]
        rows.append(
            [
                _array(denormalize(pixels)[0].permute(1, 2, 0)),
                color_map(_array(label), classes),
                np.repeat(_array((weight * 255).round().to(torch.uint8))[..., None], 3, axis=2),
                color_map(_array(logits[0].argmax(0)), classes),
            ]
        )
    return grid(rows, TITLES, row_titles=list(views), scale=max(1, 256 // rows[0][0].shape[1]))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
