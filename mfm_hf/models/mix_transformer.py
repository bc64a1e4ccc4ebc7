"""The Mix Transformer of the references: that of `transformers`, with their epsilons and their initialisation."""

from __future__ import annotations

import itertools
import math
import operator
from typing import Any

import torch
from torch import nn
from transformers import SegformerConfig, SegformerModel
from transformers import initialization as init
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping

_WIDE = {"hidden_sizes": [64, 128, 320, 512], "num_attention_heads": [1, 2, 5, 8], "decoder_hidden_size": 768}

# Arguments of `SegformerConfig` by the encoders' names (SegFormer, NeurIPS 2021, table 6). The decoder's width is that
# of the SegFormer published with the encoder. `tiny` is ours: for tests, and for studies on small images.
MIX_TRANSFORMERS: dict[str, dict[str, Any]] = {
    "mit-b0": {"depths": [2, 2, 2, 2]},
    "mit-b1": {**_WIDE, "depths": [2, 2, 2, 2], "decoder_hidden_size": 256},
    "mit-b2": {**_WIDE, "depths": [3, 4, 6, 3]},
    "mit-b3": {**_WIDE, "depths": [3, 4, 18, 3]},
    "mit-b4": {**_WIDE, "depths": [3, 8, 27, 3]},
    "mit-b5": {**_WIDE, "depths": [3, 6, 40, 3]},
    "tiny": {
        "hidden_sizes": [16, 32, 64, 96],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 2, 4],
        "decoder_hidden_size": 64,
    },
}


def stage_strides(config: SegformerConfig) -> tuple[int, ...]:
    """Stride of each stage with respect to the image, finest first: (4, 8, 16, 32) in every published one."""
    return tuple(itertools.accumulate(config.strides, operator.mul))


@torch.no_grad()
def initialize_mix_transformer_layer(layer: nn.Module) -> None:
    """Initialise one layer of a Mix Transformer that starts from scratch; a loaded tensor stays as it is.

    Linear layers: truncated normal of standard deviation 0.02. Convolutions: normal of variance 2 / fan-out, which
    keeps the depth-wise convolutions from silencing the feed-forward layers, as 0.02 would. Biases 0, norms 1 and 0.
    Source: `mix_transformer.py` in lhoyer/MIC.
    """
    if isinstance(layer, nn.Linear):
        init.trunc_normal_(layer.weight, std=0.02)
        init.zeros_(layer.bias)
    elif isinstance(layer, nn.Conv2d):
        fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
        init.normal_(layer.weight, std=math.sqrt(2.0 / fan_out))
        init.zeros_(layer.bias)
    elif isinstance(layer, nn.LayerNorm):
        init.ones_(layer.weight)
        init.zeros_(layer.bias)


class MixTransformer(SegformerModel):
    """`SegformerModel` that honours `config.layer_norm_eps` in the norms of its blocks and stages.

    The references use 1e-6 there, which is also the config's default, and 1e-5 in the patch embeddings and the
    key/value reduction (`mix_transformer.py` in lhoyer/MIC). `SegformerModel` has 1e-5 everywhere, whatever its
    config says. Weights and their names are the same.
    """

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__(config)
        for stage in self.stages:
            stage.layer_norm.eps = config.layer_norm_eps
            for block in stage.blocks:
                block.layernorm_before.eps = config.layer_norm_eps
                block.layernorm_after.eps = config.layer_norm_eps

    def _init_weights(self, module: nn.Module) -> None:
        initialize_mix_transformer_layer(module)


# Published SegFormer files hold the names of transformers 4. The library converts them on load and back on save, but
# only for its own classes and for those that are registered here; without this a subclass silently loads nothing.
register_checkpoint_conversion_mapping(
    "MixTransformer", get_checkpoint_conversion_mapping("SegformerModel"), overwrite=True
)

__all__ = ["MixTransformer", "initialize_mix_transformer_layer", "stage_strides"]
