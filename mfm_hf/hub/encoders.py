"""The ImageNet encoders that are known by a short name, and where on the Hub their weights lie."""

from __future__ import annotations

HUB_IDS = {f"mit-b{size}": f"nvidia/mit-b{size}" for size in range(6)}
HUB_IDS |= {f"resnet-{depth}": f"microsoft/resnet-{depth}" for depth in (50, 101)}


def default_encoder(architecture: str, hrda_base: str) -> str:
    """Return the encoder that the papers use with an architecture.

    Args:
        architecture: As `--model` takes it.
        hrda_base: What HRDA is built over; the other architectures do not look at it.
    """
    uses_resnet = "deeplabv2" in (architecture, hrda_base if architecture == "hrda" else None)
    return "resnet-101" if uses_resnet else "mit-b5"
