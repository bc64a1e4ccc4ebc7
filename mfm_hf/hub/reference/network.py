"""One of our networks beside its counterpart in the reference code bases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mfm_hf.hub.reference.checkpoint import CheckpointError
from mfm_hf.hub.reference.name_table import NameTable
from mfm_hf.hub.reference.presets import encoder_name


@dataclass(frozen=True)
class Network:
    """What a checkpoint belongs to.

    Attributes:
        model: Our network. On the meta device it has names and shapes, and takes no memory.
        table: The names of its modules on both sides.
        encoder_only: Whether the model's head is missing in the checkpoint.
    """

    model: PreTrainedModel
    table: NameTable
    encoder_only: bool = False

    def __str__(self) -> str:
        config = self.model.config
        part = ", the encoder alone" if self.encoder_only else f", {config.num_labels} classes"
        return f"{type(self.model).__name__} with {encoder_name(config)}{part}"

    def to_reference(self) -> dict[str, Tensor]:
        """Return the model's state dict as the reference has it."""
        prefix = f"{self.model.base_model_prefix}." if self.encoder_only else ""
        tensors = self.model.state_dict()
        return self.table.to_reference({name: value for name, value in tensors.items() if name.startswith(prefix)})

    def to_ours(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate a reference state dict, all of it.

        The counters of BatchNorm, which files of old PyTorch versions lack, start at zero.

        Raises:
            CheckpointError: A tensor is missing, has no place in the network, or has another shape.
        """
        kind = type(self.model).__name__
        expected = self.to_reference()
        foreign = next((name for name in tensors if name not in expected), None)
        if foreign is not None:
            raise CheckpointError(f"'{foreign}' has no place in a {kind}")
        fitting = {}
        for name, wanted in expected.items():
            if name in self.table.unused:
                continue
            if name not in tensors and not name.endswith(".num_batches_tracked"):
                raise CheckpointError(f"the checkpoint lacks '{name}', which a {kind} has")
            tensor = tensors.get(name, torch.zeros((), dtype=wanted.dtype))
            if tensor.shape != wanted.shape:
                raise CheckpointError(
                    f"'{name}' has shape {tuple(tensor.shape)}, but the other tensors and settings ask for "
                    f"{tuple(wanted.shape)}"
                )
            fitting[name] = tensor.to(wanted.dtype)
        return self.table.to_ours(fitting)
