"""Settings of a network that the shapes of its weights cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfm_hf.hub.reference.checkpoint import CheckpointError


class Settings:
    """What the user says about a network, asked for by name while its config is built.

    Args:
        given: Values by name: whole numbers, lists of them, numbers or booleans.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = dict(given)
        self._asked: list[str] = []

    def integers(self, name: str, count: int, default: list[int] | None) -> list[int]:
        """Return a list of `count` positive integers.

        Raises:
            CheckpointError: The value is something else, or it is missing and there is no default.
        """
        value = self._take(name, default)
        if value is None:
            example = ",".join("12345678"[:count])
            raise CheckpointError(f"the weights do not tell {name}: add it, as in --set {name}={example}")
        values = value if isinstance(value, list) else [value]
        if len(values) != count or not all(isinstance(item, int) and item > 0 for item in values):
            raise CheckpointError(f"--set {name} must be {count} positive whole numbers, not {value!r}")
        return values

    def number(self, name: str, default: float) -> float:
        """Return a number from 0 to 1.

        Raises:
            CheckpointError: The value is something else.
        """
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise CheckpointError(f"--set {name} must be a number from 0 to 1, not {value!r}")
        return value

    def boolean(self, name: str, default: bool) -> bool:
        """Return True or False.

        Raises:
            CheckpointError: The value is something else.
        """
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise CheckpointError(f"--set {name} must be true or false, not {value!r}")
        return value

    def check_all_asked(self) -> None:
        """Refuse names that no part of the network asked for.

        Raises:
            CheckpointError: There is such a name.
        """
        unknown = sorted(set(self._given) - set(self._asked))
        if unknown:
            raise CheckpointError(f"--set {unknown[0]} means nothing to this network: it has {', '.join(self._asked)}")

    def _take(self, name: str, default: Any) -> Any:
        self._asked.append(name)
        return self._given.get(name, default)
