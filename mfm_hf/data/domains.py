"""The domains that there are: folders, and the built-in streets. One string names each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mfm_hf.data.classes import IGNORE_INDEX
from mfm_hf.data.domain import Domain
from mfm_hf.data.folders import folder_domain
from mfm_hf.data.streets.streets_domain import streets_domain

Role = Literal["source", "target", "eval"]

_ROLE_SPLITS: dict[Role, str] = {"source": "train", "target": "train", "eval": "validation"}


def load_domain(name: str, role: Role, ignore_index: int = IGNORE_INDEX) -> Domain:
    """Open the domain that a string names.

    Args:
        name: A folder (see `mfm_hf.data.folders`), or `streets:game` or `streets:real`, with an optional size
            (`streets:game:64x128`, height x width in pixels). `#split` at the end overrides the split. An existing
            path wins over everything else.
        role: What the domain is for. It decides the split (`source` and `target`: train; `eval`: validation) and
            whether labels are read: `source` and `eval` need them, `target` leaves them out even where they exist,
            so that nothing in training can see them.
        ignore_index: The label of pixels without a class.

    Raises:
        ValueError, FileNotFoundError: The domain does not exist or cannot serve the role. One line that says why.
    """
    address, split = name, _ROLE_SPLITS[role]
    if not Path(name).exists() and "#" in name:
        address, _, split = name.rpartition("#")
        split = "validation" if split == "val" else split
    labelled = role != "target"
    if Path(address).exists():
        return folder_domain(Path(address), split, labelled=labelled, ignore_index=ignore_index, name=name)
    if address.split(":")[:2] in (["streets", "game"], ["streets", "real"]):
        return streets_domain(address, split, labelled=labelled, ignore_index=ignore_index, name=name)
    raise ValueError(f"{address!r} is neither an existing folder nor a built-in domain: streets:game, streets:real")
