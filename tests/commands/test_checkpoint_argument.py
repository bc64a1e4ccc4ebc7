from __future__ import annotations

from pathlib import Path

import pytest

from mfm_hf.commands import _checkpoint


def test_what_older_transformers_lack_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        @staticmethod
        def from_pretrained(name: str) -> None:
            raise ImportError("AutoImageProcessor requires the Torchvision library")

    monkeypatch.setattr(_checkpoint, "AutoImageProcessor", Refusing)
    with pytest.raises(ValueError, match="need torchvision: install it, or a newer transformers"):
        _checkpoint.load_image_processor(str(checkpoint))
