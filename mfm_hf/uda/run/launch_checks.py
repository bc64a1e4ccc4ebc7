"""What is refused once it is known on what a run is launched."""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.utils import DistributedType

from mfm_hf.uda.objectives import Segmentation
from mfm_hf.uda.recipes import Recipe
from mfm_hf.uda.training_args import UdaTrainingArguments

_SHARDS_WEIGHTS = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def check_launch(args: UdaTrainingArguments, recipe: Recipe, accelerator: Accelerator) -> None:
    """See whether the processes and their devices can do what is asked of them.

    Raises:
        ValueError: If not; the message says what to use instead.
    """
    if accelerator.distributed_type in _SHARDS_WEIGHTS:
        raise ValueError(
            f"{accelerator.distributed_type.value} divides the weights over the processes, but the mean teacher is an "
            "average of whole weights: launch with plain data parallelism (accelerate launch --multi_gpu), and save "
            "memory with --memory_preset"
        )
    if accelerator.gradient_accumulation_steps != 1:  # it would divide the losses, too
        raise ValueError("give --gradient_accumulation_steps to the training, not to accelerate launch")
    if accelerator.device.type == "cpu":
        if accelerator.mixed_precision == "fp16":
            raise ValueError("a CPU would train in float32 in place of fp16: use --mixed_precision bf16 or no")
        if args.sync_batch_norm:
            raise ValueError(
                "--sync_batch_norm needs GPUs: leave it out, and BatchNorm normalises with the batch of each process"
            )
    _check_batches(args, recipe)
    if args.compile:
        _check_compilation(args)


def _check_batches(args: UdaTrainingArguments, recipe: Recipe) -> None:
    counts_globally = args.batch_statistics == "global"
    if "masked_pair" in recipe.views and (counts_globally or args.gradient_accumulation_steps != 1):
        raise ValueError(
            "--masked_images pair looks at the first images of each batch: it goes with --batch_statistics process "
            "and without --gradient_accumulation_steps"
        )
    by_valid_pixels = any(isinstance(term, Segmentation) and term.average == "valid" for term in recipe.objectives)
    if counts_globally and by_valid_pixels:
        raise ValueError(
            "--loss_average valid divides by the valid pixels of each process: with --batch_statistics global use all"
        )


def _check_compilation(args: UdaTrainingArguments) -> None:
    if args.full_determinism:
        raise ValueError(
            "--compile chooses GPU kernels by their time, which may differ from run to run: leave it out, or "
            "--full_determinism"
        )
    if args.sync_batch_norm:
        raise ValueError("--compile cannot compile what --sync_batch_norm sends between processes: leave one out")
    if args.log_gradient_norms:
        raise ValueError(
            "--compile lets a backward pass overwrite what --log_gradient_norms needs for the next: leave one out"
        )
