"""Training checkpoints: safetensors and JSON in a folder that appears whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

STATE_FILE = "trainer_state.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def save_checkpoint(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write a checkpoint.

    Args:
        folder: Where; it is written under another name and renamed when complete.
        tensors: By file name without suffix, the tensors of that file by name.
        state: Everything else, as JSON.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, content in tensors.items():
        save_file(
            {key: tensor.detach().contiguous() for key, tensor in content.items()}, partial / f"{name}.safetensors"
        )
    (partial / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def load_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Read one file of tensors of a checkpoint.

    Raises:
        ValueError: If the file is missing or damaged.
    """
    try:
        return load_file(folder / f"{name}.safetensors")
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{folder} is damaged: {name}.safetensors cannot be read ({error}); use another checkpoint"
        ) from None


def load_state(folder: Path) -> dict[str, Any]:
    """Read the state of a checkpoint.

    Raises:
        ValueError: If the folder holds no checkpoint.
    """
    try:
        return json.loads((folder / STATE_FILE).read_text())
    except (OSError, ValueError):
        raise ValueError(f"{folder} is not a training checkpoint: it has no readable {STATE_FILE}") from None


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    found = [path for path in output_dir.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted((path for path in found if (path / STATE_FILE).exists()), key=lambda path: int(path.name[11:]))


def prune(output_dir: Path, limit: int) -> None:
    """Delete all but the newest `limit` checkpoints of a run."""
    for folder in list_checkpoints(output_dir)[:-limit]:
        shutil.rmtree(folder)


def find_checkpoint(name: str, output_dir: Path) -> Path:
    """Return the folder that `--resume_from_checkpoint` means.

    Args:
        name: A folder, or `latest` for the newest checkpoint of the run.
        output_dir: The folder of the run.

    Raises:
        FileNotFoundError: If there is none.
    """
    if name != "latest":
        if not Path(name).is_dir():
            raise FileNotFoundError(f"no checkpoint folder {name}: give one that --save_steps wrote, or 'latest'")
        return Path(name)
    checkpoints = list_checkpoints(output_dir)
    if not checkpoints:
        raise FileNotFoundError(f"no checkpoint in {output_dir}: start without --resume_from_checkpoint")
    return checkpoints[-1]


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state by `parameter name/state name`."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    return {
        f"{names[parameter]}/{key}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give the optimizer back what `optimizer_tensors` returned."""
    parameters = dict(module.named_parameters())
    optimizer.state.clear()
    for path, tensor in tensors.items():
        name, _, key = path.rpartition("/")
        parameter = parameters[name]
        # Adam keeps its step counters on the CPU, whatever the device of the parameters.
        optimizer.state[parameter][key] = tensor if tensor.ndim == 0 else tensor.to(parameter.device)
