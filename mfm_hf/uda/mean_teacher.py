"""The mean teacher: an average of the student's past weights that labels the target images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedModel
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.models.segformer.modeling_segformer import SegformerDropPath

TeacherBatchNorm = Literal["batch", "running"]


class MeanTeacher:
    """Exponential moving average of a student (Tarvainen and Valpola, NeurIPS 2017), as in `dacs.py` of lhoyer/MIC.

    Parameters are averaged, buffers are not: the teacher stays in train mode, so its BatchNorm layers normalise with
    the target batch at hand. Dropout and stochastic depth are off.

    Args:
        student: The inference network at the start; it is copied.
        alpha: Share that the teacher keeps of itself at a step, once the ramp 1 - 1 / (step + 1) has reached it.
        batch_norm: `batch` as in the references; `running` normalises with running statistics, which are then copied
            from the student at every step.
        sync_batch_norm: Let the batch be that of all processes.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        alpha: float,
        batch_norm: TeacherBatchNorm = "batch",
        sync_batch_norm: bool = False,
    ) -> None:
        self.model = copy.deepcopy(student).requires_grad_(False).train()
        if sync_batch_norm:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.alpha = alpha
        self.batch_norm = batch_norm
        fixed = (_DropoutNd, SegformerDropPath) + ((_BatchNorm,) if batch_norm == "running" else ())
        for module in self.model.modules():
            if isinstance(module, fixed):
                module.eval()
        self._segment: Callable[..., SemanticSegmenterOutput] = self.model

    def compile(self, **options: Any) -> None:
        """Call a compiled network from now on. `model` itself, which evaluations call, stays as it is.

        Args:
            options: Of `torch.compile`.
        """
        self._segment = torch.compile(self.model, **options)

    def alpha_at(self, step: int) -> float:
        """Return the share kept at a step: 0 at the first, 0.5, 0.67, ... up to `alpha`."""
        return min(1 - 1 / (step + 1), self.alpha)

    @torch.no_grad()
    def update(self, student: nn.Module, step: int) -> None:
        """Move towards the student, which holds parameters of the same names and possibly more.

        Args:
            student: The network as the last optimizer step left it.
            step: Number of steps done so far; at 0 the teacher becomes the student.
        """
        source = dict(student.named_parameters())
        names, own = zip(*self.model.named_parameters(), strict=True)
        torch._foreach_lerp_(list(own), [source[name] for name in names], 1 - self.alpha_at(step))
        if self.batch_norm == "running":
            statistics = dict(student.named_buffers())
            for name, buffer in self.model.named_buffers():
                buffer.copy_(statistics[name])

    @torch.no_grad()
    def __call__(self, pixel_values: Tensor) -> Tensor:
        """Return logits of normalised images (batch, 3, height, width), at the network's own stride."""
        return self._segment(pixel_values=pixel_values).logits
