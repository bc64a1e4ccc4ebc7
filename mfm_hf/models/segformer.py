"""The SegFormer of `transformers`, untouched, in two halves."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import SegformerForSemanticSegmentation
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping

from .mix_transformer import stage_strides


class SplitSegformer(SegformerForSemanticSegmentation):
    """`SegformerForSemanticSegmentation` with the `encode` and `decode` of our own segmenters."""

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of what `encode` returns, finest stage first."""
        return tuple(self.config.hidden_sizes)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Stride of what `encode` returns with respect to the image, finest stage first."""
        return stage_strides(self.config)

    def encode(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Return the stages' features, finest first: (batch, channels, ceil(height / stride), ceil(width / stride)).

        Args:
            pixel_values: Normalised images, (batch, 3, height, width).
        """
        return self.segformer(pixel_values, output_hidden_states=True).hidden_states

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (batch, num_labels, height / 4, width / 4) of what `encode` returned."""
        return self.decode_head(features)


# See mix_transformer.py: without this the head's projections of a published file would silently stay random.
register_checkpoint_conversion_mapping(
    "SplitSegformer", get_checkpoint_conversion_mapping("SegformerForSemanticSegmentation"), overwrite=True
)

__all__ = ["SplitSegformer"]
