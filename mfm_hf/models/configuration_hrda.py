"""Configuration of HRDA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from transformers import AutoConfig, PretrainedConfig, SegformerConfig

from .configuration_daformer import DaformerConfig
from .configuration_deeplabv2 import DeepLabV2Config
from .sliding_window import SlidingWindow

_BASES: dict[str, type[PretrainedConfig]] = {
    config.model_type: config for config in (DaformerConfig, DeepLabV2Config, SegformerConfig)
}


class HrdaConfig(PretrainedConfig):
    """Another segmenter at two scales: context from the downscaled image, detail from crops of the full image.

    The defaults are those of the published checkpoints (Hoyer et al., ECCV 2022, section 4.1; `hrda1-512-0.1` in
    lhoyer/HRDA).

    Args:
        base_config: The segmenter: a DAFormer (default), a DeepLab-V2 or a SegFormer. HRDA takes its classes where it
            is given none of its own.
        context_scale: Scale of the image in which the context is seen: 1 / n for a whole n.
        detail_crop_size: Rows and columns of the detail crop, in pixels of the full image.
        detail_stride: Rows and columns between sliding detail windows. Default: half the crop.
        crop_divisor: Spacing in pixels of the grid on which detail crops lie.
        detail_loss_weight: Share of the detail logits in the loss; the rest is that of the fused logits.
        window_size: Rows and columns of the windows in which `forward` sees an image that is larger, so that it meets
            the size that the network was trained at. Default: twice the detail crop, as in the papers. None: the whole
            image at once, whatever its size.
        window_stride: Rows and columns between two windows. Default: half the window.
        attention_hidden_size: Channels of the scale attention over a DAFormer or SegFormer. That of a DeepLab-V2 is a
            second head of its kind and has none.
        semantic_loss_ignore_index: Label of the pixels that the loss leaves out.

    Raises:
        ValueError: Another segmenter, a scale that is not 1 / n, crops and strides that are off the grid, or windows
            with gaps between them.
    """

    model_type = "hrda"
    sub_configs = {"base_config": AutoConfig}

    def __init__(
        self,
        base_config: PretrainedConfig | dict[str, Any] | None = None,
        context_scale: float = 0.5,
        detail_crop_size: Sequence[int] = (512, 512),
        detail_stride: Sequence[int] | None = None,
        crop_divisor: int = 8,
        detail_loss_weight: float = 0.1,
        window_size: Sequence[int] | Literal["twice_detail"] | None = "twice_detail",
        window_stride: Sequence[int] | None = None,
        attention_hidden_size: int = 256,
        semantic_loss_ignore_index: int = 255,
        **kwargs: Any,
    ) -> None:
        self.base_config = _resolve_base(base_config)
        self.context_scale = context_scale
        self.detail_crop_size = list(detail_crop_size)
        if detail_stride is None:
            detail_stride = [max(size // 2 // crop_divisor, 1) * crop_divisor for size in detail_crop_size]
        self.detail_stride = list(detail_stride)
        self.crop_divisor = crop_divisor
        self.detail_loss_weight = detail_loss_weight
        if window_size == "twice_detail":
            window_size = [2 * size for size in detail_crop_size]
        self.window_size = None if window_size is None else list(window_size)
        if window_stride is None and self.window_size is not None:
            window_stride = [max(size // 2, 1) for size in self.window_size]
        self.window_stride = None if window_stride is None else list(window_stride)
        self.attention_hidden_size = attention_hidden_size
        self.semantic_loss_ignore_index = semantic_loss_ignore_index
        self._check_grid()
        if "num_labels" not in kwargs and "id2label" not in kwargs:
            kwargs.update(id2label=self.base_config.id2label, label2id=self.base_config.label2id)
        super().__init__(**kwargs)
        self._check_windows()

    @property
    def sliding_window(self) -> SlidingWindow | None:
        """The windows in which `forward` sees a larger image; None: it sees all of it at once."""
        if self.window_size is None or self.window_stride is None:
            return None
        (rows, columns), (down, right) = self.window_size, self.window_stride
        return SlidingWindow((rows, columns), (down, right))

    @property
    def context_ratio(self) -> int:
        """How many pixels of the full image a pixel of the context image is wide."""
        return round(1 / self.context_scale)

    def _check_windows(self) -> None:
        if self.window_size is None and self.window_stride is not None:
            raise ValueError(f"window_stride={self.window_stride} needs a window_size")
        for name in ("window_size", "window_stride"):
            sizes = getattr(self, name)
            if sizes is not None and len(sizes) != 2:
                raise ValueError(f"{name} must be two numbers of pixels, not {sizes}")
        self.sliding_window  # noqa: B018 (it refuses gaps)

    def _check_grid(self) -> None:
        if not 0 < self.context_scale <= 1 or abs(1 / self.context_scale - self.context_ratio) > 1e-6:
            raise ValueError(f"context_scale must be 1 / n for a whole n, such as 0.5, not {self.context_scale}")
        for name in ("detail_crop_size", "detail_stride"):
            sizes = getattr(self, name)
            if len(sizes) != 2 or any(size < 1 or size % self.crop_divisor for size in sizes):
                raise ValueError(
                    f"{name} must be two positive multiples of crop_divisor={self.crop_divisor}, not {sizes}"
                )
        if any(stride > crop for stride, crop in zip(self.detail_stride, self.detail_crop_size, strict=True)):
            raise ValueError(
                f"detail_stride={self.detail_stride} leaves gaps between windows of "
                f"detail_crop_size={self.detail_crop_size}: make it no larger"
            )


def _resolve_base(base_config: PretrainedConfig | dict[str, Any] | None) -> PretrainedConfig:
    if base_config is None:
        return DaformerConfig()
    model_type = base_config.get("model_type") if isinstance(base_config, dict) else base_config.model_type
    if model_type not in _BASES:
        raise ValueError(f"HRDA's base_config must be one of {', '.join(_BASES)}, not {model_type!r}")
    return _BASES[model_type](**base_config) if isinstance(base_config, dict) else base_config


__all__ = ["HrdaConfig"]
