"""The Rebuilder R of Masked Feature Modeling: embed, mask, transform, project, fuse (arXiv 2509.13801, Figure 2).

It exists during training only. From the deepest feature map of the encoder it makes, for every stage, an offset that
takes the place of the features at the masked positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from mfm_hf.mfm.projector import BranchProjector, ChainProjector, resize


@dataclass(frozen=True)
class RebuilderConfig:
    """Size and behaviour of the Rebuilder. The defaults are those of the paper (v1), or else of the released code.

    Args:
        dim: Width of the tokens, C' in the paper.
        grid_size: Rows and columns of tokens, H' and W'; one number stands for both.
        mask_ratio: Share of the tokens that is masked, 0 to 1.
        num_blocks: Transformer blocks, n.
        num_heads: Attention heads of a block (released code; the paper does not say).
        mlp_ratio: Width of a block's hidden layer in units of `dim` (released code).
        mask_sampling: `exact` masks the same number of tokens in every sample, as MAE does (paper: "uniform random
            sampling"); `bernoulli` masks every token with probability `mask_ratio` (released code).
        projector: `chain` makes the offsets of the stages one after another with a single chain of transposed
            convolutions (paper, Figure 3b); `branches` makes each with a branch of its own (released code).
        norm_offsets: Whether a LayerNorm over channels ends each offset (released code).
    """

    dim: int = 512
    grid_size: int | tuple[int, int] = 16
    mask_ratio: float = 0.4
    num_blocks: int = 2
    num_heads: int = 16
    mlp_ratio: float = 4.0
    mask_sampling: Literal["exact", "bernoulli"] = "exact"
    projector: Literal["chain", "branches"] = "chain"
    norm_offsets: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.mask_ratio <= 1.0:
            raise ValueError(f"mask_ratio is a share of the tokens, from 0 to 1, not {self.mask_ratio}")
        if self.dim % 4 or self.dim % self.num_heads:
            raise ValueError(f"dim must be a multiple of 4 and of num_heads={self.num_heads}, not {self.dim}")
        if min(self.grid) < 1:
            raise ValueError(f"grid_size must be at least 1, not {self.grid_size}")

    @classmethod
    def released(cls) -> RebuilderConfig:
        """The authors' later release (`rebuilder.py` in Wenlve-Zhou/MRM)."""
        return cls(mask_sampling="bernoulli", projector="branches", norm_offsets=True)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        if isinstance(self.grid_size, int):
            return self.grid_size, self.grid_size
        rows, columns = self.grid_size
        return rows, columns


class Rebuilder(nn.Module):
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
        super().__init__()
        self.config = config
        self.feature_strides = tuple(feature_strides)
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

    def draw_mask(
        self, batch_size: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Tensor:
        """Draw M, bool (batch_size, rows, columns), True where masked, independently for every sample."""
        rows, columns = self.config.grid
        noise = torch.rand(batch_size, rows * columns, generator=generator)
        if self.config.mask_sampling == "bernoulli":
            mask = noise < self.config.mask_ratio
        else:
            num_visible = int(rows * columns * (1 - self.config.mask_ratio))  # as MAE counts them
            mask = noise.argsort(dim=1).argsort(dim=1) >= num_visible
        return mask.unflatten(1, (rows, columns)).to(device)

    def realised_ratios(self, mask: Tensor, image_size: tuple[int, int]) -> list[float]:
        """Return the masked share of every stage, finest first, for images of this height and width.

        A stage coarser than the grid sees only some of its tokens, so its share may be far from the configured one.
        """
        sizes = [[-(-length // stride) for length in image_size] for stride in self.feature_strides]
        return [stage_mask.float().mean().item() for stage_mask in stage_masks(mask, sizes)]


def stage_masks(mask: Tensor, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Bring the mask of the grid to every stage's size by nearest neighbour: bool (batch, 1, height, width)."""
    grid_mask = mask.unsqueeze(1).to(torch.uint8)
    return [F.interpolate(grid_mask, size=tuple(size), mode="nearest").bool() for size in sizes]


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
