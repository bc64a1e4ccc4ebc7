"""The student with its objectives: the one module through which training calls the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.objectives import Objective
from mfm_hf.uda.views import View

EncodeMode = Literal["views_together", "one_by_one"]


class StepModule(nn.Module):
    """Encode the views, then let every objective read the features of its own.

    This is what Accelerate wraps: under several processes only calls through the wrapped module are synchronised.

    Args:
        student: The network that is trained.
        objectives: The terms of the loss, in the order in which the decoder sees their views. The order matters where
            the decoder has BatchNorm: the last view weighs most in the running statistics.
    """

    def __init__(self, student: DomainAdaptationModel, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.student = student
        self.objectives = tuple(objectives)

    def forward(self, views: Mapping[str, View]) -> dict[str, Tensor]:
        """Return the unweighted losses of the objectives whose views are given, by name.

        Args:
            views: All views of a step, which then share one pass of the encoder, or one of them.
        """
        features = dict(
            zip(
                views,
                self.student.encode_views(
                    [view.pixel_values for view in views.values()], [view.detail for view in views.values()]
                ),
                strict=True,
            )
        )
        return {
            objective.name: objective.loss(self.student, features[objective.view], views[objective.view])
            for objective in self.objectives
            if objective.view in views
        }


def default_encode_mode(student: DomainAdaptationModel) -> EncodeMode:
    """Return `views_together`, unless the encoder has BatchNorm.

    BatchNorm normalises with the batch: in one batch with others a view would see other statistics than the
    references' networks do, which pass them one after another.
    """
    has_batch_norm = any(isinstance(layer, _BatchNorm) for layer in student.encoder.modules())
    return "one_by_one" if has_batch_norm else "views_together"
