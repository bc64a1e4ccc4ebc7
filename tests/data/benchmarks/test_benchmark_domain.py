import logging
import pickle

import numpy as np
import pytest
from PIL import Image

from mfm_hf.data.benchmarks.label_ids import CITYSCAPES_IDS, GTA_IDS, MAPILLARY_IDS, SYNTHIA_IDS
from mfm_hf.data.benchmarks.layouts import LAYOUTS
from mfm_hf.data.class_statistics import collect_class_statistics
from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.data.domain import BadExampleError, check_domain
from mfm_hf.data.domains import load_domain
from mfm_hf.data.loading import TrainingStream
from mfm_hf.data.resizing import fit_size, resized
from mfm_hf.data.transforms import TrainingTransform
from tests.miniature_benchmarks import TRAIN_IDS, write_benchmark

LABELLED = [
    *(("gta", "source"), ("synthia", "source"), ("cityscapes", "source"), ("cityscapes", "eval")),
    *(("acdc", "source"), ("acdc", "eval"), ("dark_zurich", "eval"), ("bdd100k", "source"), ("bdd100k", "eval")),
    *(("mapillary", "source"), ("mapillary", "eval")),
]
ID_TABLES = {"gta": GTA_IDS, "synthia": SYNTHIA_IDS, "cityscapes": CITYSCAPES_IDS, "mapillary": MAPILLARY_IDS}
NAMES = {
    "gta": ["00001", "00002"],
    "synthia": ["0000000", "0000001"],
    "cityscapes": ["aachen/aachen_000000_000019_leftImg8bit", "bochum/bochum_000000_000313_leftImg8bit"],
    "cityscapes#val": ["frankfurt/frankfurt_000000_000294_leftImg8bit"],
    "cityscapes#test": ["berlin/berlin_000000_000019_leftImg8bit"],
    "acdc": [f"{name}/GOPR0475/GOPR0475_frame_000041_rgb_anon" for name in ("fog", "night", "rain", "snow")],
    "acdc:night": ["night/GOPR0475/GOPR0475_frame_000041_rgb_anon"],
    "acdc:snow#test": ["snow/GP010476/GP010476_frame_000071_rgb_anon"],
    "dark_zurich": ["night/GOPR0345/GOPR0345_frame_000001_rgb_anon"],
    "dark_zurich:twilight": ["twilight/GOPR0347/GOPR0347_frame_000001_rgb_anon"],
    "dark_zurich#validation": ["night/GOPR0356/GOPR0356_frame_000321_rgb_anon"],
    "bdd100k": ["0004a4c0-d4dff0ad"],
    "mapillary#test": ["__OHEMmpYcTy8zqMVLNFRg"],
}


@pytest.fixture
def download(tmp_path):
    """A function that writes a miniature download and returns its folder."""
    return lambda prefix: write_benchmark(prefix, tmp_path / prefix)


def examples(domain):
    return [domain.decode(row) for row in domain.rows]


def expected_label(prefix):
    """What all ids, 0 to 255 in rows of 16, are to become."""
    if prefix not in ID_TABLES:
        return TRAIN_IDS
    return np.array([ID_TABLES[prefix].get(number, 255) for number in range(256)]).reshape(16, 16)


# Reading


@pytest.mark.parametrize(("prefix", "role"), LABELLED)
def test_every_id_of_every_label_is_converted(download, prefix, role):
    domain = load_domain(f"{prefix}:{download(prefix)}", role)
    check_domain(domain)
    assert (domain.labelled, domain.classes, domain.ignore_index) == (True, CITYSCAPES, 255)
    for example in examples(domain):
        np.testing.assert_array_equal(example.label, expected_label(prefix))


@pytest.mark.parametrize("asked", NAMES)
def test_a_target_holds_the_images_of_a_split_under_their_names(download, asked):
    address, hash_, split = asked.partition("#")
    prefix, colon, condition = address.partition(":")
    root = download(prefix)
    domain = load_domain(f"{prefix}:{root}{colon}{condition}{hash_}{split}", "target")
    assert not domain.labelled
    assert [example.name for example in examples(domain)] == NAMES[asked]
    for row, example in zip(domain.rows, examples(domain), strict=True):
        assert row["label"] is None
        np.testing.assert_array_equal(example.image, np.asarray(Image.open(row["image"])))


@pytest.mark.parametrize("prefix", ["cityscapes", "acdc"])
def test_train_ids_are_preferred_where_all_images_have_them(download, prefix):
    root = download(prefix)
    train_ids = [path.with_name(path.name.replace("labelIds", "labelTrainIds")) for path in root.rglob("*labelIds.png")]
    for path in train_ids:
        Image.new("L", (16, 16), 13).save(path)
    assert all((example.label == 13).all() for example in examples(load_domain(f"{prefix}:{root}", "source")))
    next(path for path in train_ids if "/train/" in str(path)).unlink()
    for example in examples(load_domain(f"{prefix}:{root}", "source")):
        np.testing.assert_array_equal(example.label, expected_label("cityscapes"))


