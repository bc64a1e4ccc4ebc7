"""The recipes: which views and objectives make a method, and its numbers. Read them side by side.

Sources: DACS (Tranheden et al., WACV 2021), DAFormer (Hoyer et al., CVPR 2022), HRDA (ECCV 2022), MIC (CVPR 2023); all
numbers are those of `experiments.py` and the configs in lhoyer/MIC at 2f932a9, which holds the four methods. Its DACS
is the re-implementation that the other three compare with, not the original code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mfm_hf.uda.augmentation import AugmentationConfig
from mfm_hf.uda.class_mix import Scope
from mfm_hf.uda.mean_teacher import TeacherBatchNorm
from mfm_hf.uda.objectives import FeatureDistance, MaskedFeatureModeling, Objective, Segmentation
from mfm_hf.uda.reconstruction import FeatureReconstruction, PixelReconstruction

Architecture = Literal["segformer", "daformer", "deeplabv2", "hrda"]
TargetBorders = Literal["trust", "ignore_rows", "ignore_margins"]


@dataclass(frozen=True)
class Recipe:
    """A method of domain adaptation. A number is overridden by the training argument of the same name.

    Args:
        name: What `--recipe` takes.
        model: Architecture that is trained unless another is asked for.
        objectives: The terms of the loss, in the order in which the decoder sees their views.
        crop_size: Height and width of the training crops, in pixels.
        per_device_train_batch_size: Source images, and as many target images, per step and process.
        max_steps: Optimizer steps.
        warmup_steps: Steps over which the learning rate rises linearly.
        learning_rate: Of the encoder.
        decoder_learning_rate_factor: The decoder learns this many times faster.
        weight_decay: Of AdamW; 0 for the norms of a Mix Transformer.
        source_cat_max_ratio: A source crop is drawn anew, up to 10 times, while one class covers this share of it.
        rare_class_sampling: Whether source images are drawn by class, rare ones more often (DAFormer, section 3.2).
        rare_class_temperature: T of rare class sampling.
        rare_class_min_pixels: An image is drawn for a class only if it shows more pixels of it than this.
        rare_class_min_crop_ratio: A crop must show this many times as many; for other crops than the papers' both
            follow the crop's area, see `RareClassSampling.for_crop`.
        teacher_alpha: Share that the mean teacher keeps of itself at a step.
        teacher_batch_norm: What the teacher's BatchNorm normalises with.
        pseudo_label_threshold: Probability from which a pseudo-label counts as confident.
        class_mix_scope: Among which classes half are drawn for an image.
        class_mix_ignored: Whether pixels without a class are pasted as if they were one.
        target_borders: Whether pseudo-labels at the borders of a target that has unreliable ones (Cityscapes: the hood
            of the car, rectification) are trusted, ignored in rows of the crop, or in margins of the image.
        ignore_index: Label of the pixels without a class.
        augmentation: The strong augmentation of mixed and masked images.
        patch_size: Side of the patches that MIC hides, in pixels; a sixteenth of the crop (1024: 64).
        patch_mask_ratio: Share of the patches that is hidden.
        masked_augmented: Whether masked images are strongly augmented first.
        notes: What was taken away from the method, and why.
    """

    name: str
    model: Architecture
    objectives: tuple[Objective, ...]
    crop_size: tuple[int, int] = (512, 512)
    per_device_train_batch_size: int = 2
    max_steps: int = 40_000
    warmup_steps: int = 1_500
    learning_rate: float = 6e-5
    decoder_learning_rate_factor: float = 10.0
    weight_decay: float = 0.01
    source_cat_max_ratio: float = 0.75
    rare_class_sampling: bool = False
    rare_class_temperature: float = 0.01
    rare_class_min_pixels: int = 3_000
    rare_class_min_crop_ratio: float = 0.5
    teacher_alpha: float = 0.999
    teacher_batch_norm: TeacherBatchNorm = "batch"
    pseudo_label_threshold: float = 0.968
    class_mix_scope: Scope = "batch"
    class_mix_ignored: bool = True
    target_borders: TargetBorders = "trust"
    ignore_index: int = 255
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    patch_size: int = 32
    patch_mask_ratio: float = 0.7
    masked_augmented: bool = True
    notes: tuple[str, ...] = ()

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views that the objectives read."""
        return tuple(dict.fromkeys(objective.view for objective in self.objectives))

    @property
    def rebuilt_views(self) -> tuple[str, ...]:
        """Names of the views whose features are masked and rebuilt."""
        kinds = (MaskedFeatureModeling, FeatureReconstruction, PixelReconstruction)
        return tuple(term.view for term in self.objectives if isinstance(term, kinds))

    @property
    def uses_target(self) -> bool:
        """Whether training looks at target images at all."""
        return any(view != "source" for view in self.views)

    @property
    def teacher_feature_views(self) -> tuple[str, ...]:
        """Names of the views that the teacher encodes, for its features to be restored."""
        return tuple(
            term.view for term in self.objectives if isinstance(term, FeatureReconstruction) and term.of == "teacher"
        )

    @property
    def uses_feature_distance(self) -> bool:
        """Whether the features of the pretrained encoder are needed."""
        return any(isinstance(term, FeatureDistance) for term in self.objectives)


SUPERVISED = Segmentation("source")
SELF_TRAINING = Segmentation("mixed")
MASKED_CONSISTENCY = Segmentation("masked")
IMAGENET_DISTANCE = FeatureDistance("source", weight=0.005)

SOURCE_ONLY = Recipe(
    name="source_only",
    model="segformer",
    objectives=(SUPERVISED,),
)

DACS = Recipe(
    name="dacs",
    model="segformer",  # DeepLab-V2 in the papers' tables: --model deeplabv2
    objectives=(SUPERVISED, SELF_TRAINING),
    teacher_alpha=0.99,
)

DAFORMER = Recipe(
    name="daformer",
    model="daformer",
    objectives=(SUPERVISED, IMAGENET_DISTANCE, SELF_TRAINING),
    rare_class_sampling=True,
    target_borders="ignore_rows",
)

HRDA = Recipe(
    name="hrda",
    model="hrda",
    objectives=(SUPERVISED, IMAGENET_DISTANCE, SELF_TRAINING),
    crop_size=(1024, 1024),
    rare_class_sampling=True,
    rare_class_min_crop_ratio=2.0,
    target_borders="ignore_margins",
)

MIC = Recipe(
    name="mic",
    model="hrda",
    objectives=(SUPERVISED, IMAGENET_DISTANCE, SELF_TRAINING, MASKED_CONSISTENCY),
    crop_size=(1024, 1024),
    rare_class_sampling=True,
    rare_class_min_crop_ratio=2.0,
    target_borders="ignore_margins",
    patch_size=64,
)

RECIPES = {recipe.name: recipe for recipe in (SOURCE_ONLY, DACS, DAFORMER, HRDA, MIC)}
