"""`mfm-hf export`: write a checkpoint as a file for ONNX Runtime or `torch.export.load`."""

from __future__ import annotations

import argparse
from pathlib import Path

from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._files import check_can_write
from mfm_hf.commands._parser import command_parser, positive_int

_DESCRIPTION = """\
Export a SegFormer, DAFormer, DeepLab-V2 or HRDA for use without this package. The file takes any number of images of
any size (HRDA: from its window_size on) and returns the class of every pixel. Before it is kept, it runs at several
sizes beside the checkpoint, and how far their logits are apart is printed.

examples:
  {prog} --model outputs/run --format onnx --output model.onnx
  {prog} --model outputs/run --format torch_export --output model.pt2 --result logits
"""


def main(argv: list[str] | None = None) -> None:
    """Run the command with the options of `argv` (default: those of the command line)."""
    args = _parse(argv)
    with one_line_errors():
        _export(args)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_parser("export", "export_checkpoint.py", _DESCRIPTION)
    parser.add_argument("--model", required=True, help="checkpoint folder or Hub id")
    parser.add_argument("--format", required=True, choices=("onnx", "torch_export"), help="what to write")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="a name in .onnx or .pt2")
    parser.add_argument(
        "--result",
        choices=("classes", "logits"),
        default="classes",
        help="the class of every pixel, or logits at the network's own stride",
    )
    parser.add_argument(
        "--include_preprocessing",
        action="store_true",
        help="take RGB images of 8 bits, and normalise them in the file (default: pixel_values)",
    )
    parser.add_argument("--height", type=positive_int, metavar="N", help="rows of the image to compare at")
    parser.add_argument("--width", type=positive_int, metavar="N", help="columns of the image to compare at")
    parser.add_argument(
        "--fixed_size", action="store_true", help="take single images of this height and width, and no others"
    )
    args = parser.parse_args(argv)
    if (args.height is None) != (args.width is None):
        parser.error("--height and --width go together")
    if args.fixed_size and args.height is None:
        parser.error("--fixed_size needs --height and --width")
    return args


def _export(args: argparse.Namespace) -> None:
    # These imports take seconds; `--help` and a mistyped option do without.
    from mfm_hf.commands._segmenter import load_segmenter
    from mfm_hf.hub.export import check_format, export_checkpoint

    check_format(args.output, args.format)
    check_can_write(args.output)
    segmenter = load_segmenter(args.model, "cpu")
    comparisons = export_checkpoint(
        segmenter.model,
        segmenter.processor,
        args.output,
        args.format,
        args.result,
        None if args.height is None else (args.height, args.width),
        fixed_size=args.fixed_size,
        include_preprocessing=args.include_preprocessing,
    )
    for comparison in comparisons:
        height, width = comparison.size
        print(f"{height} x {width} pixels: at most {comparison.difference:.1e} from the checkpoint's logits")
    print(f"{args.model} -> {args.output}")
