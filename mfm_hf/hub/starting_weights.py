"""The weights that a network was trained from, and the licence that comes with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfm_hf.hub.encoders import HUB_IDS, default_encoder
from mfm_hf.hub.public_results import public_name

ARGUMENTS_FILE = "training_args.json"


@dataclass(frozen=True)
class License:
    """A licence, as the Hub's metadata name it.

    Attributes:
        id: One of the Hub's ids, or `other`.
        name: What it is called.
        link: Where it stands.
        noncommercial: Whether it allows non-commercial use only.
    """

    id: str
    name: str
    link: str
    noncommercial: bool = False


NVIDIA = License(
    "other", "nvidia-source-code-license", "https://github.com/NVlabs/SegFormer/blob/master/LICENSE", noncommercial=True
)
APACHE = License("apache-2.0", "Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0")


@dataclass(frozen=True)
class StartingWeights:
    """Where the training of a network began.

    Attributes:
        encoder: Name of the encoder that it was built over; None if it came with a whole checkpoint.
        start: What its weights were loaded from, as others may read it; None if it began from scratch.
        base_model: The published weights at the beginning of all, by their id on the Hub; None if not known.
    """

    encoder: str | None = None
    start: str | None = None
    base_model: str | None = None

    @property
    def license(self) -> License | None:
        """The licence of `base_model`."""
        if self.base_model is None:
            return None
        return NVIDIA if self.base_model.startswith("nvidia/") else APACHE


def starting_weights(args: Mapping[str, Any]) -> StartingWeights:
    """Return where a training began, by its arguments; nothing where there are none.

    A training that went on from the folder of another one began where that one did.
    """
    encoder, start = _encoder(args), _start(args)
    if start is None:
        return StartingWeights(None if encoder is None else public_name(encoder))
    origin = _origin(start)
    # Of any other ORG/NAME nobody can tell whether it was a folder on the machine of the run.
    is_known = origin in HUB_IDS.values() or origin.startswith("nvidia/segformer-")
    name = None if encoder is None else public_name(encoder)
    return StartingWeights(name, public_name(start), origin if is_known else None)


def _origin(start: str) -> str:
    """Return what the first of a chain of trainings, each from the folder of the one before, was started from."""
    seen = {start}
    while (file := Path(start) / ARGUMENTS_FILE).is_file():
        before = _start(json.loads(file.read_text(encoding="utf-8")))
        if before is None or before in seen:
            break
        seen.add(before)
        start = before
    return start


def _encoder(args: Mapping[str, Any]) -> str | None:
    """Return the name of the encoder that a network was built over; None if it came with a whole checkpoint."""
    if "model" not in args or args["model_name_or_path"] is not None:
        return None
    return args["backbone"] or default_encoder(args["model"], args["hrda_base"])


def _start(args: Mapping[str, Any]) -> str | None:
    """Return the Hub id or folder of the weights that training started from; None if from scratch or not known."""
    encoder = _encoder(args)
    if encoder is None:
        return args.get("model_name_or_path")
    is_trained = args["pretrained_backbone"] and encoder != "tiny"
    return HUB_IDS.get(encoder, encoder) if is_trained else None
