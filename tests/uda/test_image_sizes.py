from dataclasses import replace

import numpy as np
import pytest

from mfm_hf.data.domain import PaperSetting
from mfm_hf.data.domains import load_domain
from mfm_hf.data.resizing import resize_label
from mfm_hf.uda.image_sizes import (
    at_evaluation_size,
    at_training_size,
    image_box,
    scaled_margins,
    settle_target_borders,
)
from mfm_hf.uda.recipes import DACS, DAFORMER, HRDA, MIC
from mfm_hf.uda.training_args import UdaTrainingArguments

CITYSCAPES = PaperSetting(
    half_box=(1024, 512), full_box=(2048, 1024), margins=(30, 240, 30, 30), margins_size=(1024, 2048)
)


@pytest.fixture
def target():
    return replace(load_domain("streets:real:64x128", "target"), paper=CITYSCAPES)


@pytest.mark.parametrize(
    ("crop_size", "asked", "wanted"),
    [
        ((512, 512), None, (1024, 512)),
        ((64, 128), None, (1024, 512)),
        ((1024, 1024), None, (2048, 1024)),
        ((1024, 1024), [640, 320], (640, 320)),
    ],
)
def test_the_crop_chooses_between_the_papers_sizes_and_the_user_wins(target, crop_size, asked, wanted):
    assert image_box(target, crop_size, asked) == wanted


def test_other_data_keeps_its_size():
    domain = load_domain("streets:real:64x128", "source")
    assert at_training_size(domain, (64, 64), None) is domain


def test_training_resizes_labels_and_evaluation_does_not():
    domain = load_domain("streets:real:64x128", "eval")
    row = next(iter(domain.rows))
    training = at_training_size(domain, (32, 32), [64, 32]).decode(row)
    evaluation = at_evaluation_size(domain, (32, 32), [64, 32]).decode(row)
    assert training.image.shape == evaluation.image.shape == (32, 64, 3)
    assert training.label.shape == (32, 64)
    assert evaluation.label.shape == (64, 128)


@pytest.mark.parametrize("size", [(512, 1024), (1024, 2048), (256, 512), (300, 600)])
def test_margins_shrink_as_a_mask_of_the_native_image_does(size):
    mask = np.zeros((1024, 2048), np.uint8)
    mask[30:-240, 30:-30] = 1  # `valid_pseudo_mask` of HRDA
    top, bottom, left, right = scaled_margins(CITYSCAPES, size)
    rebuilt = np.zeros(size, np.uint8)
    rebuilt[top : size[0] - bottom, left : size[1] - right] = 1
    np.testing.assert_array_equal(rebuilt, resize_label(mask, size))


@pytest.mark.parametrize(
    ("recipe", "crop_size", "rows", "margins"),
    [
        (DACS, (512, 512), None, None),
        (DAFORMER, (512, 512), [15, 120], None),
        (DAFORMER, (256, 256), None, [15, 120, 15, 15]),  # a lower crop than the image: rows of it would lie anywhere
        (HRDA, (1024, 1024), None, [30, 240, 30, 30]),
        (MIC, (512, 512), None, [15, 120, 15, 15]),
    ],
)
def test_recipes_ignore_the_borders_as_their_papers_do(target, recipe, crop_size, rows, margins):
    args = UdaTrainingArguments()
    settle_target_borders(args, replace(recipe, crop_size=crop_size), target)
    assert args.pseudo_label_ignore_rows == rows
    assert args.pseudo_label_margins == margins


def test_what_the_user_says_of_borders_stands(target):
    args = UdaTrainingArguments(pseudo_label_margins=[0, 0, 0, 0])
    settle_target_borders(args, HRDA, target)
    assert args.pseudo_label_margins == [0, 0, 0, 0]
    assert args.pseudo_label_ignore_rows is None


def test_a_target_without_bad_borders_is_trusted():
    args = UdaTrainingArguments()
    settle_target_borders(args, HRDA, load_domain("streets:real:64x128", "target"))
    assert args.pseudo_label_margins is None
