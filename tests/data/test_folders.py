import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mfm_hf.data.domain import BadExampleError, check_domain
from mfm_hf.data.domains import load_domain
from mfm_hf.data.folders import folder_domain, write_folder


def examples(domain):
    return [domain.decode(row) for row in domain.rows]


def assert_same_examples(first, second):
    for one, other in zip(examples(first), examples(second), strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)


# Reading


def test_every_kind_of_image_is_matched_by_its_stem(folder):
    for index, suffix in enumerate(("bmp", "TIFF", "webp", "jpg")):
        path = folder / "images" / "town" / f"{index:02d}.png"
        Image.open(path).save(path.with_suffix(f".{suffix}"))
        path.unlink()
    assert [example.name for example in examples(load_domain(str(folder), "source"))] == [
        f"town/{index:02d}" for index in range(6)
    ]


def test_hidden_and_other_files_are_left_out(folder):
    (folder / "images" / ".thumb.png").write_bytes(b"")
    (folder / "images" / "notes.txt").write_text("")
    assert load_domain(str(folder), "source").num_rows == 6


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_folders_of_splits(folder, tmp_path, validation, write_pair):
    parent = tmp_path / "parent"
    shutil.copytree(folder, parent / "train")
    write_pair(parent / validation, "only", np.zeros((4, 4), np.uint8))
    assert load_domain(str(parent), "source").num_rows == 6
    assert load_domain(str(parent), "eval").num_rows == 1
    assert load_domain(f"{parent}#train", "eval").num_rows == 6
    with pytest.raises(FileNotFoundError, match=f"has no split 'test', only train, {validation}"):
        load_domain(f"{parent}#test", "eval")


def test_without_folders_of_splits_all_serves_every_split(folder):
    assert load_domain(str(folder), "eval").num_rows == load_domain(str(folder), "source").num_rows == 6


def test_a_target_may_have_images_alone(folder):
    shutil.rmtree(folder / "labels")
    assert load_domain(str(folder), "target").num_rows == 6


def test_classes_of_ones_own(folder, write_pair):
    ids = {"thing": 1, "stuff": 0} | {f"class {index}": index for index in range(2, 300)}
    (folder / "classes.json").write_text(json.dumps(ids))
    write_pair(folder, "town/many", np.full((4, 4), 299, np.uint16))
    domain = load_domain(str(folder), "source")
    assert domain.classes.id2label[0] == "stuff"
    assert domain.classes.label2id["class 299"] == 299
    assert examples(domain)[-1].label.max() == 299


COLORED = {"road": [128, 64, 128], "car": [0, 0, 142], "ignore": [0, 0, 0]}


def write_in_colors(folder):
    """Give the six labels three colours. Returns the train ids that these mean."""
    colors, expected = np.array(list(COLORED.values()), np.uint8), []
    for path in sorted((folder / "labels").rglob("*.png")):
        ids = np.asarray(Image.open(path)) % 3
        Image.fromarray(colors[ids]).save(path)
        expected.append(np.where(ids == 2, 255, ids))
    return expected


def test_labels_in_colours(folder):
    expected = write_in_colors(folder)
    (folder / "classes.json").write_text(json.dumps(COLORED))
    domain = load_domain(str(folder), "source")
    assert domain.classes.names == ("road", "car")
    assert domain.classes.colors == ((128, 64, 128), (0, 0, 142))
    check_domain(domain)
    for example, ids in zip(examples(domain), expected, strict=True):
        np.testing.assert_array_equal(example.label, ids)


def test_a_given_label_map_wins(folder, tmp_path):
    expected = write_in_colors(folder)
    (folder / "classes.json").write_text("not looked at")
    (tmp_path / "map.json").write_text(json.dumps(COLORED))
    domain = load_domain(str(folder), "source", label_map=tmp_path / "map.json")
    np.testing.assert_array_equal(examples(domain)[5].label, expected[5])
    with pytest.raises(FileNotFoundError, match=r"there is no label map .*nowhere\.json"):
        load_domain(str(folder), "source", label_map=tmp_path / "nowhere.json")


