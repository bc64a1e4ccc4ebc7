"""What supported versions of `transformers` call by different names."""

from __future__ import annotations

from transformers import PreTrainedModel


def enable_activation_checkpointing(model: PreTrainedModel) -> None:
    """Let a model recompute its encoder in the backward pass, to save memory.

    Raises:
        ValueError: If its architecture cannot.
    """
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable()
    else:  # the older name, which warns since transformers 5.23
        model.gradient_checkpointing_enable()


__all__ = ["enable_activation_checkpointing"]
