"""The trainer: it makes the views of a step, lets the student learn from them, and keeps the run's books."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor
from transformers.image_processing_utils import BaseImageProcessor

from mfm_hf.data.domain import Domain
from mfm_hf.data.loading import TrainingStream
from mfm_hf.data.transforms import TrainingTransform, normalize
from mfm_hf.evaluation.evaluator import evaluate_model
from mfm_hf.files import write_json
from mfm_hf.hub.image_processor import default_image_processor
from mfm_hf.hub.publish import publish
from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda import checkpoint as checkpoints
from mfm_hf.uda import run_folder
from mfm_hf.uda.choices import StepChoices, draw_choices
from mfm_hf.uda.mean_teacher import MeanTeacher
from mfm_hf.uda.optimization import learning_rate_factor, make_optimizer, set_learning_rates
from mfm_hf.uda.pseudo_label import PseudoLabel, pseudo_label
from mfm_hf.uda.recipes import Recipe, resolve_recipe
from mfm_hf.uda.run_log import RunLog
from mfm_hf.uda.step_module import StepModule, default_encode_mode
from mfm_hf.uda.training_args import UdaTrainingArguments
from mfm_hf.uda.views import View, make_views

Batch = Mapping[str, Any]
DEFAULT_BAD_TARGET_SAMPLES = 10


class UdaTrainer:
    """Adapts a segmentation network from a source domain to a target domain.

    Args:
        model: The network, as a training class.
        args: Everything that the run depends on.
        source: Labelled domain.
        target: Domain whose labels are not read; may be None under a recipe that looks at the source alone.
        eval_domain: Labelled domain to measure on; None to measure nothing.
        recipe: The method. Default: the one that `args` describe.
        image_processor: Saved with the network. Default: ImageNet's normalisation, no resizing.
        accelerator: Device, precision and processes. Default: made after `args`.

    Raises:
        ValueError: If the recipe needs a target and there is none, or the accelerator shards the weights.
    """

    def __init__(
        self,
        model: DomainAdaptationModel,
        args: UdaTrainingArguments,
        source: Domain,
        target: Domain | None = None,
        eval_domain: Domain | None = None,
        recipe: Recipe | None = None,
        image_processor: BaseImageProcessor | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.args = args
        self.recipe = recipe or resolve_recipe(args)
        self.source, self.target, self.eval_domain = source, target, eval_domain
        self.image_processor = image_processor or default_image_processor()
        self.output_dir = Path(args.output_dir)
        self.accelerator = accelerator or make_accelerator(args)
        if self.recipe.uses_target and target is None:
            raise ValueError(f"the recipe {self.recipe.name} adapts to a target domain: give one")
        if self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            raise ValueError("the mean teacher needs whole weights: launch with plain data parallelism (DDP) instead")

        self.student = model
        if args.gradient_checkpointing:
            model.activation_checkpointing_enable()
        self.encode_mode = args.encode or default_encode_mode(model)
        self.module = self.accelerator.prepare(StepModule(model, self.recipe.objectives))
        self.optimizer = self.accelerator.prepare(make_optimizer(model, self.recipe, args.rebuilder_learning_rate))
        self.teacher = MeanTeacher(model.to_inference(), self.recipe.teacher_alpha) if self.recipe.uses_target else None
        self.step = 0
        self.best: dict[str, float] | None = None

    # The training step

    def training_step(
        self, source: Batch, target: Batch | None, choices: StepChoices | None = None
    ) -> dict[str, Tensor]:
        """Do one optimizer step and return the unweighted losses by name.

        Args:
            source: `pixel_values`, uint8 (batch, 3, height, width), and `labels`, int64 (batch, height, width).
            target: `pixel_values` of the target, likewise; None under a recipe that looks at the source alone.
            choices: The random choices of the step. Default: drawn, as a function of (seed, step, process).
        """
        if choices is None:
            generator = torch.Generator().manual_seed(self._seed("choices"))
            choices = draw_choices(self.recipe, self.student, source["labels"], generator)
        torch.manual_seed(self._seed("layers"))  # dropout and stochastic depth
        self.module.train()
        factor = learning_rate_factor(self.step, self.recipe.max_steps, self.recipe.warmup_steps)
        set_learning_rates(self.optimizer, factor)
        self.optimizer.zero_grad()
        if self.teacher is not None:
            self.teacher.update(self.student, self.step)
        losses = self._backward(self.make_views(source, target, choices))
        self.optimizer.step()
        self.step += 1
        return losses

    def make_views(self, source: Batch, target: Batch | None, choices: StepChoices) -> dict[str, View]:
        """Bring a batch to the device, let the teacher label the target, and make the recipe's views."""
        device = self.accelerator.device
        pixels, labels = (source[key].to(device, non_blocking=True) for key in ("pixel_values", "labels"))
        target_pixels, pseudo = None, None
        if self.recipe.uses_target and target is not None:
            target_pixels = normalize(target["pixel_values"].to(device, non_blocking=True))
            pseudo = self._pseudo_label(target_pixels)
        return make_views(self.recipe.views, normalize(pixels), labels, target_pixels, pseudo, choices)

    def _pseudo_label(self, target_pixels: Tensor) -> PseudoLabel:
        assert self.teacher is not None
        with self.accelerator.autocast():
            logits = self.teacher(target_pixels)
        return pseudo_label(logits, target_pixels.shape[-2:], self.recipe.pseudo_label_threshold)

    def _backward(self, views: dict[str, View]) -> dict[str, Tensor]:
        """Compute the losses and their gradients, all views at once or, to save memory, one after another."""
        passes = [views] if self.encode_mode == "views_together" else [{name: views[name]} for name in views]
        weights = {objective.name: objective.weight for objective in self.recipe.objectives}
        losses: dict[str, Tensor] = {}
        for index, part in enumerate(passes):
            is_last = index == len(passes) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.module):
                part_losses = self.module(part)
                self.accelerator.backward(sum(weights[name] * loss for name, loss in part_losses.items()))
            losses.update({name: loss.detach() for name, loss in part_losses.items()})
        return losses

    def _seed(self, purpose: str) -> int:
        """Return a seed for one purpose at this step on this process, so that no random state need be saved."""
        words = [self.args.seed, self.step, self.accelerator.process_index, *purpose.encode()]
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    # The run

    def train(self) -> dict[str, Any]:
        """Train to the last step, export the network, and return the results that `results.json` holds.

        Raises:
            FileExistsError: If the output folder holds another run.
            BadExampleError: If the data holds more bad samples than allowed.
        """
        resume = self.args.resume_from_checkpoint
        folder = None if resume is None else checkpoints.find_checkpoint(resume, self.output_dir)
        self._claim_output_dir(resume is not None)
        positions = {"source": 0, "target": 0} if folder is None else self.load_checkpoint(folder)
        source_stream = self._stream(self.source, "source", positions)
        target_stream = None
        if self.recipe.uses_target and self.target is not None:
            target_stream = self._stream(self.target, "target", positions)
        streams = [stream for stream in (source_stream, target_stream) if stream is not None]
        num_processes = self.accelerator.num_processes
        images_per_step = len(streams) * self.recipe.per_device_train_batch_size * num_processes
        log = RunLog(self.accelerator, self.output_dir, self.step, self.recipe.max_steps, images_per_step)
        try:
            self._loop(source_stream, target_stream, log)
        finally:
            log.close()
            for stream in streams:
                stream.close()
        return self._finish(log)

    def _claim_output_dir(self, resume: bool) -> None:
        args = self.args
        if self.accelerator.is_main_process:
            run_folder.check(self.output_dir, resume=resume, overwrite=args.overwrite_output_dir)
            if not resume:
                run_folder.clear(self.output_dir)
            write_json(self.output_dir / "training_args.json", dataclasses.asdict(args))
        self.accelerator.wait_for_everyone()
        self.accelerator.init_trackers("mfm_hf", config=flat_config(args))

    def _loop(self, source_stream: TrainingStream, target_stream: TrainingStream | None, log: RunLog) -> None:
        args, last = self.args, self.recipe.max_steps
        while self.step < last:
            source = next(source_stream)
            target = None if target_stream is None else next(target_stream)
            log.add(self.training_step(source, target))
            if self.step % args.logging_steps == 0 or self.step == last:
                log.flush(self.step, self._state_of_training())
            if args.eval_steps and self.step % args.eval_steps == 0 and self.step < last:
                self._log_evaluation(log, self.evaluate())
                log.start_timer()
            if args.save_steps and self.step % args.save_steps == 0:
                positions = {"source": source_stream.position}
                if target_stream is not None:
                    positions["target"] = target_stream.position
                self.save_checkpoint(positions)
                log.start_timer()

    def evaluate(self) -> dict[str, Any]:
        """Measure the student on the evaluation domain, in float32: what is reported is what will be published.

        Raises:
            ValueError: If there is none.
        """
        if self.eval_domain is None:
            raise ValueError("this trainer has no evaluation domain: give it eval_domain")
        return evaluate_model(
            self.student.to_inference(),
            self.eval_domain,
            batch_size=self.args.per_device_eval_batch_size,
            accelerator=self.accelerator,
        )

    def _state_of_training(self) -> dict[str, float]:
        """What is logged beside the losses."""
        state = {f"learning_rate/{group['name']}": group["lr"] for group in self.optimizer.param_groups}
        if self.teacher is not None:
            state["teacher_alpha"] = self.teacher.alpha_at(self.step)
        return state

    def _log_evaluation(self, log: RunLog, scores: Mapping[str, Any]) -> None:
        log.write(self.step, {"eval/mean_iou": scores["mean_iou"], "eval/overall_accuracy": scores["overall_accuracy"]})
        log.bar.write(f"step {self.step}: mean IoU on {self.args.eval or self.args.target} {scores['mean_iou']:.4f}")
        if self.best is None or scores["mean_iou"] > self.best["mean_iou"]:
            self.best = {"mean_iou": scores["mean_iou"], "step": self.step}

    def _finish(self, log: RunLog) -> dict[str, Any]:
        """Export first, so that nothing that comes after can lose the network; then measure and write the results."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.save_model()
        scores: dict[str, Any] = {"mean_iou": None, "per_class_iou": None}
        if self.eval_domain is not None:
            scores = self.evaluate()
            self._log_evaluation(log, scores)
        results = {
            **scores,
            "best": self.best,
            "recipe": self.recipe.name,
            "mfm": bool(self.recipe.rebuilt_views),
            "model": type(self.student).inference_class.__name__,
            "steps": self.step,
            "seed": self.args.seed,
            "seconds_per_step": log.seconds_per_step,
            "parameters_in_training": count_parameters(self.student),
            "parameters_exported": count_parameters(self.student.to_inference()),
            "source": self.source.name,
            "target": self.args.target,
            "eval": None if self.eval_domain is None else f"{self.eval_domain.name} ({self.eval_domain.split})",
            "encode": self.encode_mode,
            "num_processes": self.accelerator.num_processes,
        }
        if self.accelerator.is_main_process:
            write_json(self.output_dir / run_folder.RESULTS_FILE, results)
        self.accelerator.end_training()
        return results

    # Saving

    def save_model(self) -> None:
        """Write the inference network and its image processor into the output folder."""

        def write(folder: Path) -> None:
            self.student.save_pretrained(folder)
            self.image_processor.save_pretrained(folder)

        run_folder.write_export(self.output_dir, write)

    def push_to_hub(self) -> None:
        """Upload the exported network, from the main process. The local files stay whatever happens.

        Raises:
            PublishError: If the Hub refuses or cannot be reached.
        """
        if self.accelerator.is_main_process:
            repo_id = self.args.hub_model_id or self.output_dir.resolve().name
            print(f"the network is on the Hub: {publish(self.output_dir, repo_id)}")

    def save_checkpoint(self, positions: Mapping[str, int]) -> None:
        """Write all that a resumed run needs into `checkpoint-STEP`.

        Args:
            positions: By stream, the position of its next sample.
        """
        if not self.accelerator.is_main_process:
            return
        tensors = {
            "student": self.student.state_dict(),
            "optimizer": checkpoints.optimizer_tensors(self.optimizer.optimizer, self.student),
        }
        if self.teacher is not None:
            tensors["teacher"] = self.teacher.model.state_dict()
        state = {"step": self.step, "positions": positions, "best": self.best, "recipe": self.recipe.name}
        checkpoints.save_checkpoint(self.output_dir / f"checkpoint-{self.step}", tensors, state)
        if self.args.save_total_limit is not None:
            checkpoints.prune(self.output_dir, self.args.save_total_limit)

    def load_checkpoint(self, folder: Path) -> dict[str, int]:
        """Go back to a checkpoint and return the streams' positions.

        Raises:
            ValueError: If the checkpoint is damaged or of another network or recipe.
        """
        state = checkpoints.load_state(folder)
        if state["recipe"] != self.recipe.name:
            raise ValueError(f"{folder} was written under --recipe {state['recipe']}, this run is {self.recipe.name}")
        _load(self.student, checkpoints.load_tensors(folder, "student"), folder)
        if self.teacher is not None:
            _load(self.teacher.model, checkpoints.load_tensors(folder, "teacher"), folder)
        optimizer_state = checkpoints.load_tensors(folder, "optimizer")
        checkpoints.load_optimizer_tensors(self.optimizer.optimizer, self.student, optimizer_state)
        self.step, self.best = state["step"], state["best"]
        return state["positions"]

    def _stream(self, domain: Domain, role: str, positions: Mapping[str, int]) -> TrainingStream:
        args, recipe = self.args, self.recipe
        default_bad = DEFAULT_BAD_TARGET_SAMPLES if role == "target" else 0
        return TrainingStream(
            domain,
            TrainingTransform(recipe.crop_size, recipe.source_cat_max_ratio, ignore_index=args.ignore_index),
            batch_size=recipe.per_device_train_batch_size,
            seed=2 * args.seed + (role == "target"),  # streams of one run must not shuffle alike
            num_workers=args.dataloader_num_workers,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            start=positions[role],
            max_bad_samples=default_bad if args.max_bad_samples is None else args.max_bad_samples,
            pin_memory=self.accelerator.device.type == "cuda",
        )


def make_accelerator(args: UdaTrainingArguments) -> Accelerator:
    """Make the accelerator that the arguments ask for."""
    return Accelerator(
        mixed_precision=args.mixed_precision,
        cpu=args.use_cpu,
        log_with=args.report_to,
        project_dir=args.output_dir,
    )


def flat_config(args: UdaTrainingArguments) -> dict[str, Any]:
    """Return the arguments as trackers take them: TensorBoard, for one, refuses lists and None."""
    return {name: value if isinstance(value, (int, float, str)) else str(value) for name, value in vars(args).items()}


def count_parameters(model: torch.nn.Module) -> int:
    """Return the number of parameters, buffers left out."""
    return sum(parameter.numel() for parameter in model.parameters())


def _load(model: torch.nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError:
        raise ValueError(f"{folder} is of another network than this run's: use the same --model and --mfm") from None