def test_a_split_may_have_a_label_map_of_its_own(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "parent" / "train")
    (tmp_path / "parent" / "classes.json").write_text(json.dumps({f"class {i}": i for i in range(19)}))
    assert load_domain(str(tmp_path / "parent"), "source").classes.names[0] == "class 0"
    (tmp_path / "parent" / "train" / "classes.json").write_text(json.dumps({f"own {i}": i for i in range(19)}))
    assert load_domain(str(tmp_path / "parent"), "source").classes.names[0] == "own 0"


def test_a_label_map_is_for_folders(tmp_path):
    (tmp_path / "map.json").write_text(json.dumps(COLORED))
    with pytest.raises(ValueError, match=r"--label_map is for folders.*, but streets:game is none"):
        load_domain("streets:game", "source", label_map=tmp_path / "map.json")


def test_a_photograph_is_turned_as_its_tag_says(folder):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 255  # light on the right; the tag says: turn by 90 degrees clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(pixels)
    image.save(folder / "images" / "turned.jpg", exif=exif)
    Image.fromarray(np.zeros((32, 16), np.uint8)).save(folder / "labels" / "turned.png")
    domain = load_domain(str(folder), "source")
    check_domain(domain)
    turned = examples(domain)[-1].image
    assert turned.shape == (32, 16, 3)
    assert turned[:12].max() < 64  # dark on top
    assert turned[20:].min() > 192


# What is wrong with a folder


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="is not a folder: give a folder that holds images/ and labels/"):
        load_domain(str(tmp_path / "file"), "source")


def test_no_images_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no images/ in it"):
        load_domain(str(tmp_path), "target")


def test_no_images(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match=r"images holds no files of the kinds .*png"):
        load_domain(str(tmp_path), "target")


@pytest.mark.parametrize("role", ["source", "eval"])
def test_no_labels(folder, role):
    shutil.rmtree(folder / "labels")
    with pytest.raises(FileNotFoundError, match="has images/ but no labels/"):
        load_domain(str(folder), role)


def test_images_and_labels_that_do_not_match(folder):
    (folder / "images" / "town" / "05.png").rename(folder / "images" / "town" / "06.png")
    with pytest.raises(ValueError, match=r"1 without a label \(town/06\); 1 without an image \(town/05\)"):
        load_domain(str(folder), "source")


def test_only_five_of_many_unmatched_names_are_listed(folder, write_pair):
    for path in list((folder / "labels" / "town").iterdir())[1:]:
        path.rename(path.with_name(f"other_{path.name}"))
    with pytest.raises(ValueError, match=r"5 without a label \(([^,]+, ){4}[^,]+\); 5 without"):
        load_domain(str(folder), "source")
    for index in range(10):
        write_pair(folder, f"more{index}", np.zeros((4, 4), np.uint8))
        (folder / "labels" / f"more{index}.png").unlink()
    with pytest.raises(ValueError, match=r"15 without a label \(([^,]+, ){5}\.\.\.\)"):
        load_domain(str(folder), "source")


def test_two_images_of_one_name(folder):
    path = folder / "images" / "town" / "00.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    with pytest.raises(ValueError, match=r"00\..* and .*00\..* have one name up to the suffix"):
        load_domain(str(folder), "source")


def test_a_bad_label_map_beside_the_images(folder):
    (folder / "classes.json").write_text("[]")
    with pytest.raises(ValueError, match=r"set/classes\.json is no label map"):
        load_domain(str(folder), "target")


# What is wrong with an example


def assert_bad(folder, message):
    """The first example is refused when it is decoded, and before, when the domain is checked."""
    domain = load_domain(str(folder), "source")
    with pytest.raises(BadExampleError, match=message):
        domain.decode(next(iter(domain.rows)))
    with pytest.raises(BadExampleError, match=message):
        check_domain(domain)


def test_a_label_of_another_size(folder):
    Image.fromarray(np.zeros((16, 12), np.uint8)).save(folder / "labels" / "town" / "00.png")
    assert_bad(folder, r"labels/town/00.png is 16x12, but its image .*images/town/00.png is 12x16")


