from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    """The function that saves something as the reference code bases save a checkpoint."""

    def save_as_checkpoint(content: Any) -> Path:
        path = tmp_path / "checkpoint.pth"
        torch.save(content, path)
        return path

    return save_as_checkpoint
