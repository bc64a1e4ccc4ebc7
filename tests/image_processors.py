"""Whether this installation can make image processors: `transformers` before 5.22 needs torchvision for it."""

import pytest
from transformers import SegformerImageProcessorPil


def _can_make_one() -> bool:
    try:
        SegformerImageProcessorPil()
    except ImportError:
        return False
    return True


needs_image_processor = pytest.mark.skipif(not _can_make_one(), reason="transformers < 5.22 without torchvision")
