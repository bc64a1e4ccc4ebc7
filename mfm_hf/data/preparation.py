"""Preparing a domain once, so that it is read quickly ever after: images resized and encoded, labels as train ids.

The shards are Parquet as `datasets` writes it, an example per row group, so that each can be read by itself. Every file
is written under another name and takes its own when it is whole; what is whole is kept when the preparation is
interrupted, and the next one goes on from there. The same domain and settings give the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mfm_hf.data.dataset_card import CARD_FILE, dataset_card
from mfm_hf.data.domain import BadExampleError, Domain, Row
from mfm_hf.data.image_encoding import ImageEncoding, encode_label
from mfm_hf.data.manifest import (
    MANIFEST_FILE,
    UNFINISHED_FILE,
    Manifest,
    PreparedSplit,
    SplitSettings,
    StoredFile,
    describe_file,
)
from mfm_hf.data.resizing import fit_size, resize_image, resize_label
from mfm_hf.data.subset import evenly_spaced
from mfm_hf.files import sync, write_json

logger = logging.getLogger(__name__)

_SAMPLES = 8  # images whose encoded size tells how many make a shard


@dataclass(frozen=True)
class Preparation:
    """What is made of a domain, and how.

    Attributes:
        encoding: Of the images.
        box: What images are fitted into, `(long, short)` side in pixels; None: they keep their size.
        native_labels: Whether labels keep their size, as evaluation needs them; training needs them resized.
        shard_bytes: Size of a shard, about.
        num_workers: Processes that decode and encode; 0 does it in this one. It changes no byte.
        max_bad_samples: Number of bad examples that are left out, each with a warning, before an error.
        verify: Whether to compare the checksums of shards that are there already, not their sizes alone.
        progress: Whether to show a progress bar.
    """

    encoding: ImageEncoding
    box: tuple[int, int] | None = None
    native_labels: bool = False
    shard_bytes: int = 500_000_000
    num_workers: int = 0
    max_bad_samples: int = 0
    verify: bool = False
    progress: bool = False

    def settings(self, domain: Domain) -> SplitSettings:
        """Return what decides the bytes that are made of a domain."""
        return SplitSettings(
            domain=domain.name,
            labelled=domain.labelled,
            native_labels=domain.labelled and self.native_labels,
            box=self.box,
            encoding=self.encoding.name,
            quality=self.encoding.quality,
            num_rows=domain.num_rows,
            shard_bytes=self.shard_bytes,
        )


def prepare(domain: Domain, directory: Path, preparation: Preparation) -> Manifest:
    """Write a domain as a split of the prepared dataset in a folder, beside other splits that it holds.

    Args:
        domain: The domain, at its native size. Its split gives the split's name.
        directory: The folder. It may be new, or hold a prepared dataset of the same classes, this split in part or
            whole among them: then only what is missing or damaged is written.
        preparation: What is made of it.

    Returns:
        What `manifest.json` in the folder says.

    Raises:
        ValueError: The folder holds something else, other classes, or this split prepared in another way; or the
            ignore index does not fit into a PNG.
        BadExampleError: More examples are bad than are to be left out.
        OSError: The folder cannot be written. What was whole stays.
    """
    manifest = _manifest_for(domain, directory)
    split = _split_for(domain, directory, preparation, manifest)
    unfinished = _unfinished_file(directory, domain.split)
    for grown in _written(split, domain, directory, preparation):
        write_json(unfinished, replace(manifest, splits={domain.split: grown}).to_json())
        split = grown
    if domain.labelled:
        split = replace(split, class_pixels=_write_class_pixels(directory, domain.split, split.shards))
    manifest = replace(manifest, splits={**manifest.splits, domain.split: split})
    (directory / CARD_FILE).write_text(dataset_card(manifest), encoding="utf-8")
    write_json(directory / MANIFEST_FILE, manifest.to_json())
    unfinished.unlink(missing_ok=True)
    return manifest


def read_local_manifest(directory: Path) -> Manifest | None:
    """Return the manifest of a folder; None if it has none.

    Raises:
        ValueError: It is damaged.
    """
    return _read(directory / MANIFEST_FILE)


def _read(file: Path) -> Manifest | None:
    return Manifest.from_json(file.read_bytes(), str(file)) if file.is_file() else None


def _unfinished_file(directory: Path, split: str) -> Path:
    return directory / UNFINISHED_FILE.format(split=split)


def _manifest_for(domain: Domain, directory: Path) -> Manifest:
    """Return the manifest that the split will be added to, or refuse the folder."""
    if domain.labelled and not 0 <= domain.ignore_index <= 65535:
        raise ValueError(f"an ignore index of {domain.ignore_index} does not fit into a PNG: give one from 0 to 65535")
    new = Manifest(domain.classes, domain.ignore_index)
    manifest = read_local_manifest(directory)
    if manifest is None:
        started = directory.is_dir() and any(directory.glob(UNFINISHED_FILE.format(split="*")))
        if directory.exists() and not started and (not directory.is_dir() or any(directory.iterdir())):
            raise ValueError(f"{directory} is neither new nor a prepared dataset: give a new folder")
        return new
    if (manifest.classes.names, manifest.ignore_index) != (new.classes.names, new.ignore_index):
        raise ValueError(
            f"{directory} holds a dataset of other classes or another ignore index than {domain.name}: give a new "
            "folder"
        )
    return manifest


def _split_for(domain: Domain, directory: Path, preparation: Preparation, manifest: Manifest) -> PreparedSplit:
    """Return the split with its whole shards: as an earlier preparation left it, else without any."""
    unfinished = _read(_unfinished_file(directory, domain.split))
    earlier = manifest.splits.get(domain.split) or (unfinished and unfinished.splits[domain.split])
    settings = preparation.settings(domain)
    if not earlier:
        return PreparedSplit(settings, _num_shards(domain, preparation), paper=domain.paper)
    before, now = asdict(earlier.settings), asdict(settings)
    changed = [f"{name} {before[name]} and not {now[name]}" for name in now if before[name] != now[name]]
    if changed:
        raise ValueError(
            f"{directory} holds the split {domain.split} with {', '.join(changed)}: give the same options, or a new "
            "folder"
        )
    whole = tuple(shard for shard in earlier.shards if _is_whole(directory / shard.file, shard, preparation.verify))
    return replace(earlier, shards=whole)


def _is_whole(path: Path, shard: StoredFile, verify: bool) -> bool:
    if not path.is_file():
        return False
    if path.stat().st_size == shard.bytes and (not verify or describe_file(path, shard.rows) == shard):
        return True
    logger.warning("%s is damaged and will be written again", path)
    return False


def _num_shards(domain: Domain, preparation: Preparation) -> int:
    """Estimate from examples of all parts of the domain how many shards of the wanted size it makes."""
    sizes = []
    encoder = _Encoder(domain, preparation)
    for row in evenly_spaced(domain, _SAMPLES).rows:
        encoded = encoder[row]
        if not isinstance(encoded, str):
            sizes.append(len(encoded["image"]["bytes"]) + (len(encoded["label"]["bytes"]) if domain.labelled else 0))
    if not sizes:
        raise BadExampleError(f"no example of {domain.name} can be used; the last: {encoded}")
    return min(domain.num_rows, 1 + int(np.mean(sizes) * domain.num_rows / preparation.shard_bytes))


def _written(
    split: PreparedSplit, domain: Domain, directory: Path, preparation: Preparation
) -> Iterator[PreparedSplit]:
    """Write the shards that the split lacks, and yield it after each."""
    count = split.num_shards
    names = [f"{domain.split}-{k:05d}-of-{count:05d}.parquet" for k in range(count)]
    whole = {shard.file: shard for shard in split.shards}
    parts = {
        name: range(k * domain.num_rows // count, (k + 1) * domain.num_rows // count)
        for k, name in enumerate(names)
        if name not in whole
    }
    directory.mkdir(parents=True, exist_ok=True)
    bar = tqdm(
        total=domain.num_rows,
        initial=domain.num_rows - sum(map(len, parts.values())),
        desc=f"prepare {domain.name}",
        unit="image",
        disable=not preparation.progress,
    )
    with bar:
        examples = _Examples(domain, preparation, [index for part in parts.values() for index in part], bar)
        for name, part in parts.items():
            with _whole_or_nothing(directory / name, f"{len(whole)} of {count} shards") as file:
                num_rows = _write_shard(file, _schema(domain.labelled), examples.take(len(part)))
            whole[name] = describe_file(directory / name, num_rows)
            yield replace(split, shards=tuple(whole[name] for name in names if name in whole))


@contextmanager
def _whole_or_nothing(file: Path, whole: str) -> Iterator[Path]:
    """Give the name to write under, which becomes the file's own when all is written."""
    unfinished = file.with_name(f".{file.name}.tmp")
    try:
        yield unfinished
        sync(unfinished)
        unfinished.replace(file)
    except OSError as error:
        raise OSError(
            f"could not write {file}: {error.strerror or error}. {whole} are whole: run the same command again to go on"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _schema(labelled: bool) -> pa.Schema:
    """The columns of a shard, marked so that `datasets` and the Hub show them as images."""
    features: dict[str, Any] = {"image": datasets.Image(), "name": datasets.Value("string")}
    if labelled:
        features |= {"label": datasets.Image(), "class_pixels": datasets.List(datasets.Value("int64"))}
    return datasets.Features(features).arrow_schema


def _write_shard(file: Path, schema: pa.Schema, examples: Iterable[Row]) -> int:
    """Write examples, each as a row group of its own, and return their number."""
    num_rows = 0
    # Pictures are compressed already, and what Parquet would note about their bytes is larger than some of them.
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
    with file.open("wb") as sink, pq.ParquetWriter(sink, schema, **options) as writer:
        for example in examples:
            writer.write_table(pa.Table.from_pylist([example], schema))
            num_rows += 1
    return num_rows


def _write_class_pixels(directory: Path, split: str, shards: Sequence[StoredFile]) -> StoredFile:
    """Collect the column `class_pixels` of all shards in a file of its own, which is read at once."""
    tables = [pq.read_table(directory / shard.file, columns=["class_pixels"]) for shard in shards]
    counts = np.array(pa.concat_tables(tables)["class_pixels"].to_pylist(), np.int64)
    path = directory / f"{split}-class_pixels.npz"
    np.savez_compressed(path, counts=counts)
    return describe_file(path, len(counts))


class _Examples:
    """The encoded examples of a domain at some indices, in their order, less the bad ones."""

    def __init__(self, domain: Domain, preparation: Preparation, indices: Sequence[int], bar: tqdm) -> None:
        self._name = domain.name
        self._max_bad = preparation.max_bad_samples
        self._bad = 0
        self._bar = bar
        self._results: Iterator[Row | str] = iter(
            DataLoader(
                _Encoder(domain, preparation),
                batch_size=None,
                sampler=_rows(domain, indices),
                collate_fn=_unchanged,
                num_workers=preparation.num_workers,
                prefetch_factor=4 if preparation.num_workers else None,
                generator=torch.Generator(),  # a loader draws a number on creation: not from the global generator
            )
        )

    def take(self, count: int) -> Iterator[Row]:
        """Yield what the next `count` indices give."""
        for result in islice(self._results, count):
            self._bar.update()
            if isinstance(result, str):
                self._note_bad(result)
            else:
                yield result

    def _note_bad(self, reason: str) -> None:
        self._bad += 1
        if self._bad > self._max_bad:
            raise BadExampleError(
                f"{self._bad} examples of {self._name} are bad (--max_bad_samples is {self._max_bad}): {reason}"
            )
        logger.warning("left out a bad example of %s: %s", self._name, reason)


def _rows(domain: Domain, indices: Sequence[int]) -> Iterable[Row]:
    """The rows at some indices, which rise."""
    if domain.row_at is not None:
        return map(domain.row_at, indices)
    wanted = set(indices)
    return (row for index, row in enumerate(domain.rows) if index in wanted)


class _Encoder(Dataset):
    """Makes the columns of an example, or says what is wrong with it. Lives in the workers."""

    def __init__(self, domain: Domain, preparation: Preparation) -> None:
        self._decode = domain.decode
        self._num_classes = len(domain.classes)
        self._ignore_index = domain.ignore_index
        self._preparation = preparation

    def __getitem__(self, row: Row) -> Row | str:
        try:
            example = self._decode(row)
        except BadExampleError as error:
            return str(error)
        box, encoding = self._preparation.box, self._preparation.encoding
        size = example.image.shape[:2] if box is None else fit_size(example.image.shape[:2], box)
        image = encoding.encode(resize_image(example.image, size))
        columns: Row = {
            "image": {"bytes": image, "path": f"{example.name}.{encoding.suffix}"},
            "name": example.name,
        }
        if example.label is None:
            return columns
        label = example.label if self._preparation.native_labels else resize_label(example.label, size)
        counts = np.bincount(example.label[example.label != self._ignore_index], minlength=self._num_classes)
        return columns | {
            "label": {"bytes": encode_label(label), "path": f"{example.name}.png"},
            "class_pixels": counts.tolist(),
        }


def _unchanged(result: Row | str) -> Row | str:
    return result
