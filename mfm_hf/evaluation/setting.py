"""At what size, in which windows and in which precision a network sees the images that it is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from transformers import PreTrainedModel

from mfm_hf.data.domain import Domain
from mfm_hf.evaluation.acceleration import Precision
from mfm_hf.models.configuration_hrda import HrdaConfig
from mfm_hf.models.sliding_window import Blending, SlidingWindow

ChosenBy = Literal["user", "checkpoint", "papers", "nobody"]

_REASONS: dict[ChosenBy, str] = {
    "user": "as asked for",
    "checkpoint": "the size of the checkpoint's image processor",
    "papers": "the papers' size for this benchmark",
    "nobody": "",
}


@dataclass(frozen=True)
class EvaluationSetting:
    """How a network sees an image. Labels keep their size, to which the logits are brought.

    Attributes:
        box: The longer and the shorter side in pixels that images are fitted into; None: they keep their size.
        chosen_by: Who chose it.
        window: The windows that slide over an image; None: it is seen whole.
        precision: Of the network's weights and computation.
        compiled: Whether the network is compiled.
    """

    box: tuple[int, int] | None
    chosen_by: ChosenBy
    window: SlidingWindow | None
    precision: Precision = "float32"
    compiled: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the setting as results record it."""
        return {
            "image_size": None if self.box is None else list(self.box),
            "image_size_chosen_by": self.chosen_by,
            "window_size": None if self.window is None else list(self.window.size),
            "window_stride": None if self.window is None else list(self.window.stride),
            "window_blending": None if self.window is None else self.window.blending,
            "precision": self.precision,
            "compile": self.compiled,
        }

    def __str__(self) -> str:
        size = "at their own size" if self.box is None else f"fitted into {self.box[0]} x {self.box[1]}"
        reason = _REASONS[self.chosen_by]
        seen = "seen whole" if self.window is None else "seen in windows of {}x{} every {}x{}".format(
            *self.window.size, *self.window.stride
        )  # fmt: skip
        blended = (
            ", blended by Gaussian weights" if self.window is not None and self.window.blending != "uniform" else ""
        )
        precision = "" if self.precision == "float32" else f", in {self.precision}"
        compiled = ", compiled" if self.compiled else ""
        return f"images {size}{f' ({reason})' if reason else ''}, {seen}{blended}{precision}{compiled}"


def choose_box(
    asked: tuple[int, int] | Literal["native"] | None,
    trained_at: tuple[int, int] | None,
    domain: Domain,
    model: PreTrainedModel,
) -> tuple[tuple[int, int] | None, ChosenBy]:
    """Return what images are fitted into, and who chose it: the first of these who has something to say.

    Args:
        asked: What the user asks for.
        trained_at: What the checkpoint was trained at, as its image processor tells.
        domain: A benchmark knows what the papers do: HRDA and MIC see it at full size, the others at half of it.
        model: The network.
    """
    if asked is not None:
        return (None if asked == "native" else asked), "user"
    if trained_at is not None:
        return trained_at, "checkpoint"
    if domain.paper is None:
        return None, "nobody"
    is_hrda = isinstance(model.config, HrdaConfig)
    return (domain.paper.full_box if is_hrda else domain.paper.half_box), "papers"


def choose_window(
    size: tuple[int, int] | Literal["whole"] | None,
    stride: Sequence[int] | None,
    batch_size: int,
    model: PreTrainedModel,
    blending: Blending | None = None,
) -> SlidingWindow | None:
    """Return the windows that are asked for, or else those that HRDA brings.

    From then on HRDA's `forward` brings none itself, so that nobody slides twice.

    Args:
        size: Rows and columns of a window, or the whole image. None: what the network brings.
        stride: Rows and columns between windows. Default: half the window, or what the network brings.
        batch_size: Windows per forward pass.
        model: The network.
        blending: How windows are merged. Default: uniformly, as the references do.

    Raises:
        ValueError: If the windows leave gaps, or there is a stride or a blending without windows.
    """
    own = None
    if isinstance(model.config, HrdaConfig):
        own = model.config.sliding_window
        model.config.window_size = model.config.window_stride = None
    if size == "whole":
        own = None
    elif size is not None:
        own = SlidingWindow(size, (max(size[0] // 2, 1), max(size[1] // 2, 1)))
    if own is None:
        check_window_options(stride, blending)
        return None
    stride = own.stride if stride is None else (stride[0], stride[1])
    return replace(own, batch_size=batch_size, stride=stride, blending=blending or own.blending)


def check_window_options(stride: Sequence[int] | None, blending: Blending | None) -> None:
    """Check that nothing is said of windows where there are none.

    Raises:
        ValueError: If something is.
    """
    if stride is not None:
        raise ValueError("--window_stride is the distance of windows: give their --window_size, too")
    if blending is not None:
        raise ValueError("--window_blending is how windows are merged: give their --window_size, too")
