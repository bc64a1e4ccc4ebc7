"""One hop of a checkpoint between two environments, for `scripts/check_versions.py`, which runs this in either.

python -m tests.version_hop start OUT       save every architecture, with an input and its logits
python -m tests.version_hop pass IN OUT     load what another environment saved, compare, and save it again
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSemanticSegmentation, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from mfm_hf.hub.image_processor import save_image_processor
from mfm_hf.mfm.modeling_mfm import DeepLabV2ForDomainAdaptation, DomainAdaptationModel, HrdaForDomainAdaptation
from tests.tiny_models import REBUILDER, deeplabv2_config, encoder_config, hrda_config, tiny_model

PACKAGES = ("transformers", "huggingface_hub", "datasets", "accelerate", "evaluate", "safetensors", "torch", "numpy")


def networks() -> dict[str, DomainAdaptationModel]:
    """Make a training class of every architecture, with a Rebuilder that no saved folder may hold."""
    return {
        "segformer": tiny_model("segformer"),
        "daformer": tiny_model("daformer"),
        "deeplabv2": tiny_model("deeplabv2"),
        "deeplabv2, deep stem": DeepLabV2ForDomainAdaptation(deeplabv2_config(stem="deep"), REBUILDER),
        "hrda over segformer": HrdaForDomainAdaptation(hrda_config(encoder_config()), REBUILDER),
        "hrda over daformer": tiny_model("hrda"),
        "hrda over deeplabv2": tiny_model("hrda_deeplabv2"),
    }


@torch.no_grad()
def start(out: Path) -> None:
    torch.manual_seed(0)
    pixels = torch.randn(2, 3, 65, 83)
    for name, model in networks().items():
        for parameter in model.parameters():  # so that no bias is 0 and every weight shows in the logits
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        model.train()(pixels)  # moves the statistics of BatchNorm
        logits = model.eval()(pixels).logits.contiguous()
        save(model, {"pixels": pixels, "logits": logits}, out / name)


@torch.no_grad()
def pass_on(source: Path, out: Path) -> dict[str, Any]:
    results = {}
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        model, report = AutoModelForSemanticSegmentation.from_pretrained(folder, output_loading_info=True)
        expected = load_file(folder.with_suffix(".expected"))
        logits = model.eval()(expected["pixels"]).logits
        results[folder.name] = {
            "class": type(model).__name__,
            "keys": sorted(str(key) for keys in report.values() for key in keys),
            "difference": (logits - expected["logits"]).abs().max().item(),
            "largest_logit": expected["logits"].abs().max().item(),
        }
        save(model, expected, out / folder.name)
    return results


def save(model: PreTrainedModel, expected: dict[str, torch.Tensor], folder: Path) -> None:
    model.save_pretrained(folder)
    save_image_processor(folder)
    save_file(expected, folder.with_suffix(".expected"))


if __name__ == "__main__":
    disable_progress_bar()
    if sys.argv[1] == "start":
        start(Path(sys.argv[2]))
    else:
        results = pass_on(Path(sys.argv[2]), Path(sys.argv[3]))
        versions = {package: version(package) for package in PACKAGES}
        (Path(sys.argv[3]) / "report.json").write_text(json.dumps({"versions": versions, "networks": results}))
