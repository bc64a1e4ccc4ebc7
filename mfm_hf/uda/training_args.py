"""The arguments of a run: every flag of `train_uda.py`, its default and where the default comes from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal


def option(default: Any, help: str) -> Any:
    """A field with one line of help."""
    return field(default=default, metadata={"help": help})


@dataclass
class UdaTrainingArguments:
    """All that a run of `UdaTrainer` depends on.

    Not a subclass of `TrainingArguments`, whose hundred flags would mostly do nothing here; where it has a flag for
    the same thing, the name is the same. None for a number that a recipe decides means: what the recipe says.
    """

    # Domains
    source: str = option("streets:game", "Labelled source domain: a folder, or streets:game[:HEIGHTxWIDTH].")
    target: str = option("streets:real", "Target domain, whose labels are never read: a folder, or streets:real.")
    eval: str | None = option(None, "Labelled domain to evaluate on. Default: the target's validation split.")
    ignore_index: int = option(255, "Label of the pixels without a class (Cityscapes: 255).")
    max_bad_samples: int | None = option(
        None, "Unreadable samples to skip before giving up. Default: 0 for the source, 10 for the target."
    )

    # Method
    recipe: Literal["source_only", "dacs", "daformer", "hrda", "mic"] = option("dacs", "Method of adaptation.")
    print_recipe: bool = option(False, "Print the resolved configuration and stop.")
    mfm: bool = option(False, "Masked Feature Modeling on top of the recipe.")
    mfm_view: Literal["target", "source", "both"] = option(
        "target", "Images whose features are rebuilt (paper: target; v2 tries all three)."
    )
    mfm_augmented: bool = option(False, "Rebuild features of the strongly augmented target (paper: of the clean one).")
    mfm_gradient: Literal["both", "encoder", "decoder"] = option(
        "both", "What MFM's gradient reaches besides the Rebuilder (paper: both; v2 tries all three)."
    )
    mfm_start_step: int = option(0, "Step at which MFM sets in (paper: not mentioned, so 0).")
    mfm_batch_norm: Literal["update", "batch_no_update", "running"] = option(
        "update", "What MFM's pass does to BatchNorm: as any pass (released code), batch statistics alone, or running."
    )
    mfm_weight: float = option(1.0, "Weight of its loss, lambda (paper, Eq. 5: 1.0). 0 skips its forward pass.")
    mfm_ratio: float = option(0.4, "Share of the tokens that is masked (paper: 0.4).")
    mfm_dim: int = option(512, "Width of the Rebuilder, C' (paper: 512).")
    mfm_blocks: int = option(2, "Transformer blocks of the Rebuilder, n (paper: 2).")
    mfm_grid: list[int] | None = option(None, "Rows and columns of tokens, one number or two (paper: 16).")
    rebuilder: Literal["paper", "released"] = option(
        "paper", "Rebuilder of the paper (v1), or of the authors' later release."
    )

    # Network
    model: Literal["segformer", "daformer", "deeplabv2", "hrda"] | None = option(
        None, "Architecture of the network. Default: the recipe's."
    )
    backbone: str | None = option(
        None,
        "Encoder: mit-b0 ... mit-b5, resnet-50, resnet-101, tiny (small, untrained), a Hub id or a folder. "
        "Default: mit-b5; for DeepLab-V2 resnet-101.",
    )
    hrda_base: Literal["segformer", "daformer", "deeplabv2"] = option("daformer", "What --model hrda is built over.")
    pretrained_backbone: bool = option(True, "Start from the encoder's ImageNet weights rather than from scratch.")
    model_name_or_path: str | None = option(None, "Start from this whole checkpoint instead of --model and --backbone.")
    gradient_checkpointing: bool = option(False, "Save memory by recomputing the encoder in the backward pass.")
    encode: Literal["views_together", "one_by_one"] | None = option(
        None, "One encoder pass for all views, or one each. Default: together unless the encoder has BatchNorm."
    )

    # Optimisation
    crop_size: list[int] | None = option(
        None, "Height and width of training crops, one number or two. Default: recipe."
    )
    max_steps: int | None = option(None, "Optimizer steps. Default: recipe (40,000).")
    warmup_steps: int | None = option(None, "Steps of linear warm-up. Default: recipe (1,500).")
    per_device_train_batch_size: int | None = option(
        None, "Source images, and as many target images, per step and process. Default: recipe (2)."
    )
    learning_rate: float | None = option(None, "Encoder's rate; the decoder's is 10 times it. Default: recipe (6e-5).")
    rebuilder_learning_rate: float = option(6e-5, "Rebuilder's rate (paper v1: 6e-5; v2: 2e-4).")
    weight_decay: float | None = option(None, "AdamW's weight decay. Default: recipe (0.01).")
    teacher_alpha: float | None = option(None, "Share the mean teacher keeps of itself per step. Default: recipe.")
    pseudo_label_threshold: float | None = option(
        None, "Probability from which a pseudo-label is confident. Default: recipe (0.968)."
    )
    teacher_batch_norm: Literal["batch", "running"] | None = option(
        None, "What the teacher's BatchNorm normalises with. Default: recipe (batch, as the references do)."
    )
    class_mix_scope: Literal["batch", "image"] | None = option(
        None, "Among which classes ClassMix draws. Default: recipe (batch, as the references do)."
    )
    class_mix_ignored: bool | None = option(
        None, "Let ClassMix paste pixels without a class. Default: recipe (true, as the references do)."
    )
    loss_average: Literal["all", "valid"] = option(
        "all", "Divide losses by all pixels (references), or by those that are not ignored."
    )
    feature_distance_weight: float | None = option(None, "Weight of the feature distance. Default: recipe (0.005).")
    rare_class_sampling: bool | None = option(None, "Draw source images by rare classes. Default: recipe.")
    rare_class_temperature: float | None = option(None, "Temperature of that draw. Default: recipe (0.01).")
    rare_class_min_pixels: int | None = option(
        None,
        "Draw an image for a class only if it shows more pixels of it. Default: recipe (3,000), less for small crops.",
    )
    rare_class_min_crop_ratio: float | None = option(
        None, "A crop must show this many times as many. Default: recipe (0.5; at 1,024 x 1,024: 2)."
    )
    patch_size: int | None = option(None, "Side of MIC's patches in pixels. Default: a sixteenth of the crop.")
    patch_mask_ratio: float | None = option(None, "Share of MIC's patches that is hidden. Default: recipe (0.7).")
    masked_images: Literal["target", "source", "pair"] = option(
        "target", "Images that MIC masks (paper: target; for adverse weather a pair of one source and one target)."
    )
    masked_augmented: bool | None = option(
        None, "Augment MIC's masked images. Default: recipe (true; the paper's pair for adverse weather: false)."
    )
    pseudo_label_ignore_rows: list[int] | None = option(
        None, "Rows at the top and the bottom of target crops without weight (DAFormer on Cityscapes: 15 120)."
    )
    pseudo_label_margins: list[int] | None = option(
        None, "Top, bottom, left, right margin of target images without weight (HRDA on Cityscapes: 30 240 30 30)."
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = option("no", "Precision of training.")
    seed: int = option(0, "Seed of everything random.")

    # Run
    output_dir: str = option("outputs/run", "Folder of the results; the final checkpoint lies in it.")
    overwrite_output_dir: bool = option(False, "Replace another run in the output folder.")
    resume_from_checkpoint: str | None = option(None, "Folder of a checkpoint to go on from, or: latest.")
    save_steps: int = option(0, "Steps between training checkpoints; 0 saves none.")
    save_total_limit: int | None = option(None, "Training checkpoints to keep. Default: all.")
    eval_steps: int = option(4_000, "Steps between evaluations (references: 4,000); 0 evaluates at the end only.")
    final_evaluation: bool = option(True, "Evaluate the final network, which is the one that results.json reports.")
    per_device_eval_batch_size: int = option(1, "Images per evaluation batch.")
    logging_steps: int = option(50, "Steps between log lines.")
    log_gradient_norms: bool = option(False, "Log the gradient norm of each loss term; costs a backward pass per term.")
    picture_steps: int = option(0, "Steps between pictures of the views, in output_dir/pictures; 0 draws none.")
    dataloader_num_workers: int = option(2, "Processes that decode images, for each of source and target.")
    use_cpu: bool = option(False, "Train on the CPU even where there is a GPU.")
    report_to: list[str] | None = option(None, "Trackers, e.g. tensorboard wandb trackio. Default: none.")
    push_to_hub: bool = option(False, "Upload the final checkpoint to the Hub.")
    hub_model_id: str | None = option(None, "Repository on the Hub, ORG/NAME. Default: your name and output_dir's.")

    @property
    def from_scratch(self) -> bool:
        """Whether the encoder starts untrained."""
        return self.model_name_or_path is None and (self.backbone == "tiny" or not self.pretrained_backbone)

    def changed(self) -> dict[str, Any]:
        """Return the arguments that are not at their default."""
        return {item.name: value for item in fields(self) if (value := getattr(self, item.name)) != item.default}

    def __post_init__(self) -> None:
        if not 0.0 <= self.mfm_ratio <= 1.0:
            raise ValueError(f"--mfm_ratio is a share of the tokens, from 0 to 1, not {self.mfm_ratio}")
        for name, minimum in (("max_steps", 1), ("per_device_train_batch_size", 1), ("warmup_steps", 0)):
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ValueError(f"--{name} must be at least {minimum}, not {value}")
        for name, length in (("pseudo_label_ignore_rows", 2), ("pseudo_label_margins", 4)):
            value = getattr(self, name)
            if value is not None and (len(value) != length or min(value) < 0):
                raise ValueError(f"--{name} takes {length} numbers of pixels, not {value}")
        for name in ("crop_size", "mfm_grid"):
            value = getattr(self, name)
            if value is not None and (len(value) > 2 or min(value) < 1):
                raise ValueError(f"--{name} takes one or two positive numbers, not {value}")
