"""`mfm-hf predict`: segment images and videos, and draw what was found."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._files import check_can_write
from mfm_hf.commands._inference import (
    add_inference_options,
    check_inference_options,
    compiled_if_asked,
    prepare_network,
)
from mfm_hf.commands._parser import command_parser, positive_int
from mfm_hf.data.classes import ClassSet
from mfm_hf.files import write_json

if TYPE_CHECKING:
    from mfm_hf.commands._inputs import InputFile

_DESCRIPTION = """\
Segment images and videos with a checkpoint. For every image NAME, of its own size, those of these that --write names:
  NAME_label.png         class ids
  NAME_color.png         class colours
  NAME_overlay.png       class colours over the image
  NAME_side_by_side.png  the image beside the class colours
and once legend.png (the colours) and results.json (the files, and the share of each class). The frames of a video
NAME.mp4 are the images NAME/000000, NAME/000001, ...

examples:
  {prog} --model outputs/run --input photo.jpg more_photos/ --output outputs/predictions
  {prog} --model outputs/run --input drive.mp4 --frame_step 10 --write overlay --output outputs/drive
"""

PICTURES = ("label", "color", "overlay", "side_by_side")
_SMALL = 384  # pixels: narrower images are enlarged in the side-by-side picture


def main(argv: list[str] | None = None) -> None:
    """Run the command with the options of `argv` (default: those of the command line)."""
    args = _parse(argv)
    with one_line_errors():
        failed = _predict_all(args)
    for failure in failed:
        print(f"error: cannot read {failure['input']}: {failure['reason']}", file=sys.stderr)
    if failed:
        raise SystemExit(1)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_parser("predict", "predict.py", _DESCRIPTION)
    parser.add_argument("--model", required=True, help="checkpoint folder or Hub id")
    parser.add_argument(
        "--input",
        required=True,
        nargs="+",
        type=Path,
        metavar="PATH",
        help="images, videos, and folders (with all below)",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for what is written")
    parser.add_argument(
        "--write",
        nargs="+",
        choices=PICTURES,
        default=["label", "overlay", "side_by_side"],
        metavar="PICTURE",
        help=f"what to write of every image: {', '.join(PICTURES)}",
    )
    parser.add_argument(
        "--frame_step", type=positive_int, default=1, metavar="N", help="take every N-th frame of a video"
    )
    parser.add_argument("--batch_size", type=positive_int, default=4, metavar="N", help="images per forward pass")
    add_inference_options(parser)
    parser.add_argument("--opacity", type=float, default=0.55, help="of the colours in the overlay, 0 to 1")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class _Picture:
    """One image to segment.

    Attributes:
        source: The file that it is from.
        name: The name of its outputs.
        image: In RGB, upright.
        frame: Its number in a video.
    """

    source: InputFile
    name: str
    image: Image.Image
    frame: int | None = None


def _predict_all(args: argparse.Namespace) -> list[dict[str, str]]:
    """Segment all inputs and write everything. Return those that cannot be read, with the reason."""
    # These imports take seconds; `--help` does without.
    from tqdm import tqdm

    from mfm_hf.commands._inputs import find_inputs
    from mfm_hf.commands._segmenter import load_segmenter
    from mfm_hf.evaluation.visualization import legend

    if not 0 <= args.opacity <= 1:
        raise ValueError(f"--opacity must be between 0 and 1, not {args.opacity}")
    check_inference_options(args)
    check_can_write(args.output / "results.json")
    inputs = find_inputs(args.input, args.output)
    segmenter = load_segmenter(args.model, args.device)
    segmenter = replace(segmenter, window=prepare_network(args, segmenter.model))
    classes = segmenter.classes

    written: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    readable = _read(_by_size(inputs), args.frame_step, failed)
    progress = tqdm(readable, total=_count_pictures(inputs, args.frame_step), unit="image")
    with compiled_if_asked(args, segmenter.model):
        for _, run in groupby(progress, key=lambda picture: picture.image.size):
            while batch := list(islice(run, args.batch_size)):
                labels = segmenter.segment([picture.image for picture in batch])
                for picture, label in zip(batch, labels, strict=True):
                    written.append(_write_pictures(args.output, picture, label, classes, args.write, args.opacity))
    if written:
        legend(classes).save(args.output / "legend.png")
    order = {str(source.path): position for position, source in enumerate(inputs)}
    written.sort(key=lambda entry: order[entry["input"]])
    failed.sort(key=lambda failure: order[failure["input"]])
    results = {"model": args.model, "id2label": classes.id2label, "images": written, "failed": failed}
    write_json(args.output / "results.json", results)
    print(f"{len(written)} images of {len(inputs)} files segmented: {args.output}")
    return failed


def _by_size(inputs: Sequence[InputFile]) -> list[InputFile]:
    """Return the inputs with images of one size behind one another, so that they share batches, and videos last."""
    from mfm_hf.data.domain import BadExampleError
    from mfm_hf.data.image_files import upright_size

    def size(source: InputFile) -> tuple[int, int]:
        try:
            return upright_size(source.path)
        except BadExampleError:  # it is named when it is read
            return 0, 0

    images = sorted((source for source in inputs if not source.is_video), key=size)
    return images + [source for source in inputs if source.is_video]


def _count_pictures(inputs: Sequence[InputFile], frame_step: int) -> int | None:
    """Return how many images and frames there are, or None where a video does not tell."""
    from mfm_hf.commands._inputs import count_frames

    frames = [count_frames(source.path) for source in inputs if source.is_video]
    if None in frames:
        return None
    return sum(-(-count // frame_step) for count in frames if count) + len(inputs) - len(frames)


def _read(inputs: Iterable[InputFile], frame_step: int, failed: list[dict[str, str]]) -> Iterator[_Picture]:
    """Yield the images, upright and in RGB; add files that cannot be read, to their end, to `failed`."""
    from mfm_hf.commands._inputs import read_frames
    from mfm_hf.commands._segmenter import read_image

    for source in inputs:
        try:
            if source.is_video:
                for number, image in read_frames(source.path, frame_step):
                    yield _Picture(source, f"{source.name}/{number:06}", image, number)
            else:
                yield _Picture(source, source.name, read_image(source.path))
        except ValueError as error:
            failed.append({"input": str(source.path), "reason": str(error)})


def _write_pictures(
    output: Path, picture: _Picture, label: np.ndarray, classes: ClassSet, kinds: Sequence[str], opacity: float
) -> dict[str, Any]:
    """Write the pictures of an image. Return its entry of results.json, with paths relative to `output`."""
    entry: dict[str, Any] = {"input": str(picture.source.path)}
    if picture.frame is not None:
        entry["frame"] = picture.frame
    entry |= {"height": picture.image.height, "width": picture.image.width}
    for kind in kinds:
        entry[kind] = f"{picture.name}_{kind}.png"
        (output / entry[kind]).parent.mkdir(parents=True, exist_ok=True)
        _draw(kind, np.asarray(picture.image), label, classes, opacity).save(output / entry[kind])
    shares = np.bincount(label.ravel(), minlength=len(classes)) / label.size
    entry["class_shares"] = {name: float(share) for name, share in zip(classes.names, shares, strict=True) if share}
    return entry


def _draw(kind: str, pixels: np.ndarray, label: np.ndarray, classes: ClassSet, opacity: float) -> Image.Image:
    from mfm_hf.evaluation.visualization import color_map, grid, overlay

    match kind:
        case "label":
            return Image.fromarray(label)
        case "color":
            return Image.fromarray(color_map(label, classes))
        case "overlay":
            return Image.fromarray(overlay(pixels, label, classes, opacity))
        case "side_by_side":
            scale = max(1, _SMALL // pixels.shape[1])
            return grid([[pixels, color_map(label, classes)]], ["image", "prediction"], scale=scale)
    raise ValueError(kind)
