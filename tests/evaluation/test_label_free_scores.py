from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SemanticSegmenterOutput

from mfm_hf.data.classes import class_set_from_names
from mfm_hf.data.domain import BadExampleError, Domain, Example, light_rows
from mfm_hf.evaluation import label_free_scores
from mfm_hf.evaluation.label_free_scores import LabelFreeScores
from tests.tiny_models import tiny_model

SIZES = [(32, 64), (32, 64), (48, 40), (32, 64)]
# Pixels of each image by class, one pixel of logits for 4 x 4 of the image, as `Painter` reads them.
SHARE_OF_FIRST = (0.25, 0.5, 0.75, 1.0)


def decode(row: dict, labels: bool = False, bad: int | None = None) -> Example:
    index = row["index"]
    if index == bad:
        raise BadExampleError(f"{index} cannot be read")
    height, width = SIZES[index]
    image = np.zeros((height, width, 3), np.uint8)
    image[int(height * SHARE_OF_FIRST[index]) :] = 255
    label = np.full((height, width), 255, np.uint8) if labels else None
    return Example(f"town/{index}", image, label)


def toy_domain(**kwargs: object) -> Domain:
    rows = [{"index": index} for index in range(len(SIZES))]
    classes = class_set_from_names(("dark", "bright", "else"))
    return Domain(
        "toys", "train", classes, 255, labelled=False, rows=light_rows(rows), num_rows=len(rows),
        decode=partial(decode, **kwargs), row_at=rows.__getitem__,
    )  # fmt: skip


class Painter(nn.Module):
    """Calls bright pixels `bright` and dark ones `dark`, as sure as it is told, with a stride of 4."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, dark: int = 0, bright: int = 1, sure: float = 100.0) -> None:
        super().__init__()
        self.classes, self.sure = (dark, bright), sure
        self.dropout = nn.Dropout()

    def forward(self, pixel_values: Tensor) -> SemanticSegmenterOutput:
        assert not self.training
        is_bright = pixel_values[:, 0, ::4, ::4] > 0
        logits = torch.zeros(len(is_bright), 3, *is_bright.shape[1:])
        logits[:, self.classes[1]] += self.sure * is_bright
        logits[:, self.classes[0]] += self.sure * ~is_bright
        return SemanticSegmenterOutput(logits=logits)


PIXELS = [height // 4 * (width // 4) for height, width in SIZES]
DARK = sum(share * count for share, count in zip(SHARE_OF_FIRST, PIXELS, strict=True)) / sum(PIXELS)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_shares_are_those_of_the_pixels(batch_size: int) -> None:
    scores = LabelFreeScores(toy_domain(), 4, batch_size=batch_size)
    first = scores.measure(Painter(), teacher=Painter(bright=2))
    assert first == {"prediction_entropy": pytest.approx(0, abs=1e-6), "teacher_agreement": pytest.approx(DARK)}
    second = scores.measure(Painter(dark=2), teacher=Painter(dark=2))
    assert second["teacher_agreement"] == 1
    assert second["prediction_stability"] == pytest.approx(1 - DARK)
    assert scores.measure(Painter(dark=2))["prediction_stability"] == 1


@pytest.mark.parametrize("sure", [0.0, 1.0, 2.0])
def test_entropy_is_that_of_pytorch_s_own_distribution(sure: float) -> None:
    expected = torch.distributions.Categorical(logits=torch.tensor([sure, 0.0, 0.0])).entropy() / math.log(3)
    measured = LabelFreeScores(toy_domain(), 4).measure(Painter(sure=sure))
    assert measured == {"prediction_entropy": pytest.approx(expected.item(), rel=1e-5)}


def test_labels_are_not_looked_at() -> None:
    plain, labelled = toy_domain(), replace(toy_domain(labels=True), labelled=True)
    assert LabelFreeScores(plain, 4).measure(Painter()) == LabelFreeScores(labelled, 4).measure(Painter())


def test_an_image_that_cannot_be_read_is_left_out() -> None:
    scores = LabelFreeScores(toy_domain(bad=2), 4)
    scores.measure(Painter())
    assert sorted(scores.tensors()) == ["town/0", "town/1", "town/3"]
    scores.domain = toy_domain(bad=0)
    again = scores.measure(Painter(dark=1))
    dark = [share * count for share, count in zip(SHARE_OF_FIRST, PIXELS, strict=True)]
    assert again["prediction_stability"] == pytest.approx(1 - (dark[1] + dark[3]) / (PIXELS[1] + PIXELS[3]))


def test_what_is_not_finite_is_no_score() -> None:
    assert LabelFreeScores(toy_domain(), 4).measure(Painter(sure=math.nan)) == {}


def test_predictions_go_on_where_they_were_saved() -> None:
    scores, resumed = LabelFreeScores(toy_domain(), 4), LabelFreeScores(toy_domain(), 4)
    scores.measure(Painter())
    saved = scores.tensors()
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in saved.items()} == {
        f"town/{index}": (torch.uint8, (height // 4, width // 4)) for index, (height, width) in enumerate(SIZES)
    }
    resumed.load_tensors(saved)
    assert resumed.measure(Painter(dark=2)) == scores.measure(Painter(dark=2))


def test_networks_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher's BatchNorm normalises with its batch in training, and would learn from what it is shown here."""
    model = tiny_model(rebuilder=None).to_inference().train()
    model.dropout_that_is_off = nn.Dropout().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    assert LabelFreeScores(toy_domain(), 4).measure(model, model)["teacher_agreement"] == 1
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_processes_share_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, one after the other: `gather_object` gives the second one what both have counted."""
    whole = LabelFreeScores(toy_domain(), 4)
    expected = [whole.measure(Painter(), Painter(bright=2)), whole.measure(Painter(dark=2), Painter())]
    gathered: list[list] = [[], []]
    parts = [
        LabelFreeScores(toy_domain(), 4, accelerator=SimpleNamespace(process_index=rank, num_processes=2))
        for rank in range(2)
    ]
    for rank, part in enumerate(parts):

        def gather(mine: list, rank: int = rank) -> list:
            gathered[rank] += mine
            return gathered[0][len(gathered[rank]) - 1 : len(gathered[rank])] + mine if rank else mine

        monkeypatch.setattr(label_free_scores, "gather_object", gather)
        measured = [part.measure(Painter(), Painter(bright=2)), part.measure(Painter(dark=2), Painter())]
        predictions = part.tensors()
    assert measured == [pytest.approx(scores) for scores in expected]
    assert predictions.keys() == whole.tensors().keys()
