import pytest
import torch
from torch import nn

from mfm_hf.models.dilated_depthwise import DilatedDepthwiseConv2d

# Sums may be rounded in another order.
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [(12, 18), (13, 7), (3, 5), (1, 1)], ids=str)
def test_it_is_the_convolution_of_pytorch(
    size: tuple[int, int], memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    """Sizes that the dilation divides, does not divide, and exceeds."""
    torch.manual_seed(0)
    tolerance = TOLERANCES[dtype]
    ours = DilatedDepthwiseConv2d(8, dilation=6)
    theirs = nn.Conv2d(8, 8, kernel_size=3, padding=6, dilation=6, groups=8, bias=False)
    theirs.load_state_dict(ours.state_dict())
    ours, theirs = ours.to(dtype), theirs.to(dtype)
    images = torch.randn(2, 8, *size, dtype=dtype).contiguous(memory_format=memory_format)
    ours_in, theirs_in = images.clone().requires_grad_(), images.clone().requires_grad_()
    result, expected = ours(ours_in), theirs(theirs_in)
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)
    assert result.is_contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(expected)
    result.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(ours_in.grad, theirs_in.grad, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=tolerance, atol=tolerance)


def test_an_exported_program_holds_the_plain_convolution() -> None:
    images = torch.randn(1, 8, 12, 18, dtype=torch.bfloat16)
    program = torch.export.export(DilatedDepthwiseConv2d(8, dilation=6).bfloat16(), (images,))
    convolutions = [node for node in program.graph.nodes if "conv2d" in str(node.target)]
    assert [node.args[5] for node in convolutions] == [[6, 6]]
    assert len(program.graph.nodes) == 4  # weight, input, convolution, output


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 3)], ids=str)
def test_gradients_are_those_of_finite_differences(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    convolution = DilatedDepthwiseConv2d(2, dilation=2).double()
    images = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convolution, images)
    assert torch.autograd.gradgradcheck(convolution, images)


def test_autocast_decides_the_precision() -> None:
    convolution = DilatedDepthwiseConv2d(8, dilation=6)
    images = torch.randn(1, 8, 12, 18, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        result = convolution(images)
    assert result.dtype == torch.bfloat16
    result.sum().backward()
    assert images.grad.dtype == convolution.weight.grad.dtype == torch.float32
