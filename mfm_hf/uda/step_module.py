"""The student with its objectives: the one module through which training calls the network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.batch_norm import BatchNormMode, batch_norm_mode
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

    def forward(self, views: Mapping[str, View], names: Collection[str]) -> dict[str, Tensor]:
        """Return the unweighted losses by name.

        Args:
            views: All views of a step, which then share one pass of the encoder, or one of them.
            names: The objectives that count at this step; of them, those whose views are given.
        """
        objectives = [term for term in self.objectives if term.name in names and term.view in views]
        features = self._encode(views, [term.batch_norm for term in objectives])
        losses = {}
        for term in objectives:
            with batch_norm_mode(self.student, term.batch_norm):
                losses[term.name] = term.loss(self.student, features[term.view], views[term.view])
        return losses

    def _encode(self, views: Mapping[str, View], modes: Sequence[BatchNormMode]) -> dict[str, Any]:
        mode = modes[0] if len(set(modes)) == 1 else "update"
        pixels, details = [view.pixel_values for view in views.values()], [view.detail for view in views.values()]
        with batch_norm_mode(self.student, mode):
            return dict(zip(views, self.student.encode_views(pixels, details), strict=True))


def default_encode_mode(student: DomainAdaptationModel) -> EncodeMode:
    """Return `views_together`, unless the encoder has BatchNorm.

    BatchNorm normalises with the batch: in one batch with others a view would see other statistics than in the
    references, where the views pass one after another.
    """
    has_batch_norm = any(isinstance(layer, _BatchNorm) for layer in student.encoder.modules())
    return "one_by_one" if has_batch_norm else "views_together"
