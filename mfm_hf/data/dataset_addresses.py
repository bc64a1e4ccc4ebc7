"""Datasets of rows, by where they lie: a folder of Parquet files, an address, or the Hub."""

from __future__ import annotations

import re
from pathlib import Path

from mfm_hf.data.domain import Domain
from mfm_hf.data.hub_datasets import HubColumns, hub_domain
from mfm_hf.data.manifest import MANIFEST_FILE, UNFINISHED_FILE
from mfm_hf.data.prepared import prepared_domain, read_manifest

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_URL = re.compile(r"(https?|hf)://.+")


def is_dataset_folder(directory: Path) -> bool:
    """Whether a path is a folder of Parquet files, prepared or not, rather than one of `images/` and `labels/`."""
    if (directory / MANIFEST_FILE).is_file():
        return True
    has_images = (directory / "images").is_dir() or any(directory.glob("*/images"))
    return not has_images and any(any(directory.glob(pattern)) for pattern in ("*.parquet", "*/*.parquet"))


def is_dataset_address(address: str) -> bool:
    """Whether a string is written as an address (`https://...`, `hf://...`) or an id of the Hub (`ORG/NAME`)."""
    return _URL.fullmatch(address) is not None or _HUB_ID.fullmatch(address) is not None


def dataset_domain(
    address: str,
    split: str,
    *,
    labelled: bool,
    ignore_index: int,
    name: str,
    columns: HubColumns,
    label_map: Path | None = None,
) -> Domain:
    """Open a dataset: by its manifest if it was prepared, else as a stream of rows.

    Args:
        address: A folder, an address or an id of the Hub.
        split: Name of the split.
        labelled: Whether labels are needed.
        ignore_index: The label of pixels without a class.
        name: The name of the domain.
        columns: Where the pictures are, in a dataset that was not prepared.
        label_map: What stands in its labels.

    Raises:
        ValueError, OSError: There is no such dataset, or it cannot serve. One line that says why.
    """
    is_hub_id = not Path(address).exists() and _URL.fullmatch(address) is None
    root = f"hf://datasets/{address}" if is_hub_id else address.rstrip("/")
    try:
        manifest = read_manifest(root)
    except OSError as error:
        if not is_hub_id:
            raise
        raise ValueError(
            f"{address!r} is neither an existing folder nor a dataset that can be read from the Hub ({error})"
        ) from error
    if manifest is not None:
        if label_map is not None:
            raise ValueError(f"{address} was prepared, and has its classes: leave --label_map away")
        return prepared_domain(root, manifest, split, labelled=labelled, ignore_index=ignore_index, name=name)
    if any(Path(address).glob(UNFINISHED_FILE.format(split="*"))):
        raise ValueError(f"{address} is prepared in part alone: run the same `mfm-hf prepare` again to go on")
    if _URL.fullmatch(address):
        # Some file systems say no more where a server does not answer.
        raise FileNotFoundError(f"cannot find {root}/{MANIFEST_FILE}: give the address of a prepared dataset")
    return hub_domain(
        address, split, labelled=labelled, ignore_index=ignore_index, name=name, columns=columns, label_map=label_map
    )
