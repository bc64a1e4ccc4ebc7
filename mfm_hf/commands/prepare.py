"""`mfm-hf prepare`: resize and encode a domain once, so that training reads it fast."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mfm_hf.commands._domain import add_reading_options, open_domain
from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._parser import command_parser, positive_int

if TYPE_CHECKING:
    from mfm_hf.data.domain import Domain
    from mfm_hf.data.preparation import Preparation

_DESCRIPTION = """\
Resize and encode the images of a domain once, as Parquet files that are read fast, from a disk, the Hub or a web
server. Interrupted, or after the disk was full, the same command goes on where it was.

examples:
  {prog} --domain gta:DIR --role source --recipe daformer --encoding jpeg --output data/gta
  {prog} --domain cityscapes:DIR --role target --recipe daformer --encoding jpeg --output data/cityscapes
  {prog} --domain cityscapes:DIR --role eval --output data/cityscapes
"""

_DEFAULT_QUALITY = 95


def main(argv: list[str] | None = None) -> None:
    """Run the command with the options of `argv` (default: those of the command line)."""
    args = _parse(argv)
    with one_line_errors():
        _prepare(args)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_parser("prepare", "prepare_dataset.py", _DESCRIPTION)
    parser.add_argument("--domain", required=True, help="what to prepare, written as for training; see README")
    parser.add_argument(
        "--role",
        choices=("source", "target", "eval"),
        required=True,
        help="what it is for: source has labels, resized with the images; target has none; eval has validation images, "
        "and labels at their own size",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder of the prepared dataset")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--size",
        type=positive_int,
        nargs=2,
        metavar=("LONG", "SHORT"),
        help="longer and shorter side in pixels that images are fitted into (default, and without --recipe: none, they "
        "keep their size)",
    )
    size.add_argument(
        "--recipe",
        choices=("source_only", "dacs", "daformer", "hrda", "mic"),
        help="fit images of a benchmark into the size that this recipe uses",
    )
    parser.add_argument(
        "--encoding",
        choices=("png", "webp-lossless", "jpeg", "webp"),
        default="png",
        help="of images: png and webp-lossless keep every pixel, jpeg is read fastest, webp is smallest",
    )
    parser.add_argument(
        "--quality", type=positive_int, help=f"of jpeg and webp, 1 to 100 (default: {_DEFAULT_QUALITY})"
    )
    parser.add_argument("--shard_size", type=positive_int, default=500, metavar="MB", help="size of a file, about")
    parser.add_argument(
        "--num_workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes that decode and encode"
    )
    add_reading_options(parser)
    parser.add_argument(
        "--max_bad_samples", type=int, default=0, metavar="N", help="examples that cannot be used to leave out"
    )
    parser.add_argument("--verify", action="store_true", help="compare the checksums of files that are there already")
    parser.add_argument(
        "--push_to_hub", metavar="ORG/NAME", help="upload the folder to this private dataset repository when it is done"
    )
    return parser.parse_args(argv)


def _prepare(args: argparse.Namespace) -> None:
    # These imports take seconds; `--help` does without.
    from mfm_hf.data.preparation import prepare
    from mfm_hf.hub.publish_dataset import publish_dataset
    from mfm_hf.hub.upload import HubRepository

    if args.push_to_hub is not None:  # refused now, rather than after hours
        HubRepository(args.push_to_hub, args.output, "dataset").create(private=True)
    preparation = _preparation(args)
    domain = open_domain(args, args.role)
    if args.recipe is not None:
        preparation = replace(preparation, box=_paper_box(domain, args.recipe))
    manifest = prepare(domain, args.output, preparation)
    split = manifest.splits[domain.split]
    print(f"{split.num_examples} examples of {domain.name} ({domain.split}) in {split.num_shards} files: {args.output}")
    if args.push_to_hub is not None:
        print(publish_dataset(args.output, args.push_to_hub))


def _preparation(args: argparse.Namespace) -> Preparation:
    from mfm_hf.data.image_encoding import LOSSLESS, ImageEncoding
    from mfm_hf.data.preparation import Preparation

    if args.num_workers < 0:
        raise ValueError(f"--num_workers is {args.num_workers}: give 0 or more")
    if args.quality is not None and args.encoding in LOSSLESS:
        raise ValueError(f"--quality is for jpeg and webp, {args.encoding} keeps every pixel: leave it away")
    quality = None if args.encoding in LOSSLESS else args.quality or _DEFAULT_QUALITY
    return Preparation(
        encoding=ImageEncoding(args.encoding, quality),
        box=None if args.size is None else (max(args.size), min(args.size)),
        native_labels=args.role == "eval",
        shard_bytes=args.shard_size * 10**6,
        num_workers=args.num_workers,
        max_bad_samples=args.max_bad_samples,
        verify=args.verify,
        progress=True,
    )


def _paper_box(domain: Domain, recipe: str) -> tuple[int, int] | None:
    """Return the size that a recipe uses this benchmark at."""
    from mfm_hf.uda.recipes import RECIPES

    if domain.paper is None:
        raise ValueError(f"{domain.name} is no benchmark whose size --recipe {recipe} would know: give --size")
    return domain.paper.box(RECIPES[recipe].crop_size)
