from __future__ import annotations

import pytest

from mfm_hf.data.classes import CITYSCAPES, IGNORE_INDEX, ClassSet, class_set_from_names


def test_cityscapes_has_the_nineteen_classes_in_train_id_order():
    assert len(CITYSCAPES) == 19
    assert CITYSCAPES.id2label[0] == "road"
    assert CITYSCAPES.label2id["traffic light"] == 6
    assert CITYSCAPES.label2id["rider"] == 12
    assert CITYSCAPES.id2label[18] == "bicycle"
    assert CITYSCAPES.colors[CITYSCAPES.label2id["sky"]] == (70, 130, 180)
    assert IGNORE_INDEX not in CITYSCAPES.id2label


def test_id2label_and_label2id_are_inverse():
    assert {index: name for name, index in CITYSCAPES.label2id.items()} == CITYSCAPES.id2label


def test_generated_colors_are_distinct_and_never_black():
    colors = class_set_from_names(str(number) for number in range(1000)).colors
    assert len(set(colors)) == 1000
    assert (0, 0, 0) not in colors


def test_the_first_generated_colors_lie_far_apart():
    colors = class_set_from_names(str(number) for number in range(150)).colors
    nearest = min(
        max(abs(a - b) for a, b in zip(one, other, strict=True))
        for position, one in enumerate(colors)
        for other in colors[:position]
    )
    assert nearest >= 32


def test_generated_colors_do_not_depend_on_the_number_of_classes():
    assert class_set_from_names("abc").colors == class_set_from_names("abcdef").colors[:3]


@pytest.mark.parametrize(
    ("names", "colors", "message"),
    [
        ((), (), "at least one"),
        (("a", "a"), ((0, 0, 0), (1, 1, 1)), "unique"),
        (("a", ""), ((0, 0, 0), (1, 1, 1)), "empty"),
        (("a",), (), "one colour per class"),
        (("a",), ((0, 0, 256),), "0 to 255"),
    ],
)
def test_a_bad_class_set_is_refused(names, colors, message):
    with pytest.raises(ValueError, match=message):
        ClassSet(names, colors)