def test_labels_of_vistas_lie_where_the_first_release_had_them(download):
    root = download("mapillary")
    (root / "training" / "v1.2" / "labels").rename(root / "training" / "labels")
    (example,) = examples(load_domain(f"mapillary:{root}", "source"))
    np.testing.assert_array_equal(example.label, expected_label("mapillary"))


def test_what_others_add_to_a_download_is_left_out(download):
    root = download("gta")
    for path in sorted((root / "labels").iterdir()):  # as lhoyer/DAFormer's converter, and as macOS
        path.with_name(f"{path.stem}_labelTrainIds.png").write_bytes(b"")
        (root / "images" / f"._{path.name}").write_bytes(b"")
    domain = load_domain(f"gta:{root}", "source")
    assert [example.name for example in examples(domain)] == ["00001", "00002"]


def test_a_folder_may_be_linked_and_named_from_home(download, tmp_path, monkeypatch):
    root = download("cityscapes")
    (root / "leftImg8bit" / "train").rename(tmp_path / "elsewhere")
    (root / "leftImg8bit" / "train").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_domain("cityscapes:~/cityscapes", "source").num_rows == 2


def test_a_path_wins_over_a_condition_and_over_a_benchmark(download, tmp_path, monkeypatch, folder):
    write_benchmark("acdc", tmp_path / "data:night")
    assert load_domain(f"acdc:{tmp_path}/data:night", "target").num_rows == 4
    folder.rename(tmp_path / "gta:set")
    monkeypatch.chdir(tmp_path)
    assert load_domain("gta:set", "source").num_rows == 6


def test_another_ignore_index_is_what_pixels_without_a_class_get(download):
    for prefix in ("gta", "bdd100k"):
        domain = load_domain(f"{prefix}:{download(prefix)}", "source", ignore_index=-100)
        expected = expected_label(prefix).astype(int)
        expected[expected == 255] = -100
        np.testing.assert_array_equal(examples(domain)[0].label, expected)


def test_a_label_of_gta_is_fitted_to_its_image(download):
    root = download("gta")
    Image.new("RGB", (32, 16)).save(root / "images" / "00001.png")
    domain = load_domain(f"gta:{root}", "source")
    check_domain(domain)
    np.testing.assert_array_equal(examples(domain)[0].label, np.repeat(expected_label("gta"), 2, axis=1))


@pytest.mark.parametrize("prefix", LAYOUTS)
def test_a_benchmark_streams_and_is_counted(download, prefix):
    root = download(prefix)
    role = "eval" if prefix == "dark_zurich" else "source"
    domain = load_domain(f"{prefix}:{root}", role)
    stream = TrainingStream(resized(domain, (24, 24), labels=True), TrainingTransform((16, 24)), batch_size=2, seed=0)
    assert next(stream)["pixel_values"].shape == (2, 3, 16, 24)
    label = expected_label(prefix)
    expected = np.tile(np.bincount(label[label != 255], minlength=19), (domain.num_rows, 1))
    np.testing.assert_array_equal(collect_class_statistics(domain).counts, expected)
    assert (root / "class_statistics.npz").exists()
    assert pickle.loads(pickle.dumps(domain.decode)) == domain.decode  # as workers need


# How the papers use them


@pytest.mark.parametrize(
    ("prefix", "image_size", "half_size", "full_size"),
    [
        ("gta", (1052, 1914), (704, 1280), (1407, 2560)),
        ("synthia", (760, 1280), (760, 1280), (1520, 2560)),
        ("cityscapes", (1024, 2048), (512, 1024), (1024, 2048)),
        ("acdc", (1080, 1920), (540, 960), (1080, 1920)),
        ("dark_zurich", (1080, 1920), (540, 960), (1080, 1920)),
        ("bdd100k", (720, 1280), (720, 1280), (1440, 2560)),
        ("mapillary", (3024, 4032), (960, 1280), (1920, 2560)),
    ],
)
def test_image_sizes_of_the_recipes(prefix, image_size, half_size, full_size):
    paper = LAYOUTS[prefix].paper
    assert fit_size(image_size, paper.box((512, 512))) == half_size
    assert fit_size(image_size, paper.box((1024, 1024))) == full_size


def test_only_cityscapes_has_margins(download):
    assert [prefix for prefix, layout in LAYOUTS.items() if any(layout.paper.margins)] == ["cityscapes"]
    paper = load_domain(f"cityscapes:{download('cityscapes')}", "target").paper
    assert (paper.margins, paper.margins_size) == ((30, 240, 30, 30), (1024, 2048))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("gta:{}", {"train": 24966}),
        ("synthia:{}", {"train": 9400}),
        ("cityscapes:{}", {"train": 2975, "validation": 500, "test": 1525}),
        ("acdc:{}", {"train": 1600, "validation": 406, "test": 2000}),
        ("acdc:{}:night", {"train": 400, "validation": 106, "test": 500}),
        ("dark_zurich:{}", {"train": 2416, "validation": 50, "test": 151}),
        ("dark_zurich:{}:day", {"train": 3041, "validation": 0, "test": 0}),
        ("bdd100k:{}", {"train": 7000, "validation": 1000, "test": 2000}),
        ("mapillary:{}", {"train": 18000, "validation": 2000, "test": 5000}),
    ],
)
def test_sizes_of_whole_downloads(download, address, expected):
    root = download(address.partition(":")[0])
    assert load_domain(address.format(root), "target").paper.num_examples == expected


