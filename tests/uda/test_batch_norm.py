import pytest
import torch
from torch import nn

from mfm_hf.uda.batch_norm import batch_norm_mode

IMAGES = torch.randn(4, 3, 5, 5) * 3 + 1


def run(mode):
    layer = nn.BatchNorm2d(3)
    before = layer.running_mean.clone()
    with batch_norm_mode(layer, mode):
        output = layer(IMAGES)
    assert layer.training
    assert layer.momentum == 0.1
    return output, not torch.equal(layer.running_mean, before), layer


@pytest.mark.parametrize(
    ("mode", "of_the_batch", "noted"),
    [("update", True, True), ("batch_no_update", True, False), ("running", False, False)],
)
def test_modes(mode, of_the_batch, noted):
    output, changed, layer = run(mode)
    assert changed == noted
    assert int(layer.num_batches_tracked) == int(noted)
    assert (abs(output.mean().item()) < 1e-5) == of_the_batch


def test_a_layer_in_eval_mode_stays_there():
    layer = nn.BatchNorm2d(3).eval()
    with batch_norm_mode(layer, "batch_no_update"):
        layer(IMAGES)
    assert not layer.training
