"""The recorded networks of the reference code bases as their own checkpoints hold them."""

from typing import Any

from torch import Tensor

from tests.golden_files import golden

TINY_HEADS = {"num_attention_heads": [1, 2, 3, 4]}

#: The recorded networks, and what their weights do not tell.
NETWORKS: dict[str, dict[str, Any]] = {
    "net_mit_segformer": TINY_HEADS,
    "net_mit_daformer": TINY_HEADS,
    "net_dlv2_r50v1c": {},
    "net_hrda_mit_daformer": {**TINY_HEADS, "detail_crop_size": [64, 64]},
}


def reference_weights(name: str) -> dict[str, Tensor]:
    """The state dict of a recorded reference network."""
    _, tensors = golden(name)
    return {key.removeprefix("sd."): tensor for key, tensor in tensors.items() if key.startswith("sd.")}
