"""The domains that there are: folders, datasets, benchmarks, and the built-in streets. One string names each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mfm_hf.data.benchmarks.benchmark_domain import benchmark_domain, is_benchmark
from mfm_hf.data.benchmarks.layouts import LAYOUTS
from mfm_hf.data.classes import IGNORE_INDEX
from mfm_hf.data.dataset_addresses import dataset_domain, is_dataset_address, is_dataset_folder
from mfm_hf.data.domain import Domain
from mfm_hf.data.folders import folder_domain
from mfm_hf.data.hub_datasets import HubColumns
from mfm_hf.data.streets.streets_domain import streets_domain

Role = Literal["source", "target", "eval"]

_ROLE_SPLITS: dict[Role, str] = {"source": "train", "target": "train", "eval": "validation"}


def load_domain(
    name: str,
    role: Role,
    ignore_index: int = IGNORE_INDEX,
    *,
    label_map: Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    shuffle_buffer: int | None = None,
) -> Domain:
    """Open the domain that a string names.

    Args:
        name: A folder (see `mfm_hf.data.folders`); or a prepared dataset, in a folder or under an address (`https://...`
            or `hf://...`; see `mfm_hf.data.prepared`); or a dataset of the Hub, as in `ORG/NAME`; or the download of a
            benchmark, as in `gta:DIR` (see `mfm_hf.data.benchmarks`); or `streets:game` or `streets:real`, with an
            optional size (`streets:game:64x128`, height x width in pixels). `#split` at the end overrides the split.
            An existing path wins over everything else.
        role: What the domain is for. It decides the split (`source` and `target`: train; `eval`: validation) and
            whether labels are read: `source` and `eval` need them, `target` leaves them out even where they exist,
            so that nothing in training can see them.
        ignore_index: The label of pixels without a class.
        label_map: The file that says what stands in the labels of a folder or a dataset (see `mfm_hf.data.label_map`).
            Default: its own `classes.json`.
        image_column, label_column: Columns of a dataset that was not prepared. Default: `image` and `label`.
        shuffle_buffer: Its rows that are held in memory to be shuffled or drawn from. Default: 256.

    Raises:
        ValueError, FileNotFoundError: The domain does not exist or cannot serve the role. One line that says why.
    """
    address, split = name, _ROLE_SPLITS[role]
    if not Path(name).exists() and "#" in name:
        address, _, split = name.rpartition("#")
        split = "validation" if split == "val" else split
    labelled = role != "target"
    is_path = Path(address).exists()
    if is_path and not is_dataset_folder(Path(address)):
        return folder_domain(
            Path(address), split, labelled=labelled, ignore_index=ignore_index, name=name, label_map=label_map
        )
    if is_path or is_dataset_address(address):
        columns = HubColumns.given(image_column, label_column, shuffle_buffer)
        return dataset_domain(
            address,
            split,
            labelled=labelled,
            ignore_index=ignore_index,
            name=name,
            columns=columns,
            label_map=label_map,
        )
    if label_map is not None:
        raise ValueError(
            f"--label_map is for folders and datasets, but {name} is none: leave it away, and put the map into the "
            "folder that it is for, as classes.json"
        )
    if is_benchmark(address):
        return benchmark_domain(address, split, labelled=labelled, ignore_index=ignore_index, name=name)
    if address.split(":")[:2] in (["streets", "game"], ["streets", "real"]):
        return streets_domain(address, split, labelled=labelled, ignore_index=ignore_index, name=name)
    raise ValueError(
        f"{address!r} is neither an existing folder nor a built-in domain: streets:game, streets:real, "
        f"{', '.join(f'{prefix}:DIR' for prefix in LAYOUTS)}"
    )
