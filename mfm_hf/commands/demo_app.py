"""`mfm-hf demo_app`: try checkpoints on images in the browser, here or as a Space on the Hub."""

from __future__ import annotations

import argparse
import logging
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._parser import command_parser, positive_int

if TYPE_CHECKING:
    import gradio

logger = logging.getLogger(__name__)

# What `mfm-hf demo` leaves: the baseline, and the best of its networks.
DEMO_BASELINE, DEMO_MODEL = "outputs/demo/source_only", "outputs/demo/dacs_mfm"
SHOWN_EXAMPLES = 6
MAX_PIXELS = 2048 * 1024  # an image of Cityscapes

_DESCRIPTION = """\
Try a checkpoint in the browser: drop an image, and see the classes over it, with their shares of the pixels. With a
second checkpoint the page compares the two. It needs no network. Without options it shows what `mfm-hf demo` trained.

examples:
  {prog} --model outputs/run --compare outputs/baseline
  {prog} --model outputs/run --push_to_space my-name/my-demo
"""


def main(argv: list[str] | None = None) -> None:
    """Run the command with the options of `argv` (default: those of the command line)."""
    args = _parse(argv)
    with one_line_errors():
        if find_spec("gradio") is None:
            raise ValueError('the page needs Gradio: pip install "gradio>=6,<7"')
        if args.push_to_space is None:
            serve(args)
        else:
            # This import takes a second; `--help` does without.
            from mfm_hf.hub.space import push_space

            print(push_space(args.push_to_space, args.model, args.compare, args.examples, private=args.private))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_parser("demo_app", "demo_app.py", _DESCRIPTION)
    parser.add_argument("--model", help=f"checkpoint folder or Hub id (default: {DEMO_MODEL})")
    parser.add_argument(
        "--compare", help=f"another checkpoint, shown on the left (default: none; without --model, {DEMO_BASELINE})"
    )
    parser.add_argument(
        "--examples",
        default="streets:real:64x128#validation",
        metavar="DOMAIN",
        help="images to try: a folder of images, or a built-in domain",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")
    parser.add_argument(
        "--max_pixels", type=positive_int, default=MAX_PIXELS, metavar="N", help="shrink larger images to this"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: be seen by other machines")
    parser.add_argument("--port", type=_port, help="port to listen on (default: a free one from 7860 on)")
    parser.add_argument("--push_to_space", metavar="ORG/NAME", help="publish the page as a Space instead of serving it")
    parser.add_argument("--private", action="store_true", help="only you and your organisation may see the Space")
    args = parser.parse_args(argv)
    if args.model is None:
        if args.compare is not None:
            parser.error("--compare needs --model")
        args.model, args.compare = DEMO_MODEL, DEMO_BASELINE
    return args


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 1 to 65535")
    return int(text)


def serve(args: argparse.Namespace) -> None:
    """Serve the page until the user ends it."""
    from mfm_hf.commands._demo_page import launch

    with TemporaryDirectory() as folder:
        page = load_page(args.model, args.compare, args.examples, Path(folder), args.device, args.max_pixels)
        url = launch(page, server_name=args.host, server_port=args.port, prevent_thread_lock=True)
        print(f"{url} (Ctrl-C ends it)", flush=True)
        page.block_thread()


def serve_space(model: str, compare: str | None, examples: str) -> None:
    """Serve the page on a Space, which says where to listen. Where it cannot be built, a page tells the reason.

    Args:
        model: Checkpoint folder or Hub id.
        compare: The same, to compare with.
        examples: The domain whose first images are the page's examples.
    """
    from mfm_hf.commands._demo_page import build_error_page, launch

    with TemporaryDirectory() as folder:
        try:
            page = load_page(model, compare, examples, Path(folder))
        except (ValueError, OSError) as error:
            logger.exception("the page cannot be built")
            page = build_error_page(error)
        launch(page)


def load_page(
    model: str,
    compare: str | None,
    examples: str,
    folder: Path,
    device: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> gradio.Blocks:
    """Load the checkpoints, write the examples, and build the page.

    Args:
        model: Checkpoint folder or Hub id, on the right of the page.
        compare: The same, on the left. None: the image itself is there.
        examples: The domain whose first images are the page's examples.
        folder: An empty folder for the examples. It has to last as long as the page.
        device: Where the networks go, as PyTorch writes it. Default: the GPU if there is one.
        max_pixels: Larger images are shrunk to this many pixels at most.

    Raises:
        ValueError, OSError: If a checkpoint or the examples cannot be used; one line that says why.
    """
    from mfm_hf.commands._demo_page import build_page
    from mfm_hf.commands._segmenter import load_segmenter

    for name in (model, compare):
        if name in (DEMO_MODEL, DEMO_BASELINE) and not Path(name).is_dir():
            raise ValueError(f"there is no {name}: run `mfm-hf demo` first, or give a checkpoint by --model")
    names = [model] if compare is None else [compare, model]
    files = write_examples(examples, folder)
    return build_page([load_segmenter(name, device) for name in names], files, max_pixels)


def write_examples(domain_name: str, folder: Path) -> list[Path]:
    """Write the first images of a domain as PNGs, and return the files.

    Raises:
        ValueError, FileNotFoundError: As `load_domain` does.
    """
    from PIL import Image

    from mfm_hf.data.domains import load_domain

    domain = load_domain(domain_name, role="target")
    files = []
    for row in islice(domain.rows, SHOWN_EXAMPLES):
        example = domain.decode(row)
        files.append(folder / f"{example.name.replace('/', '_')}.png")
        Image.fromarray(example.image).save(files[-1])
    return files
