"""`mfm-hf predict`: segment images, and draw what was found."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._files import check_can_write
from mfm_hf.commands._parser import command_parser, positive_int
from mfm_hf.data.classes import CITYSCAPES, ClassSet, class_set_from_names
from mfm_hf.files import write_json

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel

    from mfm_hf.commands._inputs import InputImage

_DESCRIPTION = """\
Segment images with a checkpoint. For every image NAME, of its own size:
  NAME_label.png         class ids
  NAME_overlay.png       class colours over the image
  NAME_side_by_side.png  the image beside the class colours
and once legend.png (the colours) and results.json (the files, and the share of each class).

example:
  {prog} --model outputs/run --input photo.jpg more_photos/ --output outputs/predictions
"""

_SMALL = 384  # pixels: narrower images are enlarged in the side-by-side picture

# What Pillow raises for damaged files.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


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
        "--input", required=True, nargs="+", type=Path, metavar="PATH", help="images, and folders (with all below)"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for what is written")
    parser.add_argument("--batch_size", type=positive_int, default=4, metavar="N", help="images per forward pass")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")
    parser.add_argument("--opacity", type=float, default=0.55, help="of the colours in the overlay, 0 to 1")
    return parser.parse_args(argv)


def _predict_all(args: argparse.Namespace) -> list[dict[str, str]]:
    """Segment all inputs and write everything. Return those that cannot be read, with the reason."""
    # These imports take seconds; `--help` does without.
    from tqdm import tqdm

    from mfm_hf.commands._checkpoint import load_image_processor, load_model
    from mfm_hf.commands._inputs import find_images
    from mfm_hf.evaluation.visualization import legend

    if not 0 <= args.opacity <= 1:
        raise ValueError(f"--opacity must be between 0 and 1, not {args.opacity}")
    check_can_write(args.output / "results.json")
    inputs = find_images(args.input, args.output)
    model = load_model(args.model, args.device)
    processor = load_image_processor(args.model)
    if processor is None:
        raise ValueError(f"{args.model} has no image processor (preprocessor_config.json): save one beside the model")
    classes = _classes_of(model)

    written: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    readable = _read_images(tqdm(inputs, unit="image"), failed)
    for _, run in groupby(readable, key=lambda item: item[1].size):
        while batch := list(islice(run, args.batch_size)):
            labels = _segment(model, processor, [image for _, image in batch])
            for (source, image), label in zip(batch, labels, strict=True):
                written.append(_write_pictures(args.output, source, image, label, classes, args.opacity))
    if written:
        legend(classes).save(args.output / "legend.png")
    results = {"model": args.model, "id2label": classes.id2label, "images": written, "failed": failed}
    write_json(args.output / "results.json", results)
    print(f"{len(written)} of {len(inputs)} images segmented: {args.output}")
    return failed


def _classes_of(model: PreTrainedModel) -> ClassSet:
    id2label = model.config.id2label
    names = tuple(id2label[index] for index in sorted(id2label))
    return CITYSCAPES if names == CITYSCAPES.names else class_set_from_names(names)


def _read_images(
    inputs: Iterable[InputImage], failed: list[dict[str, str]]
) -> Iterator[tuple[InputImage, Image.Image]]:
    """Yield the images, upright and in RGB; add those that cannot be read to `failed`."""
    for source in inputs:
        try:
            with Image.open(source.path) as file:
                image = ImageOps.exif_transpose(file).convert("RGB")
        except _UNREADABLE as error:
            failed.append({"input": str(source.path), "reason": " ".join(str(error).split())})
            continue
        yield source, image


def _segment(model: PreTrainedModel, processor: BaseImageProcessor, images: Sequence[Image.Image]) -> list[np.ndarray]:
    """Return the class ids (height, width) of images of one size."""
    import torch

    sizes = [(image.height, image.width) for image in images]
    pixel_values = processor(images=list(images), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        outputs = model(pixel_values=pixel_values.to(model.device, model.dtype))
        labels = processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
    return [label.cpu().numpy() for label in labels]


def _write_pictures(
    output: Path, source: InputImage, image: Image.Image, label: np.ndarray, classes: ClassSet, opacity: float
) -> dict[str, Any]:
    """Write the three pictures of an image. Return its entry of results.json, with paths relative to `output`."""
    from mfm_hf.evaluation.visualization import color_map, grid, overlay

    pixels = np.asarray(image)
    id_dtype = np.uint8 if len(classes) <= 256 else np.uint16
    scale = max(1, _SMALL // image.width)
    pictures = {
        "label": Image.fromarray(label.astype(id_dtype)),
        "overlay": Image.fromarray(overlay(pixels, label, classes, opacity)),
        "side_by_side": grid([[pixels, color_map(label, classes)]], ["image", "prediction"], scale=scale),
    }
    entry: dict[str, Any] = {"input": str(source.path), "height": image.height, "width": image.width}
    for kind, picture in pictures.items():
        entry[kind] = f"{source.name}_{kind}.png"
        (output / entry[kind]).parent.mkdir(parents=True, exist_ok=True)
        picture.save(output / entry[kind])
    shares = np.bincount(label.ravel(), minlength=len(classes)) / label.size
    entry["class_shares"] = {name: float(share) for name, share in zip(classes.names, shares, strict=True) if share}
    return entry
