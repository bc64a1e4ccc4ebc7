"""`train_uda.py` and `mfm-hf train`: adapt a network from a source domain to a target domain."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._parser import HelpFormatter, program_name
from mfm_hf.commands.arguments import ConfigArgumentParser
from mfm_hf.uda.training_args import UdaTrainingArguments

if TYPE_CHECKING:  # imported when the arguments are known to be good: torch and transformers take seconds
    from mfm_hf.data.domain import Domain
    from mfm_hf.data.domains import Role
    from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
    from mfm_hf.uda.recipes import Recipe
    from mfm_hf.uda.trainer import UdaTrainer

DESCRIPTION = """Adapt a segmentation network from a labelled source domain to an unlabelled target domain.

example: {prog} --source streets:game:64x128 --target streets:real:64x128 \\
           --model segformer --backbone tiny --crop_size 64 128 --max_steps 1000 --recipe dacs --mfm

The final network lies in --output_dir as an ordinary transformers checkpoint, beside results.json. Every option may
stand in a YAML file given by --config; the command line wins."""


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train as the command line says and return the results."""
    prog = program_name("train", "train_uda.py")
    parser = ConfigArgumentParser(
        UdaTrainingArguments, prog=prog, description=DESCRIPTION.format(prog=prog), formatter_class=HelpFormatter
    )
    with one_line_errors():
        args = parser.parse(sys.argv[1:] if argv is None else argv)
        if args.print_recipe:
            return print_recipe(args)
        trainer = build_trainer(args)
        if args.dry_run:
            return print_estimate(trainer)
        results = trainer.train()
        if args.push_to_hub:
            trainer.push_to_hub()
    return results


def print_recipe(args: UdaTrainingArguments) -> dict[str, Any]:
    """Print what the arguments come to, as YAML."""
    from mfm_hf.uda.resolution import describe, resolve_recipe

    print(describe(resolve_recipe(args), args))
    return {}


def print_estimate(trainer: UdaTrainer) -> dict[str, Any]:
    """Print what memory and time the run would take."""
    from mfm_hf.uda.run.dry_run import dry_run

    estimate = dry_run(trainer)
    trainer.accelerator.print(estimate)
    trainer.accelerator.end_training()
    return {}


def build_trainer(args: UdaTrainingArguments) -> UdaTrainer:
    """Open the domains, check all that can be known before training, and build the network and its trainer.

    Raises:
        ValueError, OSError: If something is wrong that the user can mend.
    """
    from accelerate.utils import set_seed
    from transformers.utils.logging import disable_progress_bar

    from mfm_hf.data.domain import check_crop, check_domain, check_same_classes
    from mfm_hf.uda.image_sizes import at_evaluation_size, at_training_size, settle_target_borders
    from mfm_hf.uda.resolution import fit_to_classes, resolve_recipe
    from mfm_hf.uda.run import run_folder
    from mfm_hf.uda.trainer import UdaTrainer

    disable_progress_bar()  # those of loading and saving, which would stand between the trainer's own
    recipe = resolve_recipe(args)
    args.model = recipe.model  # what None meant, for all who read the arguments
    source = at_training_size(open_domain(args, args.source, "source"), recipe.crop_size, args.source_size)
    target = open_domain(args, args.target, "target")
    settle_target_borders(args, recipe, target)
    target = at_training_size(target, recipe.crop_size, args.target_size)
    eval_domain = open_eval_domain(args)
    if eval_domain is not None:
        eval_size = args.eval_size or (args.target_size if args.eval is None else None)
        eval_domain = at_evaluation_size(eval_domain, recipe.crop_size, eval_size)
    source_eval_domain = open_source_eval_domain(args, source)
    if source_eval_domain is not None:
        check_domain(source_eval_domain)
        source_eval_domain = at_evaluation_size(source_eval_domain, recipe.crop_size, args.source_size)
    recipe = fit_to_classes(recipe, source.classes.label2id)
    for note in recipe.notes:
        print(note)
    for domain in (source, target) if recipe.uses_target else (source,):
        check_crop(domain, recipe.crop_size)
    check_domain(source, max_bad_samples=args.max_bad_samples or 0)
    if eval_domain is not None:
        check_domain(eval_domain)
        check_same_classes(source, eval_domain)
    if not args.dry_run:
        run_folder.check(
            Path(args.output_dir), resume_from=args.resume_from_checkpoint, overwrite=args.overwrite_output_dir
        )
    set_seed(args.seed)  # the network starts the same under every recipe
    model = build_model(args, recipe, source)
    return UdaTrainer(model, args, source, target, eval_domain, recipe, source_eval_domain=source_eval_domain)


