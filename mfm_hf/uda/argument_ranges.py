"""What the numbers among the arguments of a run may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_AT_LEAST_ONE = (
    "max_steps", "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps",
    "logging_steps", "max_skipped_steps", "save_total_limit", "shuffle_buffer", "patch_size", "mfm_dim", "mfm_blocks",
)  # fmt: skip
_NOT_NEGATIVE = (
    "warmup_steps", "mfm_start_step", "save_steps", "eval_steps", "picture_steps", "selection_images", "seed",
    "dataloader_num_workers", "max_bad_samples", "rare_class_min_pixels", "rare_class_min_crop_ratio", "learning_rate",
    "rebuilder_learning_rate", "weight_decay", "mfm_weight", "feature_distance_weight",
)  # fmt: skip
_LEAST = {**dict.fromkeys(_AT_LEAST_ONE, 1), **dict.fromkeys(_NOT_NEGATIVE, 0)}
_ABOVE_ZERO = ("max_grad_norm", "rare_class_temperature")
_SHARES = {
    "mfm_ratio": "the tokens", "patch_mask_ratio": "the patches", "teacher_alpha": "the teacher",
    "pseudo_label_threshold": "all probability",
}  # fmt: skip
# Names, how many numbers there must be, and the least of each.
_PIXELS = {
    "pseudo_label_ignore_rows": (2, 0), "pseudo_label_margins": (4, 0), "source_size": (2, 1), "target_size": (2, 1),
    "eval_size": (2, 1),
}  # fmt: skip
_SIDES = ("crop_size", "mfm_grid")


def check_ranges(arguments: Mapping[str, Any]) -> None:
    """Check every number; None, which means the recipe's, is always in range.

    Args:
        arguments: By name, those of `UdaTrainingArguments`.

    Raises:
        ValueError: If one is out of its range. The message names it.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"--{name} must be a finite number, not {value}")
        if name in _LEAST and value < _LEAST[name]:
            raise ValueError(f"--{name} must be at least {_LEAST[name]}, not {value}")
        if name in _ABOVE_ZERO and value <= 0:
            raise ValueError(f"--{name} must be above 0, not {value}")
        if name in _SHARES and not 0 <= value <= 1:
            raise ValueError(f"--{name} is a share of {_SHARES[name]}, from 0 to 1, not {value}")
        if name in _PIXELS and (len(value) != _PIXELS[name][0] or min(value) < _PIXELS[name][1]):
            raise ValueError(f"--{name} takes {_PIXELS[name][0]} numbers of pixels, not {value}")
        if name in _SIDES and (len(value) not in (1, 2) or min(value) < 1):
            raise ValueError(f"--{name} takes one or two positive numbers, not {value}")
