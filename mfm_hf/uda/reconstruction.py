"""The objectives that the paper compares Masked Feature Modeling with: restore pixels or features instead of classes.

The paper gives their results (Table 2) and not their form. What is open is chosen here: the loss is taken at the masked
positions of the deepest stage, without the pseudo-label's weight; features are compared by their mean squared error,
pixels as MAE compares them (He et al., CVPR 2022), patch by patch after each was normalised.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mfm_hf.mfm.feature_mask import stage_masks
from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel, Scale
from mfm_hf.uda.global_statistics import BatchStatistics, count_true
from mfm_hf.uda.objectives import Objective
from mfm_hf.uda.views import View


@dataclass(frozen=True)
class FeatureReconstruction(Objective):
    """Rebuilt features shall be what was masked.

    Args:
        of: Whose features are restored: the student's own, or the mean teacher's. Neither gets a gradient.
    """

    of: Literal["student", "teacher"] = "teacher"

    @property
    def name(self) -> str:
        """`features_student` or `features_teacher`, with `_source` for source features."""
        return f"features_{self.of}" + ("_source" if self.view == "source" else "")

    def loss(self, student: DomainAdaptationModel, features: Any, view: View) -> Tensor:
        """Mask, rebuild, and compare the deepest stage with the features that were masked."""
        mask = _mask_of(view)
        wanted = features if self.of == "student" else view.teacher_features
        assert wanted is not None, "the step gives the view the teacher's features"
        pairs = zip(
            student.scales(view.pixel_values, student.rebuild(features, mask), mask),
            student.scales(view.pixel_values, wanted, mask),
            strict=True,
        )
        return _mean(
            _masked_mean(
                (rebuilt.features[-1] - original.features[-1].detach()).square().mean(dim=1),
                _deepest_mask(rebuilt.mask, rebuilt.features[-1]),
                view.statistics,
            )
            for rebuilt, original in pairs
        )


@dataclass(frozen=True)
class PixelReconstruction(Objective):
    """A linear layer shall read the pixels of the masked patches off the rebuilt features."""

    @property
    def name(self) -> str:
        """`pixels`, or `pixels_source` for source features."""
        return "pixels_source" if self.view == "source" else "pixels"

    def loss(self, student: DomainAdaptationModel, features: Any, view: View) -> Tensor:
        """Mask, rebuild, read the pixels, and compare them with the image."""
        mask = _mask_of(view)
        scales = student.scales(view.pixel_values, student.rebuild(features, mask), mask)
        return _mean(self._loss_of(student, scale, view.statistics) for scale in scales)

    def _loss_of(self, student: DomainAdaptationModel, scale: Scale, statistics: BatchStatistics) -> Tensor:
        deepest = scale.features[-1]
        patches = _patches(scale.pixel_values, deepest, student.feature_strides[-1])
        errors = (student.read_pixels(deepest) - patches).square().mean(dim=1)
        return _masked_mean(errors, _deepest_mask(scale.mask, deepest), statistics)


def _mask_of(view: View) -> Tensor:
    assert view.rebuilder_mask is not None, "a view whose features are rebuilt has a mask"
    return view.rebuilder_mask


def _deepest_mask(mask: Tensor, features: Tensor) -> Tensor:
    """Return the mask at the size of a stage, bool (batch, height, width)."""
    (stage_mask,) = stage_masks(mask, [features.shape[-2:]])
    return stage_mask.squeeze(1)


def _patches(pixel_values: Tensor, features: Tensor, stride: int) -> Tensor:
    """Return the pixels below each feature, normalised one by one as MAE does: (batch, 3 * stride^2, height, width).

    Images whose sides are not multiples of the features' stride are filled up with zeros.
    """
    rows, columns = features.shape[-2:]
    height, width = pixel_values.shape[-2:]
    images = F.pad(pixel_values, (0, columns * stride - width, 0, rows * stride - height))
    patches = F.unfold(images, kernel_size=stride, stride=stride).unflatten(2, (rows, columns))
    variance, mean = torch.var_mean(patches, dim=1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def _masked_mean(errors: Tensor, mask: Tensor, statistics: BatchStatistics) -> Tensor:
    """Return the mean of errors (batch, height, width) where the mask is True; 0 if it is nowhere."""
    return errors.masked_fill(~mask, 0.0).sum() / count_true(mask, statistics)


def _mean(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()