# What is wrong with a download


def test_a_partial_download_is_told_once(download, caplog):
    root = download("gta")
    with caplog.at_level(logging.WARNING):
        load_domain(f"gta:{root}", "source")
        load_domain(f"gta:{root}", "target")
    assert caplog.messages == [f"GTA: 2 of 24,966 images found (train, in {root})"]


@pytest.mark.parametrize(
    ("prefix", "pattern"),
    [
        ("gta", "images/**/*.png"),
        ("synthia", "RGB/**/*.png"),
        ("cityscapes", "leftImg8bit/train/**/*_leftImg8bit.png"),
        ("acdc", "rgb_anon/{fog,night,rain,snow}/train/**/*_rgb_anon.png"),
        ("dark_zurich", "rgb_anon/train/night/**/*_rgb_anon.png"),
        ("bdd100k", "images/10k/train/**/*.jpg"),
        ("mapillary", "training/images/**/*.jpg"),
    ],
)
def test_another_folder_is_told_what_was_looked_for(tmp_path, prefix, pattern):
    with pytest.raises(FileNotFoundError) as caught:
        load_domain(f"{prefix}:{tmp_path}", "target")
    title = LAYOUTS[prefix].title
    assert str(caught.value) == f"{tmp_path} is not the folder of the {title} download: it has no {pattern}"


@pytest.mark.parametrize("given", [".", "synthia/RGB"])
def test_a_folder_too_high_or_too_deep_is_told_the_right_one(download, tmp_path, given):
    root = download("synthia")
    with pytest.raises(FileNotFoundError, match=f"; did you mean synthia:{root}\\?$"):
        load_domain(f"synthia:{tmp_path / given}", "source")


@pytest.mark.parametrize(
    ("address", "role", "message"),
    [
        ("gta:", "source", "'gta:' names no folder: write gta:DIR with the folder of the download"),
        ("gta:nowhere", "source", "nowhere is not a folder: give that of the GTA download"),
        ("acdc:nowhere:night", "source", "nowhere is not a folder: give that of the ACDC download"),
        ("acdc:{}:nigth", "target", "ACDC has no condition 'nigth', only fog, night, rain, snow"),
        ("acdc:{}#night", "target", "ACDC has no split 'night', only train, validation, test: name one, as in acdc:"),
        ("gta:{}:night", "source", "GTA has no condition 'night', it has none: mend or leave out ':night'"),
        ("gta:{}", "eval", "GTA has no split 'validation', only train: name one, as in gta:.*gta#train"),
        ("dark_zurich:{}:day#val", "target", "Dark Zurich has no day images in its split 'validation', only night"),
        ("dark_zurich:{}", "source", "labels of Dark Zurich's split 'train' are not public, only those of validation"),
        ("acdc:{}#test", "eval", "labels of ACDC's split 'test' are not public, only those of train, validation: use"),
        ("gta:{}", "both ignored and a class", "--ignore_index 3 is also the number of a class"),
    ],
)
def test_what_cannot_serve_is_refused_in_one_line(download, address, role, message):
    ignore_index = 255
    if role == "both ignored and a class":
        role, ignore_index = "source", 3
    address = address.format(download(address.partition(":")[0]))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        load_domain(address, role, ignore_index=ignore_index)
    assert "\n" not in str(caught.value)


def test_images_without_labels_are_named(download):
    root = download("gta")
    for number in range(3, 10):
        Image.new("RGB", (16, 16)).save(root / "images" / f"{number:05d}.png")
    with pytest.raises(
        ValueError, match=r"7 of 9 GTA images in .* have no label \(00003, 00004, 00005, 00006, 00007, "
    ):
        load_domain(f"gta:{root}", "source")
    assert load_domain(f"gta:{root}", "target").num_rows == 9


def test_all_places_of_missing_labels_are_named(download):
    root = download("cityscapes")
    (root / "gtFine").rename(root / "gtCoarse")
    with pytest.raises(ValueError, match="have no label") as caught:
        load_domain(f"cityscapes:{root}", "source")
    assert str(caught.value) == (
        f"2 of 2 Cityscapes images in {root} have no label (aachen/aachen_000000_000019, bochum/bochum_000000_000313): "
        "looked for gtFine/train/**/*_gtFine_labelTrainIds.png and gtFine/train/**/*_gtFine_labelIds.png. Complete "
        "the download, or remove these images"
    )


def test_ids_where_train_ids_belong_are_refused(download):
    root = download("bdd100k")
    label = next((root / "labels" / "sem_seg" / "masks" / "train").iterdir())
    Image.new("L", (16, 16), 33).save(label)
    with pytest.raises(BadExampleError, match=r"label value 33 in .*0004a4c0-d4dff0ad.png \("):
        check_domain(load_domain(f"bdd100k:{root}", "source"))
