"""What of a run's results others may read: everything but where its files lie on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfm_hf.data.benchmarks.layouts import LAYOUTS

# Messages of the system, which name files.
_UNPUBLISHED = ("failed_saves", "failed_pushes")
# Arguments that are nothing but places on this machine.
_PLACES = ("output_dir", "resume_from_checkpoint", "label_map", "baseline_results")
_DOMAIN = re.compile(r"(?P<address>.*?)(?P<split>#[\w-]+| \([\w-]+\))?")


def public_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a `results.json` without the paths in it.

    Args:
        results: As a run writes them.
    """
    public = {name: _without_paths(value) for name, value in results.items() if name not in _UNPUBLISHED}
    if "arguments" in public:
        public["arguments"] = {name: value for name, value in public["arguments"].items() if name not in _PLACES}
    return public


def public_name(name: str) -> str:
    """Return a domain, a checkpoint or a file as others may read it: of a path on this machine its last part.

    The folder of a benchmark says nothing at all (`gta:DIR` is `gta`). What names its split keeps it, as `DIR#train`
    or as `DIR (train)`. Of a relative path nobody can tell that it is none of the Hub's, unless it exists here.
    """
    parts = _DOMAIN.fullmatch(name)
    if parts is None:  # a text of several lines
        return name
    address, split = parts["address"], parts["split"] or ""
    prefix, _, place = address.partition(":")
    if prefix in LAYOUTS and place:
        return prefix + split
    if os.path.isabs(address) or address.startswith(("~", ".")) or (os.sep in address and Path(address).exists()):
        return Path(address).name + split
    return name


def _without_paths(value: Any) -> Any:
    if isinstance(value, str):
        return public_name(value)
    if isinstance(value, Mapping):
        return {key: _without_paths(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_paths(part) for part in value]
    return value
