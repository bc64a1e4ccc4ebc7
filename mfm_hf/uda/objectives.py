"""Objectives: what a step asks of the features of a view. The total loss is their weighted sum (Eq. 5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.views import View


@dataclass(frozen=True)
class Objective(ABC):
    """One term of the total loss.

    Args:
        view: Name of the view whose features it reads.
        weight: Factor of the term in the total.
    """

    view: str
    weight: float = 1.0

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
    """Cross entropy with the view's labels and weights: L_sup (Eq. 1) on `source`, self-training on `mixed`."""

    @property
    def name(self) -> str:
        """`source` or `mixed`, after the view."""
        return self.view

    def loss(self, student: DomainAdaptationModel, features: Any, view: View) -> Tensor:
        """Decode the features and compare."""
        return student.segmentation_loss(features, view.labels, view.weights)


@dataclass(frozen=True)
class MaskedFeatureModeling(Objective):
    """L_mfm: the decoder classifies what the Rebuilder made of the masked features, D(R(E(x))) (Eq. 4)."""

    @property
    def name(self) -> str:
        """`mfm`."""
        return "mfm"

    def loss(self, student: DomainAdaptationModel, features: Any, view: View) -> Tensor:
        """Mask, rebuild, decode, and compare with the view's labels at all pixels, masked or not."""
        return student.segmentation_loss(student.rebuild(features, view.rebuilder_mask), view.labels, view.weights)
