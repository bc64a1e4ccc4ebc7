from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from mfm_hf.hub.image_processor import save_image_processor

NAMES = ("road", "car", "sky")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SegFormer of three classes and its image processor, saved as training saves them."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 16],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=16,
        id2label=dict(enumerate(NAMES)),
        label2id={name: index for index, name in enumerate(NAMES)},
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    save_image_processor(folder)
    return folder


@pytest.fixture
def folder_domain(tmp_path: Path) -> Path:
    """Three images of several sizes with labels, as a user has them."""
    folder = tmp_path / "city"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "classes.json").write_text(json.dumps({name: index for index, name in enumerate(NAMES)}))
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a": (32, 64), "b": (32, 64), "c": (40, 48)}.items():
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"images/{name}.png")
        Image.fromarray(rng.integers(0, 2, (height, width), dtype=np.uint8)).save(folder / f"labels/{name}.png")
    return folder
