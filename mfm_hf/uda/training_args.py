"""The arguments of a run: every flag of `train_uda.py`, its default and where the default comes from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from mfm_hf.uda.argument_ranges import check_ranges
from mfm_hf.uda.run.memory_presets import MEMORY_OPTIONS


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
    source: str = option(
        "streets:game", "Labelled source domain: a folder, a benchmark as in gta:DIR, or streets:game[:HEIGHTxWIDTH]."
    )
    target: str = option(
        "streets:real",
        "Target domain, whose labels are never read: a folder, a benchmark as in acdc:DIR, or streets:real.",
    )
    eval: str | None = option(None, "Labelled domain to evaluate on. Default: the target's validation split.")
    source_eval: str | None = option(
        None, "Labelled source images that are not trained on, to measure on. Default: the source's validation split."
    )
    ignore_index: int = option(255, "Label of the pixels without a class (Cityscapes: 255).")
    image_column: str | None = option(None, "Column of images in a dataset of the Hub or of Parquet. Default: image.")
    label_column: str | None = option(None, "Column of labels in such a dataset. Default: label.")
    shuffle_buffer: int | None = option(
        None, "Rows of such a dataset that are held in memory, to be shuffled or drawn from by class. Default: 256."
    )
    label_map: str | None = option(
        None, "JSON file that says what stands in the labels of folders. Default: the classes.json in each."
    )
    source_size: list[int] | None = option(
        None, "Longer and shorter side that source images are fitted into. Default: the papers' for a benchmark."
    )
    target_size: list[int] | None = option(None, "The same for target images.")
    eval_size: list[int] | None = option(
        None, "The same for evaluation, where labels keep their size. Default: target_size for the target's images."
    )
    eval_classes: str | None = option(
        None, "Classes of the mean IoU: cityscapes19, synthia16, synthia13 or name,name,... Default: all."
    )
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
    mfm_objective: Literal["classes", "pixels", "features_student", "features_teacher"] = option(
        "classes", "What rebuilt features are asked for (paper: classes; Table 2 compares the others)."
    )
    mfm_fill: Literal["offsets", "zeros"] = option(
        "offsets", "What masked features become (paper: the Rebuilder's offsets; zeros is its control, masking only)."
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
    model_name_or_path: str | None = option(
        None, "Start from this whole checkpoint, not from --backbone; with --model hrda, from HRDA over it."
    )
    gradient_checkpointing: bool | None = option(
        None, "Save memory by recomputing the encoder in the backward pass. Default: memory preset, or false."
    )
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
        None,
        "Rows at the top and bottom of target crops without weight. Default: recipe (DAFormer, Cityscapes: 15 120).",
    )
    pseudo_label_margins: list[int] | None = option(
        None,
        "Top, bottom, left, right margin of target images without weight. Default: recipe (HRDA on Cityscapes: "
        "30 240 30 30).",
    )
    mixed_precision: Literal["no", "bf16", "fp16"] | None = option(
        None, "Precision of training. Default: memory preset, or no (float32, as the references)."
    )
    compile: bool = option(
        False, "Compile the networks with torch.compile, which takes minutes at the first step (references: no)."
    )
    gradient_accumulation_steps: int = option(1, "Batches whose gradients make one optimizer step.")
    memory_preset: Literal["11gb", "16gb", "24gb"] | None = option(
        None, "encode, gradient_checkpointing and mixed_precision for a GPU of this size; those that are given win."
    )
    max_grad_norm: float | None = option(None, "Norm that gradients are cut down to. Default: none (references).")
    batch_statistics: Literal["process", "global"] = option(
        "process", "Images that confidence, ClassMix classes and feature distance count over (references: one GPU)."
    )
    sync_batch_norm: bool = option(False, "Let BatchNorm normalise with the batches of all processes (GPUs only).")
    max_skipped_steps: int = option(10, "Steps in a row with a loss or gradient that is not finite, before giving up.")
    full_determinism: bool = option(False, "Use deterministic GPU kernels alone; slower.")
    seed: int = option(0, "Seed of everything random.")

    # Run
    output_dir: str = option("outputs/run", "Folder of the results; the final checkpoint lies in it.")
    dry_run: bool = option(False, "Do two steps, print memory, time of a step and of the whole run, and stop.")
    overwrite_output_dir: bool = option(False, "Replace another run in the output folder.")
    resume_from_checkpoint: str | None = option(None, "Folder of a checkpoint to go on from, or: latest.")
    save_steps: int = option(0, "Steps between training checkpoints; 0 saves none.")
    save_total_limit: int | None = option(None, "Training checkpoints to keep. Default: all.")
    eval_steps: int = option(4_000, "Steps between evaluations (references: 4,000); 0 evaluates at the end only.")
    selection_images: int = option(
        100, "Images that scores without target labels are measured on, of target and source each; 0 measures none."
    )
    metric_for_best_model: (
        Literal["mean_iou", "source_mean_iou", "prediction_entropy", "teacher_agreement", "prediction_stability"] | None
    ) = option(
        None, "Also export the best network of all evaluations by this score. Default: the final one alone (papers)."
    )
    final_evaluation: bool = option(True, "Evaluate the final network, which is the one that results.json reports.")
    per_device_eval_batch_size: int = option(1, "Images per evaluation batch.")
    logging_steps: int = option(50, "Steps between log lines.")
    log_gradient_norms: bool = option(False, "Log the gradient norm of each loss term; costs a backward pass per term.")
    picture_steps: int = option(0, "Steps between pictures of the views, in output_dir/pictures; 0 draws none.")
    dataloader_num_workers: int = option(2, "Processes that decode images, for each of source and target.")
    use_cpu: bool = option(False, "Train on the CPU even where there is a GPU.")
    report_to: list[str] | None = option(None, "Trackers, e.g. tensorboard wandb trackio. Default: none.")
    push_to_hub: bool = option(False, "Upload the network to the Hub.")
    hub_model_id: str | None = option(None, "Repository on the Hub, ORG/NAME. Default: your name and output_dir's.")
    hub_strategy: Literal["end", "every_save"] = option(
        "end", "Upload the final network alone, or in the background also that of each evaluation and checkpoint."
    )
    hub_private_repo: bool = option(False, "Let only you and your organisation see the repository.")
    baseline_results: str | None = option(
        None, "The results.json of a source-only training, for the model card to compare with. Default: none."
    )

    @property
    def from_scratch(self) -> bool:
        """Whether the encoder starts untrained."""
        return self.model_name_or_path is None and (self.backbone == "tiny" or not self.pretrained_backbone)

    def changed(self) -> dict[str, Any]:
        """Return the arguments that are not at their default."""
        defaults = {item.name: item.default for item in fields(self)} | MEMORY_OPTIONS[self.memory_preset]
        return {name: value for name in defaults if (value := getattr(self, name)) != defaults[name]}

    def __post_init__(self) -> None:
        for name, value in MEMORY_OPTIONS[self.memory_preset].items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        check_ranges(vars(self))
