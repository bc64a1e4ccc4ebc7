"""Translating state dicts between a reference code base and us, module by module, in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Module:
    """A module with the same tensors on both sides."""

    reference: str
    ours: tuple[str, ...]

    def split(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Return our tensors, one per name in `ours`, of the reference's."""
        return (tensor,)

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the reference's tensor of ours: the inverse of `split`."""
        return tensors[0]


class StackedModule(Module):
    """Several of our modules are one in the reference, stacked along the first axis (`kv`: keys, then values)."""

    def split(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Cut the tensor into equal parts that share no memory."""
        return tuple(part.clone() for part in tensor.chunk(len(self.ours)))

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """Stack the parts."""
        return torch.cat(tuple(tensors))


@dataclass(frozen=True)
class ReversedModule(Module):
    """A convolution over concatenated stages, which the reference concatenates in the opposite order."""

    stages: int

    def split(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Reverse the order of the blocks of input channels, one block per stage."""
        return (tensor.unflatten(1, (self.stages, -1)).flip(1).flatten(1, 2),)

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """Do the same again."""
        return self.split(tensors[0])[0]


@dataclass(frozen=True)
class NameTable:
    """All modules of a network.

    Attributes:
        modules: In the reference's order.
        unused: Names and shapes of tensors that the reference holds and never reads. They are dropped on the way to
            us and made again, as zeros, on the way back.
    """

    modules: tuple[Module, ...]
    unused: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def to_ours(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate a reference state dict that holds all modules of the table."""
        by_module = _by_module(tensors)
        return {
            f"{name}.{leaf}": part
            for module in self.modules
            for leaf, tensor in by_module[module.reference].items()
            for name, part in zip(module.ours, module.split(tensor), strict=True)
        }

    def to_reference(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate our state dict; works on the meta device too.

        Raises:
            ValueError: If the table lacks one of the tensors.
        """
        by_module = _by_module(tensors)
        result = {name: torch.zeros(shape) for name, shape in self.unused.items()}
        for module in self.modules:
            parts = [by_module.pop(name) for name in module.ours]
            for leaf in parts[0]:
                result[f"{module.reference}.{leaf}"] = module.join([part[leaf] for part in parts])
        if by_module:
            raise ValueError(f"the reference code bases have no counterpart of '{next(iter(by_module))}'")
        return result


def prefixed(modules: Iterable[Module], reference: str, ours: str) -> Iterator[Module]:
    """Yield the modules with a prefix before their names on either side."""
    for module in modules:
        yield replace(module, reference=reference + module.reference, ours=tuple(ours + name for name in module.ours))


def _by_module(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        modules.setdefault(module, {})[leaf] = tensor
    return modules
