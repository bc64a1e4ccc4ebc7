"""The same training step, written plainly: what the fast path is measured against.

It takes the batches and the choices of an `AdaptationStep` and comes to the same losses. What makes it slow is what
makes the public code bases slow, each by a name, so that each may be taken away to see what it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from mfm_hf.cpu_allocator import keep_freed_memory
from mfm_hf.data.transforms import normalize
from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.models.dilated_depthwise import DilatedDepthwiseConv2d
from mfm_hf.models.modeling_daformer import ConvNormAct, SeparableAspp
from mfm_hf.uda.adaptation_step import Batch
from mfm_hf.uda.augmentation import augment
from mfm_hf.uda.batch_norm import batch_norm_mode
from mfm_hf.uda.choices import StepChoices
from mfm_hf.uda.class_mix import class_mask, class_mix
from mfm_hf.uda.feature_distance import PretrainedFeatures
from mfm_hf.uda.mean_teacher import MeanTeacher
from mfm_hf.uda.objectives import FeatureDistance, Objective
from mfm_hf.uda.optimization import learning_rate_factor, parameter_groups, set_learning_rates
from mfm_hf.uda.pseudo_label import pseudo_label
from mfm_hf.uda.recipes import Recipe
from mfm_hf.uda.training_args import UdaTrainingArguments
from mfm_hf.uda.views import View, make_views


@dataclass(frozen=True)
class Handicaps:
    """What is done the slow way (lhoyer/MIC at 2f932a9, `mmseg/models/uda/dacs.py`, unless another file is named).

    Attributes:
        views_one_by_one: A pass through the encoder and back for every view.
        eager_attention: Attention writes its matrix out (`backbones/mix_transformer.py`).
        plain_convolutions: The maps of DAFormer's fusion are in NCHW, and its dilated convolutions are PyTorch's.
        float32: No half precision anywhere.
        second_encoder_backward: The feature distance goes back through the encoder by itself.
        parameterwise_ema: The teacher is updated parameter by parameter.
        imagewise_augmentation: Images are mixed and augmented one by one (`utils/dacs_transforms.py`).
        parameterwise_optimizer: AdamW goes through the parameters one by one, as PyTorch 1.7 did.
        returned_memory: On a CPU the process gives freed memory back, which is the allocator's default.
    """

    views_one_by_one: bool = True
    eager_attention: bool = True
    plain_convolutions: bool = True
    float32: bool = True
    second_encoder_backward: bool = True
    parameterwise_ema: bool = True
    imagewise_augmentation: bool = True
    parameterwise_optimizer: bool = True
    returned_memory: bool = True

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all handicaps."""
        return tuple(item.name for item in fields(cls))

    def without(self, name: str) -> Handicaps:
        """Return the handicaps without one of them."""
        return replace(self, **{name: False})


