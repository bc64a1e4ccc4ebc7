"""Reading a `.pth` of a reference code base, without ever running what it contains."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Weights = Literal["student", "teacher"]

_NETWORKS: dict[Weights, str] = {"student": "model.", "teacher": "ema_model."}  # prefixes in a training checkpoint

# The training logs that mmcv stores beside the weights may hold NumPy numbers: plain data, under old and new names.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY_GLOBALS: list[Any] = [
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64, np.bool_)),
]


class CheckpointError(ValueError):
    """A checkpoint that cannot be converted; the message says why, in one line."""


@dataclass(frozen=True)
class ReferenceCheckpoint:
    """One network of a checkpoint.

    Attributes:
        tensors: The network's state dict, without the prefix of the training module.
        class_names: The class names that the file gives, if any.
    """

    tensors: dict[str, Tensor]
    class_names: tuple[str, ...] | None


def read_checkpoint(path: Path, weights: Weights = "student") -> ReferenceCheckpoint:
    """Read one network of a checkpoint, with `torch.load(weights_only=True)`.

    A checkpoint of a UDA training holds the `student` (`model.`), the `teacher` (`ema_model.`) and perhaps the
    ImageNet encoder (`imnet_model.`); other files hold one network without a prefix, which counts as the student.

    Args:
        path: The `.pth` file.
        weights: Which network to take.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: It is truncated, of another kind, holds more than data, or lacks the wanted network.
    """
    content = _load(path)
    state_dict = _state_dict(content, path)
    return ReferenceCheckpoint(_select(state_dict, weights, path), _class_names(content))


def _load(path: Path) -> Any:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: give a .pth file, or add --to reference to convert the other way")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    path.open("rb").close()  # a file that may not be read says so itself
    try:
        with torch.serialization.safe_globals(_NUMPY_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are then refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # broken files fail in the pickle machine and the zip reader in a dozen different ways
        forbidden = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if forbidden:
            raise CheckpointError(
                f"{path} was refused: it wants to call {forbidden[1]}, and a checkpoint may hold tensors and plain "
                "data alone; where you trust it, save its 'state_dict' by itself with the code base that it comes from"
            ) from error
        raise CheckpointError(
            f"{path} is no PyTorch checkpoint, or a truncated one: compare its size with the original's or get it again"
        ) from error


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the tensors by name, from `state_dict` (mmcv), `model` (timm) or the file itself."""
    if isinstance(content, Mapping):
        candidates = [content.get("state_dict"), content.get("model"), content]
        for candidate in candidates:
            if isinstance(candidate, Mapping) and any(isinstance(value, Tensor) for value in candidate.values()):
                return _checked(candidate, path)
    raise CheckpointError(f"{path} holds no network: expected tensors by name, or a dict with 'state_dict' or 'model'")


def _checked(state_dict: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path} holds something else than a tensor under {name!r}")
        if value.layout is not torch.strided or value.is_quantized or value.nbytes > value.untyped_storage().nbytes():
            raise CheckpointError(
                f"{path} holds a sparse, quantised or expanded tensor, '{name}': save it as a dense one"
            )
    return {name.removeprefix("module."): value for name, value in state_dict.items()}  # of DataParallel


def _select(state_dict: dict[str, Tensor], weights: Weights, path: Path) -> dict[str, Tensor]:
    in_training = any(name.startswith(tuple(_NETWORKS.values())) for name in state_dict)
    if not in_training and weights == "student":
        return state_dict
    prefix = _NETWORKS[weights]
    selected = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    if not selected:
        raise CheckpointError(f"{path} holds no {weights} (no name starts with '{prefix}'): choose the other --weights")
    return selected


def _class_names(content: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return `meta.CLASSES`, which mmsegmentation stores."""
    meta = content.get("meta")
    names = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None
