"""The speed of reading training samples: from prepared datasets, beside the PNG files that they were made from."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mfm_hf.data.classes import CITYSCAPES, IGNORE_INDEX
from mfm_hf.data.domain import Domain, Example, Row, light_rows
from mfm_hf.data.domains import load_domain
from mfm_hf.data.folders import write_folder
from mfm_hf.data.image_encoding import LOSSLESS, EncodingName, ImageEncoding
from mfm_hf.data.preparation import Preparation, prepare
from mfm_hf.data.resizing import resized
from mfm_hf.data.streets.drawing import draw_street
from mfm_hf.data.transforms import TrainingTransform

NOISE = 6.0
"""Standard deviation, in grey levels, of the noise that gives drawn streets PNG files as large as those of cameras."""

ENCODINGS: tuple[EncodingName, ...] = ("png", "webp-lossless", "jpeg")


@dataclass(frozen=True)
class Workload:
    """What a recipe reads of a benchmark.

    Attributes:
        name: What it stands for.
        image_size: Height and width of the files.
        box: What images are fitted into, `(long, short)` side.
        crop_size: Height and width of the crops.
    """

    name: str
    image_size: tuple[int, int]
    box: tuple[int, int]
    crop_size: tuple[int, int]


WORKLOADS = (
    Workload("GTA, crops of 512", (1052, 1914), (1280, 720), (512, 512)),
    Workload("Cityscapes, crops of 512", (1024, 2048), (1024, 512), (512, 512)),
    Workload("GTA, crops of 1024", (1052, 1914), (2560, 1440), (1024, 1024)),
    Workload("Cityscapes, crops of 1024", (1024, 2048), (2048, 1024), (1024, 1024)),
)


@dataclass(frozen=True)
class DataSpeed:
    """How fast one kind of files gives samples.

    Attributes:
        workload: What was read.
        files: `raw PNG`, or how the prepared images are encoded.
        megabytes: Size of an example, image and label.
        images_per_second: Of one core: 1 over the median of the processor time of an example.
        speedup: Over raw PNG.
    """

    workload: str
    files: str
    megabytes: float
    images_per_second: float
    speedup: float


@dataclass(frozen=True)
class _NoisyStreetDecoder:
    """Draws the street of a row `{"index": i}` with the noise of a camera."""

    image_size: tuple[int, int]

    def __call__(self, row: Row) -> Example:
        image, label = draw_street("game", "train", row["index"], *self.image_size)
        noise = np.random.default_rng(row["index"]).normal(0, NOISE, image.shape)
        return Example(f"{row['index']:03d}", (image + noise).round().clip(0, 255).astype(np.uint8), label)


def noisy_streets(image_size: tuple[int, int], num_images: int) -> Domain:
    """Return labelled streets of `(height, width)` pixels with noise."""
    decoder = _NoisyStreetDecoder(image_size)
    rows: list[Row] = [{"index": index} for index in range(num_images)]
    return Domain(
        "noisy streets",
        "train",
        CITYSCAPES,
        IGNORE_INDEX,
        True,
        light_rows(rows),
        num_images,
        decoder,
        row_at=rows.__getitem__,
    )


def measure_data(workload: Workload, folder: Path, num_images: int, repeats: int) -> list[DataSpeed]:
    """Measure decoding, resizing and cropping, in this process and on one core, side by side.

    Args:
        workload: What to read.
        folder: An empty folder for the files.
        num_images: Number of images.
        repeats: How often each is read. The kinds of files take turns, so that all meet the same machine.

    Returns:
        Raw PNG first, then the prepared ones.
    """
    write_folder(noisy_streets(workload.image_size, num_images), folder / "raw")
    raw = load_domain(str(folder / "raw"), "source")
    domains = {"raw PNG": resized(raw, workload.box, labels=True)}
    sizes = {"raw PNG": _megabytes(folder / "raw", num_images)}
    for name in ENCODINGS:
        encoding = ImageEncoding(name, None if name in LOSSLESS else 95)
        prepare(raw, folder / name, Preparation(encoding, workload.box))
        # Resized as in training, which has nothing to do: the images have their size.
        domains[name] = resized(load_domain(str(folder / name), "source"), workload.box, labels=True)
        sizes[name] = _megabytes(folder / name, num_images)
    seconds = _seconds_per_image(domains, TrainingTransform(workload.crop_size), repeats)
    return [
        DataSpeed(workload.name, name, sizes[name], 1 / seconds[name], seconds["raw PNG"] / seconds[name])
        for name in domains
    ]


def table(speeds: Sequence[DataSpeed]) -> str:
    """Return the measurements as a table in Markdown."""
    lines = ["| Images | Files | MB each | images/s per core | against raw PNG |", "|---|---|---|---|---|"]
    for speed in speeds:
        figures = f"{speed.megabytes:.2f} | {speed.images_per_second:.1f} | {speed.speedup:.1f}x"
        lines.append(f"| {speed.workload} | {speed.files} | {figures} |")
    return "\n".join(lines)


def _seconds_per_image(domains: Mapping[str, Domain], transform: TrainingTransform, repeats: int) -> dict[str, float]:
    """The median processor time of a sample of each domain. The first turn of each warms up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the workers of a DataLoader
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in domains}
    try:
        for turn in range(repeats + 1):
            for name, domain in domains.items():
                for row in domain.rows:
                    start = time.process_time()
                    transform(domain.decode(row), rng)
                    if turn > 0:
                        seconds[name].append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _megabytes(folder: Path, num_images: int) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / num_images / 1e6
