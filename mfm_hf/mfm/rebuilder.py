"""The Rebuilder R of Masked Feature Modeling: embed, mask, transform, project, fuse (arXiv 2509.13801, Figure 2).

It exists during training only. From the deepest feature map of the encoder it makes, for every stage, an offset that
takes the place of the features at the masked positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import initialization as init

from mfm_hf.mfm.configuration_rebuilder import RebuilderConfig
from mfm_hf.mfm.feature_mask import FeatureMask, stage_masks
from mfm_hf.mfm.projector import BranchProjector, ChainProjector, resize


class Rebuilder(FeatureMask):
    """Masks a part of the encoder's features and rebuilds it.

    Args:
        config: Size and behaviour.
        feature_channels: Channels of every stage's features, finest stage first.
        feature_strides: Stride of every stage with respect to the image, finest first. The grid is taken to stand at
            stride 32 (16 x 16 tokens on a 512 x 512 crop), so a stage of stride s is log2(32 / s) up-steps away. Where
            that does not land on the stage's size, because of another crop or grid, the offset is resized.
    """

    def __init__(
        self, config: RebuilderConfig, feature_channels: Sequence[int], feature_strides: Sequence[int]
    ) -> None:
        super().__init__(config, feature_strides)
        self.embedding = nn.Linear(feature_channels[-1], config.dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        block = nn.TransformerEncoderLayer(
            config.dim,
            config.num_heads,
            dim_feedforward=int(config.dim * config.mlp_ratio),
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=1e-5,
            batch_first=True,
            norm_first=True,
        )
        final_norm = nn.LayerNorm(config.dim, eps=1e-5)
        self.transformer = nn.TransformerEncoder(block, config.num_blocks, final_norm, enable_nested_tensor=False)
        up_steps = [max(0, round(math.log2(32 / stride))) for stride in feature_strides]
        projector_class = ChainProjector if config.projector == "chain" else BranchProjector
        self.projector = projector_class(config.dim, feature_channels, up_steps, config.norm_offsets)
        if config.pixel_head:
            self.pixel_head = nn.Linear(feature_channels[-1], 3 * feature_strides[-1] ** 2)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Linear layers Xavier uniform with bias 0, token N(0, 0.02), norms 1 and 0, convolutions as in PyTorch."""
        init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init.xavier_uniform_(module.weight)
                init.zeros_(module.bias)
            elif isinstance(module, nn.MultiheadAttention):
                init.xavier_uniform_(module.in_proj_weight)
                init.zeros_(module.in_proj_bias)
            elif isinstance(module, nn.LayerNorm):
                init.ones_(module.weight)
                init.zeros_(module.bias)
            elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                init.kaiming_uniform_(module.weight, a=math.sqrt(5))
                fan_in = module.weight[0].numel()  # of a transposed convolution too, by PyTorch's convention
                init.uniform_(module.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, features: Sequence[Tensor], mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return features of the same shapes, rebuilt where they were masked (Eq. 6 and 7).

        Args:
            features: f^t, the stages' features, finest first, each (batch, channels, height, width).
            mask: M, bool (batch, rows, columns) of the grid, True where masked. Default: drawn by `draw_mask`.
        """
        if mask is None:
            mask = self.draw_mask(features[-1].shape[0], device=features[-1].device)
        tokens = self.embed(features[-1])
        tokens = torch.where(mask.flatten(1).unsqueeze(-1), self.mask_token.to(tokens.dtype), tokens)
        tokens = tokens + sincos_positions(self.config.grid, self.config.dim, tokens.device).to(tokens.dtype)
        tokens = self.transformer(tokens)
        token_map = tokens.transpose(1, 2).unflatten(2, self.config.grid)
        sizes = [feature.shape[-2:] for feature in features]
        offsets = self.projector(token_map, sizes)  # f^o, Eq. 6
        masks = stage_masks(mask, sizes)
        return tuple(  # f^r = M * f^o + (1 - M) * f^t, Eq. 7
            torch.where(mask, offset.to(feature.dtype), feature)
            for mask, offset, feature in zip(masks, offsets, features, strict=True)
        )

    def embed(self, feature: Tensor) -> Tensor:
        """Map the deepest features (batch, channels, height, width) to tokens (batch, rows * columns, dim)."""
        embedded = self.embedding(feature.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return resize(embedded, self.config.grid).flatten(2).transpose(1, 2)


def sincos_positions(grid: tuple[int, int], dim: int, device: torch.device) -> Tensor:
    """Fixed position embedding of a grid, (rows * columns, dim): first half the row, second half the column.

    Each half holds the sines, then the cosines, of the index times 10000^(-4k / dim). Source: the released code.
    """
    rows, columns = grid
    frequencies = 10000 ** (-torch.arange(dim // 4, device=device, dtype=torch.float32) / (dim // 4))

    def encode(count: int) -> Tensor:
        angles = torch.arange(count, device=device, dtype=torch.float32)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    row_half = encode(rows)[:, None].expand(-1, columns, -1)
    column_half = encode(columns)[None].expand(rows, -1, -1)
    return torch.cat([row_half, column_half], dim=2).flatten(0, 1)
