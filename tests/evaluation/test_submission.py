from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from mfm_hf.data.classes import CITYSCAPES, class_set_from_names
from mfm_hf.data.domain import BadExampleError, Domain, Example, PaperSetting
from mfm_hf.evaluation.evaluator import evaluate_model
from mfm_hf.evaluation.submission import write_submission
from tests.tiny_models import tiny_model

NAMES = ("fog/GOPR0475/GOPR0475_frame_000247_rgb_anon", "night/GP010364/GP010364_frame_000001_rgb_anon")
FILES = ["GOPR0475_frame_000247_rgb_anon.png", "GP010364_frame_000001_rgb_anon.png"]
SIZES = [(48, 96), (54, 96)]


def indices() -> Iterator[dict[str, int]]:
    yield from ({"index": index} for index in range(2))


def decode(row: dict) -> Example:
    index = row["index"]
    pixels = np.random.default_rng(index).integers(0, 256, (*SIZES[index], 3)).astype(np.uint8)
    return Example(NAMES[index], pixels, None)


@pytest.fixture
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    return tiny_model("segformer").to_inference()


@pytest.fixture
def domain() -> Domain:
    rows = datasets.IterableDataset.from_generator(indices)
    paper = PaperSetting(num_examples={"test": 2})
    return Domain("acdc:data#test", "test", CITYSCAPES, 255, False, rows, 2, decode, paper=paper)


def read(file: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        return {name: np.asarray(Image.open(BytesIO(archive.read(name)))) for name in archive.namelist()}


def evaluated(model: PreTrainedModel, domain: Domain) -> list[Tensor]:
    """What an evaluation of the same images predicts, had they labels."""

    def with_label(row: dict) -> Example:
        example = decode(row)
        return replace(example, label=np.zeros(example.image.shape[:2], np.uint8))

    maps: list[Tensor] = []
    labelled = replace(domain, decode=with_label, labelled=True)
    evaluate_model(model, labelled, progress=False, on_batch=lambda _, batch: maps.extend(batch))
    return maps


def test_acdc_gets_train_ids_at_the_images_own_size(model: PreTrainedModel, domain: Domain, tmp_path: Path) -> None:
    file = tmp_path / "new" / "acdc.zip"
    assert write_submission(model, domain, file, batch_size=2, progress=False) == 2
    images = read(file)
    assert list(images) == [f"labelTrainIds/{name}" for name in FILES]
    for image, expected in zip(images.values(), evaluated(model, domain), strict=True):
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, expected.numpy())
    assert [path.name for path in file.parent.iterdir()] == ["acdc.zip"]


def test_images_may_be_seen_at_another_size(model: PreTrainedModel, domain: Domain, tmp_path: Path) -> None:
    for name, box in (("native.zip", None), ("resized.zip", (64, 36))):
        write_submission(model, domain, tmp_path / name, box=box, progress=False)
    native, resized = read(tmp_path / "native.zip"), read(tmp_path / "resized.zip")
    assert [image.shape for image in resized.values()] == SIZES
    assert any((resized[name] != native[name]).any() for name in native)


def test_dark_zurich_gets_three_folders(model: PreTrainedModel, domain: Domain, tmp_path: Path) -> None:
    write_submission(model, replace(domain, name="dark_zurich:data#test"), tmp_path / "dz.zip", progress=False)
    images = read(tmp_path / "dz.zip")
    folders = ("labelTrainIds", "labelTrainIds_invalid", "confidence")
    assert sorted(images) == sorted(f"{folder}/{name}" for folder in folders for name in FILES)
    for name in FILES:
        label, invalid, confidence = (images[f"{folder}/{name}"] for folder in folders)
        np.testing.assert_array_equal(label, invalid)
        assert confidence.shape == label.shape
        assert set(confidence.flatten().tolist()) == {65535}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "streets:real"}, "there is no submission for streets:real: give acdc:DIR#test or dark_zurich:DIR"),
        ({"split": "validation"}, "takes the test images, not validation: give acdc:DIR#test"),
        ({"num_rows": 1}, "holds 1 images, but a submission needs all 2: complete the download"),
        ({"classes": class_set_from_names(("road", "car"))}, "the model has 19 labels"),
        (
            {"decode": lambda row: replace(decode(row), name=NAMES[0])},
            "two images of acdc:data#test are called GOPR0475",
        ),
    ],
)
def test_what_a_server_would_refuse_is_refused(
    model: PreTrainedModel, domain: Domain, tmp_path: Path, change: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_submission(model, replace(domain, **change), tmp_path / "acdc.zip", progress=False)
    assert not list(tmp_path.iterdir())


def test_an_image_that_cannot_be_read_leaves_no_file(model: PreTrainedModel, domain: Domain, tmp_path: Path) -> None:
    def broken(row: dict) -> Example:
        if row["index"] == 1:
            raise BadExampleError("image 1 cannot be read")
        return decode(row)

    with pytest.raises(BadExampleError, match="image 1 cannot be read"):
        write_submission(model, replace(domain, decode=broken), tmp_path / "acdc.zip", progress=False)
    assert not list(tmp_path.iterdir())
