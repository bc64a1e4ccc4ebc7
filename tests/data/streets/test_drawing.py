from __future__ import annotations

import zlib

import numpy as np
import pytest

from mfm_hf.data.classes import CITYSCAPES, IGNORE_INDEX
from mfm_hf.data.streets.drawing import STREETS_SPLITS, draw_street

STYLES = ("game", "real")


@pytest.fixture(scope="module")
def sample() -> dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]]:
    """Small scenes of the splits that are trained on or evaluated on."""
    splits = (("game", "train"), ("real", "train"), ("real", "validation"))
    return {key: [draw_street(*key, index, 48, 96) for index in range(60)] for key in splits}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(64, 128), (65, 97), (32, 32), (40, 200)])
def test_image_and_label_have_the_size_and_type_asked_for(style, size):
    image, label = draw_street(style, "train", 3, *size)
    assert image.shape == (*size, 3)
    assert label.shape == size
    assert image.dtype == label.dtype == np.uint8
    assert set(np.unique(label)) <= {*range(len(CITYSCAPES)), IGNORE_INDEX}
    assert image.std() > 20


@pytest.mark.parametrize("style", STYLES)
def test_the_same_scene_is_drawn_twice(style):
    first, second = (draw_street(style, "train", 11, 48, 80) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_scenes_of_other_indices_splits_and_styles_differ():
    labels = [
        draw_street(style, split, index, 32, 64)[1].tobytes()
        for style in STYLES
        for split in STREETS_SPLITS
        for index in range(20)
    ]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("style", STYLES)
def test_a_scene_is_the_same_street_at_every_size(style):
    small_image, small = draw_street(style, "validation", 5, 64, 128)
    large_image, large = draw_street(style, "validation", 5, 192, 384)
    assert (large[1::3, 1::3] == small).mean() > 0.9
    assert np.abs(large_image.mean((0, 1)) - small_image.mean((0, 1))).max() < 6


@pytest.mark.parametrize("key", [("game", "train"), ("real", "train"), ("real", "validation")])
def test_every_class_is_learnable_and_rare_ones_are_rare(sample, key):
    labels = np.stack([label for _, label in sample[key]])
    share = np.bincount(labels.ravel(), minlength=256) / labels.size
    scenes = np.array([(labels == index).any(axis=(1, 2)).mean() for index in range(len(CITYSCAPES))])
    assert scenes.min() > 0.08, CITYSCAPES.names[int(scenes.argmin())]
    common = [CITYSCAPES.label2id[name] for name in ("road", "building", "sky", "vegetation", "car")]
    rare = [
        CITYSCAPES.label2id[name] for name in ("rider", "motorcycle", "bicycle", "train", "traffic light", "person")
    ]
    assert share[common].min() > 0.04
    assert share[rare].max() < 0.015
    assert share[IGNORE_INDEX] < 0.05


def test_a_street_is_laid_out_as_streets_are(sample):
    """Sky above, road below, and the nearer the wider: more road in every lower third."""
    ids = CITYSCAPES.label2id
    for scenes in sample.values():
        labels = np.stack([label for _, label in scenes])
        top, middle, bottom = (labels[:, start : start + 16] for start in (0, 16, 32))
        assert not (bottom == ids["sky"]).any()
        assert (top == ids["sky"]).mean() > (middle == ids["sky"]).mean()
        assert (top == ids["road"]).sum() == 0
        assert (bottom == ids["road"]).mean() > (middle == ids["road"]).mean()


def test_the_real_domain_is_greyer_and_noisier_than_the_game(sample):
    def colourfulness(image: np.ndarray) -> float:
        """Mean distance of the pixels from grey, after the cast of the whole image is taken off."""
        chroma = image - image.mean(axis=2, keepdims=True)
        return float(np.linalg.norm(chroma - chroma.mean(axis=(0, 1)), axis=2).mean())

    def roughness(image: np.ndarray, label: np.ndarray) -> float:
        """Mean step between neighbours on the road, away from borders between classes."""
        steps = np.abs(np.diff(image.mean(axis=2), axis=1))
        return float(np.median(steps[(label[:, 1:] == 0) & (label[:, :-1] == 0)]))

    game, real = sample["game", "train"], sample["real", "train"]
    colours = [np.mean([colourfulness(image) for image, _ in scenes]) for scenes in (game, real)]
    assert colours[0] > 1.5 * colours[1]
    assert np.mean([roughness(*scene) for scene in real]) > 1.4 * np.mean([roughness(*scene) for scene in game])


def test_the_light_of_the_real_domain_varies_more(sample):
    def spread(scenes: list[tuple[np.ndarray, np.ndarray]]) -> float:
        """Standard deviation of the white balance, as red over blue."""
        means = np.array([image.mean(axis=(0, 1)) for image, _ in scenes])
        return float((means[:, 0] / means[:, 2]).std())

    assert spread(sample["real", "train"]) > 2 * spread(sample["game", "train"])


@pytest.mark.parametrize(
    ("style", "checksum", "color"),
    [("game", 1579701621, (90.0, 89.6, 96.2)), ("real", 3003732293, (101.7, 91.6, 66.4))],
)
def test_scenes_stay_what_they_are(style, checksum, color):
    """Published numbers are measured on these scenes: whoever changes them does so knowingly."""
    image, label = draw_street(style, "train", 0, 64, 128)
    assert zlib.crc32(label.tobytes()) == checksum
    np.testing.assert_allclose(image.mean((0, 1)), color, atol=1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cartoon", "train", 0, 64, 128), "game, real"),
        (("game", "test", 0, 64, 128), "train, validation"),
        (("game", "train", 2975, 64, 128), "0 to 2974"),
        (("real", "validation", 500, 64, 128), "0 to 499"),
        (("real", "validation", -1, 64, 128), "0 to 499"),
        (("real", "train", 0, 31, 128), "at least 32"),
        (("real", "train", 0, 64, 31), "at least 32"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_street(*arguments)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("split", STREETS_SPLITS)
def test_the_last_scene_of_a_split_can_be_drawn(style, split):
    draw_street(style, split, STREETS_SPLITS[split] - 1, 32, 64)
