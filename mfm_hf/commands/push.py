"""`mfm-hf push`: upload a checkpoint to the Hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._parser import command_parser

_DESCRIPTION = """\
Upload a checkpoint folder to the Hub, with a model card made from its results: weights, config, image processor,
card and results, the code of a network that transformers does not know, and nothing else of a run. It may be repeated.
Log in before, with `hf auth login`.

example:
  {prog} outputs/run my-name/segformer-streets
"""


def main(argv: list[str] | None = None) -> None:
    """Run the command with the options of `argv` (default: those of the command line)."""
    args = _parse(argv)
    with one_line_errors():
        # This import takes a second; `--help` does without.
        from mfm_hf.hub.publish import publish

        print(publish(args.folder, args.repo_id, private=args.private, baseline_results=args.baseline_results))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_parser("push", "push_checkpoint.py", _DESCRIPTION)
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="folder of a final checkpoint, of a training or a conversion"
    )
    parser.add_argument("repo_id", metavar="ORG/NAME", help="repository on the Hub; it is made if need be")
    parser.add_argument("--private", action="store_true", help="only you and your organisation may see it")
    parser.add_argument(
        "--baseline_results",
        type=Path,
        metavar="FILE",
        help="results.json of a source-only training, for the model card to compare with",
    )
    return parser.parse_args(argv)
