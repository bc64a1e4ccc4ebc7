"""Prepared datasets (see `mfm_hf.data.preparation`), read from a folder, over HTTP or from the Hub.

Any example can be read by itself, wherever the shards lie: rows are shuffled as a whole and rare classes drawn exactly,
and no process reads what it does not use.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import fsspec
import numpy as np
import pyarrow.parquet as pq

from mfm_hf.data.domain import BadExampleError, Domain, Example, PaperSetting, Row, light_rows
from mfm_hf.data.image_files import opened_image, rgb
from mfm_hf.data.manifest import MANIFEST_FILE, Manifest, PreparedSplit, StoredFile

logger = logging.getLogger(__name__)

_OPEN_SHARDS = 64  # a process keeps so many open, over all its threads
_RETRY_WAITS = (1.0, 4.0)  # seconds before each further attempt to read over a network


def read_manifest(root: str) -> Manifest | None:
    """Return the manifest of the dataset at a place; None if there is none.

    Args:
        root: A folder, or an address that `fsspec` opens: `https://HOST/PATH`, `hf://datasets/ORG/NAME`.

    Raises:
        ValueError: It is damaged.
        OSError: The place cannot be reached.
    """
    place = f"{root}/{MANIFEST_FILE}"
    try:
        with fsspec.open(place) as file:
            content = file.read()
    except FileNotFoundError:
        return None
    except Exception as error:  # every file system has errors of its own
        raise OSError(f"cannot read {place}: {_one_line(error)}") from error
    return Manifest.from_json(content, place)


def prepared_domain(
    root: str, manifest: Manifest, split: str, *, labelled: bool, ignore_index: int, name: str
) -> Domain:
    """Open a split of a prepared dataset as a domain.

    Args:
        root: Where it lies, see `read_manifest`.
        manifest: What lies there.
        split: Name of the split.
        labelled: Whether labels are needed; if not, they are not read even where they exist.
        ignore_index: The label of pixels without a class.
        name: The name of the domain.

    Raises:
        ValueError: There is no such split, it has no labels, or another ignore index.
        FileNotFoundError: A shard is missing.
        OSError: A shard has not the size that the manifest says.
    """
    prepared = manifest.splits.get(split)
    if prepared is None:
        others = ", ".join(manifest.splits)
        raise ValueError(f"{root} has no split {split!r}, only {others}: prepare it too, or name another after #")
    if labelled and not prepared.settings.labelled:
        raise ValueError(f"the split {split} of {root} was prepared without labels: prepare it with --role source")
    if labelled and manifest.ignore_index != ignore_index:
        raise ValueError(f"{root} was prepared with --ignore_index {manifest.ignore_index}: give the same here")
    _check_files(root, prepared)
    rows = [{"shard": k, "row": row} for k, shard in enumerate(prepared.shards) for row in range(shard.rows)]
    counts = prepared.class_pixels
    return Domain(
        name=name,
        split=split,
        classes=manifest.classes,
        ignore_index=ignore_index,
        labelled=labelled,
        rows=light_rows(rows),
        num_rows=len(rows),
        decode=PreparedDecoder(root, tuple(shard.file for shard in prepared.shards), labelled),
        row_at=rows.__getitem__,
        class_counts=partial(_class_counts, root, counts) if labelled and counts is not None else None,
        paper=_paper_within(prepared.paper, prepared.settings.box),
    )


@dataclass(frozen=True)
class PreparedDecoder:
    """Reads the example of a row `{"shard": number, "row": number in the shard}`. Raises `BadExampleError`.

    Attributes:
        root: Where the shards lie.
        shards: Their names.
        labelled: Whether labels are read.
    """

    root: str
    shards: tuple[str, ...]
    labelled: bool

    def __call__(self, row: Row) -> Example:
        """Read one row group, and decode its pictures."""
        shard = f"{self.root}/{self.shards[row['shard']]}"
        place = f"row {row['row']} of {shard}"
        columns = ("image.bytes", "name", "label.bytes") if self.labelled else ("image.bytes", "name")
        values = _read_row(shard, row["row"], columns, place)
        with opened_image(io.BytesIO(values["image"]["bytes"]), place) as picture:
            image = rgb(picture, place)
        if not self.labelled:
            return Example(values["name"], image, None)
        with opened_image(io.BytesIO(values["label"]["bytes"]), place) as picture:
            label = np.asarray(picture)  # its ids were checked when it was prepared
        return Example(values["name"], image, label if label.dtype == np.uint8 else label.astype(np.int32))


def _read_row(shard: str, row: int, columns: Sequence[str], place: str) -> Row:
    waits: Iterator[float] = iter(_RETRY_WAITS if "://" in shard else ())
    while True:
        try:
            # By process, since neither connections nor their threads survive a fork; by thread, since threads that read
            # ahead in one file wait for each other for ever.
            file = _opened_shard(shard, os.getpid(), threading.get_ident())
            return file.read_row_group(row, columns=columns).to_pylist()[0]
        except Exception as error:  # every file system has errors of its own
            reason = _one_line(error)
            wait = next(waits, None)
            if wait is None:
                raise BadExampleError(f"cannot read {place} ({reason}): prepare the dataset again") from error
            logger.info("%s (%s); trying again in %g s", place, reason, wait)
            _opened_shard.cache_clear()  # the connection may be what is broken
            time.sleep(wait)


@lru_cache(maxsize=_OPEN_SHARDS)
def _opened_shard(shard: str, process: int, thread: int) -> pq.ParquetFile:
    if "://" not in shard:
        return pq.ParquetFile(shard, page_checksum_verification=True)
    # Without a cache of its own, since rows are read here and there; Parquet fetches what lies together at once.
    system, path = fsspec.core.url_to_fs(shard)
    file = system.open(path, cache_type="none")
    return pq.ParquetFile(file, pre_buffer=True, page_checksum_verification=True)


def _class_counts(root: str, stored: StoredFile) -> np.ndarray:
    place = f"{root}/{stored.file}"
    with fsspec.open(place) as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != stored.sha256:
        raise ValueError(f"{place} is damaged, its checksum is not that of {MANIFEST_FILE}: prepare the dataset again")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return arrays["counts"]


def _check_files(root: str, prepared: PreparedSplit) -> None:
    """Check that all files are there with their sizes, without reading them."""
    system, folder = fsspec.core.url_to_fs(root)
    for stored in (*prepared.shards, *([prepared.class_pixels] if prepared.class_pixels is not None else [])):
        place = f"{root}/{stored.file}"
        try:
            size = system.info(f"{folder}/{stored.file}")["size"]
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{place} is missing, which {MANIFEST_FILE} names: prepare or copy the dataset again"
            ) from None
        if size is not None and size != stored.bytes:  # some servers do not say
            raise OSError(
                f"{place} has {size} bytes, but {MANIFEST_FILE} says {stored.bytes}: prepare or copy the dataset again"
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _paper_within(paper: PaperSetting | None, box: tuple[int, int] | None) -> PaperSetting | None:
    """Return how the papers use these images, but for enlarging them again: what is lost is lost."""
    if paper is None or box is None:
        return paper

    def within(wanted: tuple[int, int] | None) -> tuple[int, int]:
        return box if wanted is None or wanted[0] > box[0] or wanted[1] > box[1] else wanted

    return replace(paper, half_box=within(paper.half_box), full_box=within(paper.full_box))
