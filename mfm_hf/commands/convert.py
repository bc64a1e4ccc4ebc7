"""`mfm-hf convert`: turn a checkpoint of a reference code base into a `transformers` folder, or back."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._parser import command_parser

_DESCRIPTION = """\
Turn a checkpoint of DACS, DAFormer, HRDA, MIC or SegFormer, or an ImageNet encoder (mit_b5.pth,
resnet101_v1c.pth), into a folder that transformers loads. The network and its sizes are told from
the file itself. With --to reference, turn such a folder into a .pth for the old code bases.

examples:
  {prog} iter_40000.pth outputs/daformer
  {prog} outputs/daformer daformer.pth --to reference
"""


def main(argv: list[str] | None = None) -> None:
    """Run the command with the options of `argv` (default: those of the command line)."""
    args = _parse(argv)
    with one_line_errors():
        print(_convert(args))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_parser("convert", "convert_checkpoint.py", _DESCRIPTION)
    parser.add_argument("input", metavar="IN", help=".pth file; with --to reference, a checkpoint folder or Hub id")
    parser.add_argument("output", type=Path, metavar="OUT", help="folder to write; with --to reference, a .pth file")
    parser.add_argument(
        "--to",
        choices=("transformers", "reference", "nvlabs"),
        default="transformers",
        help="what to write; nvlabs is the reference .pth with the SegFormer head of NVlabs/SegFormer",
    )
    parser.add_argument(
        "--weights",
        choices=("student", "teacher"),
        default="student",
        help="which network of a training to take; the papers report the student",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        metavar="NAME=VALUE",
        help="what weights cannot tell, for unpublished networks: num_attention_heads=1,2,5,8, dilations=6,12, "
        "contract_dilation=true, detail_crop_size=512,512, detail_stride=256,256, context_scale=0.5 (repeatable)",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE.json",
        help="class names, as a list or by id (default: those in the .pth, or the 19 of Cityscapes)",
    )
    return parser.parse_args(argv)


def _convert(args: argparse.Namespace) -> str:
    settings = dict(_setting(text) for text in args.settings or ())
    class_names = None if args.labels is None else _class_names(args.labels)
    # These imports take seconds; `--help` and a mistyped option do without.
    from mfm_hf.hub.conversion import convert_checkpoint, convert_to_reference

    if args.to == "transformers":
        network = convert_checkpoint(Path(args.input), args.output, args.weights, settings, class_names)
    elif args.settings or args.labels or args.weights != "student":
        raise ValueError(f"--set, --labels and --weights have no meaning with --to {args.to}: leave them out")
    else:
        network = convert_to_reference(args.input, args.output, "nvlabs" if args.to == "nvlabs" else "mmseg")
    return f"{network} -> {args.output}"


def _setting(text: str) -> tuple[str, Any]:
    """Read `name=value`, where the value is a number, true or false, or several with commas between."""
    name, separator, value = text.partition("=")
    try:
        values = yaml.safe_load(f"[{value}]")
    except yaml.YAMLError:
        values = []
    if not (name and separator and values):
        raise ValueError(f"--set {text} is not of the form NAME=VALUE, such as num_attention_heads=1,2,5,8")
    return name, values[0] if len(values) == 1 else values


def _class_names(path: Path) -> list[str]:
    """Read class names from JSON: a list, or an object whose keys are the ids from 0 on."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if isinstance(names, dict):
        names = [names.get(str(index)) for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f'{path} must hold class names, as ["road", ...] or {{"0": "road", ...}}')
    return names
