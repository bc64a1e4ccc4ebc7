"""The options that say how a domain is read, the same for every command that takes one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mfm_hf.data.domain import Domain
    from mfm_hf.data.domains import Role


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add `--ignore_index`, `--label_map`, `--image_column` and `--label_column`."""
    parser.add_argument(
        "--ignore_index", type=int, default=255, metavar="ID", help="label of the pixels without a class"
    )
    parser.add_argument(
        "--label_map",
        type=Path,
        metavar="FILE.json",
        help="what stands in the labels of a folder or a dataset (default: its classes.json)",
    )
    parser.add_argument(
        "--image_column", help="column of images in a dataset of the Hub or of Parquet (default: image)"
    )
    parser.add_argument("--label_column", help="column of labels in such a dataset (default: label)")


def open_domain(args: argparse.Namespace, role: Role) -> Domain:
    """Open `--domain` as the options say.

    Raises:
        ValueError, OSError: As `load_domain` does.
    """
    from mfm_hf.data.domains import load_domain  # takes seconds; `--help` does without

    return load_domain(
        args.domain,
        role,
        args.ignore_index,
        label_map=args.label_map,
        image_column=args.image_column,
        label_column=args.label_column,
    )
