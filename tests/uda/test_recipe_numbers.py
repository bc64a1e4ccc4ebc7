from dataclasses import replace
from typing import get_args, get_type_hints

import pytest

from mfm_hf.mfm.configuration_rebuilder import RebuilderConfig
from mfm_hf.uda.recipes import RECIPES
from mfm_hf.uda.resolution import resolve_rebuilder, resolve_recipe
from mfm_hf.uda.training_args import UdaTrainingArguments

# 0 among them, which is a number and not None.
OVERRIDES = {
    "crop_size": [96],
    "max_steps": 7,
    "warmup_steps": 0,
    "per_device_train_batch_size": 5,
    "learning_rate": 0.25,
    "weight_decay": 0.0,
    "teacher_alpha": 0.0,
    "pseudo_label_threshold": 0.5,
}


def test_recipes_are_known_by_their_names():
    assert all(recipe.name == name for name, recipe in RECIPES.items())
    assert get_args(get_type_hints(UdaTrainingArguments)["recipe"]) == tuple(RECIPES)


def test_views_are_those_of_the_objectives():
    assert RECIPES["source_only"].views == ("source",)
    assert RECIPES["dacs"].views == ("source", "mixed")
    twice = RECIPES["dacs"].objectives * 2
    assert replace(RECIPES["dacs"], objectives=twice).views == ("source", "mixed")


def test_only_source_only_does_without_the_target():
    assert [name for name, recipe in RECIPES.items() if not recipe.uses_target] == ["source_only"]


def test_no_recipe_rebuilds_unless_asked():
    assert all(recipe.rebuilt_views == () for recipe in RECIPES.values())
    args = UdaTrainingArguments(recipe="dacs", mfm=True, mfm_view="source")
    assert resolve_recipe(args).rebuilt_views == ("source",)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("number", OVERRIDES)
def test_an_argument_changes_its_number_and_what_hangs_on_it(name, number):
    recipe = resolve_recipe(UdaTrainingArguments(recipe=name, **{number: OVERRIDES[number]}))
    changed = {key for key, value in vars(recipe).items() if value != getattr(RECIPES[name], key)}
    in_pixels = {"patch_size", "rare_class_min_pixels", "rare_class_min_crop_ratio"}
    assert number in changed
    assert changed <= {number} | (in_pixels if number == "crop_size" else set())


def test_one_number_is_a_square():
    assert resolve_recipe(UdaTrainingArguments(crop_size=[96])).crop_size == (96, 96)
    assert resolve_rebuilder(UdaTrainingArguments(mfm=True, mfm_grid=[4])).grid_size == (4, 4)


def test_the_rebuilder_is_the_papers_unless_told_otherwise():
    assert resolve_rebuilder(UdaTrainingArguments()) is None
    assert resolve_rebuilder(UdaTrainingArguments(mfm=True)) == RebuilderConfig()
    assert resolve_rebuilder(UdaTrainingArguments(mfm=True, rebuilder="released")) == RebuilderConfig.released()
    args = UdaTrainingArguments(mfm=True, mfm_dim=64, mfm_grid=[4, 8], mfm_ratio=0.0, mfm_blocks=1)
    assert resolve_rebuilder(args) == RebuilderConfig(dim=64, grid_size=(4, 8), mask_ratio=0.0, num_blocks=1)
