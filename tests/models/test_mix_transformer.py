import pytest
import torch
from torch import nn
from transformers import SegformerConfig, SegformerForImageClassification, SegformerModel

from mfm_hf.models.mix_transformer import MIX_TRANSFORMERS, MixTransformer, stage_strides
from tests.models.segmenter_tester import images, segformer_config


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mit-b0", 3_319_392),
        ("mit-b1", 13_151_424),
        ("mit-b2", 24_196_288),
        ("mit-b3", 44_072_128),
        ("mit-b4", 60_842_688),
        ("mit-b5", 81_443_008),
    ],
)
def test_number_of_parameters(name: str, count: int):
    with torch.device("meta"):
        model = MixTransformer(SegformerConfig(**MIX_TRANSFORMERS[name]))
    assert model.num_parameters() == count


def test_epsilon_of_the_config_reaches_blocks_and_stages_alone():
    config = segformer_config()
    config.layer_norm_eps = 1e-3
    model = MixTransformer(config)
    epsilons = {name: layer.eps for name, layer in model.named_modules() if isinstance(layer, nn.LayerNorm)}
    for name, epsilon in epsilons.items():
        assert epsilon == (1e-5 if "patch_embeddings" in name or "sequence_reduction" in name else 1e-3), name
    assert len(epsilons) == 4 + 4 + 8 + 3  # patch embeddings, stages, two a block, reductions of three stages


@torch.no_grad()
def test_with_their_epsilon_it_is_the_librarys_model():
    config = segformer_config()
    config.layer_norm_eps = 1e-5
    theirs, ours = SegformerModel(config).eval(), MixTransformer(config).eval()
    ours.load_state_dict(theirs.state_dict())
    assert ours(images()).last_hidden_state.equal(theirs(images()).last_hidden_state)


def test_imagenet_checkpoints_load(tmp_path):
    imagenet = SegformerForImageClassification(segformer_config())
    imagenet.save_pretrained(tmp_path)
    model, info = MixTransformer.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    loaded = model.state_dict()
    assert all(loaded[key].equal(tensor) for key, tensor in imagenet.segformer.state_dict().items())


def test_initial_weights_are_those_of_the_reference():
    torch.manual_seed(0)
    model = MixTransformer(SegformerConfig(hidden_sizes=[32, 32, 64, 64], depths=[1, 1, 1, 1]))
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1), name
        elif isinstance(layer, nn.Conv2d):
            points = layer.kernel_size[0] * layer.kernel_size[1]
            fan_out = points if layer.groups > 1 else points * layer.out_channels  # of a group
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1), name
    assert all(not value.any() for name, value in model.named_parameters() if name.endswith("bias"))


def test_stage_strides():
    assert stage_strides(SegformerConfig()) == (4, 8, 16, 32)
    assert stage_strides(SegformerConfig(strides=[2, 2, 1, 2])) == (2, 4, 4, 8)
