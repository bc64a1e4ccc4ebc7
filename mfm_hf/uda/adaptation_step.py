"""One step of adaptation: make the views, encode them, let the objectives read the features, and learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from transformers import enable_full_determinism

from mfm_hf.data.transforms import normalize
from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.models.compat import enable_activation_checkpointing
from mfm_hf.uda.choices import StepChoices
from mfm_hf.uda.compilation import compile_networks
from mfm_hf.uda.drawing import draw_choices
from mfm_hf.uda.feature_distance import PretrainedFeatures
from mfm_hf.uda.global_statistics import mean_over_processes
from mfm_hf.uda.mean_teacher import MeanTeacher
from mfm_hf.uda.optimization import learning_rate_factor, make_optimizer, set_learning_rates
from mfm_hf.uda.pseudo_label import ignore_borders, pseudo_label
from mfm_hf.uda.recipes import Recipe
from mfm_hf.uda.run import checkpoint as checkpoints
from mfm_hf.uda.run.guards import StepGuard
from mfm_hf.uda.run.launch_checks import check_launch
from mfm_hf.uda.step_module import StepModule, default_encode_mode
from mfm_hf.uda.teacher_features import TeacherFeatures
from mfm_hf.uda.training_args import UdaTrainingArguments
from mfm_hf.uda.views import View, make_views

Batch = Mapping[str, Any]


class AdaptationStep:
    """The student, its teacher and its optimizer, and what they do in a step.

    Args:
        student: The network that is trained.
        recipe: Decides the views, the objectives and the numbers.
        args: What the recipe does not decide.
        accelerator: Device, precision and processes.

    Raises:
        ValueError: If the processes or their devices cannot do what is asked, see `check_launch`.
    """

    def __init__(
        self, student: DomainAdaptationModel, recipe: Recipe, args: UdaTrainingArguments, accelerator: Accelerator
    ) -> None:
        check_launch(args, recipe, accelerator)
        if args.full_determinism:
            enable_full_determinism(args.seed)
        self.student = nn.SyncBatchNorm.convert_sync_batchnorm(student) if args.sync_batch_norm else student
        self.recipe = recipe
        self.accelerator = accelerator
        self.seed = args.seed
        self.statistics = args.batch_statistics
        self.num_micro_batches = args.gradient_accumulation_steps
        self.encode_mode = args.encode or default_encode_mode(student)
        if args.gradient_checkpointing:
            enable_activation_checkpointing(student)
        self.module = accelerator.prepare(StepModule(student, recipe.objectives))
        self.optimizer = accelerator.prepare(make_optimizer(student, recipe, args.rebuilder_learning_rate))
        self.teacher: MeanTeacher | None = None
        if recipe.uses_target:
            self.teacher = MeanTeacher(
                student.to_inference(), recipe.teacher_alpha, recipe.teacher_batch_norm, args.sync_batch_norm
            )
        self.pretrained = PretrainedFeatures(student) if recipe.uses_feature_distance else None
        self.teacher_features: TeacherFeatures | None = None
        if self.teacher is not None and recipe.teacher_feature_views:
            self.teacher_features = TeacherFeatures(self.teacher, student)
        if args.compile:
            frozen = [part.model for part in (self.pretrained, self.teacher_features) if part is not None]
            compile_networks(student, self.teacher, frozen)
        top, bottom = args.pseudo_label_ignore_rows or (0, 0)
        self.ignored_rows = (top, bottom)
        self.number = 0
        networks = [student] if self.teacher is None else [student, self.teacher.model]
        self.guard = StepGuard(accelerator, networks, Path(args.output_dir), args.max_skipped_steps, args.max_grad_norm)
        # Of the last step, for the log; the views, the confidence and the norms are those of its last micro-batch:
        self.choices = StepChoices()
        self.views: dict[str, View] = {}
        self.gradient_norms: dict[str, float] = {}
        self.confidence = torch.zeros(())

    def __call__(
        self, source: Batch, target: Batch | None, choices: StepChoices | None = None, measure: bool = False
    ) -> dict[str, Tensor]:
        """Do the step; see `UdaTrainer.training_step`.

        Args:
            source: A batch of the source; under gradient accumulation, the micro-batches one after another.
            target: A batch of the target, likewise, or None.
            choices: The random choices, or None to draw them.
            measure: Whether to note the gradient norm of each term in `gradient_norms`.

        Raises:
            TooManySkippedStepsError: If this step had to be skipped, as many before it.
        """
        self.choices = self._draw_choices(source["labels"]) if choices is None else choices
        torch.manual_seed(self._seed_for("layers", self.accelerator.process_index))  # dropout and stochastic depth
        self.module.train()
        factor = learning_rate_factor(self.number, self.recipe.max_steps, self.recipe.warmup_steps)
        set_learning_rates(self.optimizer, factor)
        self.optimizer.zero_grad()
        if self.teacher is not None and not self.guard.in_a_row:  # after a skipped step it has met this student
            if self.recipe.teacher_batch_norm == "running":  # the statistics that all processes will go on from
                broadcast(list(self.student.buffers()))
            self.teacher.update(self.student, self.number)
        self.guard.begin()
        losses = self._accumulate_gradients(source, target, measure)
        self.number += 1
        if not self.guard.step(self.optimizer, losses):
            batches = {"source": source} if target is None else {"source": source, "target": target}
            self.guard.note_skipped(self.number, losses, batches)
        return losses

    def _draw_choices(self, labels: Tensor) -> StepChoices:
        process = self.accelerator.process_index if self.statistics == "process" else 0
        generator = torch.Generator().manual_seed(self._seed_for("choices", process))
        return draw_choices(self.recipe, self.student, labels, generator, self.statistics)

    def _accumulate_gradients(self, source: Batch, target: Batch | None, measure: bool) -> dict[str, Tensor]:
        """Compute the gradients of all micro-batches, and return the mean of each loss."""
        losses: dict[str, Tensor] = {}
        for index, micro_batch in enumerate(self._micro_batches(source, target)):
            self.views = self.make_views(*micro_batch)
            part = self._backward(self.views, measure, is_last=index == self.num_micro_batches - 1)
            losses = {name: losses[name] + loss if index else loss for name, loss in part.items()}
        return {name: loss / self.num_micro_batches for name, loss in losses.items()}

    def _micro_batches(self, source: Batch, target: Batch | None) -> Iterator[tuple[Batch, Batch | None, StepChoices]]:
        if self.num_micro_batches == 1:
            yield source, target, self.choices
            return
        size, rest = divmod(len(source["labels"]), self.num_micro_batches)
        if rest:
            raise ValueError(
                f"{len(source['labels'])} images make no {self.num_micro_batches} equal parts: give a multiple of "
                "gradient_accumulation_steps"
            )
        for start in range(0, size * self.num_micro_batches, size):
            images = slice(start, start + size)
            part = {key: values[images] for key, values in source.items()}
            target_part = None if target is None else {key: values[images] for key, values in target.items()}
            yield part, target_part, self.choices.of_images(images)

    def make_views(self, source: Batch, target: Batch | None, choices: StepChoices) -> dict[str, View]:
        """Bring a batch to the device, let the teacher label the target, and make the recipe's views."""
        pixels, labels = self._to_device(source["pixel_values"]), self._to_device(source["labels"])
        source_view = View(normalize(pixels), labels, statistics=self.statistics)
        if self.pretrained is not None:
            with self.accelerator.autocast():
                source_view = replace(source_view, pretrained=self.pretrained(source_view.pixel_values))
        target_view = None if self.teacher is None or target is None else self._label(self.teacher, target)
        views = make_views(self.recipe.views, source_view, target_view, choices)
        if self.teacher_features is not None:
            for name in self.recipe.teacher_feature_views:
                with self.accelerator.autocast():
                    features = self.teacher_features(views[name].pixel_values, views[name].detail)
                views[name] = replace(views[name], teacher_features=features)
        return views

    def _label(self, teacher: MeanTeacher, target: Batch) -> View:
        pixels = normalize(self._to_device(target["pixel_values"]))
        with self.accelerator.autocast():
            logits = teacher(pixels)
        pseudo = pseudo_label(logits, pixels.shape[-2:], self.recipe.pseudo_label_threshold)
        self.confidence = pseudo.weights[0, 0, 0]  # the same at every pixel, until borders are ignored
        if self.statistics == "global":
            self.confidence = mean_over_processes(self.confidence)
            pseudo = pseudo._replace(weights=self.confidence.expand_as(pseudo.weights))
        valid = self._to_device(target["valid"]) if "valid" in target else None
        return View(pixels, *ignore_borders(pseudo, self.ignored_rows, valid))

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.accelerator.device, non_blocking=True)

    def _backward(self, views: dict[str, View], measure: bool, is_last: bool) -> dict[str, Tensor]:
        """Compute the losses and their gradients, all views at once or, to save memory, one after another.

        Args:
            views: Of a micro-batch.
            measure: Whether to note the gradient norms.
            is_last: Whether the last backward pass is the step's, at which processes average their gradients.
        """
        active = [term for term in self.recipe.objectives if self.number >= term.start_step]
        weights = {term.name: term.weight for term in active}
        views = {term.view: views[term.view] for term in active}
        passes = [views] if self.encode_mode == "views_together" else [{name: views[name]} for name in views]
        losses: dict[str, Tensor] = {}
        for index, part in enumerate(passes):
            synchronises = is_last and index == len(passes) - 1
            with nullcontext() if synchronises else self.accelerator.no_sync(self.module):
                part_losses = self.module(part, weights)
                if measure:
                    self.gradient_norms |= {
                        name: weights[name] * self._gradient_norm(loss) for name, loss in part_losses.items()
                    }
                total = sum(weights[name] * loss for name, loss in part_losses.items())
                self.accelerator.backward(total / self.num_micro_batches)
            losses.update({name: loss.detach() for name, loss in part_losses.items()})
        return losses

    def _gradient_norm(self, loss: Tensor) -> float:
        parameters = [parameter for parameter in self.student.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        norms = [gradient.norm() for gradient in gradients if gradient is not None]
        return torch.stack(norms).norm().item()

    def _seed_for(self, purpose: str, process: int) -> int:
        """Return a seed for one purpose at this step on a process, so that no random state need be saved."""
        words = [self.seed, self.number, process, *purpose.encode()]
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    def state_of_training(self) -> dict[str, float]:
        """Return what is logged beside the losses: rates, the teacher's alpha and confidence, realised mask ratios."""
        state = {f"learning_rate/{group['name']}": group["lr"] for group in self.optimizer.param_groups}
        state["skipped_steps"] = self.guard.num_skipped
        if self.teacher is not None:
            state["teacher_alpha"] = self.teacher.alpha_at(self.number)
            state["pseudo_label_confidence"] = self.confidence.item()
        state |= {f"gradient_norm/{name}": norm for name, norm in self.gradient_norms.items()}
        for view, mask in self.choices.rebuilder_masks.items():
            ratios = self.student.mask_ratios(mask, *self.recipe.crop_size)
            state |= {f"mask_ratio/{view}_{stage}": ratio for stage, ratio in ratios.items()}
        return state

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return all that a later step depends on besides its number, by file name."""
        tensors = {
            "student": self.student.state_dict(),
            "optimizer": checkpoints.optimizer_tensors(self.optimizer.optimizer, self.student),
        }
        if self.teacher is not None:
            tensors["teacher"] = self.teacher.model.state_dict()
        return tensors

    def load_tensors(self, tensors: Mapping[str, Mapping[str, Tensor]], number: int) -> None:
        """Go back to where `tensors` was called, after step `number`.

        Raises:
            RuntimeError: If they are those of another network.
        """
        self.student.load_state_dict(tensors["student"], strict=True)
        if self.teacher is not None:
            self.teacher.model.load_state_dict(tensors["teacher"], strict=True)
        checkpoints.load_optimizer_tensors(self.optimizer.optimizer, self.student, tensors["optimizer"])
        self.number = number
