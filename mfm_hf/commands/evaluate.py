"""`mfm-hf evaluate`: measure a checkpoint on a domain, or write its predictions for a benchmark's server."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mfm_hf.commands._domain import add_reading_options, open_domain
from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._files import check_can_write
from mfm_hf.commands._inference import (
    add_inference_options,
    check_inference_options,
    compiled_if_asked,
    prepare_network,
    two_numbers,
)
from mfm_hf.commands._parser import command_parser, positive_int
from mfm_hf.files import write_json

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel

    from mfm_hf.data.domain import Domain
    from mfm_hf.evaluation.setting import EvaluationSetting

_NATIVE: Literal["native"] = "native"

_DESCRIPTION = """\
Measure a segmentation checkpoint on the labelled images of a domain, or write the zip of its predictions that the
server of a benchmark takes.

examples:
  {prog} --model outputs/run --domain streets:real --output outputs/run/eval.json
  {prog} --model outputs/run --domain acdc:data/acdc#test --submission outputs/acdc.zip
"""


def main(argv: list[str] | None = None) -> None:
    """Run the command with the options of `argv` (default: those of the command line)."""
    args = _parse(argv)
    with one_line_errors():
        two_numbers("image_size", args.image_size, _NATIVE)
        check_inference_options(args)
        if args.submission is not None:
            _submit(args)
            return
        results = _evaluate(args)
        if args.output is not None:
            write_json(args.output, results)
            print(f"results: {args.output}")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_parser("evaluate", "evaluate_checkpoint.py", _DESCRIPTION)
    parser.add_argument("--model", required=True, help="checkpoint folder or Hub id")
    parser.add_argument(
        "--domain",
        required=True,
        help="streets:real, streets:game, a benchmark such as cityscapes:DIR, or a folder with images/ and labels/",
    )
    add_reading_options(parser)
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the results to this file, too")
    parser.add_argument(
        "--submission",
        type=Path,
        metavar="FILE.zip",
        help="measure nothing, write this file for the benchmark's server",
    )
    parser.add_argument(
        "--image_size",
        nargs="+",
        metavar="PIXELS",
        help="longer and shorter side that images are fitted into, or: native (default: what the image processor of "
        "the checkpoint says, or else the papers' size for a benchmark)",
    )
    add_inference_options(parser)
    parser.add_argument(
        "--eval_classes",
        metavar="NAMES",
        help="classes to take the mean over: cityscapes19, synthia16, synthia13 or name,name,... (default: all)",
    )
    parser.add_argument("--batch_size", type=positive_int, default=4, metavar="N", help="images per forward pass")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="use the first N images only (default: all)")
    parser.add_argument("--num_workers", type=int, default=2, metavar="N", help="threads that read images; 0: none")
    return parser.parse_args(argv)


def _evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Return what `--output` holds."""
    # These imports take seconds; `--help` does without.
    from mfm_hf.data.resizing import resized
    from mfm_hf.evaluation.class_sets import resolve_eval_classes
    from mfm_hf.evaluation.evaluator import evaluate_model

    if args.output is not None:
        check_can_write(args.output)
    domain = open_domain(args, "eval")
    eval_classes = None if args.eval_classes is None else resolve_eval_classes(args.eval_classes, domain.classes)
    model, setting = _load(args, domain)
    with compiled_if_asked(args, model):
        scores = evaluate_model(
            model,
            domain if setting.box is None else resized(domain, setting.box, labels=False),
            batch_size=args.batch_size,
            limit=args.limit,
            window=setting.window,
            eval_classes=eval_classes,
            num_workers=args.num_workers,
        )
    print(_report(scores, args.domain, domain.split, setting))
    return {
        "mean_iou": scores.pop("mean_iou"),
        "per_class_iou": scores.pop("per_class_iou"),
        "model": args.model,
        "domain": args.domain,
        "split": domain.split,
        "ignore_index": domain.ignore_index,
        **setting.as_json(),
        **scores,
    }


def _submit(args: argparse.Namespace) -> None:
    """Write the predictions of a benchmark's test images for its server."""
    from mfm_hf.evaluation.submission import write_submission

    for option in ("output", "limit", "eval_classes", "label_map"):
        if getattr(args, option) is not None:
            raise ValueError(f"--submission takes all test images and gives no scores: leave --{option} away")
    check_can_write(args.submission)
    domain = open_domain(args, "target")
    model, setting = _load(args, domain)
    with compiled_if_asked(args, model):
        num_images = write_submission(
            model,
            domain,
            args.submission,
            box=setting.box,
            window=setting.window,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
        )
    print(f"{num_images} images of {args.domain}; {setting}\nsubmission: {args.submission}")


def _load(args: argparse.Namespace, domain: Domain) -> tuple[PreTrainedModel, EvaluationSetting]:
    """Return the model, and how it is to see the images of a domain."""
    from mfm_hf.commands._checkpoint import load_image_processor, load_model
    from mfm_hf.evaluation.setting import EvaluationSetting, choose_box
    from mfm_hf.hub.image_processor import box_of

    image_size = two_numbers("image_size", args.image_size, _NATIVE)
    model = load_model(args.model, args.device)
    processor = load_image_processor(args.model)
    if processor is not None:
        _check_pixels(args.model, processor)
    trained_at = None if processor is None else box_of(processor.to_dict())
    box, chosen_by = choose_box(image_size, trained_at, domain, model)
    window = prepare_network(args, model)
    return model, EvaluationSetting(box, chosen_by, window, args.precision, args.compile)


def _check_pixels(model_name: str, processor: BaseImageProcessor) -> None:
    """Check on a small image that a model expects its pixels as evaluation prepares them."""
    import numpy as np
    import torch

    from mfm_hf.data.transforms import normalize

    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    wanted = processor(image, do_resize=False, return_tensors="pt")["pixel_values"]
    prepared = normalize(torch.from_numpy(image).permute(2, 0, 1)[None])
    if wanted.shape != prepared.shape or not torch.allclose(wanted, prepared, atol=1e-3):
        raise ValueError(
            f"the image processor of {model_name} prepares pixels in another way than this evaluation, "
            "which uses the mean and standard deviation of ImageNet: its scores would be wrong"
        )


def _report(scores: Mapping[str, Any], domain: str, split: str, setting: EvaluationSetting) -> str:
    """Return what is printed of the scores."""
    from mfm_hf.evaluation.results_table import paper_row, score_table

    parts = [
        score_table(scores),
        f"{scores['num_images']} images of {domain} ({split}) in {scores['seconds']:.1f} s\n{setting}; labels at their "
        "own size",
    ]
    row = paper_row(scores)
    return "\n".join(parts if row is None else [*parts, "", row])
