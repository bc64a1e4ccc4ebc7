from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfm_hf.models.sliding_window import SlidingWindow, gaussian_weights


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


@pytest.mark.parametrize("blending", ["uniform", "gaussian"])
def test_one_window_changes_nothing(blending: str):
    batch = images(20, 30)
    window = SlidingWindow((20, 64), (8, 8), blending=blending)
    assert window(batch, lambda whole: whole[..., ::4, ::4]).equal(batch[..., ::4, ::4])


def test_uniform_windows_are_the_references_sum_and_count():
    """To the last bit: `slide_inference` of mmsegmentation, written out."""
    batch, network = images(20, 40), nn.Conv2d(3, 5, kernel_size=3, padding=1)
    total, count = torch.zeros(2, 5, 20, 40), torch.zeros(1, 1, 20, 40)
    with torch.no_grad():
        for left in (0, 12, 24):
            total += F.pad(network(batch[..., left : left + 16]), (left, 24 - left))
            count[..., left : left + 16] += 1
        assert SlidingWindow((64, 16), (64, 12))(batch, network).equal(total / count)


def gaussian(distance: float, length: int) -> float:
    """The density of a normal distribution with the deviation length / 8, up to a factor."""
    return math.exp(-(distance**2) / (2 * (length / 8) ** 2))


@pytest.mark.parametrize(("rows", "columns"), [(15, 33), (16, 24), (1, 512)])
def test_gaussian_weights(rows: int, columns: int):
    weights = gaussian_weights(rows, columns)
    middle = weights[rows // 2, columns // 2].item()
    assert middle == weights.max() == 1
    for row, column in [(0, 0), (rows // 3, columns // 4), (rows - 1, columns // 2)]:
        expected = 1.0
        for place, length in ((row, rows), (column, columns)):
            centre = (length - 1) / 2
            expected *= gaussian(place - centre, length) / gaussian(length // 2 - centre, length)
        assert weights[row, column].item() == pytest.approx(expected, rel=1e-4)
    assert weights.equal(weights.flip(0, 1))
    assert weights.min() > 0


def test_gaussian_windows_are_weighted_means():
    """Two windows over a row of 12 pixels: one says 0, the other 1."""
    window = SlidingWindow((4, 8), (4, 4), blending="gaussian")
    answers = iter([0.0, 1.0])
    merged = window(images(4, 12), lambda seen: torch.full((len(seen), 1, 4, 8), next(answers)))
    weight = [gaussian(place - 3.5, 8) for place in range(8)]
    shared = [weight[place] / (weight[place] + weight[place + 4]) for place in range(4)]
    expected = torch.tensor([0.0] * 4 + shared + [1.0] * 4)
    torch.testing.assert_close(merged, expected.expand(2, 1, 4, 12))


@pytest.mark.parametrize("blending", ["uniform", "gaussian"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_nothing_but_its_last_bit(blending: str, dtype: torch.dtype):
    """Corners have a weight of 1e-7, of which float16 keeps one bit."""
    batch = images(37, 53).to(dtype)
    merged = SlidingWindow((16, 16), (16, 8), blending=blending)(batch, lambda windows: windows)
    assert merged.dtype == dtype
    torch.testing.assert_close(merged, batch, rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (((16, 0), (8, 8)), "needs two positive sizes and strides"),
        (((16, 16), (8,)), "needs two positive sizes and strides"),
        (((16, 16), (8, 8), 0), "a batch of 1 or more"),
        (((16, 16), (8, 8), 1, "cosine"), "windows are blended uniform or gaussian, not cosine"),
        (((16, 16), (8, 17)), r"a stride of \(8, 17\) leaves gaps between windows of \(16, 16\)"),
    ],
)
def test_windows_that_cannot_slide_are_refused(window: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        SlidingWindow(*window)
