"""The training classes: each is its inference class plus one child, the `rebuilder`.

    features = model.encode(pixel_values)              # f^t = E(x^t)
    logits = model.decode(model.rebuild(features))     # D(R(f^t)), Eq. 4

`save_pretrained` writes the inference class: no Rebuilder, and nothing of it in the config.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, SegformerConfig, SegformerForSemanticSegmentation
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping

from mfm_hf.mfm.configuration_rebuilder import RebuilderConfig
from mfm_hf.mfm.feature_mask import FeatureMask
from mfm_hf.mfm.rebuilder import Rebuilder
from mfm_hf.models.configuration_daformer import DaformerConfig
from mfm_hf.models.configuration_deeplabv2 import DeepLabV2Config
from mfm_hf.models.configuration_hrda import HrdaConfig
from mfm_hf.models.detail_windows import DetailBox
from mfm_hf.models.modeling_daformer import DaformerForSemanticSegmentation
from mfm_hf.models.modeling_deeplabv2 import DeepLabV2ForSemanticSegmentation
from mfm_hf.models.modeling_hrda import HrdaFeatures, HrdaForSemanticSegmentation
from mfm_hf.models.segformer import SplitSegformer

REBUILDER_PREFIX = "rebuilder."

Average = Literal["all", "valid"]


class Scale(NamedTuple):
    """What the encoder saw in one go and what it made of it. Most networks have one scale, HRDA has two.

    Attributes:
        pixel_values: The normalised images, (batch, 3, height, width).
        features: Their features, finest stage first, each (batch, channels, height, width).
        mask: The Rebuilder's mask of them, bool (batch, rows, columns) of its grid.
    """

    pixel_values: Tensor
    features: tuple[Tensor, ...]
    mask: Tensor


class DomainAdaptationModel(PreTrainedModel):
    """What every training class adds to its inference class, from which it has `encode` and `decode`."""

    inference_class: ClassVar[type[PreTrainedModel]]
    rebuilder: FeatureMask | None
    _keys_to_ignore_on_load_missing = (r"^rebuilder\.",)
    _keys_to_ignore_on_load_unexpected = (r"^rebuilder\.",)

    def _add_rebuilder(self, config: RebuilderConfig | None) -> None:
        """Build the Rebuilder last, so that the network's own random initialisation does not depend on it."""
        self.rebuilder = None
        if config is not None and config.fill == "zeros":
            self.rebuilder = FeatureMask(config, self.feature_strides)
        elif config is not None:
            self.rebuilder = Rebuilder(config, self.feature_channels, self.feature_strides)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, FeatureMask):  # reached after its layers: what they were given is overwritten
            module.reset_parameters()
        else:
            super()._init_weights(module)

    @property
    def encoder(self) -> nn.Module:
        """The part that turns images into features, E."""
        return self.base_model

    @property
    def decoders(self) -> list[nn.Module]:
        """The parts that turn features into logits, D."""
        return [child for child in self.children() if child is not self.base_model and child is not self.rebuilder]

    def encode_views(self, images: Sequence[Tensor], details: Sequence[DetailBox | None]) -> list[Any]:
        """Encode several batches of one size in a single pass of the encoder.

        Args:
            images: Normalised images, each (batch, 3, height, width).
            details: For each, the box that HRDA looks at in detail; the other networks have None here.

        Returns:
            What `encode` returns, for each of the batches.
        """
        return split_batch(self.encode(torch.cat(tuple(images))), [len(batch) for batch in images])

    def encode_deepest(self, pixel_values: Tensor) -> Tensor:
        """Return the last stage's features of normalised images (batch, 3, height, width)."""
        return self.encode(pixel_values)[-1]

    def deepest(self, features: Any) -> Tensor:
        """Return the last stage's features of what `encode` returned."""
        return features[-1]

    def detach(self, features: Any) -> Any:
        """Return what `encode` returned, cut off from the encoder."""
        return tuple(feature.detach() for feature in features)

    def scales(self, pixel_values: Tensor, features: Any, mask: Tensor) -> list[Scale]:
        """Return images, features and mask scale by scale.

        Args:
            pixel_values: Normalised images, (batch, 3, height, width).
            features: What `encode` made of them, or `rebuild` after it.
            mask: As `draw_mask` returns it.
        """
        return [Scale(pixel_values, features, mask)]

    def draw_detail(self, height: int, width: int, generator: torch.Generator) -> DetailBox | None:
        """Draw the box to look at in detail in images of this size: none, except in HRDA."""
        return None

    def rebuild(self, features: Any, mask: Tensor | None = None) -> Any:
        """Return R(f): features of the same shapes, masked and rebuilt.

        Args:
            features: What `encode` returned.
            mask: True where masked, bool (batch, rows, columns) of the Rebuilder's grid, as `draw_mask` returns it.
                Default: a new one.

        Raises:
            ValueError: If the model was made without a Rebuilder.
        """
        return self._require_rebuilder()(features, mask)

    def read_pixels(self, features: Tensor) -> Tensor:
        """Return what the Rebuilder's pixel head reads off the deepest features, for the control that restores pixels.

        Args:
            features: (batch, channels, height, width).

        Returns:
            (batch, 3 * stride^2, height, width): for every feature the pixels of its patch, channel by channel.

        Raises:
            ValueError: If the model was made without a Rebuilder, or that has no pixel head.
        """
        rebuilder = self._require_rebuilder()
        if not isinstance(rebuilder, Rebuilder) or not rebuilder.config.pixel_head:
            raise ValueError("this Rebuilder has no pixel head: make it with RebuilderConfig(pixel_head=True)")
        return rebuilder.pixel_head(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def draw_mask(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Draw the mask that `rebuild` takes.

        Raises:
            ValueError: If the model was made without a Rebuilder.
        """
        return self._require_rebuilder().draw_mask(batch_size, generator)

    def mask_ratios(self, mask: Tensor, height: int, width: int) -> dict[str, float]:
        """Return by stage the share of the features that a mask hides, for images of this size."""
        ratios = self._require_rebuilder().realised_ratios(mask, (height, width))
        return {f"stage_{stage}": ratio for stage, ratio in enumerate(ratios, start=1)}

    def _require_rebuilder(self) -> FeatureMask:
        if self.rebuilder is None:
            raise ValueError(f"this {type(self).__name__} has no Rebuilder: load it with rebuilder=RebuilderConfig()")
        return self.rebuilder

    def segmentation_loss(
        self, features: Any, labels: Tensor, weights: Tensor | None = None, average: Average = "all"
    ) -> Tensor:
        """Return the cross entropy of the decoded features.

        Args:
            features: What `encode` or `rebuild` returned.
            labels: Class of every pixel, int64 (batch, height, width), or the config's ignore index.
            weights: Weight of every pixel, (batch, height, width); 1 if None.
            average: As in `weighted_cross_entropy`.
        """
        ignore_index = self.config.semantic_loss_ignore_index
        return weighted_cross_entropy(self.decode(features), labels, weights, ignore_index, average)

    def to_inference(self, state_dict: Mapping[str, Tensor] | None = None) -> PreTrainedModel:
        """Return the same network as its inference class, in eval mode, without the Rebuilder.

        The tensors are shared, not copied.

        Args:
            state_dict: Weights to use in place of the model's own.

        Raises:
            RuntimeError: If the remaining names are not exactly those of the inference class.
        """
        state_dict = self.state_dict() if state_dict is None else state_dict
        network = {name: tensor for name, tensor in state_dict.items() if not name.startswith(REBUILDER_PREFIX)}
        with torch.device("meta"):
            model = self.inference_class(copy.deepcopy(self.config))
        model.load_state_dict(network, strict=True, assign=True)
        return model.eval()

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *args: Any,
        state_dict: Mapping[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """Save the inference class, as its own `save_pretrained` does; `push_to_hub` goes the same way."""
        self.to_inference(state_dict).save_pretrained(save_directory, *args, **kwargs)


class SegformerForDomainAdaptation(DomainAdaptationModel, SplitSegformer):
    """SegFormer as `transformers` has it; what it saves loads there without this package."""

    inference_class = SegformerForSemanticSegmentation

    def __init__(self, config: SegformerConfig, rebuilder: RebuilderConfig | None = None) -> None:
        super().__init__(config)
        self._add_rebuilder(rebuilder)
        self.post_init()


class DaformerForDomainAdaptation(DomainAdaptationModel, DaformerForSemanticSegmentation):
    """DAFormer with an optional Rebuilder."""

    inference_class = DaformerForSemanticSegmentation

    def __init__(self, config: DaformerConfig, rebuilder: RebuilderConfig | None = None) -> None:
        super().__init__(config)
        self._add_rebuilder(rebuilder)
        self.post_init()


class DeepLabV2ForDomainAdaptation(DomainAdaptationModel, DeepLabV2ForSemanticSegmentation):
    """DeepLab-V2 with an optional Rebuilder of its one feature map."""

    inference_class = DeepLabV2ForSemanticSegmentation

    def __init__(self, config: DeepLabV2Config, rebuilder: RebuilderConfig | None = None) -> None:
        super().__init__(config)
        self._add_rebuilder(rebuilder)
        self.post_init()


class HrdaForDomainAdaptation(DomainAdaptationModel, HrdaForSemanticSegmentation):
    """HRDA with an optional Rebuilder, which is called on the context and on the detail, with masks of their own."""

    inference_class = HrdaForSemanticSegmentation

    def __init__(self, config: HrdaConfig, rebuilder: RebuilderConfig | None = None) -> None:
        super().__init__(config)
        self._add_rebuilder(rebuilder)
        self.post_init()

    @property
    def encoder(self) -> nn.Module:
        """The encoder of the base, which sees both scales."""
        return self.base.base_model

    @property
    def decoders(self) -> list[nn.Module]:
        """The base's head and the scale attention."""
        return [self.base.decode_head, self.scale_attention]

    def encode_views(self, images: Sequence[Tensor], details: Sequence[DetailBox | None]) -> list[HrdaFeatures]:
        """Encode several batches of one size: one pass for all contexts and one for all details.

        Raises:
            ValueError: If a view has no detail box: training looks at one, sliding windows are for inference.
        """
        boxes = [box for box in details if box is not None]
        if len(boxes) < len(details):
            raise ValueError("a view of HRDA's training needs a detail box: draw it with draw_detail")
        sizes = [len(batch) for batch in images]
        crops = torch.cat([box.cut(batch) for box, batch in zip(boxes, images, strict=True)])
        contexts = split_batch(self.encode_context(torch.cat(tuple(images))), sizes)
        views = zip(contexts, split_batch(self.base.encode(crops), sizes), boxes, strict=True)
        return [HrdaFeatures(context, detail, (box,), tuple(images[0].shape[-2:])) for context, detail, box in views]

    def encode_deepest(self, pixel_values: Tensor) -> Tensor:
        """Return the last stage's features of the context of normalised images (batch, 3, height, width)."""
        return self.encode_context(pixel_values)[-1]

    def deepest(self, features: HrdaFeatures) -> Tensor:
        """Return the last stage's features of the context."""
        return features.context[-1]

    def detach(self, features: HrdaFeatures) -> HrdaFeatures:
        """Return what `encode` returned, cut off from the encoder."""
        context, detail = (super(HrdaForDomainAdaptation, self).detach(part) for part in features[:2])
        return features._replace(context=context, detail=detail)

    def scales(self, pixel_values: Tensor, features: HrdaFeatures, mask: Tensor) -> list[Scale]:
        """Return the context and the one detail box of training."""
        (box,), (context_mask, detail_mask) = features.boxes, mask
        return [
            Scale(self.context_image(pixel_values), features.context, context_mask),
            Scale(box.cut(pixel_values), features.detail, detail_mask),
        ]

    def draw_detail(self, height: int, width: int, generator: torch.Generator) -> DetailBox:
        """Draw the box to look at in detail in images of this size."""
        return self.draw_detail_box(height, width, generator)

    def draw_mask(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Draw a mask for the context and one for the detail, bool (2, batch, rows, columns)."""
        return torch.stack([super(HrdaForDomainAdaptation, self).draw_mask(batch_size, generator) for _ in range(2)])

    def mask_ratios(self, mask: Tensor, height: int, width: int) -> dict[str, float]:
        """Return by scale and stage the share of the features that the masks hide."""
        ratio = self.config.context_ratio
        scales = {"context": (height // ratio, width // ratio), "detail": tuple(self.config.detail_crop_size)}
        return {
            f"{scale}_{stage}": share
            for (scale, size), scale_mask in zip(scales.items(), mask, strict=True)
            for stage, share in super(HrdaForDomainAdaptation, self).mask_ratios(scale_mask, *size).items()
        }

    def rebuild(self, features: HrdaFeatures, mask: Tensor | None = None) -> HrdaFeatures:
        """Return the features with context and detail rebuilt, each under its own mask."""
        rebuilder = self._require_rebuilder()
        context_mask, detail_mask = (None, None) if mask is None else mask
        return features._replace(
            context=rebuilder(features.context, context_mask), detail=rebuilder(features.detail, detail_mask)
        )

    def segmentation_loss(
        self, features: HrdaFeatures, labels: Tensor, weights: Tensor | None = None, average: Average = "all"
    ) -> Tensor:
        """Return 0.9 times the cross entropy of the fused and 0.1 times that of the detail logits (HRDA, Eq. 10)."""
        share, ignore_index = self.config.detail_loss_weight, self.config.semantic_loss_ignore_index
        fused, detail, box = self.decode_with_detail(features)
        detail_weights = None if weights is None else box.cut(weights)
        fused_loss = weighted_cross_entropy(fused, labels, weights, ignore_index, average)
        detail_loss = weighted_cross_entropy(detail, box.cut(labels), detail_weights, ignore_index, average)
        return (1 - share) * fused_loss + share * detail_loss


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None, ignore_index: int, average: Average = "all"
) -> Tensor:
    """Cross entropy of logits at any stride, times the pixels' weights (Eq. 1).

    Args:
        logits: (batch, num_labels, h, w), brought to the labels' size bilinearly.
        labels: int64 (batch, height, width).
        weights: (batch, height, width), or None for 1.
        ignore_index: Label of the pixels whose loss is 0.
        average: `all` divides by the number of all pixels, ignored ones among them (`losses/utils.py` in lhoyer/MIC);
            `valid` by that of the pixels that are not ignored.
    """
    logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    losses = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="none")
    total = (losses if weights is None else losses * weights).sum()
    return total / (labels.numel() if average == "all" else (labels != ignore_index).sum().clamp(min=1))


def split_batch(features: Sequence[Tensor], sizes: Sequence[int]) -> list[tuple[Tensor, ...]]:
    """Split the features of batches that were encoded together into those of each."""
    return list(zip(*(feature.split(list(sizes)) for feature in features), strict=True))


# Without this, transformers would not translate the names in published SegFormer files for a subclass of its own.
register_checkpoint_conversion_mapping(
    "SegformerForDomainAdaptation",
    get_checkpoint_conversion_mapping("SegformerForSemanticSegmentation"),
    overwrite=True,
)
