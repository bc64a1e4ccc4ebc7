"""Predictions of the test images of ACDC and Dark Zurich, as their evaluation servers take them.

A server takes a zip of folders of PNG files, one per test image, which it finds by the beginning of their names,
`{sequence}_frame_{number}`. In `labelTrainIds` are train ids 0 to 18, `uint8`, at the size of the image. Dark Zurich's
server wants two folders more, for scores that the papers of adaptation do not report: `labelTrainIds_invalid`, where a
prediction may be taken back (255), and `confidence` (`uint16`, 65535 is certain). Here nothing is taken back and all is
certain, so those scores say no more than the IoU.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm
from transformers import PreTrainedModel

from mfm_hf.data.domain import Domain, Example
from mfm_hf.data.resizing import fit_size, resize_image
from mfm_hf.evaluation.inference import batches, check_classes, decode_ahead, eval_mode, predict_classes
from mfm_hf.models.sliding_window import SlidingWindow

_CERTAIN = 65535

_FOLDERS = {
    "acdc": ("labelTrainIds",),
    "dark_zurich": ("labelTrainIds", "labelTrainIds_invalid", "confidence"),
}


def write_submission(
    model: PreTrainedModel,
    domain: Domain,
    file: Path,
    *,
    box: tuple[int, int] | None = None,
    window: SlidingWindow | None = None,
    batch_size: int = 1,
    num_workers: int = 2,
    progress: bool = True,
) -> int:
    """Segment the test images of a benchmark and write the zip for its server, whole or not at all.

    Args:
        model: An inference model of the 19 classes of Cityscapes. Its modes are left as they were.
        domain: The test split of `acdc:DIR` or `dark_zurich:DIR`, opened without labels, not resized.
        file: The zip.
        box: What images are fitted into for the network. None: they keep their size.
        window: Windows in which the network sees an image, as in `evaluate_model`.
        batch_size: Images per forward pass.
        num_workers: Threads that decode images ahead of the network; 0 decodes in between.
        progress: Whether to show a progress bar.

    Returns:
        The number of images.

    Raises:
        BadExampleError: If an image cannot be read.
        ValueError: If there is no server for the domain, images are missing or share a name, or the model has other
            classes.
    """
    folders = _folders(domain)
    check_classes(model, domain)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.tmp")
    predictions = _predictions(model, domain, box, window, batch_size, num_workers)
    written: set[str] = set()
    try:
        # Not compressed: PNG files do not get smaller.
        with zipfile.ZipFile(unfinished, "w") as archive, eval_mode(model), torch.inference_mode():
            for example, prediction in tqdm(predictions, total=domain.num_rows, unit="image", disable=not progress):
                name = f"{PurePosixPath(example.name).name}.png"
                if name in written:
                    raise ValueError(f"two images of {domain.name} are called {name}: remove what is no part of it")
                written.add(name)
                for folder in folders:
                    pixels = np.full(prediction.shape, _CERTAIN, np.uint16) if folder == "confidence" else prediction
                    archive.writestr(f"{folder}/{name}", _png(pixels))
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(written)


def _folders(domain: Domain) -> tuple[str, ...]:
    """Return the folders that the server of a domain wants, if it is whole."""
    benchmark = domain.name.partition(":")[0]
    if benchmark not in _FOLDERS:
        known = " or ".join(f"{name}:DIR#test" for name in _FOLDERS)
        raise ValueError(f"there is no submission for {domain.name}: give {known}")
    if domain.split != "test":
        raise ValueError(f"a server takes the test images, not {domain.split}: give {benchmark}:DIR#test")
    expected = 0 if domain.paper is None else domain.paper.num_examples.get("test", 0)
    if domain.num_rows != expected:
        raise ValueError(
            f"{domain.name} holds {domain.num_rows:,} images, but a submission needs all {expected:,}: "
            "complete the download"
        )
    return _FOLDERS[benchmark]


def _predictions(
    model: PreTrainedModel,
    domain: Domain,
    box: tuple[int, int] | None,
    window: SlidingWindow | None,
    batch_size: int,
    num_workers: int,
) -> Iterator[tuple[Example, np.ndarray]]:
    """Yield every example and its train ids, `uint8` at its own size."""
    for examples in batches(decode_ahead(domain.decode, domain.rows, num_workers), batch_size):
        height, width = examples[0].image.shape[:2]
        size = (height, width) if box is None else fit_size((height, width), box)
        seen = [replace(example, image=resize_image(example.image, size)) for example in examples]
        predictions = predict_classes(model, seen, (height, width), window)
        yield from zip(examples, predictions.to("cpu", torch.uint8).numpy(), strict=True)


def _png(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
