import dataclasses

import pytest
import torch

from mfm_hf.mfm.configuration_rebuilder import RebuilderConfig
from mfm_hf.mfm.feature_mask import stage_masks
from mfm_hf.mfm.rebuilder import Rebuilder, sincos_positions
from tests.tiny_models import REBUILDER

CHANNELS, STRIDES = (8, 16, 24, 32), (4, 8, 16, 32)
CONFIGS = {
    "paper": REBUILDER,
    "released": RebuilderConfig(**{**vars(RebuilderConfig.released()), "dim": 32, "num_heads": 4, "grid_size": 4}),
}


def features(height=64, width=96, batch=2, channels=CHANNELS, strides=STRIDES):
    sizes = [(-(-height // stride), -(-width // stride)) for stride in strides]
    return [torch.randn(batch, c, *size, requires_grad=True) for c, size in zip(channels, sizes, strict=True)]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def conv(inputs, outputs, kernel):
    return inputs * outputs * kernel * kernel + outputs


# Embedding of the last stage (512 -> 512), mask token, two blocks of width 512, final norm. A block: two norms, query,
# key and value, their projection, and two linear layers of the hidden width 2,048.
BLOCK = 2 * 2 * 512 + conv(512, 3 * 512, 1) + conv(512, 512, 1) + conv(512, 2048, 1) + conv(2048, 512, 1)
TRUNK = 512 + 2 * BLOCK + 2 * 512


def test_parameters_of_the_released_rebuilder():
    released = RebuilderConfig.released()
    assert count(Rebuilder(released, (64, 128, 320, 512), STRIDES)) == 14_545_280
    assert count(Rebuilder(released, (2048,), (8,))) == 10_246_016


def test_parameters_of_the_papers_rebuilder():
    # The chain: 512 -> 512 at stride 32, then transposed convolutions (4 x 4) to 320, 128 and 64 channels, with a
    # norm before each of them and none on the offsets.
    chain = conv(512, 512, 1) + conv(512, 320, 4) + conv(320, 128, 4) + conv(128, 64, 4) + 2 * (512 + 320 + 128)
    expected = conv(512, 512, 1) + TRUNK + chain
    assert expected == 10_241_920
    assert count(Rebuilder(RebuilderConfig(), (64, 128, 320, 512), STRIDES)) == expected
    # A single stage of stride 8: one step that keeps its width, a norm, one that arrives at the stage's 2,048 channels.
    single = conv(2048, 512, 1) + TRUNK + conv(512, 512, 4) + 2 * 512 + conv(512, 2048, 4)
    assert single == 28_330_496
    assert count(Rebuilder(RebuilderConfig(), (2048,), (8,))) == single


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("size", [(64, 96), (70, 101), (33, 40), (256, 128)])
def test_any_input_size(config, size):
    inputs = features(*size)
    outputs = Rebuilder(config, CHANNELS, STRIDES)(inputs)
    assert [output.shape for output in outputs] == [feature.shape for feature in inputs]
    assert all(output.isfinite().all() for output in outputs)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_any_number_of_stages(config, stages):
    channels, strides = CHANNELS[-stages:], (8, 8, 8)[-stages:]  # as in a dilated ResNet
    inputs = features(channels=channels, strides=strides)
    outputs = Rebuilder(config, channels, strides)(inputs)
    assert [output.shape for output in outputs] == [feature.shape for feature in inputs]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_ratio_0_changes_nothing(config):
    inputs = features()
    outputs = Rebuilder(dataclasses.replace(config, mask_ratio=0.0), CHANNELS, STRIDES)(inputs)
    assert all(torch.equal(output, feature) for output, feature in zip(outputs, inputs, strict=True))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_ratio_1_gives_the_offsets(config):
    rebuilder = Rebuilder(dataclasses.replace(config, mask_ratio=1.0), CHANNELS, STRIDES)
    inputs = features()
    # With every token masked nothing of the input is left: other features give the same offsets.
    outputs, others = rebuilder(inputs), rebuilder(features())
    assert not any(torch.equal(output, feature) for output, feature in zip(outputs, inputs, strict=True))
    assert all(torch.equal(output, other) for output, other in zip(outputs, others, strict=True))


def test_only_masked_positions_change():
    inputs = features()
    rebuilder = Rebuilder(REBUILDER, CHANNELS, STRIDES)
    mask = rebuilder.draw_mask(2)
    masks = stage_masks(mask, [feature.shape[-2:] for feature in inputs])
    for output, feature, stage_mask in zip(rebuilder(inputs, mask), inputs, masks, strict=True):
        stage_mask = stage_mask.expand_as(feature)
        assert torch.equal(output[~stage_mask], feature[~stage_mask])
        assert (output[stage_mask] != feature[stage_mask]).all()


def test_gradient_reaches_the_features_on_both_paths():
    rebuilder = Rebuilder(REBUILDER, CHANNELS, STRIDES)
    inputs = features()
    mask = rebuilder.draw_mask(2)
    output = rebuilder(inputs, mask)[0]
    (hidden,) = stage_masks(mask, [output.shape[-2:]])
    hidden = hidden.expand_as(output)
    visible_path = torch.autograd.grad(output[~hidden].sum(), inputs, retain_graph=True, allow_unused=True)
    embedding_path = torch.autograd.grad(output[hidden].square().sum(), inputs, allow_unused=True)
    assert visible_path[0].abs().sum() > 0
    assert visible_path[3] is None or visible_path[3].abs().sum() == 0
    assert embedding_path[3].abs().sum() > 0


def test_exact_sampling_masks_as_many_tokens_as_mae():
    rebuilder = Rebuilder(RebuilderConfig(dim=32, num_heads=4), CHANNELS, STRIDES)
    mask = rebuilder.draw_mask(50)
    assert mask.shape == (50, 16, 16)
    assert mask.flatten(1).sum(1).tolist() == [103] * 50  # int(256 * 0.6) = 153 stay visible
    assert not torch.equal(mask[0], mask[1])
    # Every token is masked as often as any other: 103 / 256 of the time, within 6 standard errors.
    frequency = rebuilder.draw_mask(5000).float().mean(0)
    assert (frequency - 103 / 256).abs().max() < 6 * (0.24 / 5000) ** 0.5


def test_bernoulli_sampling():
    config = dataclasses.replace(REBUILDER, mask_sampling="bernoulli")
    mask = Rebuilder(config, CHANNELS, STRIDES).draw_mask(2000)
    assert mask.float().mean().item() == pytest.approx(0.4, abs=0.02)
    assert len(mask.flatten(1).sum(1).unique()) > 3


def test_masks_are_drawn_from_the_generator():
    rebuilder = Rebuilder(REBUILDER, CHANNELS, STRIDES)
    first, second = (rebuilder.draw_mask(3, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_realised_ratios():
    rebuilder = Rebuilder(RebuilderConfig(dim=32, num_heads=4, grid_size=4), CHANNELS, STRIDES)
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, 0] = True  # what a map of 2 x 2 sees of the grid's first quarter, and of 1 x 1 of the whole
    assert rebuilder.realised_ratios(mask, (32, 32)) == [1 / 16, 1 / 16, 1 / 4, 1.0]


def test_positions():
    table = sincos_positions((3, 5), 16, torch.device("cpu")).reshape(3, 5, 16)
    row, column, k = 2, 4, 3
    frequency = 10000 ** (-k / 4)
    # First half the row, second half the column; each half sines, then cosines.
    expected = [torch.tensor(row * frequency).sin(), torch.tensor(row * frequency).cos()]
    expected += [torch.tensor(column * frequency).sin(), torch.tensor(column * frequency).cos()]
    torch.testing.assert_close(table[row, column, [k, 4 + k, 8 + k, 12 + k]], torch.stack(expected))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mask_ratio": 1.2}, "from 0 to 1"),
        ({"mask_ratio": -0.1}, "from 0 to 1"),
        ({"dim": 40, "num_heads": 16}, "multiple"),
        ({"grid_size": 0}, "grid_size"),
    ],
)
def test_bad_configurations_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        RebuilderConfig(**wrong)
