"""Load the model and the image processor of a checkpoint for a command."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, BaseImageProcessor, PreTrainedModel


def load_model(name: str, device: str | None) -> PreTrainedModel:
    """Load a segmentation model in eval mode.

    Args:
        name: A checkpoint folder or a Hub id. Ours and those of `transformers` alike.
        device: Where to put it, as PyTorch writes it. Default: the GPU if there is one.

    Raises:
        ValueError: If the device or the checkpoint cannot be used.
    """
    device_to_use = usable_device(device)
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise ValueError(f"{name} holds no config.json: give the folder of a saved checkpoint")
    try:
        model, report = AutoModelForSemanticSegmentation.from_pretrained(name, output_loading_info=True)
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:  # the last: of other shapes than the config's
        origin = "the folder" if Path(name).is_dir() else "the Hub, as there is no such folder"
        raise ValueError(f"cannot load the model {name!r} from {origin}: {_first_line(error)}") from error
    if report["missing_keys"]:
        # `transformers` fills them with random numbers and goes on.
        missing = sorted(report["missing_keys"])
        raise ValueError(
            f"{name} is not a whole segmentation model: it lacks {len(missing)} weights, such as {missing[0]}"
        )
    return model.to(device_to_use).eval()


def load_image_processor(name: str) -> BaseImageProcessor | None:
    """Load the image processor of a checkpoint, or return None where it has none.

    Raises:
        ValueError: If this version of `transformers` makes image processors only with torchvision, and it is missing.
    """
    try:
        return AutoImageProcessor.from_pretrained(name)
    except ImportError as error:
        raise ValueError(
            "the image processors of transformers before 5.22 need torchvision: install it, or a newer transformers"
        ) from error
    except (OSError, ValueError):
        return None


def usable_device(device: str | None) -> torch.device:
    """Return the device of this name. Default: the GPU if there is one.

    Raises:
        ValueError: If it cannot be used.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"cannot use the device {device!r}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
