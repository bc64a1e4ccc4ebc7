import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mfm_hf.benchmarking.operations import count_flops


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_convolutions_count_by_their_groups(groups: int) -> None:
    layer = nn.Conv2d(8, 8, kernel_size=3, padding=1, groups=groups)
    image = torch.randn(2, 8, 10, 12, requires_grad=True)
    forward = 2 * (2 * 10 * 12) * 8 * (8 // groups) * 9
    assert count_flops(lambda: layer(image)) == forward
    # The gradients of input and weight take as many each.
    assert count_flops(lambda: layer(image).sum().backward()) == 3 * forward


def test_transposed_convolutions_count_at_their_input() -> None:
    layer = nn.ConvTranspose2d(8, 4, kernel_size=4, stride=2, padding=1)
    image = torch.randn(2, 8, 10, 12, requires_grad=True)
    forward = 2 * (2 * 10 * 12) * 8 * 4 * 16
    assert count_flops(lambda: layer(image).sum().backward()) == 3 * forward


def test_attention_counts_two_products() -> None:
    tokens = torch.randn(1, 2, 64, 16, requires_grad=True)
    products = 2 * (2 * 2 * 64 * 64 * 16)

    def attend() -> torch.Tensor:
        return F.scaled_dot_product_attention(tokens, tokens, tokens)

    with torch.no_grad():
        assert count_flops(attend) == products
    # Backward: the weights anew, and four products for the gradients.
    assert count_flops(lambda: attend().sum().backward()) == products + 2.5 * products


def test_a_product_and_its_sum_are_two() -> None:
    assert count_flops(lambda: torch.randn(3, 5) @ torch.randn(5, 7)) == 2 * 3 * 5 * 7
