"""What a prepared dataset says about itself: classes, splits, and every file with its size and checksum.

DIR/manifest.json                    this; written last, so that a folder that has it is whole
DIR/train-00000-of-00018.parquet     an example per row group
DIR/train-class_pixels.npz           `counts`, int64 (examples, classes), of a split with labels
DIR/README.md                        tells `datasets` and the Hub which files make which split
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mfm_hf.data.classes import ClassSet
from mfm_hf.data.domain import PaperSetting

MANIFEST_FILE = "manifest.json"
UNFINISHED_FILE = ".{split}.unfinished.json"  # of a split that is being written, the whole shards so far

_FORMAT = 1


@dataclass(frozen=True)
class StoredFile:
    """A file of a prepared dataset.

    Attributes:
        file: Its name.
        rows: Number of examples that it tells of.
        bytes: Its size.
        sha256: Its checksum, hexadecimal.
    """

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitSettings:
    """All that decides the bytes of a split's files.

    Attributes:
        domain: The string that named the domain.
        labelled: Whether there are labels.
        native_labels: Whether labels kept their own size when images were resized, as evaluation needs them.
        box: What images were fitted into, `(long, short)` side in pixels; None: they kept their size.
        encoding: How images are encoded: `png`, `webp-lossless`, `jpeg` or `webp`.
        quality: Of `jpeg` and `webp`, 1 to 100; None where nothing is lost.
        num_rows: Number of examples of the domain.
        shard_bytes: Size of a file that was aimed at.
    """

    domain: str
    labelled: bool
    native_labels: bool
    box: tuple[int, int] | None
    encoding: str
    quality: int | None
    num_rows: int
    shard_bytes: int


@dataclass(frozen=True)
class PreparedSplit:
    """A split of a prepared dataset.

    Attributes:
        settings: What decided its bytes.
        num_shards: Number of files that the examples are spread over.
        shards: Its files, in order. While it is being written: those that are whole.
        class_pixels: The file of its class counts; None without labels.
        paper: How the papers use the domain that it was made from.
    """

    settings: SplitSettings
    num_shards: int
    shards: tuple[StoredFile, ...] = ()
    class_pixels: StoredFile | None = None
    paper: PaperSetting | None = None

    @property
    def num_examples(self) -> int:
        """Number of examples in its files. Less than the domain had, where bad ones were left out."""
        return sum(shard.rows for shard in self.shards)


@dataclass(frozen=True)
class Manifest:
    """A prepared dataset.

    Attributes:
        classes: The classes that the labels count.
        ignore_index: The label of pixels without a class.
        splits: Its splits by name, e.g. `train` and `validation`.
    """

    classes: ClassSet
    ignore_index: int
    splits: Mapping[str, PreparedSplit] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what `manifest.json` holds."""
        return {
            "format": _FORMAT,
            "classes": dict(zip(self.classes.names, self.classes.colors, strict=True)),
            "ignore_index": self.ignore_index,
            "splits": {name: asdict(split) for name, split in self.splits.items()},
        }

    @classmethod
    def from_json(cls, content: bytes, place: str) -> Manifest:
        """Read what `to_json` has written.

        Args:
            content: The bytes of the file.
            place: Where it lies, for errors.

        Raises:
            ValueError: It is damaged, or of another version of this package.
        """
        try:
            values = json.loads(content)
            if values["format"] != _FORMAT:
                raise ValueError(f"it is of format {values['format']}, this version reads {_FORMAT}")
            return cls(
                ClassSet(tuple(values["classes"]), tuple(tuple(color) for color in values["classes"].values())),
                values["ignore_index"],
                {name: _split(split) for name, split in values["splits"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{place} cannot be read ({error}): prepare the dataset again") from error


def _split(values: dict[str, Any]) -> PreparedSplit:
    settings = {**values["settings"], "box": _pair(values["settings"]["box"])}
    class_pixels = values["class_pixels"]
    return PreparedSplit(
        SplitSettings(**settings),
        values["num_shards"],
        tuple(StoredFile(**shard) for shard in values["shards"]),
        None if class_pixels is None else StoredFile(**class_pixels),
        None if values["paper"] is None else _paper(values["paper"]),
    )


def _paper(values: dict[str, Any]) -> PaperSetting:
    top, bottom, left, right = values["margins"]
    height, width = values["margins_size"]
    return PaperSetting(
        _pair(values["half_box"]),
        _pair(values["full_box"]),
        (top, bottom, left, right),
        (height, width),
        values["num_examples"],
    )


def _pair(values: list[int] | None) -> tuple[int, int] | None:
    return None if values is None else (values[0], values[1])


def describe_file(path: Path, rows: int) -> StoredFile:
    """Return the entry of a file: its size and its checksum, for which it is read as a whole."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return StoredFile(path.name, rows, path.stat().st_size, digest.hexdigest())
