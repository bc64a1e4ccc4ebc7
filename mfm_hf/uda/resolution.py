"""From the arguments of a run to its recipe: what None means, and what the arguments add or take away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import yaml

from mfm_hf.data.rare_class_sampling import RareClassSampling
from mfm_hf.mfm.configuration_rebuilder import RebuilderConfig
from mfm_hf.uda.feature_distance import thing_ids
from mfm_hf.uda.objectives import FeatureDistance, MaskedFeatureModeling, Objective
from mfm_hf.uda.recipes import RECIPES, Recipe
from mfm_hf.uda.reconstruction import FeatureReconstruction, PixelReconstruction
from mfm_hf.uda.training_args import UdaTrainingArguments


def resolve_recipe(args: UdaTrainingArguments) -> Recipe:
    """Return the recipe that the arguments name, with what they override.

    Raises:
        ValueError: If the arguments ask for what the recipe cannot do.
    """
    recipe = RECIPES[args.recipe]
    given = vars(args)
    changes: dict[str, Any] = {
        item.name: given[item.name] for item in fields(Recipe) if given.get(item.name) is not None
    }
    if args.crop_size is not None:
        height, width = args.crop_size[0], args.crop_size[-1]
        changes["crop_size"] = (height, width)
        changes.setdefault("patch_size", max(1, min(height, width) // 16))
        rare = RareClassSampling.for_crop((height, width))
        changes.setdefault("rare_class_min_pixels", rare.min_pixels)
        changes.setdefault("rare_class_min_crop_ratio", rare.min_crop_ratio)
    if recipe.name == "hrda" and args.model not in (None, "hrda"):
        raise ValueError(f"--recipe hrda looks at two scales: use --model hrda --hrda_base {args.model}")
    changes["objectives"] = tuple(replace(term, average=args.loss_average) for term in _objectives(args, recipe))
    if recipe.uses_feature_distance and args.from_scratch:
        changes["notes"] = (
            "feature distance is off: it compares with a pretrained encoder, and this one is untrained",
        )
    return replace(recipe, **changes)


def _objectives(args: UdaTrainingArguments, recipe: Recipe) -> list[Objective]:
    """Return the recipe's terms, as the arguments change them, and MFM's.

    MFM comes last, as in the authors' description: its pass is the last to touch BatchNorm statistics.
    """
    terms = list(recipe.objectives)
    if args.from_scratch or args.feature_distance_weight == 0:
        terms = [term for term in terms if not isinstance(term, FeatureDistance)]
    elif args.feature_distance_weight is not None:
        weight = args.feature_distance_weight
        terms = [replace(term, weight=weight) if isinstance(term, FeatureDistance) else term for term in terms]
    if args.masked_images != "target":
        view = f"masked_{args.masked_images}"
        terms = [replace(term, view=view) if term.view == "masked" else term for term in terms]
    return [*terms, *_mfm(args, recipe)]


def _mfm(args: UdaTrainingArguments, recipe: Recipe) -> list[Objective]:
    if not args.mfm or args.mfm_weight == 0:
        return []
    target = "augmented_target" if args.mfm_augmented else "target"
    views = {"target": [target], "source": ["source"], "both": ["source", target]}[args.mfm_view]
    if views != ["source"] and not recipe.uses_target:
        raise ValueError(f"--recipe {recipe.name} makes no pseudo-labels for --mfm: add --mfm_view source")
    if args.mfm_fill == "zeros" and args.mfm_objective != "classes":
        raise ValueError(
            f"--mfm_fill zeros leaves nothing to restore: --mfm_objective {args.mfm_objective} needs offsets"
        )
    return [_mfm_term(args, view) for view in views]


def _mfm_term(args: UdaTrainingArguments, view: str) -> Objective:
    common: dict[str, Any] = {
        "weight": args.mfm_weight,
        "start_step": args.mfm_start_step,
        "batch_norm": args.mfm_batch_norm,
    }
    match args.mfm_objective:
        case "classes":
            return MaskedFeatureModeling(view, gradient=args.mfm_gradient, **common)
        case _ if args.mfm_gradient != "both":
            raise ValueError(f"--mfm_gradient {args.mfm_gradient} belongs to --mfm_objective classes: leave one out")
        case "pixels":
            return PixelReconstruction(view, **common)
        case "features_student":
            return FeatureReconstruction(view, of="student", **common)
        case "features_teacher":
            return FeatureReconstruction(view, of="teacher", **common)


def resolve_rebuilder(args: UdaTrainingArguments) -> RebuilderConfig | None:
    """Return the Rebuilder that the arguments describe, or None if nothing would use it."""
    if not args.mfm or args.mfm_weight == 0:
        return None
    base = RebuilderConfig.released() if args.rebuilder == "released" else RebuilderConfig()
    grid = base.grid_size if args.mfm_grid is None else (args.mfm_grid[0], args.mfm_grid[-1])
    return replace(
        base,
        dim=args.mfm_dim,
        grid_size=grid,
        mask_ratio=args.mfm_ratio,
        num_blocks=args.mfm_blocks,
        fill=args.mfm_fill,
        pixel_head=args.mfm_objective == "pixels",
    )


def fit_to_classes(recipe: Recipe, label2id: Mapping[str, int]) -> Recipe:
    """Return the recipe without the terms that the classes of the source leave nothing to work on; notes say which."""
    lost = {
        term: f"feature distance is off: none of the classes is one of {', '.join(term.classes)}"
        for term in recipe.objectives
        if isinstance(term, FeatureDistance) and not thing_ids(label2id, term.classes)
    }
    objectives = tuple(term for term in recipe.objectives if term not in lost)
    return replace(recipe, objectives=objectives, notes=(*recipe.notes, *lost.values()))


def describe(recipe: Recipe, args: UdaTrainingArguments) -> str:
    """Write the resolved configuration as YAML, each objective in a block of its own."""
    resolved = describe_recipe(recipe)
    overridden = {name for name in resolved if name in vars(args)}
    rest = {name: value for name, value in vars(args).items() if name not in overridden and value is not None}
    rebuilder = resolve_rebuilder(args)
    content = {
        "recipe": resolved,
        "rebuilder": None if rebuilder is None else {k: _plain(v) for k, v in asdict(rebuilder).items()},
        "run": rest,
    }
    return yaml.safe_dump(content, sort_keys=False)


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return all that a recipe says, as JSON and YAML can hold it, each objective in a block of its own."""
    numbers = {name: _plain(value) for name, value in asdict(recipe).items() if name != "objectives"}
    objectives = {
        term.name: {"objective": type(term).__name__, **{k: _plain(v) for k, v in asdict(term).items()}}
        for term in recipe.objectives
    }
    return {**numbers, "views": list(recipe.views), "objectives": objectives}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
