import json
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mfm_hf.data.class_statistics import ClassStatistics, collect_class_statistics
from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.data.domain import BadExampleError, light_rows
from mfm_hf.data.domains import load_domain
from mfm_hf.data.streets.drawing import draw_street


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mfm_hf" / "class_statistics"


def counted_by_hand(labels):
    return [[int((label == class_id).sum()) for class_id in range(19)] for label in labels]


def labels_of(folder):
    return [np.asarray(Image.open(path)) for path in sorted((folder / "labels").rglob("*.png"))]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_folder_is_counted(folder, write_pair, num_workers):
    label = np.full((6, 8), 255, np.uint8)
    label[:2] = 7
    write_pair(folder, "town/06", label)
    statistics = collect_class_statistics(load_domain(str(folder), "source"), num_workers)
    assert statistics.counts.dtype == np.int64
    assert statistics.counts.tolist() == counted_by_hand(labels_of(folder))
    assert statistics.counts[6].sum() == 16  # what is ignored is not counted
    assert statistics.pixels_per_class.tolist() == np.sum(counted_by_hand(labels_of(folder)), axis=0).tolist()
    assert statistics.names == CITYSCAPES.names


@pytest.mark.parametrize("ignore_index", [255, -100])
def test_a_drawn_domain_is_counted(ignore_index, user_cache):
    domain = load_domain("streets:game:32x64", "source", ignore_index)
    domain = replace(domain, rows=light_rows([{"index": index} for index in range(4)]), num_rows=4)
    labels = [draw_street("game", "train", index, 32, 64)[1] for index in range(4)]
    assert collect_class_statistics(domain).counts.tolist() == counted_by_hand(labels)
    assert len(list(user_cache.iterdir())) == 1


def test_a_domain_that_offers_only_examples_is_counted(number_domain):
    domain = number_domain(3)
    labels = [domain.decode({"number": number}).label for number in range(3)]
    assert collect_class_statistics(domain).counts.tolist() == counted_by_hand(labels)


def test_a_domain_without_labels_is_refused(folder):
    with pytest.raises(ValueError, match="has no labels to count classes in"):
        collect_class_statistics(load_domain(str(folder), "target"))


def test_counts_must_fit_the_classes():
    with pytest.raises(ValueError, match=r"\(2, 3\) do not fit 2 classes"):
        ClassStatistics(np.zeros((2, 3), np.int64), ("road", "sky"))


def test_bad_labels_are_counted_up_to_the_limit_and_never_cached(folder, caplog):
    (folder / "labels" / "town" / "02.png").write_text("no image")
    domain = load_domain(str(folder), "source")
    for _ in range(2):
        statistics = collect_class_statistics(domain, max_bad_samples=1)
        assert statistics.counts.sum(axis=1).tolist() == [192, 192, 0, 192, 192, 192]
    assert ["cannot read" in record.getMessage() for record in caplog.records] == [True, True]
    with pytest.raises(BadExampleError, match=r"\(--max_bad_samples is 0\): cannot read .*labels/town/02\.png"):
        collect_class_statistics(domain)


def test_a_bar_is_shown_while_counting_and_not_for_a_cache(folder, capsys):
    for shown in (True, False):
        collect_class_statistics(load_domain(str(folder), "source"), num_workers=2, progress=True)
        assert (f"count classes of {folder}: 100%" in capsys.readouterr().err) == shown


# The cache


def must_not_be_read(row):
    raise AssertionError(f"{row} was read though its counts are cached")


def collect_without_reading(folder, **arguments):
    domain = load_domain(str(folder), "source", **arguments)
    return collect_class_statistics(
        replace(domain, label_source=replace(domain.label_source, read=must_not_be_read))
    ).counts


def collect(folder, **arguments):
    return collect_class_statistics(load_domain(str(folder), "source", **arguments)).counts


def test_labels_are_read_once(folder, user_cache):
    counts = collect(folder)
    np.testing.assert_array_equal(collect_without_reading(folder), counts)
    assert sorted(path.name for path in folder.iterdir()) == ["class_statistics.npz", "images", "labels"]
    assert not user_cache.exists()