@pytest.mark.parametrize(("value", "dtype"), [(19, np.uint8), (254, np.uint8), (256, np.uint16)])
def test_a_label_value_without_a_class(folder, value, dtype):
    label = np.zeros((12, 16), dtype)
    label[3, 4] = value
    Image.fromarray(label).save(folder / "labels" / "town" / "00.png")
    assert_bad(
        folder, rf"label value {value} in .*labels/town/00.png \(pixels: 1\), but there are 19 classes and the ignore"
    )


def test_the_ignore_index_is_no_class(folder):
    Image.fromarray(np.full((12, 16), 254, np.uint8)).save(folder / "labels" / "town" / "00.png")
    check_domain(folder_domain(folder, "train", labelled=True, ignore_index=254))


def test_a_label_in_colours_without_a_label_map(folder):
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(folder / "labels" / "town" / "00.png")
    assert_bad(folder, r"00.png is a colour picture \(mode RGB\): a label holds one class id per pixel")


def test_a_target_is_checked_but_not_its_labels(folder):
    (folder / "labels" / "town" / "00.png").write_text("no image")
    check_domain(load_domain(str(folder), "target"))
    (folder / "images" / "town" / "03.png").write_text("no image")
    with pytest.raises(BadExampleError, match=r"cannot read .*images/town/03.png"):
        check_domain(load_domain(str(folder), "target"))


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_file_that_is_no_image(folder, kind):
    (folder / kind / "town" / "00.png").write_text("no image")
    assert_bad(folder, f"cannot read .*{kind}/town/00.png")


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about the damage
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_a_damaged_image_never_ends_in_another_error(folder, suffix):
    path = (folder / "images" / "town" / "00.png").with_suffix(f".{suffix}")
    image = Image.open(path.with_suffix(".png"))
    path.with_suffix(".png").unlink()
    image.save(path)
    domain, whole, rng = load_domain(str(folder), "source"), path.read_bytes(), np.random.default_rng(0)
    row, num_bad = next(iter(domain.rows)), 0
    for attempt in range(60):
        damaged = bytearray(whole)
        if attempt % 2:
            damaged = damaged[: rng.integers(len(whole))]
        else:
            for position in rng.integers(len(whole), size=8):
                damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            domain.decode(row)
        except BadExampleError:
            num_bad += 1
    assert num_bad > 20


# Writing


def test_a_written_folder_reads_back_the_same(folder, tmp_path):
    domain = load_domain(str(folder), "source")
    write_folder(domain, tmp_path / "copy")
    copy = load_domain(str(tmp_path / "copy"), "source")
    assert copy.classes == domain.classes
    assert_same_examples(copy, domain)


def test_many_classes_are_written_too(folder, tmp_path, write_pair):
    (folder / "classes.json").write_text(json.dumps({f"class {index}": index for index in range(300)}))
    write_pair(folder, "town/many", np.full((4, 4), 299, np.uint16))
    domain = load_domain(str(folder), "source", ignore_index=65535)
    write_folder(domain, tmp_path / "copy")
    assert_same_examples(load_domain(str(tmp_path / "copy"), "source", ignore_index=65535), domain)


def test_colours_of_classes_are_written_too(folder, tmp_path):
    write_in_colors(folder)
    (folder / "classes.json").write_text(json.dumps(COLORED))
    domain = load_domain(str(folder), "source")
    write_folder(domain, tmp_path / "copy")
    copy = load_domain(str(tmp_path / "copy"), "source")
    assert copy.classes == domain.classes
    assert_same_examples(copy, domain)


def test_some_images_alone_are_written(folder, tmp_path):
    write_folder(load_domain(str(folder), "target"), tmp_path / "copy", limit=2)
    assert sorted(path.name for path in (tmp_path / "copy").rglob("*.png")) == ["00.png", "01.png"]
    assert not (tmp_path / "copy" / "labels").exists()


def test_nothing_is_overwritten(folder):
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError, match="is not empty: give a new directory"):
        write_folder(load_domain(str(folder), "source"), folder)
    assert sorted(folder.rglob("*")) == before


def test_an_ignore_index_that_no_png_holds(folder, tmp_path):
    with pytest.raises(ValueError, match="-100 does not fit into a PNG"):
        write_folder(load_domain(str(folder), "source", ignore_index=-100), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
