"""Looking at a state dict by the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mfm_hf.hub.reference.checkpoint import CheckpointError


class Shapes:
    """The shapes of the tensors below a prefix, by the names after it.

    Args:
        tensors: The whole state dict.
        prefix: The part of the names that is left out.
    """

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        self._tensors = tensors
        self._prefix = prefix

    def __bool__(self) -> bool:
        return any(name.startswith(self._prefix) for name in self._tensors)

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._tensors

    def of(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Return a tensor's shape.

        Raises:
            CheckpointError: There is no such tensor, or it is empty or has another number of dimensions.
        """
        if name not in self:
            raise CheckpointError(f"the checkpoint lacks '{self._prefix}{name}'")
        shape = tuple(self._tensors[self._prefix + name].shape)
        if len(shape) != dimensions or 0 in shape:
            raise CheckpointError(f"'{self._prefix}{name}' has shape {shape}: expected {dimensions} dimensions, none 0")
        return shape

    def below(self, prefix: str) -> Shapes:
        """Return the shapes below a longer prefix."""
        return Shapes(self._tensors, self._prefix + prefix)

    def count(self, prefix: str) -> int:
        """Return how many of the numbers 0, 1, 2, ... follow the prefix: the length of a list of modules."""
        start = self._prefix + prefix
        numbers = {name[len(start) :].partition(".")[0] for name in self._tensors if name.startswith(start)}
        length = 0
        while str(length) in numbers:
            length += 1
        return length
