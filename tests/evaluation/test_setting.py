from __future__ import annotations

from dataclasses import replace

import datasets
import pytest
from transformers import PreTrainedModel

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.data.domain import Domain, PaperSetting
from mfm_hf.evaluation.setting import EvaluationSetting, choose_box, choose_window
from mfm_hf.models.sliding_window import SlidingWindow
from tests.tiny_models import tiny_model

PAPER = PaperSetting(half_box=(1024, 512), full_box=(2048, 1024))


@pytest.fixture(params=["segformer", "hrda"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return tiny_model(request.param)


def domain(paper: PaperSetting | None) -> Domain:
    rows = datasets.IterableDataset.from_generator(lambda: iter([{"index": 0}]))
    return Domain("toys", "validation", CITYSCAPES, 255, True, rows, 1, decode=dict, paper=paper)


def test_the_first_with_something_to_say_chooses_the_size(model: PreTrainedModel) -> None:
    benchmark, folder = domain(PAPER), domain(None)
    papers = (2048, 1024) if model.config.model_type == "hrda" else (1024, 512)
    assert choose_box((96, 64), (128, 64), benchmark, model) == ((96, 64), "user")
    assert choose_box("native", (128, 64), benchmark, model) == (None, "user")
    assert choose_box(None, (128, 64), benchmark, model) == ((128, 64), "checkpoint")
    assert choose_box(None, None, benchmark, model) == (papers, "papers")
    assert choose_box(None, None, folder, model) == (None, "nobody")


def test_hrda_brings_windows_of_its_own_that_slide_once() -> None:
    hrda = tiny_model("hrda")
    hrda.config.window_size, hrda.config.window_stride = [64, 64], [32, 32]
    own = SlidingWindow((64, 64), (32, 32))
    assert choose_window(None, None, 3, hrda) == replace(own, batch_size=3)
    assert hrda.config.sliding_window is None


def test_windows_that_are_asked_for_win(model: PreTrainedModel) -> None:
    assert choose_window((96, 48), None, 1, model) == SlidingWindow((96, 48), (48, 24))
    assert choose_window((96, 48), (96, 48), 2, model) == SlidingWindow((96, 48), (96, 48), 2)
    assert choose_window("whole", None, 1, model) is None
    with pytest.raises(ValueError, match="give their --window_size, too"):
        choose_window("whole", (8, 8), 1, model)
    with pytest.raises(ValueError, match="--window_blending is how windows are merged"):
        choose_window("whole", None, 1, model, "uniform")


@pytest.mark.parametrize("size", [None, (96, 48)])
def test_windows_are_blended_as_asked_for(size: tuple[int, int] | None) -> None:
    """HRDA's own, too."""
    hrda = tiny_model("hrda")
    hrda.config.window_size, hrda.config.window_stride = [64, 64], [32, 32]
    window = choose_window(size, None, 1, hrda, "gaussian")
    assert window == SlidingWindow(size or (64, 64), (48, 24) if size else (32, 32), blending="gaussian")


def test_a_setting_says_what_it_is() -> None:
    assert str(EvaluationSetting(None, "nobody", None)) == "images at their own size, seen whole"
    windowed = EvaluationSetting((2048, 1024), "papers", SlidingWindow((1024, 1024), (512, 512)))
    assert str(windowed) == (
        "images fitted into 2048 x 1024 (the papers' size for this benchmark), "
        "seen in windows of 1024x1024 every 512x512"
    )
    assert windowed.as_json() == {
        "image_size": [2048, 1024],
        "image_size_chosen_by": "papers",
        "window_size": [1024, 1024],
        "window_stride": [512, 512],
        "window_blending": "uniform",
        "precision": "float32",
        "compile": False,
    }
    fast = EvaluationSetting(None, "nobody", SlidingWindow((64, 64), (32, 32), 1, "gaussian"), "bfloat16", True)
    assert str(fast) == (
        "images at their own size, seen in windows of 64x64 every 32x32, blended by Gaussian weights, "
        "in bfloat16, compiled"
    )
    assert (fast.as_json()["window_blending"], fast.as_json()["precision"]) == ("gaussian", "bfloat16")
    assert fast.as_json()["compile"] is True
    assert EvaluationSetting(None, "nobody", None).as_json()["window_blending"] is None
