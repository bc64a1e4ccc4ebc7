"""Size and behaviour of the Rebuilder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
        fill: What takes the place of masked features: `offsets`, or `zeros` for the paper's control "masking only",
            which has no parameters.
        pixel_head: Whether a linear layer reads pixels off the deepest rebuilt features, for the paper's control that
            restores pixels.
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
    fill: Literal["offsets", "zeros"] = "offsets"
    pixel_head: bool = False

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
