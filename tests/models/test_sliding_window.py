from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfm_hf.models.sliding_window import SlidingWindow


def images(height: int, width: int, batch_size: int = 2) -> Tensor:
    return torch.randn(batch_size, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_the_papers_windows():
    """3 windows for Cityscapes, 6 for ACDC and Dark Zurich, the last ones moved inside."""
    seen: list[Tensor] = []

    def predict(windows: Tensor) -> Tensor:
        seen.append(windows)
        return windows.new_zeros(len(windows), 1, 1, 1)

    window = SlidingWindow((1024, 1024), (512, 512))
    window(images(1024, 2048, batch_size=1), predict)
    assert len(seen) == 3
    adverse = images(1080, 1920, batch_size=1)
    seen.clear()
    window(adverse, predict)
    assert len(seen) == 6
    assert seen[-1].equal(adverse[..., 56:, 896:])


@torch.no_grad()
def test_merging_equals_folding():
    """PyTorch's own `fold` sums overlapping windows, where these fill the image without a rest."""
    torch.manual_seed(0)
    network, size, stride = nn.Conv2d(3, 5, kernel_size=3, stride=4, padding=1), (16, 24), (8, 12)
    batch = images(48, 72)
    windows = F.unfold(batch, size, stride=stride)  # (2, 3 * 16 * 24, windows)
    count = windows.shape[-1]
    windows = windows.transpose(1, 2).reshape(2 * count, 3, *size)
    logits = F.interpolate(network(windows), size=size, mode="bilinear", align_corners=False)
    columns = logits.reshape(2, count, -1).transpose(1, 2)
    expected = F.fold(columns, (48, 72), size, stride=stride)
    expected /= F.fold(torch.ones_like(columns), (48, 72), size, stride=stride)
    torch.testing.assert_close(SlidingWindow(size, stride)(batch, network), expected)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_windows_per_pass_change_no_number(batch_size: int):
    sizes: list[int] = []

    def predict(windows: Tensor) -> Tensor:
        sizes.append(len(windows))
        return windows  # at stride 1: merged, the windows are the image again

    batch = images(37, 53)
    merged = SlidingWindow((16, 16), (16, 8), batch_size)(batch, predict)
    torch.testing.assert_close(merged, batch)
    num_windows = 3 * 6
    assert sum(sizes) == 2 * num_windows
    assert len(sizes) == -(-num_windows // batch_size)


def test_one_window_changes_nothing():
    batch = images(20, 30)
    assert SlidingWindow((20, 64), (8, 8))(batch, lambda whole: whole[..., ::4, ::4]).equal(batch[..., ::4, ::4])


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (((16, 0), (8, 8)), "needs two positive sizes and strides"),
        (((16, 16), (8,)), "needs two positive sizes and strides"),
        (((16, 16), (8, 8), 0), "a batch of 1 or more"),
        (((16, 16), (8, 17)), r"a stride of \(8, 17\) leaves gaps between windows of \(16, 16\)"),
    ],
)
def test_windows_that_cannot_slide_are_refused(window: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        SlidingWindow(*window)
