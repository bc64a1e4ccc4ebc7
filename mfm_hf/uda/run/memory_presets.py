"""Options that fit a run into the memory of a GPU, by its size, and what holds without a preset.

None of them changes the batch. `docs/many_processes.md` says how much memory the recipes take under each.
"""

from __future__ import annotations

from typing import Any, Literal

MemoryPreset = Literal["11gb", "16gb", "24gb"]

MEMORY_OPTIONS: dict[MemoryPreset | None, dict[str, Any]] = {
    None: {"gradient_checkpointing": False, "mixed_precision": "no"},
    "24gb": {"encode": "one_by_one", "gradient_checkpointing": False, "mixed_precision": "no"},
    "16gb": {"encode": "one_by_one", "gradient_checkpointing": True, "mixed_precision": "no"},
    # The GTX 1080 Ti and the RTX 2080 Ti have no bf16.
    "11gb": {"encode": "one_by_one", "gradient_checkpointing": True, "mixed_precision": "fp16"},
}
