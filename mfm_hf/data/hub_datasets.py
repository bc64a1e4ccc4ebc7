"""Datasets as they lie on the Hub, or as Parquet files in a folder, with a column of images and one of labels.

They are streamed: encoded pictures are read row after row, and decoded by workers. Rows cannot be fetched one by one.
So the shuffle goes as far as a buffer, every process reads the whole stream for its share of it, and rare classes are
drawn among neighbours (see `mfm_hf.data.stream_sampling`). `mfm-hf prepare` makes of such a dataset one that has none
of these limits.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.data.domain import BadExampleError, Domain, Example, LabelSource, Row
from mfm_hf.data.image_files import opened_image, rgb, upright
from mfm_hf.data.label_files import LabelReader
from mfm_hf.data.label_map import LabelMap, read_label_map

SHUFFLE_BUFFER = 256

_CLASSES_FILE = "classes.json"
_BATCH_ROWS = 8  # read at once


@dataclass(frozen=True)
class HubColumns:
    """Where in a dataset the pictures are, and how they are streamed.

    Attributes:
        image: Name of the column of images.
        label: Name of the column of labels.
        shuffle_buffer: Rows, with their encoded pictures, that are held in memory to be shuffled or drawn from.
    """

    image: str = "image"
    label: str = "label"
    shuffle_buffer: int = SHUFFLE_BUFFER

    @classmethod
    def given(cls, image: str | None, label: str | None, shuffle_buffer: int | None) -> HubColumns:
        """Return what the user asks for; None stands for the default."""
        given: dict[str, Any] = {"image": image, "label": label, "shuffle_buffer": shuffle_buffer}
        return cls(**{name: value for name, value in given.items() if value is not None})

    def __post_init__(self) -> None:
        if self.shuffle_buffer < 1:
            raise ValueError(f"--shuffle_buffer is {self.shuffle_buffer}: give at least 1")


def hub_domain(
    address: str,
    split: str,
    *,
    labelled: bool,
    ignore_index: int,
    name: str,
    columns: HubColumns | None = None,
    label_map: Path | None = None,
) -> Domain:
    """Open a dataset of the Hub, or a folder of Parquet files, as a domain.

    Args:
        address: `ORG/NAME`, or the path of a folder.
        split: Name of the split.
        labelled: Whether labels are needed; if not, their column is not read even where it exists.
        ignore_index: The label of pixels without a class.
        name: The name of the domain.
        columns: Where the pictures are. Default: columns `image` and `label`.
        label_map: The file that says what stands in the labels. Default: the dataset's own `classes.json`; without it,
            labels hold the train ids of Cityscapes.

    Raises:
        ValueError: There is no such dataset, split or column, or it does not consist of Parquet files.
        OSError: The Hub cannot be reached.
    """
    columns = columns or HubColumns()
    builder = _builder(address)
    files = _files(address, builder, split)
    labels = _label_map(address, label_map) if labelled else LabelMap(CITYSCAPES)
    wanted = {"image": columns.image} | ({"label": columns.label} if labelled else {})
    try:
        _check_columns(address, _opened(files[0]).schema_arrow, wanted)
        num_rows = _told_rows(builder, split) or sum(_opened(file).metadata.num_rows for file in files)
    except (OSError, pa.ArrowException) as error:
        raise OSError(f"cannot read the Parquet files of {address}: {_one_line(error)}") from error
    decoder = EncodedRowDecoder(labels.reader(ignore_index) if labelled else None, name)
    return Domain(
        name=name,
        split=split,
        classes=labels.classes,
        ignore_index=ignore_index,
        labelled=labelled,
        # Not by the stream that the builder makes: it waits for seconds whenever an epoch ends or is left.
        rows=datasets.IterableDataset.from_generator(
            _rows, gen_kwargs={"files": files, "columns": tuple(wanted.items())}
        ),
        num_rows=num_rows,
        decode=decoder,
        label_source=LabelSource(decoder.read_label, partial(_fingerprint, files)) if labelled else None,
        shuffle_buffer=columns.shuffle_buffer,
    )


@dataclass(frozen=True)
class EncodedRowDecoder:
    """Decodes a row `{"image": picture, "label": picture}`, each `{"bytes": ..., "path": ...}`.

    Attributes:
        reader: Reads labels; None leaves them.
        domain: What errors call the dataset.
    """

    reader: LabelReader | None
    domain: str

    def __call__(self, row: Row) -> Example:
        """Decode both. Raises `BadExampleError`."""
        name, content = self._image(row)
        with opened_image(io.BytesIO(content), self._place(name)) as picture:
            image = rgb(upright(picture), self._place(name))
        label = None if self.reader is None else self._label(row, self.reader, name, image.shape[:2])
        return Example(name, image, label)

    def read_label(self, row: Row) -> np.ndarray:
        """Decode the label, and of the image the size alone. Raises `BadExampleError`."""
        assert self.reader is not None  # who asks for labels has asked for them before
        name, content = self._image(row)
        with opened_image(io.BytesIO(content), self._place(name)) as picture:
            width, height = upright(picture).size
        return self._label(row, self.reader, name, (height, width))

    def _image(self, row: Row) -> tuple[str, bytes]:
        content = _content(row["image"], self.domain)
        # Parquet need not name its pictures.
        return row["image"]["path"] or hashlib.sha256(content).hexdigest()[:16], content

    def _place(self, name: str) -> str:
        return f"{name} of {self.domain}"

    def _label(self, row: Row, reader: LabelReader, name: str, size: tuple[int, ...]) -> np.ndarray:
        place = f"the label of {self._place(name)}"
        with opened_image(io.BytesIO(_content(row["label"], self.domain)), place) as picture:
            label = reader.decode(picture, place)
        if label.shape != size:
            (height, width), (image_height, image_width) = label.shape, size
            raise BadExampleError(
                f"{place} is {height}x{width}, but the image {image_height}x{image_width}: they must have one size"
            )
        return label


def _content(picture: Mapping[str, Any], domain: str) -> bytes:
    if picture["bytes"] is not None:
        return picture["bytes"]
    if picture["path"] is None:
        raise BadExampleError(f"a row of {domain} lacks its picture")
    try:
        with fsspec.open(picture["path"]) as file:
            return file.read()
    except OSError as error:
        raise BadExampleError(f"cannot read {picture['path']}: {_one_line(error)}") from error


def _builder(address: str) -> datasets.DatasetBuilder:
    try:
        return datasets.load_dataset_builder(address)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{address!r} is neither an existing folder nor a dataset that can be read from the Hub "
            f"({_one_line(error)})"
        ) from error


def _files(address: str, builder: datasets.DatasetBuilder, split: str) -> list[str]:
    """Return the Parquet files of a split."""
    by_split = {str(name): list(files) for name, files in (builder.config.data_files or {}).items()}
    if split not in by_split:
        raise ValueError(f"{address} has no split {split!r}, only {', '.join(by_split)}: name one, as in NAME#train")
    if not all(file.endswith(".parquet") for file in by_split[split]):
        raise ValueError(f"{address} does not consist of Parquet files: load it with `datasets` and save it as Parquet")
    return by_split[split]


def _opened(file: str) -> pq.ParquetFile:
    system, path = fsspec.core.url_to_fs(file)
    return pq.ParquetFile(system.open(path), buffer_size=2**20)  # pages as they come, not whole columns at once


def _rows(files: Sequence[str], columns: tuple[tuple[str, str], ...]) -> Iterator[Row]:
    """Stream the rows of files: under each role of `columns`, the encoded picture of the column."""
    for file in files:
        for batch in _opened(file).iter_batches(
            _BATCH_ROWS, columns=[column for _, column in columns], use_threads=False
        ):
            for values in batch.to_pylist():
                yield {role: _picture(values[column]) for role, column in columns}


def _picture(value: Mapping[str, Any] | bytes | None) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    return {"bytes": None, "path": None} if value is None else {"bytes": value["bytes"], "path": value.get("path")}


def _check_columns(address: str, schema: pa.Schema, wanted: Mapping[str, str]) -> None:
    there = ", ".join(schema.names)
    for role, column in wanted.items():
        if column not in schema.names:
            raise ValueError(
                f"{address} has no column {column!r}, only {there}: name that of {role}s with --{role}_column"
            )
        kind = schema.field(column).type
        is_picture = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        if not is_picture and not pa.types.is_binary(kind):
            raise ValueError(
                f"the column {column!r} of {address} holds no pictures ({kind}), among {there}: name another with "
                f"--{role}_column"
            )


def _told_rows(builder: datasets.DatasetBuilder, split: str) -> int | None:
    """Return the number of rows that the card of a dataset tells, which spares looking into every file."""
    told = (builder.info.splits or {}).get(split)
    return None if told is None else told.num_examples


def _label_map(address: str, label_map: Path | None) -> LabelMap:
    if label_map is not None:
        return read_label_map(label_map)
    if Path(address).is_dir():
        own = Path(address) / _CLASSES_FILE
        return read_label_map(own) if own.is_file() else LabelMap(CITYSCAPES)
    try:
        return read_label_map(Path(hf_hub_download(address, _CLASSES_FILE, repo_type="dataset")))
    except EntryNotFoundError:
        return LabelMap(CITYSCAPES)


def _fingerprint(files: Sequence[str]) -> str:
    """The files. Those of the Hub are named by commit; those of a folder are looked at."""
    statuses = [(file, os.stat(file)) for file in files if os.path.exists(file)]
    states = [(file, status.st_size, status.st_mtime_ns) for file, status in statuses]
    return hashlib.sha256(repr([files, states]).encode()).hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
