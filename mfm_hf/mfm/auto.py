"""Choose a training class, and what its weights start from, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from transformers import AutoConfig, PretrainedConfig, ResNetConfig, SegformerConfig

from mfm_hf.mfm.configuration_rebuilder import RebuilderConfig
from mfm_hf.mfm.modeling_mfm import (
    DaformerForDomainAdaptation,
    DeepLabV2ForDomainAdaptation,
    DomainAdaptationModel,
    HrdaForDomainAdaptation,
    SegformerForDomainAdaptation,
)
from mfm_hf.models.configuration_daformer import DaformerConfig
from mfm_hf.models.configuration_deeplabv2 import DeepLabV2Config
from mfm_hf.models.configuration_hrda import HrdaConfig
from mfm_hf.models.dilated_resnet import RESNETS
from mfm_hf.models.mix_transformer import MIX_TRANSFORMERS, initialize_mix_transformer_layer

Base = Literal["segformer", "daformer", "deeplabv2"]
Architecture = Literal["segformer", "daformer", "deeplabv2", "hrda"]

TRAINING_CLASSES: dict[str, type[DomainAdaptationModel]] = {
    "segformer": SegformerForDomainAdaptation,
    "daformer": DaformerForDomainAdaptation,
    "deeplabv2": DeepLabV2ForDomainAdaptation,
    "hrda": HrdaForDomainAdaptation,
}
_LABEL_ARGUMENTS: tuple[str, ...] = ("num_labels", "id2label", "label2id")


class AutoModelForDomainAdaptation:
    """Loads a training class, as `AutoModel` does for others. It is not instantiated."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        head: Architecture | None = None,
        rebuilder: RebuilderConfig | None = None,
        hrda_base: Base = "daformer",
        detail_crop_size: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> DomainAdaptationModel:
        """Load a checkpoint for training, in float32 and train mode.

        Args:
            name_or_path: Hub id or folder of a whole network, or of an encoder.
            head: The architecture to build over an encoder such as `nvidia/mit-b5`, or around a whole network in the
                case of HRDA. Default: what the checkpoint is.
            rebuilder: The Rebuilder to add. Default: none, for the baseline.
            hrda_base: What HRDA is built over, if the checkpoint is an encoder.
            detail_crop_size: Height and width of HRDA's detail crop, in pixels. Default: 512 x 512.
            kwargs: What `from_pretrained` takes, among them `id2label` and `label2id`.

        Raises:
            ValueError: If the head does not fit the checkpoint, or the checkpoint has another number of classes.
        """
        config = AutoConfig.from_pretrained(name_or_path)
        labels = {name: kwargs.pop(name) for name in _LABEL_ARGUMENTS if name in kwargs}
        _check_labels(config, labels, name_or_path)
        config = _with_head(config, head or config.model_type, hrda_base, detail_crop_size, labels, name_or_path)
        training_class = TRAINING_CLASSES[config.model_type]
        model = training_class.from_pretrained(
            name_or_path, config=config, rebuilder=rebuilder, dtype=torch.float32, **kwargs
        )
        return model.train()

    @classmethod
    def from_scratch(
        cls,
        backbone: str,
        head: Architecture,
        rebuilder: RebuilderConfig | None = None,
        hrda_base: Base = "daformer",
        detail_crop_size: Sequence[int] | None = None,
        **labels: Any,
    ) -> DomainAdaptationModel:
        """Build an untrained network over an encoder that is known by name.

        Args:
            backbone: `mit-b0` to `mit-b5`, `resnet-50`, `resnet-101` (DeepLab-V2), or `tiny`.
            head: The architecture.
            rebuilder: The Rebuilder to add. Default: none.
            hrda_base: What HRDA is built over.
            detail_crop_size: Height and width of HRDA's detail crop, in pixels. Default: 512 x 512.
            labels: `num_labels`, or `id2label` and `label2id`.

        Raises:
            ValueError: If there is no such encoder.
        """
        base = hrda_base if head == "hrda" else head
        config = _with_head(encoder_config(backbone, base), head, hrda_base, detail_crop_size, labels, backbone)
        model = TRAINING_CLASSES[head](config, rebuilder=rebuilder)
        if base != "deeplabv2":
            model.encoder.apply(initialize_mix_transformer_layer)  # SegFormer's own start is too weak for scratch
        return model.train()


def encoder_config(name: str, base: str) -> PretrainedConfig:
    """Return the configuration of an encoder by its name.

    Args:
        name: As `backbone` in `AutoModelForDomainAdaptation.from_scratch`.
        base: The architecture over it, which decides what `tiny` means.

    Raises:
        ValueError: If there is no such encoder for this architecture.
    """
    known, config = (RESNETS, ResNetConfig) if base == "deeplabv2" else (MIX_TRANSFORMERS, SegformerConfig)
    if name not in known:
        raise ValueError(f"no encoder of {base} is called {name!r}: choose one of {', '.join(known)}")
    return config(**known[name])


def _with_head(
    config: PretrainedConfig,
    head: str,
    hrda_base: str,
    detail_crop_size: Sequence[int] | None,
    labels: dict[str, Any],
    origin: str,
) -> PretrainedConfig:
    """Return the configuration of `head` over what `config` describes."""
    if head not in TRAINING_CLASSES:
        raise ValueError(f"{origin} is a {config.model_type!r}, and no head for it was chosen: give --model")
    if head == config.model_type:
        config.update(labels)
        return config
    if head == "hrda":
        # A Mix Transformer and a whole SegFormer have one type of config; only the latter is a segmenter.
        is_base = config.model_type in ("daformer", "deeplabv2")
        base = config if is_base else _with_head(config, hrda_base, hrda_base, None, {}, origin)
        if detail_crop_size is not None:
            labels = {**labels, "detail_crop_size": list(detail_crop_size)}
        return HrdaConfig(base_config=base, **labels)
    if head == "daformer" and config.model_type == "segformer":
        # DAFormer's decoder is 256 wide over every published encoder; over a narrower one it is as narrow.
        width = min(256, config.decoder_hidden_size)
        return DaformerConfig(backbone_config=config, decoder_hidden_size=width, **labels)
    if head == "deeplabv2" and config.model_type == "resnet":
        return DeepLabV2Config(backbone_config=config, **labels)
    hint = f": give --model {config.model_type} to train it as it is" if config.model_type in TRAINING_CLASSES else ""
    raise ValueError(f"{origin} is a {config.model_type!r}, over which there is no {head!r}{hint}")


def _check_labels(config: PretrainedConfig, labels: dict[str, Any], origin: str) -> None:
    """A whole segmenter keeps its classes; an encoder's, such as those of ImageNet, do not matter."""
    is_segmenter = any("SemanticSegmentation" in name for name in config.architectures or ())
    wanted = len(labels.get("id2label", ())) or labels.get("num_labels", config.num_labels)
    if is_segmenter and wanted != config.num_labels:
        raise ValueError(
            f"{origin} segments into {config.num_labels} classes, but {wanted} are wanted: start from a checkpoint of "
            "the same classes, or from an encoder"
        )