class PlainStep:
    """A step of adaptation with handicaps.

    Args:
        student: The network; it is trained.
        recipe: The method.
        args: What the recipe does not decide.
        device: Where it computes.
        handicaps: What is slow about it.
    """

    def __init__(
        self,
        student: DomainAdaptationModel,
        recipe: Recipe,
        args: UdaTrainingArguments,
        device: torch.device,
        handicaps: Handicaps,
    ) -> None:
        self.student, self.recipe, self.device, self.handicaps = student.to(device), recipe, device, handicaps
        if not handicaps.returned_memory and device.type == "cpu":
            keep_freed_memory()
        if handicaps.eager_attention:
            student.set_attn_implementation("eager")
        if handicaps.plain_convolutions:
            _convolve_plainly(student)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(student, recipe, args.rebuilder_learning_rate),
            foreach=False if handicaps.parameterwise_optimizer else None,
            fused=not handicaps.parameterwise_optimizer,
        )
        self.teacher: MeanTeacher | None = None
        if recipe.uses_target:
            self.teacher = MeanTeacher(student.to_inference(), recipe.teacher_alpha, recipe.teacher_batch_norm)
            if handicaps.plain_convolutions:
                _convolve_plainly(self.teacher.model)
        self.pretrained = PretrainedFeatures(student) if recipe.uses_feature_distance else None
        self.number = 0

    def __call__(self, source: Batch, target: Batch | None, choices: StepChoices) -> dict[str, Tensor]:
        """Do a step with given choices, and return the unweighted losses by name.

        Args:
            source: `pixel_values`, uint8 (batch, 3, height, width), and `labels`, int64 (batch, height, width).
            target: `pixel_values`; None under a recipe that looks at the source alone.
            choices: The random choices of the step.
        """
        self.student.train()
        factor = learning_rate_factor(self.number, self.recipe.max_steps, self.recipe.warmup_steps)
        set_learning_rates(self.optimizer, factor)
        self.optimizer.zero_grad()
        if self.teacher is not None:
            self._update_teacher(self.teacher)
        views = self._views(source, target, choices)
        active = [term for term in self.recipe.objectives if self.number >= term.start_step]
        if self.handicaps.views_one_by_one:
            losses: dict[str, Tensor] = {}
            for name in dict.fromkeys(term.view for term in active):
                losses |= self._learn({name: views[name]}, [term for term in active if term.view == name])
        else:
            losses = self._learn({term.view: views[term.view] for term in active}, active)
        self.optimizer.step()
        self.number += 1
        return losses

    def _views(self, source: Batch, target: Batch | None, choices: StepChoices) -> dict[str, View]:
        pixels = normalize(source["pixel_values"].to(self.device))
        source_view = View(pixels, source["labels"].to(self.device))
        if self.pretrained is not None:
            with self._precision():
                source_view = replace(source_view, pretrained=self.pretrained(pixels))
        if self.teacher is None or target is None:
            return make_views(self.recipe.views, source_view, None, choices)
        target_pixels = normalize(target["pixel_values"].to(self.device))
        with self._precision():
            logits = self.teacher(target_pixels)
        pseudo = pseudo_label(logits, target_pixels.shape[-2:], self.recipe.pseudo_label_threshold)
        target_view = View(target_pixels, pseudo.labels, pseudo.weights)
        if "mixed" not in self.recipe.views or not self.handicaps.imagewise_augmentation:
            return make_views(self.recipe.views, source_view, target_view, choices)
        others = tuple(name for name in self.recipe.views if name != "mixed")
        mixed = replace(_mix_one_by_one(source_view, target_view, choices), detail=choices.details.get("mixed"))
        return {**make_views(others, source_view, target_view, choices), "mixed": mixed}

    def _learn(self, views: Mapping[str, View], terms: list[Objective]) -> dict[str, Tensor]:
        with self._precision():
            mode = terms[0].batch_norm if len({term.batch_norm for term in terms}) == 1 else "update"
            with batch_norm_mode(self.student, mode):
                encoded = self.student.encode_views(
                    [view.pixel_values for view in views.values()], [view.detail for view in views.values()]
                )
            features = dict(zip(views, encoded, strict=True))
            losses = {}
            for term in terms:
                with batch_norm_mode(self.student, term.batch_norm):
                    losses[term.name] = term.loss(self.student, features[term.view], views[term.view])
        apart = [term for term in terms if isinstance(term, FeatureDistance)]
        if apart and self.handicaps.second_encoder_backward:
            rest = [term.weight * losses[term.name] for term in terms if term not in apart]
            torch.stack(rest).sum().backward(retain_graph=True)
            (apart[0].weight * losses[apart[0].name]).backward()
        else:
            torch.stack([term.weight * losses[term.name] for term in terms]).sum().backward()
        return {name: loss.detach() for name, loss in losses.items()}

    @torch.no_grad()
    def _update_teacher(self, teacher: MeanTeacher) -> None:
        if not self.handicaps.parameterwise_ema:
            teacher.update(self.student, self.number)
            return
        alpha = teacher.alpha_at(self.number)
        own = dict(self.student.named_parameters())
        for name, parameter in teacher.model.named_parameters():
            parameter.data = alpha * parameter.data + (1 - alpha) * own[name].data

    def _precision(self) -> torch.autocast | nullcontext:
        if self.handicaps.float32:
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


def _convolve_plainly(model: nn.Module) -> None:
    """Let DAFormer's fusion work as mmsegmentation's: on contiguous maps, with dilated convolutions of PyTorch."""
    for module in list(model.modules()):
        if isinstance(module, SeparableAspp):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
        elif isinstance(module, ConvNormAct) and isinstance(module.conv, DilatedDepthwiseConv2d):
            ours, (channels, dilation) = module.conv, (module.conv.in_channels, module.conv.dilation)
            with torch.device("meta"):
                module.conv = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, groups=channels, bias=False)
            module.conv.weight = ours.weight


def _mix_one_by_one(source: View, target: View, choices: StepChoices) -> View:
    """ClassMix and augmentation of each image by itself; the images are those of `mixed_view`."""
    images, labels, weights = [], [], []
    for index in range(len(source.pixel_values)):
        one = slice(index, index + 1)
        pasted = class_mask(source.labels[one], choices.pasted_classes[one])
        mixed = class_mix(pasted, source.pixel_values[one], target.pixel_values[one])
        images.append(augment(mixed, choices.mixed_augmentations[one]))
        labels.append(class_mix(pasted, source.labels[one], target.labels[one]))
        assert target.weights is not None, "pseudo-labels have weights"
        weights.append(target.weights[one].masked_fill(pasted, 1.0))
    return View(torch.cat(images), torch.cat(labels), torch.cat(weights))
