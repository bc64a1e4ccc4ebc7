import pytest
import yaml

from mfm_hf.uda.feature_distance import THING_CLASSES
from mfm_hf.uda.objectives import FeatureDistance, MaskedFeatureModeling
from mfm_hf.uda.recipes import RECIPES
from mfm_hf.uda.reconstruction import FeatureReconstruction, PixelReconstruction
from mfm_hf.uda.resolution import describe, fit_to_classes, resolve_rebuilder, resolve_recipe
from mfm_hf.uda.training_args import UdaTrainingArguments as Arguments

THINGS = {name: index for index, name in enumerate(THING_CLASSES)}


@pytest.mark.parametrize("name", RECIPES)
def test_without_other_arguments_a_recipe_is_itself(name):
    assert resolve_recipe(Arguments(recipe=name)) == RECIPES[name]


def test_an_argument_overrides_the_number_of_its_name():
    arguments = Arguments(recipe="mic", learning_rate=1e-3, max_steps=7, teacher_alpha=0.5, crop_size=[64, 128])
    recipe = resolve_recipe(arguments)
    assert (recipe.learning_rate, recipe.max_steps, recipe.teacher_alpha) == (1e-3, 7, 0.5)
    assert recipe.crop_size == (64, 128)
    assert recipe.warmup_steps == RECIPES["mic"].warmup_steps


@pytest.mark.parametrize(
    ("crop_size", "patch_size", "min_pixels", "ratio"),
    [([1024], 64, 3000, 2.0), ([512], 32, 3000, 0.5), ([64, 128], 4, 94, 0.5)],
)
def test_numbers_in_pixels_are_the_papers_for_their_crops_and_follow_others(crop_size, patch_size, min_pixels, ratio):
    recipe = resolve_recipe(Arguments(recipe="mic", crop_size=crop_size))
    numbers = (recipe.patch_size, recipe.rare_class_min_pixels, recipe.rare_class_min_crop_ratio)
    assert numbers == (patch_size, min_pixels, ratio)
    assert resolve_recipe(Arguments(recipe="mic", crop_size=crop_size, patch_size=5)).patch_size == 5


def test_mfm_is_one_more_objective_and_the_last():
    recipe = resolve_recipe(Arguments(recipe="daformer", mfm=True, mfm_weight=0.5, mfm_gradient="encoder"))
    *others, last = recipe.objectives
    assert tuple(others) == RECIPES["daformer"].objectives
    assert last == MaskedFeatureModeling("target", weight=0.5, gradient="encoder")
    assert resolve_recipe(Arguments(recipe="dacs", mfm=True, mfm_weight=0.0)) == RECIPES["dacs"]
    assert resolve_rebuilder(Arguments(mfm=True, mfm_weight=0.0)) is None


def test_without_pseudo_labels_only_source_features_are_rebuilt():
    with pytest.raises(ValueError, match="--mfm_view source"):
        resolve_recipe(Arguments(recipe="source_only", mfm=True))
    assert resolve_recipe(Arguments(recipe="source_only", mfm=True, mfm_view="source")).rebuilt_views == ("source",)


def test_hrda_needs_its_network():
    with pytest.raises(ValueError, match="--model hrda"):
        resolve_recipe(Arguments(recipe="hrda", model="segformer"))
    assert resolve_recipe(Arguments(recipe="mic", model="daformer")).model == "daformer"


def test_feature_distance_needs_a_pretrained_encoder():
    recipe = resolve_recipe(Arguments(recipe="daformer", backbone="tiny"))
    assert not recipe.uses_feature_distance
    assert "untrained" in recipe.notes[0]
    warm = resolve_recipe(Arguments(recipe="daformer", backbone="tiny", model_name_or_path="somewhere"))
    assert warm.uses_feature_distance


def test_feature_distance_needs_things():
    recipe = RECIPES["daformer"]
    assert fit_to_classes(recipe, {"road": 0, "car": 1}) == recipe
    without = fit_to_classes(recipe, {"road": 0, "grass": 1})
    assert not without.uses_feature_distance
    assert "car" in without.notes[0]


def test_feature_distance_has_a_weight():
    recipe = resolve_recipe(Arguments(recipe="hrda", feature_distance_weight=0.1))
    assert [term.weight for term in recipe.objectives if isinstance(term, FeatureDistance)] == [0.1]
    assert not resolve_recipe(Arguments(recipe="hrda", feature_distance_weight=0.0)).uses_feature_distance


def test_the_description_is_yaml_with_every_number():
    arguments = Arguments(recipe="mic", mfm=True, mfm_grid=[8, 16])
    content = yaml.safe_load(describe(resolve_recipe(arguments), arguments))
    assert content["recipe"]["views"] == ["source", "mixed", "masked", "target"]
    assert list(content["recipe"]["objectives"]) == ["source", "feature_distance", "mixed", "masked", "mfm"]
    assert content["recipe"]["learning_rate"] == 6e-5
    assert content["rebuilder"]["grid_size"] == [8, 16]
    assert content["run"]["seed"] == 0


@pytest.mark.parametrize(
    ("objective", "term"),
    [
        ("classes", MaskedFeatureModeling("target")),
        ("pixels", PixelReconstruction("target")),
        ("features_student", FeatureReconstruction("target", of="student")),
        ("features_teacher", FeatureReconstruction("target", of="teacher")),
    ],
)
def test_the_papers_controls_take_the_place_of_mfm(objective, term):
    args = Arguments(mfm=True, mfm_objective=objective)
    recipe = resolve_recipe(args)
    assert recipe.objectives[-1] == term
    assert recipe.rebuilt_views == ("target",)
    assert recipe.teacher_feature_views == (("target",) if objective == "features_teacher" else ())
    assert resolve_rebuilder(args).pixel_head == (objective == "pixels")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"mfm_fill": "zeros", "mfm_objective": "pixels"}, "--mfm_fill zeros leaves nothing to restore"),
        ({"mfm_gradient": "encoder", "mfm_objective": "pixels"}, "--mfm_gradient encoder belongs to"),
    ],
)
def test_controls_that_exclude_each_other_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        resolve_recipe(Arguments(mfm=True, **flags))