def test_a_moved_folder_keeps_its_statistics(folder):
    counts = collect(folder)
    np.testing.assert_array_equal(collect_without_reading(folder.rename(folder.with_name("moved"))), counts)


def test_a_changed_label_is_counted_anew(folder):
    counts = collect(folder)
    path = folder / "labels" / "town" / "04.png"
    Image.fromarray(np.full((12, 16), 3, np.uint8)).save(path)
    changed = collect(folder)
    assert changed[4].tolist() == [0, 0, 0, 192, *[0] * 15]
    np.testing.assert_array_equal(np.delete(changed, 4, axis=0), np.delete(counts, 4, axis=0))


@pytest.mark.parametrize("change", ["touched", "removed", "renamed", "ignore index"])
def test_the_statistics_of_another_state_are_not_used(folder, change):
    collect(folder)
    first = "town/00.png"
    arguments = {}
    if change == "touched":
        status = (folder / "labels" / first).stat()
        os.utime(folder / "labels" / first, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    elif change == "ignore index":
        arguments = {"ignore_index": 254}
    else:
        for kind in ("images", "labels"):
            path = folder / kind / first
            path.unlink() if change == "removed" else path.rename(path.with_stem("10"))
    with pytest.raises(AssertionError, match="was read though"):
        collect_without_reading(folder, **arguments)
    assert collect(folder, **arguments).tolist() == counted_by_hand(labels_of(folder))


def test_other_classes_are_counted_anew(folder):
    collect(folder)
    (folder / "classes.json").write_text(json.dumps({f"class {class_id}": class_id for class_id in range(20)}))
    assert collect(folder).shape == (6, 20)


def test_another_meaning_of_the_labels_is_counted_anew(folder):
    names = [f"class {class_id}" for class_id in range(19)]
    (folder / "classes.json").write_text(json.dumps({name: class_id for class_id, name in enumerate(names)}))
    counts = collect(folder)
    # The same names in the same order, but of other ids. (The id 99 has them numbered by the file's order.)
    ids = {name: {"ids": [18 - class_id]} for class_id, name in enumerate(names)} | {"class 18": {"ids": [0, 99]}}
    (folder / "classes.json").write_text(json.dumps(ids))
    np.testing.assert_array_equal(collect(folder), counts[:, ::-1])


def test_another_number_of_scenes_has_other_statistics():
    domain = load_domain("streets:game:32x64", "source")
    for count in (2, 3):
        part = replace(domain, rows=light_rows([{"index": index} for index in range(count)]), num_rows=count)
        assert collect_class_statistics(part).counts.shape == (count, 19)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "other arrays"])
def test_a_damaged_cache_is_made_anew_with_a_warning(folder, damage, caplog):
    counts = collect(folder)
    path = folder / "class_statistics.npz"
    if damage == "other arrays":
        np.savez(path, something=np.zeros(3))
    else:
        path.write_bytes({"empty": b"", "text": b"no archive", "cut": path.read_bytes()[:-40]}[damage])
    np.testing.assert_array_equal(collect(folder), counts)
    (record,) = caplog.records
    assert f"cannot use the class statistics in {path}" in record.getMessage()
    np.testing.assert_array_equal(collect_without_reading(folder), counts)


def make_unwritable(path):
    """Put a folder with something in it where a file should go: that keeps even an administrator from writing it."""
    (path / "occupied").mkdir(parents=True)


def test_beside_read_only_data_the_user_s_cache_serves(folder, user_cache):
    make_unwritable(folder / "class_statistics.npz")
    counts = collect(folder)
    np.testing.assert_array_equal(collect_without_reading(folder), counts)
    assert [path.suffix for path in user_cache.iterdir()] == [".npz"]
    assert sorted(path.name for path in folder.iterdir()) == ["class_statistics.npz", "images", "labels"]


def test_without_any_place_for_a_cache_there_is_a_warning(folder, user_cache, caplog):
    make_unwritable(folder / "class_statistics.npz")
    user_cache.parent.parent.write_text("no folder")
    assert collect(folder).tolist() == counted_by_hand(labels_of(folder))
    (record,) = caplog.records
    assert "class statistics cannot be kept and will be counted again" in record.getMessage()
