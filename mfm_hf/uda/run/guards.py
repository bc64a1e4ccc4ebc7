"""A step whose loss or gradient is not finite is skipped, and leaves no trace but a line in `skipped_steps.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import gather_object
from torch import Tensor, nn

from mfm_hf.uda.global_statistics import mean_over_processes
from mfm_hf.uda.run.checkpoint import list_checkpoints
from mfm_hf.uda.run.run_folder import SKIPPED_STEPS_FILE


class TooManySkippedStepsError(ValueError):
    """So many steps in a row were skipped that going on would train nothing."""


class StepGuard:
    """Takes optimizer steps, except those that would spoil the weights.

    Whether a step is finite is known from one number: the norm of all gradients plus the losses. To read it is the one
    time in a step that the host waits for the GPU. Under fp16 the scaler of gradients lowers its scale after such a
    step; whether it would have taken the step itself is not asked, since with a fused optimizer it cannot tell.

    Args:
        accelerator: Knows the processes, which all come to the same decision, and the scaler.
        modules: The networks whose buffers a step changes: student and teacher.
        output_dir: Folder of the run, for the record of skipped steps.
        max_in_a_row: Steps in a row that may be skipped; with this many the run ends.
        max_grad_norm: Norm that the gradients are cut down to; None to leave them.

    Attributes:
        num_skipped: Steps skipped since the start.
        in_a_row: Of these, the last ones without a good step since.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        modules: Sequence[nn.Module],
        output_dir: Path,
        max_in_a_row: int,
        max_grad_norm: float | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.modules = tuple(modules)
        self.output_dir = output_dir
        self.max_in_a_row = max_in_a_row
        self.max_grad_norm = max_grad_norm
        self.num_skipped = self.in_a_row = 0
        self._buffers: list[Tensor] = []

    def begin(self) -> None:
        """Remember the buffers, BatchNorm's statistics among them, which the passes of a step change."""
        self._buffers = [buffer.clone() for module in self.modules for buffer in module.buffers()]

    @torch.no_grad()
    def step(self, optimizer: AcceleratedOptimizer, losses: Mapping[str, Tensor]) -> bool:
        """Let the optimizer step if losses and gradients are finite; otherwise undo what the passes did.

        Args:
            optimizer: Holds the gradients, summed up over passes and averaged over processes.
            losses: Of this process, by name.

        Returns:
            Whether the step was taken.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        taken = self._step(optimizer, parameters, losses)
        if taken:
            self.in_a_row = 0
        else:
            buffers = [buffer for module in self.modules for buffer in module.buffers()]
            for buffer, before in zip(buffers, self._buffers, strict=True):
                buffer.copy_(before)
            self.num_skipped += 1
            self.in_a_row += 1
        return taken

    def _step(
        self, optimizer: AcceleratedOptimizer, parameters: Sequence[nn.Parameter], losses: Mapping[str, Tensor]
    ) -> bool:
        scaler = self.accelerator.scaler
        if scaler is not None:
            scaler.unscale_(optimizer.optimizer)
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        # Gradients are the same in all processes, losses are not.
        total = mean_over_processes(norm + torch.stack([*losses.values()]).sum())
        if not total.isfinite():
            if scaler is not None:
                scaler.update()
            return False
        if self.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.max_grad_norm, norm)
        optimizer.step()
        return True

    def note_skipped(self, step: int, losses: Mapping[str, Tensor], batches: Mapping[str, Mapping[str, Any]]) -> None:
        """Write down which samples a skipped step was made of. Call it in every process.

        Args:
            step: Its number, counted from 1.
            losses: Of this process, by name.
            batches: By role, the batch; `names` are those of its samples.

        Raises:
            TooManySkippedStepsError: If it was the last one that may be.
        """
        not_finite = gather_object([name for name, loss in losses.items() if not loss.isfinite()])
        names = {role: gather_object(list(batch.get("names", ()))) for role, batch in batches.items()}
        if self.accelerator.is_main_process:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            line = {"step": step, "losses_not_finite": sorted(set(not_finite)), "samples": names}
            with (self.output_dir / SKIPPED_STEPS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if self.in_a_row >= self.max_in_a_row:
            raise TooManySkippedStepsError(self._reason())

    def _reason(self) -> str:
        checkpoints = list_checkpoints(self.output_dir)
        last = f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "there is no checkpoint yet"
        return (
            f"{self.in_a_row} steps in a row had a loss or gradient that is not finite (--max_skipped_steps), their "
            f"samples stand in {self.output_dir / SKIPPED_STEPS_FILE}, {last}: start again with a lower "
            "--learning_rate, a --max_grad_norm or --mixed_precision no"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, as JSON takes them."""
        return {"num_skipped": self.num_skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was called.

        Raises:
            ValueError: If it is not such a state.
        """
        if not all(isinstance(state.get(name), int) and state[name] >= 0 for name in self.state_dict()):
            raise ValueError("the checkpoint does not say how many steps were skipped: use another checkpoint")
        self.num_skipped, self.in_a_row = state["num_skipped"], state["in_a_row"]
