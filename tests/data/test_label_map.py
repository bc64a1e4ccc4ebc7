import json

import pytest

from mfm_hf.data.classes import CITYSCAPES, ClassSet, class_set_from_names
from mfm_hf.data.label_map import LabelMap, read_label_map, write_label_map

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


@pytest.fixture
def label_map(tmp_path):
    """A function that reads a label map from its JSON."""

    def read(content):
        path = tmp_path / "map.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return read_label_map(path)

    return read


def test_ids_from_0_are_train_ids(label_map):
    assert label_map({"thing": 1, "stuff": 0, "sky": 2}) == LabelMap(class_set_from_names(("stuff", "thing", "sky")))


def test_the_classes_of_cityscapes_have_their_colours(label_map):
    assert label_map(CITYSCAPES.label2id) == LabelMap(CITYSCAPES)
    assert label_map({name: 7 + i for name, i in CITYSCAPES.label2id.items()}).classes == CITYSCAPES


@pytest.mark.parametrize(
    ("content", "names", "table"),
    [
        ({"thing": 9, "stuff": 7}, ("thing", "stuff"), {9: 0, 7: 1}),
        ({"thing": 2, "stuff": 1}, ("thing", "stuff"), {2: 0, 1: 1}),
        ({"thing": {"ids": [9, 4]}, "stuff": 7}, ("thing", "stuff"), {9: 0, 4: 0, 7: 1}),
        ({"thing": 1, "stuff": 0, "ignore": 2}, ("stuff", "thing"), {0: 0, 1: 1, 2: None}),
        ({"ignore": {"ids": [0, 9]}, "thing": 2, "stuff": 1}, ("thing", "stuff"), {2: 0, 1: 1, 0: None, 9: None}),
    ],
)
def test_other_ids_are_numbered_in_the_order_of_the_file(label_map, content, names, table):
    assert label_map(content) == LabelMap(class_set_from_names(names), ids=table)


def test_colours_are_numbered_in_the_order_of_the_file(label_map):
    content = {"thing": {"colors": [RED, GREEN]}, "stuff": BLUE, "ignore": BLACK}
    classes = ClassSet(("thing", "stuff"), (RED, BLUE))
    assert label_map(content) == LabelMap(classes, colors={RED: 0, GREEN: 0, BLUE: 1, BLACK: None})


def test_beside_ids_colours_are_for_looking_at(label_map):
    content = {"thing": {"ids": [1], "colors": [RED]}, "stuff": 0}
    usual = class_set_from_names(("stuff", "thing")).colors
    assert label_map(content) == LabelMap(ClassSet(("stuff", "thing"), (usual[0], RED)))


@pytest.mark.parametrize(("thing", "kind", "key"), [(3, "ids", 3), (RED, "colors", RED)])
def test_all_others_can_be_ignored(label_map, thing, kind, key):
    assert not label_map({"thing": thing}).ignore_others
    read = label_map({"thing": thing, "ignore": "others"})
    assert (getattr(read, kind), read.ignore_others) == ({key: 0}, True)
    assert read.reader(255).ignore_others


@pytest.mark.parametrize(
    "classes",
    [CITYSCAPES, class_set_from_names(("a", 'the "b"', "strasse \u00e4")), ClassSet(("a", "b"), (RED, BLACK))],
)
def test_what_is_written_reads_back(tmp_path, classes):
    write_label_map(classes, tmp_path / "map.json")
    assert read_label_map(tmp_path / "map.json") == LabelMap(classes)


def test_no_class_is_written_as_ignored(tmp_path):
    with pytest.raises(ValueError, match="no class can be called 'ignore'"):
        write_label_map(class_set_from_names(("road", "ignore")), tmp_path / "map.json")
    assert not (tmp_path / "map.json").exists()


def test_there_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no label map .*map\.json: write \{"name": id, \.\.\.\}'):
        read_label_map(tmp_path / "map.json")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "Expecting property name"),
        ("[]", "it is no JSON object"),
        ("{}", "at least one class name"),
        ('{"ignore": 0}', "at least one class name"),
        ('{"a": 0, "a": 1}', "it has two entries 'a'"),
        ('{"": 0}', "Class names must be unique and not empty"),
        ({"a": 0, "b": 0}, "0 is 'a' and 'b'"),
        ({"a": 3, "ignore": 3}, "3 is 'a' and 'ignore'"),
        ({"a": RED, "b": RED}, r"\(255, 0, 0\) is 'a' and 'b'"),
        ({"a": 1, "b": RED}, "'b' has no ids, by which these labels are read"),
        ({"a": RED, "b": {"colors": []}}, "'b' has no colours, by which these labels are read"),
        ({"a": RED, "ignore": 0}, "'a' has no ids"),
        ({"a": 0, "b": True}, "'b' is true, neither an id"),
        ({"a": 0, "b": 1.0}, r"'b' is 1\.0, neither"),
        ({"a": 0, "b": -1}, "'b' is -1, neither"),
        ({"a": 0, "b": 65536}, "'b' is 65536, neither"),
        ({"a": 0, "b": [1, 2]}, r"'b' is \[1, 2\], neither an id \(0 to 65535\) nor a colour"),
        ({"a": [0, 0, 256]}, r"'a' is \[0, 0, 256\], neither"),
        ({"a": {"id": 3}}, r"'a' is .*, neither"),
        ({"a": {"ids": 3}}, r"'a' is .*, neither"),
        ({"a": {"colors": RED}}, r"'a' is .*, neither"),
        ({"a": 0, "ignore": "rest"}, "'ignore' is \"rest\", neither"),
    ],
)
def test_bad_label_maps(label_map, content, problem):
    with pytest.raises(ValueError, match=rf"map\.json is no label map \(.*{problem}.*\): write "):
        label_map(content)


def test_an_ignore_index_among_new_numbers(label_map):
    assert label_map({"a": 1, "b": 0}).reader(0).ignore_index == 0  # as in files of train ids
    with pytest.raises(ValueError, match="--ignore_index 0 is also the number of a class"):
        label_map({"a": 1, "b": 2}).reader(0)
