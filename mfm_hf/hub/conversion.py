"""Checkpoints of the reference code bases become folders of `transformers`, and the other way round."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    PretrainedConfig,
    PreTrainedModel,
    ResNetForImageClassification,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
)

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.files import write_json
from mfm_hf.hub.image_processor import save_image_processor
from mfm_hf.hub.model_card import CONVERSION_FILE
from mfm_hf.hub.reference.checkpoint import CheckpointError, Weights, read_checkpoint
from mfm_hf.hub.reference.detection import detect_network
from mfm_hf.hub.reference.names import HeadLayout, name_table
from mfm_hf.hub.reference.network import Network
from mfm_hf.hub.reference.presets import encoder_name
from mfm_hf.hub.reference.settings import Settings
from mfm_hf.models.configuration_hrda import HrdaConfig
from mfm_hf.models.modeling_daformer import DaformerForSemanticSegmentation
from mfm_hf.models.modeling_deeplabv2 import DeepLabV2ForSemanticSegmentation
from mfm_hf.models.modeling_hrda import HrdaForSemanticSegmentation

_MODELS: dict[str, type[PreTrainedModel]] = {
    model_class.__name__: model_class
    for model_class in (
        SegformerForSemanticSegmentation,
        DaformerForSemanticSegmentation,
        DeepLabV2ForSemanticSegmentation,
        HrdaForSemanticSegmentation,
        SegformerForImageClassification,
        ResNetForImageClassification,
    )
}


def convert_checkpoint(
    checkpoint: Path,
    folder: Path,
    weights: Weights = "student",
    settings: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
) -> Network:
    """Turn a `.pth` of DACS, DAFormer, HRDA, MIC (mmseg), SegFormer, MiT or ResNet into a `transformers` folder.

    A file with an ImageNet encoder alone becomes the classifier that it is. One without its classifier, or with the
    deep stem that no classifier of `transformers` has, becomes a folder whose head is missing, so that
    `from_pretrained` starts the head anew and says so.

    Args:
        checkpoint: The `.pth` file. Nothing in it is executed.
        folder: Where to write; it must not exist, or be empty. It appears when everything in it is written.
        weights: Which network of a UDA training to take.
        settings: What shapes cannot tell, where it differs from the published networks: `num_attention_heads`,
            `dilations`, `contract_dilation`, `detail_crop_size`, `detail_stride`, `context_scale`.
        class_names: Names of the classes. Default: those in the file, or the 19 of Cityscapes.

    Returns:
        What the file was recognised as.

    Raises:
        CheckpointError: The file cannot be read or its network not be told, is unknown, or does not fit.
        FileNotFoundError: There is no such file.
        FileExistsError: The folder holds something.
    """
    _check_free(folder)
    reference = read_checkpoint(checkpoint, weights)
    network = detect_network(reference.tensors, Settings(settings or {}))
    tensors = network.to_ours(reference.tensors)
    _name_classes(network.model.config, class_names, reference.class_names)
    origin = {"file": checkpoint.name, "weights": weights, "encoder": encoder_name(network.model.config)}
    _save(network.model, tensors, folder, origin)
    return network


def convert_to_reference(folder: str | Path, checkpoint: Path, layout: HeadLayout = "mmseg") -> Network:
    """Turn a `transformers` folder of one of the paper's networks into a `.pth` with a `state_dict`.

    It loads in the code bases of DAFormer, HRDA and MIC (`layout="mmseg"`), or, for a SegFormer, in NVlabs/SegFormer.

    Args:
        folder: The folder, or the id of a Hub repository.
        checkpoint: The file to write; it must not exist. It appears when it is complete.
        layout: Whose SegFormer head to write; the other networks have but one.

    Returns:
        The network, with its weights.

    Raises:
        CheckpointError: The folder's network has no counterpart in the reference code bases, or weights are missing.
        FileExistsError: The file exists.
    """
    if checkpoint.exists():
        raise FileExistsError(f"{checkpoint} exists: name another file, or remove it")
    network = _load(folder, layout)
    class_names = tuple(network.model.config.id2label.values())
    content = {"meta": {"CLASSES": class_names}, "state_dict": network.to_reference()}
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as workplace:
        torch.save(content, Path(workplace) / checkpoint.name)
        os.replace(Path(workplace) / checkpoint.name, checkpoint)
    return network


def _check_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an empty folder: name another, or remove it")


def _name_classes(config: PretrainedConfig, wanted: Sequence[str] | None, found: Sequence[str] | None) -> None:
    """Set the config's labels to those of the user, of the file, or of Cityscapes: the first that fit in number.

    Where none fit, they stay LABEL_0, LABEL_1, ...
    """
    if wanted is not None and len(wanted) != config.num_labels:
        raise CheckpointError(f"{len(wanted)} class names do not fit a network of {config.num_labels} classes")
    names = next(
        (names for names in (wanted, found, CITYSCAPES.names) if names and len(names) == config.num_labels), ()
    )
    parts = (config, config.base_config) if isinstance(config, HrdaConfig) else (config,)
    for part in parts if names else ():
        part.id2label = dict(enumerate(names))
        part.label2id = {name: index for index, name in enumerate(names)}


def _save(model: PreTrainedModel, tensors: dict[str, Tensor], folder: Path, origin: Mapping[str, str]) -> None:
    """Write the folder beside its place first, so that no half of it is ever seen there.

    Args:
        model: The network.
        tensors: Its weights.
        folder: The place.
        origin: What the model card is to say of where it comes from.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as workplace:
        complete = Path(workplace) / "complete"
        model.save_pretrained(complete, state_dict=tensors)
        save_image_processor(complete)
        write_json(complete / CONVERSION_FILE, origin)
        if folder.exists():  # empty
            folder.rmdir()
        complete.rename(folder)


def _load(folder: str | Path, layout: HeadLayout) -> Network:
    """Load a folder, with the encoder alone if it holds no more."""
    config = AutoConfig.from_pretrained(folder)
    architecture = next(iter(config.architectures or ()), None)
    if architecture not in _MODELS:
        raise CheckpointError(f"{folder} holds a {architecture}: the reference code bases have {', '.join(_MODELS)}")
    try:
        model, report = _MODELS[architecture].from_pretrained(
            folder, config=config, dtype=torch.float32, output_loading_info=True
        )
    except (SafetensorError, RuntimeError) as error:  # damaged, or of other shapes than the config says
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"the weights in {folder} cannot be read ({reason}): get them again") from error
    missing = set(report["missing_keys"])
    heads = {name for name in model.state_dict() if not name.startswith(f"{model.base_model_prefix}.")}
    if missing and missing != heads:
        raise CheckpointError(f"the weights in {folder} lack '{min(missing)}'")
    return Network(model, name_table(model, layout, encoder_only=bool(missing)), encoder_only=bool(missing))
