"""`mfm-hf evaluate`: measure a checkpoint on a domain."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._files import check_can_write
from mfm_hf.commands._parser import command_parser, positive_int
from mfm_hf.files import write_json

if TYPE_CHECKING:
    from transformers import BaseImageProcessor

_DESCRIPTION = """\
Measure a segmentation checkpoint on the labelled images of a domain.

example:
  {prog} --model outputs/run --domain streets:real --output outputs/run/eval.json
"""


def main(argv: list[str] | None = None) -> None:
    """Run the command with the options of `argv` (default: those of the command line)."""
    args = _parse(argv)
    with one_line_errors():
        results = _evaluate(args)
        print(_table(results))
        if args.output is not None:
            write_json(args.output, results)
            print(f"results: {args.output}")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_parser("evaluate", "evaluate_checkpoint.py", _DESCRIPTION)
    parser.add_argument("--model", required=True, help="checkpoint folder or Hub id")
    parser.add_argument(
        "--domain", required=True, help="streets:real, streets:game, or a folder with images/ and labels/; see README"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the results to this file, too")
    parser.add_argument("--batch_size", type=positive_int, default=4, metavar="N", help="images per forward pass")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="use the first N images only (default: all)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")
    parser.add_argument(
        "--ignore_index", type=int, default=255, metavar="ID", help="label of the pixels that are not counted"
    )
    parser.add_argument("--num_workers", type=int, default=2, metavar="N", help="threads that read images; 0: none")
    return parser.parse_args(argv)


def _evaluate(args: argparse.Namespace) -> dict[str, Any]:
    # These imports take seconds; `--help` does without.
    from mfm_hf.commands._checkpoint import load_image_processor, load_model
    from mfm_hf.data.domains import load_domain
    from mfm_hf.evaluation.evaluator import evaluate_model

    if args.output is not None:
        check_can_write(args.output)
    domain = load_domain(args.domain, role="eval", ignore_index=args.ignore_index)
    model = load_model(args.model, args.device)
    if processor := load_image_processor(args.model):
        _check_pixels(args.model, processor)
    scores = evaluate_model(model, domain, batch_size=args.batch_size, limit=args.limit, num_workers=args.num_workers)
    return {
        "mean_iou": scores.pop("mean_iou"),
        "per_class_iou": scores.pop("per_class_iou"),
        "model": args.model,
        "domain": args.domain,
        "split": domain.split,
        "ignore_index": domain.ignore_index,
        **scores,
    }


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


def _table(results: dict[str, Any]) -> str:
    ious = results["per_class_iou"]
    width = max(map(len, [*ious, "pixel accuracy"]))
    occurring = sum(iou is not None for iou in ious.values())
    lines = [f"{'class':<{width}}  IoU in %"]
    lines += [f"{name:<{width}}  {'-' if iou is None else format(100 * iou, '.2f'):>8}" for name, iou in ious.items()]
    lines += [
        "-" * (width + 10),
        f"{'mean IoU':<{width}}  {100 * results['mean_iou']:8.2f}  (of the {occurring} classes that occur)",
        f"{'pixel accuracy':<{width}}  {100 * results['overall_accuracy']:8.2f}",
        f"{results['num_images']} images of {results['domain']} ({results['split']}) in {results['seconds']:.1f} s",
    ]
    return "\n".join(lines)
