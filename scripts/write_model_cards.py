"""Write the cards of the published checkpoints that the converter knows, from `model_cards/checkpoints.yaml`.

python scripts/write_model_cards.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.hub.starting_weights import NVIDIA
from mfm_hf.models.configuration_daformer import DaformerConfig
from mfm_hf.models.configuration_hrda import HrdaConfig
from mfm_hf.models.modeling_daformer import DaformerForSemanticSegmentation
from mfm_hf.models.modeling_hrda import HrdaForSemanticSegmentation

FOLDER = Path(__file__).resolve().parent.parent / "model_cards"
NETWORKS = {
    "daformer": (DaformerForSemanticSegmentation, DaformerConfig),
    "hrda": (HrdaForSemanticSegmentation, HrdaConfig),
}


def main() -> None:
    for name, text in render_cards().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def render_cards() -> dict[str, str]:
    """Return the text of every card by the name of its file."""
    content = yaml.safe_load((FOLDER / "checkpoints.yaml").read_text(encoding="utf-8"))
    networks = {architecture: build(architecture) for architecture in NETWORKS}
    return {
        f"{method}_{benchmark}.md": render_card(f"{method}_{benchmark}", facts, benchmark, setting, networks)
        for method, facts in content["methods"].items()
        for benchmark, setting in content["benchmarks"].items()
    }


def build(architecture: str) -> PreTrainedModel:
    """Return the published network without its weights."""
    network, config = NETWORKS[architecture]
    with torch.device("meta"):
        return network(config(id2label=CITYSCAPES.id2label, label2id=CITYSCAPES.label2id))


def render_card(
    name: str, method: dict[str, Any], benchmark: str, setting: dict[str, Any], networks: dict[str, PreTrainedModel]
) -> str:
    network = networks[method["architecture"]]
    of_this_file = method["of_this_file"].get(benchmark)
    card = ModelCard.from_template(
        metadata(name, method, setting, of_this_file),
        template_path=str(FOLDER / "card.md.jinja"),
        name=name,
        method=method,
        benchmark=setting,
        class_name=type(network).__name__,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        reported=method["reported"].get(benchmark),
        of_this_file=of_this_file,
    )
    return str(card).rstrip() + "\n"


def metadata(name: str, method: dict[str, Any], setting: dict[str, Any], of_this_file: float | None) -> ModelCardData:
    """Return the metadata for the Hub, with the result of the file itself where its authors give one."""
    result = None
    if of_this_file is not None:
        result = EvalResult(
            task_type="image-segmentation",
            dataset_type=setting["target"].lower(),
            dataset_name=setting["target"],
            dataset_split=setting["split"],
            metric_type="mean_iou",
            metric_name="Mean IoU",
            metric_value=round(of_this_file / 100, 4),
            source_name="its authors",
            source_url=method["files"],
        )
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "unsupervised-domain-adaptation", "mfm_hf"],
        base_model="nvidia/mit-b5",
        license=NVIDIA.id,
        license_name=NVIDIA.name,
        license_link=NVIDIA.link,
        model_name=None if result is None else name,  # a name of results
        eval_results=None if result is None else [result],
    )


if __name__ == "__main__":
    main()
