"""The ResNet of `transformers` with dilation in place of the last strides, and with the deep stem of the references."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import ResNetConfig
from transformers.models.resnet.modeling_resnet import (
    ResNetConvLayer,
    ResNetEmbeddings,
    ResNetEncoder,
    ResNetPreTrainedModel,
)

# Arguments of `ResNetConfig` by the encoders' names. `tiny` is ours: for tests, and for studies on small images.
RESNETS: dict[str, dict[str, Any]] = {
    "resnet-50": {"depths": [3, 4, 6, 3]},
    "resnet-101": {"depths": [3, 4, 23, 3]},
    "tiny": {"embedding_size": 16, "hidden_sizes": [32, 32, 64, 64], "depths": [1, 1, 1, 1]},
}


class DilatedResNet(ResNetPreTrainedModel):
    """A ResNet that returns all its stages. Its weights have the names and shapes of `ResNetModel`'s.

    Args:
        config: As for `ResNetModel`.
        deep_stem: Whether three 3 x 3 convolutions take the place of the 7 x 7 one (`ResNetV1c` in mmsegmentation).
        output_stride: Stride of the last stage, 8, 16 or 32: the strides beyond become dilation.
        contract_dilation: Whether the first block of a dilated stage keeps the dilation of the stage before.
    """

    supports_gradient_checkpointing = True

    def __init__(
        self, config: ResNetConfig, deep_stem: bool = False, output_stride: int = 8, contract_dilation: bool = True
    ) -> None:
        super().__init__(config)
        self.embedder = ResNetEmbeddings(config)
        if deep_stem:
            self.embedder.embedder = _deep_stem(config)
        self.encoder = DilatedResNetEncoder(config, output_stride, contract_dilation)
        self.post_init()

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Return the stages' features, finest first, of strides 4, 8 and then at most `output_stride`.

        Args:
            pixel_values: Normalised images, (batch, 3, height, width).
        """
        return self.encoder(self.embedder(pixel_values))


class DilatedResNetEncoder(ResNetEncoder):
    """The stages of a ResNet, the last ones dilated. Any block may be recomputed in the backward pass."""

    gradient_checkpointing = False  # set by `activation_checkpointing_enable`

    def __init__(self, config: ResNetConfig, output_stride: int, contract_dilation: bool) -> None:
        super().__init__(config)
        stride, dilation = 4, 1
        for stage in self.stages[1:]:
            if stride < output_stride:
                stride *= 2
                continue
            first_dilation = dilation if contract_dilation else 2 * dilation
            dilation *= 2
            for index, block in enumerate(stage.layers):
                _dilate(block, first_dilation if index == 0 else dilation)

    def forward(self, hidden_state: Tensor) -> tuple[Tensor, ...]:
        """Return the features after each stage, finest first."""
        features = []
        for stage in self.stages:
            for block in stage.layers:
                hidden_state = self._run(block, hidden_state)
            features.append(hidden_state)
        return tuple(features)

    def _run(self, block: nn.Module, hidden_state: Tensor) -> Tensor:
        if not (self.gradient_checkpointing and self.training):
            return block(hidden_state)

        def contexts() -> tuple[AbstractContextManager[None], _Recomputation]:
            return nullcontext(), _Recomputation(block)

        return self._gradient_checkpointing_func(block, hidden_state, context_fn=contexts)


def _deep_stem(config: ResNetConfig) -> nn.Sequential:
    width = config.embedding_size // 2
    return nn.Sequential(
        ResNetConvLayer(config.num_channels, width, kernel_size=3, stride=2, activation=config.hidden_act),
        ResNetConvLayer(width, width, kernel_size=3, activation=config.hidden_act),
        ResNetConvLayer(width, config.embedding_size, kernel_size=3, activation=config.hidden_act),
    )


def _dilate(block: nn.Module, dilation: int) -> None:
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)
            if layer.kernel_size == (3, 3):
                layer.dilation = layer.padding = (dilation, dilation)


class _Recomputation:
    """While a block is recomputed, its norms are in the mode that they have now, and count no batch a second time.

    It can be entered again, for a graph that several backward passes go through.
    """

    def __init__(self, block: nn.Module) -> None:
        self.norms = [layer for layer in block.modules() if isinstance(layer, _BatchNorm)]
        self.modes = [norm.training for norm in self.norms]

    def __enter__(self) -> None:
        self.kept = [(norm.training, norm.momentum, norm.num_batches_tracked) for norm in self.norms]
        for norm, mode in zip(self.norms, self.modes, strict=True):
            norm.training, norm.momentum, norm.num_batches_tracked = mode, 0.0, None

    def __exit__(self, *exception: object) -> None:
        for norm, kept in zip(self.norms, self.kept, strict=True):
            norm.training, norm.momentum, norm.num_batches_tracked = kept


__all__ = ["RESNETS", "DilatedResNet"]
