"""Training checkpoints: safetensors and JSON in a folder that appears whole or not at all.

    checkpoint-STEP/student.safetensors      the network, Rebuilder included
    checkpoint-STEP/teacher.safetensors      where the recipe has one
    checkpoint-STEP/optimizer.safetensors    moments of every parameter, by its name
    checkpoint-STEP/log.safetensors          losses since the last line of the log
    checkpoint-STEP/trainer_state.json       everything else, see `run_state`
    checkpoint-STEP/manifest.json            size and SHA-256 of the others

Nothing of it is unpickled.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mfm_hf.files import sync
from mfm_hf.uda.run.checkpoint_manifest import DamagedCheckpointError, check_manifest, write_manifest
from mfm_hf.uda.run.run_state import RunState, StateError

logger = logging.getLogger(__name__)

STATE_FILE = "trainer_state.json"
LATEST = "latest"
_NAME = re.compile(r"checkpoint-(\d{1,18})")


def save_checkpoint(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: RunState) -> None:
    """Write a checkpoint, and put it in place when it has reached the disk.

    Args:
        folder: Where; `checkpoint-STEP` in the folder of the run.
        tensors: By file name without suffix, the tensors of that file by name.
        state: Everything else.

    Raises:
        OSError: If it cannot be written. What was there before is there still, and nothing else.
    """
    partial = _aside(folder, "partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for name, content in tensors.items():
            contiguous = {key: tensor.detach().contiguous() for key, tensor in content.items()}
            save_file(contiguous, partial / f"{name}.safetensors")
        (partial / STATE_FILE).write_text(json.dumps(state.to_json(), indent=2) + "\n")
        write_manifest(partial)
        for path in (*partial.iterdir(), partial):
            sync(path)
        if folder.exists():
            _remove(folder)
        os.replace(partial, folder)
        sync(folder.parent)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)  # makes room, where the disk is full
        if isinstance(error, SafetensorError):  # which hides what the system says
            raise OSError(str(error)) from None
        raise


def _aside(folder: Path, why: str) -> Path:
    return folder.with_name(f".{folder.name}.{why}")


def _remove(folder: Path) -> None:
    """Delete a checkpoint, which no longer counts as one from the first moment."""
    aside = _aside(folder, "removed")
    os.replace(folder, aside)
    shutil.rmtree(aside)


def load_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Read one file of tensors of a checkpoint.

    Raises:
        DamagedCheckpointError: If the file is missing or damaged.
    """
    try:
        return load_file(folder / f"{name}.safetensors")
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise DamagedCheckpointError(folder, f"{name}.safetensors cannot be read ({error})") from None


def load_state(folder: Path) -> RunState:
    """Read the state of a checkpoint.

    Raises:
        DamagedCheckpointError: If it is missing or damaged.
    """
    try:
        return RunState.from_json(json.loads((folder / STATE_FILE).read_text()))
    except StateError as error:
        reason = str(error)
    except OSError as error:
        reason = str(error.strerror)
    except (ValueError, RecursionError):  # the latter from brackets in brackets
        reason = "it is not JSON"
    raise DamagedCheckpointError(folder, f"{STATE_FILE} cannot be read ({reason})")


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first. They may be damaged, but are not half-written."""
    found = [path for path in output_dir.glob("checkpoint-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """Return the step that the name of a checkpoint's folder tells."""
    return int(folder.name.removeprefix("checkpoint-"))


def prune(newest: Path, limit: int | None) -> None:
    """Delete what a checkpoint that has just been written makes superfluous.

    Those of later steps go, too: the run has gone back behind them, perhaps with another number of steps.

    Args:
        newest: The checkpoint, which stays.
        limit: Number of checkpoints to keep; None for all.
    """
    there = list_checkpoints(newest.parent)
    position = there.index(newest)
    kept = there[: position + 1] if limit is None else there[max(0, position + 1 - limit) : position + 1]
    for folder in there:
        if folder not in kept:
            _remove(folder)


def find_checkpoint(name: str, output_dir: Path) -> Path:
    """Return the folder that `--resume_from_checkpoint` means, every byte of it checked.

    Args:
        name: A folder, or `latest` for the newest whole checkpoint of the run; each damaged one is warned of.
        output_dir: The folder of the run.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the folder, or every checkpoint of the run, is damaged.
    """
    if name != LATEST:
        folder = Path(name)
        if not folder.is_dir():
            raise FileNotFoundError(f"no checkpoint folder {name}: give one that --save_steps wrote, or '{LATEST}'")
        check_manifest(folder)
        return folder
    there = list_checkpoints(output_dir)
    if not there:
        raise FileNotFoundError(f"no checkpoint in {output_dir}: start without --resume_from_checkpoint")
    for folder in reversed(there):
        try:
            check_manifest(folder)
        except DamagedCheckpointError as error:
            logger.warning("%s is damaged: %s; it is left out", folder, error.reason)
        else:
            return folder
    raise ValueError(f"every checkpoint in {output_dir} is damaged: start anew with --overwrite_output_dir")


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state by `parameter name/state name`."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    return {
        f"{names[parameter]}/{key}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give the optimizer back what `optimizer_tensors` returned.

    Raises:
        RuntimeError: If it is the state of another network's parameters.
    """
    parameters = dict(module.named_parameters())
    optimizer.state.clear()
    for path, tensor in tensors.items():
        name, _, key = path.rpartition("/")
        if name not in parameters or tensor.shape not in (torch.Size([]), parameters[name].shape):
            raise RuntimeError(f"the optimizer's state holds {path} {tuple(tensor.shape)}, which fits no parameter")
        parameter = parameters[name]
        # A fused optimizer keeps its step counters beside the parameters.
        optimizer.state[parameter][key] = tensor.to(parameter.device)
