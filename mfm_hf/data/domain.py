"""Domains: where images come from, named by one string that is the same on every command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from mfm_hf.data.classes import ClassSet

Row = dict[str, Any]


class BadExampleError(ValueError):
    """An example that cannot be used. The message names the example, or its file, and the reason."""


@dataclass(frozen=True)
class Example:
    """One decoded image.

    Attributes:
        name: Name of the example, unique in its domain; may contain `/`.
        image: `uint8` array `(height, width, 3)`, RGB.
        label: `uint8` or `int32` array `(height, width)` of class ids and the ignore index; None without a label. It
            has the size of the image, except in evaluation, where it keeps its own when the image is resized.
    """

    name: str
    image: np.ndarray
    label: np.ndarray | None


@dataclass(frozen=True)
class PaperSetting:
    """How the papers of the field use a benchmark.

    Attributes:
        half_box: What images are fitted into for crops of up to 512 pixels (DACS, DAFormer), `(long, short)` side in
            pixels; None: they keep their size.
        full_box: The same for larger crops (HRDA, MIC).
        margins: Rows at the top and the bottom and columns at the left and the right whose pseudo-labels are not
            trusted, where the images show the borders of their rectification or the hood of the car. In pixels of an
            image of `margins_size`.
        margins_size: Height and width that the margins are stated for.
        num_examples: By split, the number of examples of a whole download.
    """

    half_box: tuple[int, int] | None = None
    full_box: tuple[int, int] | None = None
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)
    margins_size: tuple[int, int] = (1, 1)
    num_examples: Mapping[str, int] = field(default_factory=dict)

    def box(self, crop_size: tuple[int, int]) -> tuple[int, int] | None:
        """Return the box for training crops of `(height, width)` pixels."""
        return self.half_box if max(crop_size) <= 512 else self.full_box


@dataclass(frozen=True)
class LabelSource:
    """The labels of a domain without its images, for statistics of them.

    Attributes:
        read: Row -> the label of its example, as `Domain.decode` gives it. Raises `BadExampleError`. Can be pickled.
        fingerprint: Makes a text that changes whenever a label may have changed. Reads no pixels.
        folder: Where statistics may be kept, beside the data; None where the data lies in no folder.
    """

    read: Callable[[Row], np.ndarray]
    fingerprint: Callable[[], str]
    folder: Path | None = None


@dataclass(frozen=True)
class Domain:
    """Images of one kind, with or without labels.

    A domain streams *light* rows: what is needed to find an example (an index, two paths), not its pixels. `decode`
    turns a row into an example. So the main process can shuffle a whole epoch and count through it cheaply, and
    workers do the costly part.

    Attributes:
        name: The string that the user gave, e.g. `streets:game`.
        split: `train`, `validation`, or another split that the user named.
        classes: The classes that the labels count.
        ignore_index: The label of pixels without a class.
        labelled: Whether the examples have labels.
        rows: The light rows, in a fixed order. Reading them reads no pixels.
        num_rows: Number of rows.
        decode: Row -> example. Raises `BadExampleError`. Can be pickled, as workers need.
        check_row: Looks for faults of an example without reading the pixels of its image, and raises
            `BadExampleError`. None where faults cannot be.
        row_at: Index of a row (0 to `num_rows` - 1) -> the row, at once. None where rows can only be streamed.
        label_source: A cheaper way to the labels than `decode`. None where there is none.
        class_counts: Reads the pixels of every class in every example, `int64` array `(num_rows, classes)`, where
            they were counted beforehand; at the labels' own size. None where they were not.
        shuffle_buffer: How many rows may be held in memory to be shuffled. The default permutes most domains as a
            whole; rows that carry encoded images need a smaller one.
        paper: How the papers use this benchmark. None for other data.
    """

    name: str
    split: str
    classes: ClassSet
    ignore_index: int
    labelled: bool
    rows: datasets.IterableDataset
    num_rows: int
    decode: Callable[[Row], Example]
    check_row: Callable[[Row], None] | None = None
    row_at: Callable[[int], Row] | None = None
    label_source: LabelSource | None = None
    class_counts: Callable[[], np.ndarray] | None = None
    shuffle_buffer: int = 100_000
    paper: PaperSetting | None = None

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise ValueError(f"{self.name} ({self.split}) has no images: add some, or choose another split")
        if not -(2**31) <= self.ignore_index < 2**31:  # labels are int32 at most
            raise ValueError(f"an ignore index of {self.ignore_index} does not fit into a label: give a smaller one")

    def to_dataset(self) -> datasets.IterableDataset:
        """The decoded examples as people expect them: columns `image`, `label` (if labelled) and `name`."""
        features = {"image": datasets.Image(), "name": datasets.Value("string")}
        if self.labelled:
            features["label"] = datasets.Image()
        return self.rows.map(
            partial(_decoded_columns, decode=self.decode),
            remove_columns=list(next(iter(self.rows))),
            features=datasets.Features(features),
        )


def light_rows(rows: Sequence[Row]) -> datasets.IterableDataset:
    """Stream rows that are known beforehand and have the same keys, in their order.

    They form one shard whatever the domain, so that one seed shuffles two domains of the same length alike: images
    written out as files train to the same numbers as their generator.
    """
    # As columns, because `datasets` hashes what it is given, and many dicts take it seconds. As tuples, because it
    # would split lists into shards.
    columns = {key: tuple(row[key] for row in rows) for key in (rows[0] if rows else ())}
    return datasets.IterableDataset.from_generator(_iterate, gen_kwargs={"columns": columns})


def check_domain(domain: Domain, limit: int = 200, max_bad_samples: int = 0) -> None:
    """Look at the first examples, labels in full and images not, before training starts.

    Args:
        domain: The domain.
        limit: Number of rows to look at.
        max_bad_samples: Number of bad examples that are allowed, as in training.

    Raises:
        BadExampleError: More examples are bad; the message names the last of them.
    """
    if domain.check_row is None:
        return
    num_bad = 0
    for row in islice(domain.rows, limit):
        try:
            domain.check_row(row)
        except BadExampleError:
            num_bad += 1
            if num_bad > max_bad_samples:
                raise


def check_crop(domain: Domain, crop_size: tuple[int, int], limit: int = 4) -> None:
    """Check that a crop of `(height, width)` pixels fits into the first `limit` images.

    Raises:
        ValueError: It does not.
    """
    for row in islice(domain.rows, limit):
        try:
            height, width = domain.decode(row).image.shape[:2]
        except BadExampleError:
            continue  # whether this is allowed is the training stream's affair
        if crop_size[0] > height or crop_size[1] > width:
            raise ValueError(
                f"crop {crop_size[0]}x{crop_size[1]} is larger than the images of {domain.name} ({height}x{width}): "
                "give a smaller --crop_size or larger images"
            )


def check_same_classes(domain: Domain, other: Domain) -> None:
    """Check that two domains have the same classes in the same order.

    Raises:
        ValueError: They have not; the message shows the difference.
    """
    names, other_names = domain.classes.names, other.classes.names
    if names == other_names:
        return
    differences = [
        f"only {one.name} has {', '.join(repr(name) for name in only[:5])}" + (", ..." if len(only) > 5 else "")
        for one, only in (
            (domain, [name for name in names if name not in other_names]),
            (other, [name for name in other_names if name not in names]),
        )
        if only
    ]
    if not differences:
        first = next(i for i, name in enumerate(names) if name != other_names[i])
        differences = [f"class {first} is {names[first]!r} in the one and {other_names[first]!r} in the other"]
    raise ValueError(
        f"{domain.name} and {other.name} have different classes ({'; '.join(differences)}): name the same classes in "
        "the same order in the classes.json of both, or give one --label_map"
    )


def _iterate(columns: dict[str, tuple[Any, ...]]) -> Iterator[Row]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _decoded_columns(row: Row, decode: Callable[[Row], Example]) -> dict[str, Any]:
    example = decode(row)
    columns = {"image": Image.fromarray(example.image), "name": example.name}
    return columns if example.label is None else columns | {"label": Image.fromarray(example.label)}
