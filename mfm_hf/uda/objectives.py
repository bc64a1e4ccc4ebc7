"""Objectives: what a step asks of the features of a view. The total loss is their weighted sum (Eq. 5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mfm_hf.mfm.modeling_mfm import Average, DomainAdaptationModel
from mfm_hf.uda.batch_norm import BatchNormMode
from mfm_hf.uda.feature_distance import THING_CLASSES, feature_distance, majority_labels, thing_ids
from mfm_hf.uda.views import View

GradientPath = Literal["both", "encoder", "decoder"]


@dataclass(frozen=True)
class Objective(ABC):
    """One term of the total loss.

    Args:
        view: Name of the view whose features it reads.
        weight: Factor of the term in the total.
        average: What the pixels' losses are averaged over, as in `weighted_cross_entropy`.
        start_step: Step before which the term is left out.
        batch_norm: What its pass through the decoder does to BatchNorm; through the encoder too, if no other
            objective reads the view.
    """

    view: str
    weight: float = 1.0
    average: Average = "all"
    start_step: int = 0
    batch_norm: BatchNormMode = "update"

    @property
    @abstractmethod
    def name(self) -> str:
        """What the term is called in logs."""

    @abstractmethod
    def loss(self, student: DomainAdaptationModel, features: Any, view: View) -> Tensor:
        """Return the unweighted term, a scalar.

        Args:
            student: The network that is trained.
            features: What `student.encode` returned for the view.
            view: The view itself.
        """


@dataclass(frozen=True)
class Segmentation(Objective):
    """Cross entropy with the view's labels and weights.

    On `source` it is L_sup (Eq. 1), on `mixed` the self-training of DACS, on `masked` the consistency of MIC.
    """

    @property
    def name(self) -> str:
        """The view's name."""
        return self.view

    def loss(self, student: DomainAdaptationModel, features: Any, view: View) -> Tensor:
        """Decode the features and compare."""
        return student.segmentation_loss(features, view.labels, view.weights, self.average)


@dataclass(frozen=True)
class FeatureDistance(Objective):
    """Distance of the deepest features to those of the pretrained encoder, where things are (DAFormer, section 3.3).

    Args:
        classes: Names of the classes that count as things.
        min_ratio: Share of a feature's cell that a thing must cover.
    """

    classes: tuple[str, ...] = THING_CLASSES
    min_ratio: float = 0.75

    @property
    def name(self) -> str:
        """`feature_distance`."""
        return "feature_distance"

    def loss(self, student: DomainAdaptationModel, features: Any, view: View) -> Tensor:
        """Compare the deepest features at the cells that a thing covers."""
        deepest, config = student.deepest(features), student.config
        assert view.pretrained is not None, "the step gives the source view the pretrained features"
        ids = torch.tensor(thing_ids(config.label2id, self.classes)).to(deepest.device, non_blocking=True)
        size, ignore_index = deepest.shape[-2:], config.semantic_loss_ignore_index
        labels = majority_labels(view.labels, size, config.num_labels, self.min_ratio, ignore_index)
        return feature_distance(deepest, view.pretrained, torch.isin(labels, ids), view.statistics)


@dataclass(frozen=True)
class MaskedFeatureModeling(Objective):
    """L_mfm: the decoder classifies what the Rebuilder made of the masked features, D(R(E(x))) (Eq. 4).

    Args:
        gradient: Where the term's gradient goes besides the Rebuilder: to encoder and decoder (paper), or to one of
            them alone (ablation of the paper's v2).
    """

    gradient: GradientPath = "both"

    @property
    def name(self) -> str:
        """`mfm`, or `mfm_source` for source features."""
        return "mfm_source" if self.view == "source" else "mfm"

    def loss(self, student: DomainAdaptationModel, features: Any, view: View) -> Tensor:
        """Mask, rebuild, decode, and compare with the view's labels at all pixels, masked or not."""
        if self.gradient == "decoder":
            features = student.detach(features)
        rebuilt = student.rebuild(features, view.rebuilder_mask)
        with _frozen(student.decoders if self.gradient == "encoder" else []):
            return student.segmentation_loss(rebuilt, view.labels, view.weights, self.average)


@contextmanager
def _frozen(modules: list[nn.Module]) -> Iterator[None]:
    """Let gradients pass through modules without reaching their parameters."""
    parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
