import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mfm_hf.benchmarking.loss_curves import without_noise
from mfm_hf.benchmarking.plain_step import Handicaps, PlainStep
from mfm_hf.benchmarking.setup import make_inputs
from mfm_hf.uda.adaptation_step import AdaptationStep
from mfm_hf.uda.resolution import resolve_recipe
from mfm_hf.uda.run.accelerator import make_accelerator
from mfm_hf.uda.training_args import UdaTrainingArguments
from tests.tiny_models import tiny_model

SETTINGS = {"backbone": "stand-in", "crop_size": [64], "use_cpu": True, "max_steps": 4, "warmup_steps": 0}
CASES = [
    ("daformer", "daformer", True),
    ("dacs", "segformer", False),
    ("dacs", "deeplabv2", True),
    ("hrda", "hrda", True),
    ("mic", "segformer", False),
    ("source_only", "segformer", False),
]


@pytest.mark.parametrize(("recipe_name", "model", "mfm"), CASES)
def test_it_learns_what_the_step_of_the_package_learns(recipe_name: str, model: str, mfm: bool, tmp_path: Path) -> None:
    args = UdaTrainingArguments(
        **SETTINGS, recipe=recipe_name, model=model, mfm=mfm, encode="one_by_one", output_dir=str(tmp_path)
    )
    recipe = resolve_recipe(args)
    # Of an untrained teacher: every pseudo-label is to count.
    recipe = replace(recipe, pseudo_label_threshold=0.0)
    torch.manual_seed(0)
    student = tiny_model(model) if mfm else tiny_model(model, rebuilder=None)
    without_noise(student)
    accelerator = make_accelerator(args)
    fast = AdaptationStep(copy.deepcopy(student), recipe, args, accelerator)
    plain = PlainStep(copy.deepcopy(student), recipe, args, accelerator.device, Handicaps())
    for given in make_inputs(recipe, student, 2, seed=0):
        ours, theirs = (step(given.source, given.target, given.choices) for step in (fast, plain))
        assert ours.keys() == theirs.keys() == {term.name for term in recipe.objectives}
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", Handicaps.names())
def test_no_handicap_changes_the_losses(name: str, tmp_path: Path) -> None:
    args = UdaTrainingArguments(**SETTINGS, recipe="daformer", model="daformer", mfm=True, output_dir=str(tmp_path))
    recipe = resolve_recipe(args)
    torch.manual_seed(0)
    student = tiny_model("daformer")
    without_noise(student)
    (given,) = make_inputs(recipe, student, 1, seed=0)
    all_of_them, one_less = (
        PlainStep(copy.deepcopy(student), recipe, args, torch.device("cpu"), handicaps)(
            given.source, given.target, given.choices
        )
        for handicaps in (Handicaps(), Handicaps().without(name))
    )
    tolerance = 2e-2 if name == "float32" else 1e-5
    for term, loss in all_of_them.items():
        torch.testing.assert_close(one_less[term].float(), loss, rtol=tolerance, atol=tolerance)
