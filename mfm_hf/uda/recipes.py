"""The recipes: which views and objectives make a method, and its numbers. Read them side by side.

Sources: [DACS] Tranheden et al., WACV 2021, in the re-implementation that DAFormer, HRDA and MIC compare with
(`dacs.py` and `experiments.py` in lhoyer/MIC at 2f932a9, which the numbers are taken from).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from mfm_hf.mfm.rebuilder import RebuilderConfig
from mfm_hf.uda.objectives import MaskedFeatureModeling, Objective, Segmentation
from mfm_hf.uda.training_args import UdaTrainingArguments


@dataclass(frozen=True)
class Recipe:
    """A method of domain adaptation. A number is overridden by the training argument of the same name.

    Args:
        name: What `--recipe` takes.
        objectives: The terms of the loss, in the order in which the decoder sees their views.
        crop_size: Height and width of the training crops, in pixels.
        per_device_train_batch_size: Source images, and as many target images, per step and process.
        max_steps: Optimizer steps.
        warmup_steps: Steps over which the learning rate rises linearly.
        learning_rate: Of the encoder.
        decoder_learning_rate_factor: The decoder learns this many times faster.
        weight_decay: Of AdamW; 0 for the norms of a Mix Transformer.
        source_cat_max_ratio: A source crop is drawn anew, up to 10 times, while one class covers this share of it.
        teacher_alpha: Share that the mean teacher keeps of itself at a step.
        pseudo_label_threshold: Probability from which a pseudo-label counts as confident.
        color_jitter_strength: Half the range of each colour factor of mixed images.
        color_jitter_probability: How often mixed images are colour-jittered.
        blur_probability: How often mixed images are blurred.
    """

    name: str
    objectives: tuple[Objective, ...]
    crop_size: tuple[int, int] = (512, 512)
    per_device_train_batch_size: int = 2
    max_steps: int = 40_000
    warmup_steps: int = 1_500
    learning_rate: float = 6e-5
    decoder_learning_rate_factor: float = 10.0
    weight_decay: float = 0.01
    source_cat_max_ratio: float = 0.75
    teacher_alpha: float = 0.99
    pseudo_label_threshold: float = 0.968
    color_jitter_strength: float = 0.2
    color_jitter_probability: float = 0.8
    blur_probability: float = 0.5

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views that the objectives read."""
        return tuple(dict.fromkeys(objective.view for objective in self.objectives))

    @property
    def rebuilt_views(self) -> tuple[str, ...]:
        """Names of the views whose features are masked and rebuilt."""
        return tuple(term.view for term in self.objectives if isinstance(term, MaskedFeatureModeling))

    @property
    def uses_target(self) -> bool:
        """Whether training looks at target images at all."""
        return any(view != "source" for view in self.views)


SOURCE_ONLY = Recipe(
    name="source_only",
    objectives=(Segmentation("source"),),
)

DACS = Recipe(
    name="dacs",
    objectives=(Segmentation("source"), Segmentation("mixed")),
)

RECIPES = {recipe.name: recipe for recipe in (SOURCE_ONLY, DACS)}


def resolve_recipe(args: UdaTrainingArguments) -> Recipe:
    """Return the recipe that the arguments name, with the numbers that they override and MFM if they ask for it.

    MFM comes last, as it does in the authors' description: its pass is the last to touch BatchNorm statistics.

    Raises:
        ValueError: If MFM is asked to rebuild target features under a recipe without pseudo-labels.
    """
    recipe = RECIPES[args.recipe]
    given = {item.name: getattr(args, item.name) for item in fields(args)}
    overridden: dict[str, Any] = {
        item.name: given[item.name] for item in fields(Recipe) if given.get(item.name) is not None
    }
    if args.crop_size is not None:
        overridden["crop_size"] = (args.crop_size[0], args.crop_size[-1])
    if args.mfm and args.mfm_weight != 0:
        if args.mfm_view != "source" and not recipe.uses_target:
            raise ValueError(f"--recipe {recipe.name} makes no pseudo-labels for --mfm: add --mfm_view source")
        overridden["objectives"] = (*recipe.objectives, MaskedFeatureModeling(args.mfm_view, args.mfm_weight))
    return replace(recipe, **overridden)


def resolve_rebuilder(args: UdaTrainingArguments) -> RebuilderConfig | None:
    """Return the Rebuilder that the arguments describe, or None if nothing would use it."""
    if not args.mfm or args.mfm_weight == 0:
        return None
    base = RebuilderConfig.released() if args.rebuilder == "released" else RebuilderConfig()
    grid = base.grid_size if args.mfm_grid is None else (args.mfm_grid[0], args.mfm_grid[-1])
    return replace(base, dim=args.mfm_dim, grid_size=grid, mask_ratio=args.mfm_ratio, num_blocks=args.mfm_blocks)