def open_domain(args: UdaTrainingArguments, name: str, role: Role) -> Domain:
    """Open a domain as the arguments say.

    Raises:
        ValueError, OSError: If it cannot be used.
    """
    from mfm_hf.data.domains import load_domain

    label_map = None if args.label_map is None else Path(args.label_map)
    return load_domain(
        name,
        role,
        args.ignore_index,
        label_map=label_map,
        image_column=args.image_column,
        label_column=args.label_column,
        shuffle_buffer=args.shuffle_buffer,
    )


def open_eval_domain(args: UdaTrainingArguments) -> Domain | None:
    """Open the domain to evaluate on: `--eval`, or the target's validation split where it has labels."""

    if args.eval is not None:
        return open_domain(args, args.eval, "eval")
    try:
        return open_domain(args, args.target.partition("#")[0], "eval")
    except (ValueError, OSError) as error:
        print(f"no evaluation, since the target has no labels for it ({error})", file=sys.stderr)
        return None


def open_source_eval_domain(args: UdaTrainingArguments, source: Domain) -> Domain | None:
    """Open the source images to measure on: `--source_eval`, or the validation split of the source where it has one.

    A folder without splits serves every split, so its "validation" would be the images that are trained on.

    Raises:
        ValueError, OSError: If `--source_eval` cannot be used.
    """
    from mfm_hf.data.domain import check_same_classes
    from mfm_hf.data.subset import same_examples

    if args.selection_images == 0:
        return None
    if args.source_eval is not None:
        domain = open_domain(args, args.source_eval, "eval")
        check_same_classes(source, domain)
        return domain
    try:
        domain = open_domain(args, args.source.partition("#")[0], "eval")
    except (ValueError, OSError) as error:
        print(f"no evaluation on the source, since it has no validation split ({error})", file=sys.stderr)
        return None
    if same_examples(domain, source):
        print("no evaluation on the source, since its validation split is what it is trained on", file=sys.stderr)
        return None
    return domain


def build_model(args: UdaTrainingArguments, recipe: Recipe, source: Domain) -> DomainAdaptationModel:
    """Load or build the network that the arguments describe, with the source's classes.

    Raises:
        ValueError: If there is no such encoder or checkpoint, or it has other classes.
    """
    from mfm_hf.hub.encoders import HUB_IDS, default_encoder
    from mfm_hf.mfm.auto import AutoModelForDomainAdaptation
    from mfm_hf.uda.resolution import resolve_rebuilder

    height, width = recipe.crop_size
    options: dict[str, Any] = {
        "id2label": source.classes.id2label,
        "label2id": source.classes.label2id,
        "rebuilder": resolve_rebuilder(args),
        "hrda_base": args.hrda_base,
        "detail_crop_size": [height // 16 * 8, width // 16 * 8],  # half the crop, on HRDA's grid of 8 (1024: 512)
    }
    if args.model_name_or_path is not None:
        return load_pretrained("--model_name_or_path", args.model_name_or_path, head=args.model, **options)
    backbone = args.backbone or default_encoder(recipe.model, args.hrda_base)
    if args.from_scratch:
        return AutoModelForDomainAdaptation.from_scratch(backbone, recipe.model, **options)
    return load_pretrained("--backbone", HUB_IDS.get(backbone, backbone), head=recipe.model, **options)


def load_pretrained(option: str, origin: str, **options: Any) -> DomainAdaptationModel:
    """Load a network from a folder or the Hub, and name the option if it cannot be had.

    Raises:
        ValueError: If there is no such encoder or checkpoint, or it has other classes.
    """
    from safetensors import SafetensorError

    from mfm_hf.mfm.auto import AutoModelForDomainAdaptation

    try:
        return AutoModelForDomainAdaptation.from_pretrained(origin, **options)
    except (OSError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        remedy = "an existing folder or a Hub id"
        if option == "--backbone":
            remedy += ", or train the encoder from scratch with --no_pretrained_backbone or --backbone tiny"
        raise ValueError(f"cannot load {option} {origin!r} ({reason}): give {remedy}") from None
