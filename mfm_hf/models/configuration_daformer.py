"""Configuration of DAFormer."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig, SegformerConfig


class DaformerConfig(PretrainedConfig):
    """A Mix Transformer encoder with the context-aware decoder of DAFormer (Hoyer et al., CVPR 2022, section 3.2).

    The defaults of the decoder are those of the published checkpoints (`daformer_sepaspp_mitb5` in lhoyer/DAFormer).

    Args:
        backbone_config: The encoder, as for `SegformerModel`. Unlike there, its `layer_norm_eps` is honoured: it is
            the epsilon of the norms in the blocks and after each stage. The norms of the patch embeddings and of
            the key/value reduction keep 1e-5, as in the original Mix Transformer. Default: MiT-B5.
        decoder_hidden_size: Channels of the per-stage embeddings and of the fused feature map.
        dilations: Dilation of each parallel branch of the fusion; 1 stands for a 1 x 1 convolution.
        classifier_dropout_prob: Probability with which a whole channel is dropped before the classifier.
        semantic_loss_ignore_index: Label of the pixels that the loss leaves out.
    """

    model_type = "daformer"
    sub_configs = {"backbone_config": SegformerConfig}

    def __init__(
        self,
        backbone_config: SegformerConfig | dict[str, Any] | None = None,
        decoder_hidden_size: int = 256,
        dilations: tuple[int, ...] | list[int] = (1, 6, 12, 18),
        classifier_dropout_prob: float = 0.1,
        semantic_loss_ignore_index: int = 255,
        **kwargs: Any,
    ) -> None:
        if backbone_config is None:
            backbone_config = SegformerConfig(
                hidden_sizes=[64, 128, 320, 512], depths=[3, 6, 40, 3], num_attention_heads=[1, 2, 5, 8]
            )
        self.backbone_config = (
            SegformerConfig(**backbone_config) if isinstance(backbone_config, dict) else backbone_config
        )
        self.decoder_hidden_size = decoder_hidden_size
        self.dilations = list(dilations)
        self.classifier_dropout_prob = classifier_dropout_prob
        self.semantic_loss_ignore_index = semantic_loss_ignore_index
        super().__init__(**kwargs)


__all__ = ["DaformerConfig"]
