import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from mfm_hf.data.classes import CITYSCAPES, class_set_from_names
from mfm_hf.data.domain import BadExampleError, check_crop, check_domain, check_same_classes
from mfm_hf.data.domains import load_domain


def first_example(domain):
    return domain.decode(next(iter(domain.rows)))


def test_an_unknown_name_is_refused_with_the_names_that_exist():
    with pytest.raises(ValueError, match="'gta' is neither an existing folder nor a built-in domain: streets:game, s"):
        load_domain("gta", "source")


def test_an_existing_path_wins_over_a_built_in_name(folder, tmp_path, monkeypatch):
    folder.rename(tmp_path / "streets:game")
    monkeypatch.chdir(tmp_path)
    assert load_domain("streets:game", "source").num_rows == 6


def test_an_existing_path_may_hold_a_hash(folder):
    path = folder.rename(folder.with_name("set#train"))
    assert load_domain(str(path), "eval").split == "validation"


@pytest.mark.parametrize(
    ("name", "role", "split"),
    [
        ("streets:real", "source", "train"),
        ("streets:real", "target", "train"),
        ("streets:real", "eval", "validation"),
        ("streets:real#train", "eval", "train"),
        ("streets:real:32x64#val", "source", "validation"),
    ],
)
def test_the_role_decides_the_split_unless_it_is_named(name, role, split):
    domain = load_domain(name, role)
    assert (domain.name, domain.split) == (name, split)
    assert domain.num_rows == {"train": 2975, "validation": 500}[split]


def test_labels_are_kept_from_a_target(folder):
    source, target = load_domain(str(folder), "source"), load_domain(str(folder), "target")
    assert source.labelled
    assert not target.labelled
    assert first_example(target).label is None
    np.testing.assert_array_equal(first_example(source).image, first_example(target).image)
    assert all(row["label"] is None for row in target.rows)


def test_a_decoder_survives_pickling(folder):
    domain = load_domain(str(folder), "source")
    row = next(iter(domain.rows))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(domain.decode))(row).label, domain.decode(row).label)


def test_the_rows_of_a_folder_are_paths_in_order(folder):
    rows = list(load_domain(str(folder), "source").rows)
    assert [row["name"] for row in rows] == [f"town/{index:02d}" for index in range(6)]
    assert rows[3]["image"] == str(folder / "images" / "town" / "03.png")
    assert rows[3]["label"] == str(folder / "labels" / "town" / "03.png")


def test_as_a_dataset_the_examples_have_the_usual_columns(folder):
    domain = load_domain(str(folder), "source")
    row = next(iter(domain.to_dataset()))
    example = first_example(domain)
    assert set(row) == {"image", "label", "name"}
    assert row["name"] == example.name
    np.testing.assert_array_equal(np.asarray(row["image"]), example.image)
    np.testing.assert_array_equal(np.asarray(row["label"]), example.label)
    assert set(next(iter(load_domain(str(folder), "target").to_dataset()))) == {"image", "name"}


def test_a_domain_without_images_is_refused(number_domain):
    with pytest.raises(ValueError, match=r"numbers \(train\) has no images"):
        number_domain(count=0)


def test_the_first_rows_are_checked(number_domain):
    domain = number_domain(count=10, bad=(4, 7))
    with pytest.raises(BadExampleError, match="number 4"):
        check_domain(domain)
    with pytest.raises(BadExampleError, match="number 7"):
        check_domain(domain, max_bad_samples=1)
    check_domain(domain, max_bad_samples=2)
    check_domain(domain, limit=4)
    check_domain(replace(domain, check_row=None))


def test_a_crop_must_fit_into_the_images(number_domain):
    domain = number_domain(bad=(0,))
    check_crop(domain, (12, 16))
    for crop_size in ((13, 16), (12, 17)):
        with pytest.raises(ValueError, match=rf"crop {crop_size[0]}x{crop_size[1]} is larger .* numbers \(12x16\)"):
            check_crop(domain, crop_size)


@pytest.mark.parametrize(
    ("names", "difference"),
    [
        (("road", "car", "pole"), "only other has 'pole'"),
        (("car",), "only numbers has 'road'"),
        (("road", "bus"), "only numbers has 'car'; only other has 'bus'"),
        (("car", "road"), "class 0 is 'road' in the one and 'car' in the other"),
        (("road", "car", *"abcdef"), "only other has 'a', 'b', 'c', 'd', 'e', ..."),
    ],
)
def test_different_classes_are_shown(number_domain, names, difference):
    domain = replace(number_domain(), classes=class_set_from_names(("road", "car")))
    check_same_classes(domain, replace(domain, name="other"))
    with pytest.raises(ValueError, match=re.escape(f"numbers and other have different classes ({difference}): name")):
        check_same_classes(domain, replace(domain, name="other", classes=class_set_from_names(names)))


def test_the_classes_are_those_of_cityscapes_by_default(folder):
    assert load_domain(str(folder), "source").classes == CITYSCAPES
