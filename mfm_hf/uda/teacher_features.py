"""The mean teacher's features, for the objective that restores them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.models.detail_windows import DetailBox
from mfm_hf.uda.mean_teacher import MeanTeacher


class TeacherFeatures:
    """The teacher's encoder, in eval mode. It shares the teacher's tensors, and so moves with it.

    Args:
        teacher: The teacher.
        student: Gives the class that knows how to encode views.
    """

    def __init__(self, teacher: MeanTeacher, student: DomainAdaptationModel) -> None:
        with torch.device("meta"):
            self.model = type(student)(copy.deepcopy(student.config))
        self.model.load_state_dict(teacher.model.state_dict(), strict=True, assign=True)
        self.model.requires_grad_(False).eval()

    @torch.no_grad()
    def __call__(self, pixel_values: Tensor, detail: DetailBox | None) -> Any:
        """Return what `encode` returns for normalised images (batch, 3, height, width) and HRDA's box."""
        return self.model.encode_views([pixel_values], [detail])[0]
