"""`torch.compile` for the networks of a training step.

Only the networks are compiled, each part as one graph for each shape that it meets, all of them at the first step that
meets it. What a step does between them stays Python, and nothing is renamed or wrapped: state dicts, exports and
evaluations are those of the same run without compilation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from mfm_hf.evaluation.acceleration import check_compiler, put_hooks_in_place
from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.models.dilated_resnet import DilatedResNet
from mfm_hf.uda.mean_teacher import MeanTeacher

GRAPHS_OF_A_PART = 64
"""Far more than a run needs: some ten of HRDA's head, for both scales, rebuilt or not, and each size of batch."""


def compile_networks(
    student: DomainAdaptationModel,
    teacher: MeanTeacher | None,
    frozen: Iterable[DomainAdaptationModel] = (),
    backend: str | Callable[..., Any] = "inductor",
) -> None:
    """Compile what a step calls of its networks, in place: the graphs are made when they are first called.

    Args:
        student: Its encoder, its decoders and its Rebuilder are compiled.
        teacher: The whole network is compiled, as the teacher calls it.
        frozen: Networks of which a step calls the encoder alone.
        backend: Of `torch.compile`.

    Raises:
        ValueError: If the backend does not work on this machine, or the network cannot be compiled.
    """
    if isinstance(student.encoder, DilatedResNet) and student.encoder.encoder.gradient_checkpointing:
        raise ValueError("--compile cannot compile a ResNet with --gradient_checkpointing: leave one of them out")
    check_compiler(student.device, backend)
    # Beyond its limit PyTorch fails where it should compile; it counts all modules of a class together.
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, GRAPHS_OF_A_PART)
    options: dict[str, Any] = {"fullgraph": True, "dynamic": False, "backend": backend}
    frozen = list(frozen)
    for model in (student, *frozen):
        put_hooks_in_place(model)
    for part in (student.encoder, *student.decoders, *(model.encoder for model in frozen)):
        part.compile(**options)
    if student.rebuilder is not None:
        student.rebuilder.compile(**options)
    if teacher is not None:
        put_hooks_in_place(teacher.model)
        teacher.compile(**options)
