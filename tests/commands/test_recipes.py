"""Every recipe, with and without MFM, from the command line to a checkpoint that loads."""

import json

import pytest
import torch
from transformers import AutoModelForSemanticSegmentation

from mfm_hf.commands.train import main
from mfm_hf.data.classes import CITYSCAPES

SETTINGS = """
source: streets:game:64x64#validation
target: streets:real:64x64
backbone: tiny
crop_size: [64, 64]
max_steps: 20
warmup_steps: 2
logging_steps: 10
eval_steps: 0
mfm_dim: 32
mfm_grid: 4
dataloader_num_workers: 0
rare_class_min_pixels: 8
use_cpu: true
final_evaluation: false
"""

LOSSES = {
    "dacs": {"source", "mixed"},
    "daformer": {"source", "mixed"},  # without feature distance: the encoder is untrained
    "hrda": {"source", "mixed"},
    "mic": {"source", "mixed", "masked"},
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """The class statistics of the streets are counted once for all recipes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize("mfm", [False, True], ids=["baseline", "mfm"])
@pytest.mark.parametrize("recipe", LOSSES)
def test_recipe(recipe, mfm, tmp_path):
    output_dir, config = tmp_path / "run", tmp_path / "settings.yaml"
    config.write_text(SETTINGS)
    flags = ["--config", str(config), "--recipe", recipe, "--output_dir", str(output_dir)]
    results = main([*flags, "--mfm"] if mfm else flags)
    assert (results["recipe"], results["mfm"], results["steps"]) == (recipe, mfm, 20)
    lines = [json.loads(line) for line in (output_dir / "log.jsonl").read_text().splitlines()]
    names = {key.removeprefix("loss/") for key in lines[-1] if key.startswith("loss/")}
    assert names == LOSSES[recipe] | ({"mfm"} if mfm else set())
    model, report = AutoModelForSemanticSegmentation.from_pretrained(output_dir, output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 64)).logits.shape[1] == len(CITYSCAPES)
