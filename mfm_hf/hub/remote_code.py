"""The code that a published network carries, so that it loads where this package is not installed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.dynamic_module_utils import get_relative_import_files

from mfm_hf.models.modeling_daformer import DaformerForSemanticSegmentation
from mfm_hf.models.modeling_deeplabv2 import DeepLabV2ForSemanticSegmentation
from mfm_hf.models.modeling_hrda import HrdaForSemanticSegmentation

# SegFormer is not among them: it is that of `transformers`.
_NETWORKS: dict[str, type[PreTrainedModel]] = {
    network.config_class.model_type: network
    for network in (DaformerForSemanticSegmentation, DeepLabV2ForSemanticSegmentation, HrdaForSemanticSegmentation)
}


def needs_code(model_type: str) -> bool:
    """Return whether `transformers` alone does not know a network."""
    return model_type in _NETWORKS


def code_files(model_type: str) -> dict[str, Path]:
    """Return the files of code that a network needs, by name; none for those of `transformers`.

    They are its own module and those that it imports, all of one flat folder: `transformers` copies nothing else.
    """
    if not needs_code(model_type):
        return {}
    network = _NETWORKS[model_type]
    files = {Path(inspect.getfile(part)) for part in (network, network.config_class)}
    files |= {Path(needed) for file in files for needed in get_relative_import_files(file)}
    return {file.name: file for file in sorted(files)}


def all_code_names() -> set[str]:
    """Return the names of all files of code that any of the networks needs."""
    return {name for model_type in _NETWORKS for name in code_files(model_type)}


def with_auto_map(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a `config.json` that names the code beside it; as it was for those of `transformers`.

    With `trust_remote_code=True` the Auto classes take that code. Where this package has been imported they take its
    classes, and ask for no trust.
    """
    if not needs_code(config["model_type"]):
        return dict(config)
    network = _NETWORKS[config["model_type"]]
    parts = {"AutoConfig": network.config_class, "AutoModelForSemanticSegmentation": network}
    auto_map = {name: f"{Path(inspect.getfile(part)).stem}.{part.__name__}" for name, part in parts.items()}
    return {**config, "auto_map": auto_map}
