"""From the Rebuilder's tokens back to the shapes of the encoder's stages, by transposed convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map (batch, channels, height, width)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the normalised map, of the same shape."""
        return super().forward(hidden_states.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _up(in_channels: int, out_channels: int) -> nn.Module:
    """Twice the height and width."""
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=4, stride=2, padding=1)


def resize(feature: Tensor, size: Sequence[int]) -> Tensor:
    """Resize bilinearly without antialiasing, as the paper does; the same tensor if it has the size already."""
    if tuple(feature.shape[-2:]) == tuple(size):
        return feature
    return F.interpolate(feature, size=tuple(size), mode="bilinear", align_corners=False)


class ChainProjector(nn.Module):
    """One chain of transposed convolutions, from the deepest stage to the finest, with a tap at every stage.

    A step that arrives at a stage has that stage's channels; its output is the stage's offset and, after LayerNorm
    and GELU, the input of the next step. Steps that pass no stage keep their width. Source: the paper (v1), section on
    multi-scale features and Figure 3b; the kernel (4, stride 2, padding 1) is the released code's.

    Args:
        dim: Channels of the token map.
        feature_channels: Channels of each stage, finest first.
        up_steps: How many times each stage doubles the token map, finest first; never rising.
        norm_offsets: Whether a LayerNorm ends each offset. The chain goes on from the offset without it.
    """

    def __init__(self, dim: int, feature_channels: Sequence[int], up_steps: Sequence[int], norm_offsets: bool) -> None:
        super().__init__()
        self.segments = nn.ModuleList()
        self.norms = nn.ModuleList()
        width, level = dim, 0
        for channels, steps in zip(reversed(feature_channels), reversed(up_steps), strict=True):
            layers: list[nn.Module] = [] if not self.segments else [LayerNorm2d(width), nn.GELU()]
            for _ in range(steps - level - 1):
                layers += [_up(width, width), LayerNorm2d(width), nn.GELU()]
            layers.append(_up(width, channels) if steps > level else nn.Conv2d(width, channels, kernel_size=1))
            self.segments.append(nn.Sequential(*layers))
            self.norms.append(LayerNorm2d(channels) if norm_offsets else nn.Identity())
            width, level = channels, steps

    def forward(self, token_map: Tensor, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return the offsets, finest first, each (batch, channels, *size).

        Args:
            token_map: The Rebuilder's output, (batch, dim, rows, columns).
            sizes: Height and width of each stage, finest first.
        """
        offsets, hidden_states = [], token_map
        for segment, norm, size in zip(self.segments, self.norms, reversed(sizes), strict=True):
            hidden_states = segment(hidden_states)
            offsets.append(resize(norm(hidden_states), size))
        return offsets[::-1]


class BranchProjector(nn.Module):
    """A branch of its own for every stage (`rebuilder.py` in Wenlve-Zhou/MRM).

    A branch doubles the map once per step, to widths dim / 2, dim / 4, dim / 4, ..., with LayerNorm and GELU between,
    and ends in a 1 x 1 convolution to the stage's channels. Arguments and result as for `ChainProjector`.
    """

    def __init__(self, dim: int, feature_channels: Sequence[int], up_steps: Sequence[int], norm_offsets: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            self._branch(dim, channels, steps, norm_offsets)
            for channels, steps in zip(feature_channels, up_steps, strict=True)
        )

    @staticmethod
    def _branch(dim: int, channels: int, steps: int, norm_offsets: bool) -> nn.Sequential:
        layers: list[nn.Module] = []
        width = dim
        for step in range(steps):
            if step > 0:
                layers += [LayerNorm2d(width), nn.GELU()]
            next_width = dim // 2 if step == 0 else dim // 4
            layers.append(_up(width, next_width))
            width = next_width
        layers.append(nn.Conv2d(width, channels, kernel_size=1))
        if norm_offsets:
            layers.append(LayerNorm2d(channels))
        return nn.Sequential(*layers)

    def forward(self, token_map: Tensor, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return the offsets, finest first, each (batch, channels, *size)."""
        return [resize(branch(token_map), size) for branch, size in zip(self.branches, sizes, strict=True)]
