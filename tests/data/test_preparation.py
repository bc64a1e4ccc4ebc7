import hashlib
import json
import logging
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest

from mfm_hf.data.domain import BadExampleError, PaperSetting, light_rows
from mfm_hf.data.domains import load_domain
from mfm_hf.data.image_encoding import ImageEncoding
from mfm_hf.data.preparation import Preparation, prepare
from mfm_hf.data.resizing import resized

PNG = ImageEncoding("png")
SMALL_SHARDS = 1500  # bytes: one or two examples of noise make a shard


def prepared(domain, directory, **options):
    return prepare(domain, directory, Preparation(**{"encoding": PNG, "shard_bytes": SMALL_SHARDS, **options}))


def examples(domain):
    return [domain.decode(row) for row in domain.rows]


def checksums(directory: Path):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def assert_same_examples(first, second):
    for one, other in zip(examples(first), examples(second), strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)


# What is written


def test_a_folder_goes_there_and_back(folder, tmp_path):
    domain = load_domain(str(folder), "source")
    manifest = prepared(domain, tmp_path / "out")
    back = load_domain(str(tmp_path / "out"), "source")
    assert_same_examples(back, domain)
    assert (back.classes, back.split, back.num_rows, back.paper) == (domain.classes, "train", 6, None)
    assert manifest.splits["train"].num_shards == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "manifest.json",
        "train-00000-of-00004.parquet",
        "train-00001-of-00004.parquet",
        "train-00002-of-00004.parquet",
        "train-00003-of-00004.parquet",
        "train-class_pixels.npz",
    ]


def test_datasets_reads_what_was_prepared(folder, tmp_path):
    """The library that others will open it with."""
    domain = load_domain(str(folder), "source")
    prepared(domain, tmp_path / "out")
    prepared(load_domain(str(folder), "eval"), tmp_path / "out")
    for split in ("train", "validation"):
        rows = list(datasets.load_dataset(str(tmp_path / "out"), split=split, streaming=True))
        for row, example in zip(rows, examples(domain), strict=True):
            assert row["name"] == example.name
            np.testing.assert_array_equal(np.asarray(row["image"]), example.image)
            np.testing.assert_array_equal(np.asarray(row["label"]), example.label)
            assert row["class_pixels"] == np.bincount(example.label.ravel(), minlength=19).tolist()


def test_images_and_labels_are_resized_as_in_training(folder, tmp_path):
    domain = load_domain(str(folder), "source")
    prepared(domain, tmp_path / "out", box=(8, 6))
    back = load_domain(str(tmp_path / "out"), "source")
    assert examples(back)[0].image.shape == (6, 8, 3)
    assert_same_examples(back, resized(domain, (8, 6), labels=True))
    # Classes are counted before, as in the references.
    native = [np.bincount(example.label.ravel(), minlength=19) for example in examples(domain)]
    np.testing.assert_array_equal(back.class_counts(), native)


def test_labels_for_evaluation_keep_their_size(folder, tmp_path):
    domain = load_domain(str(folder), "eval")
    prepared(domain, tmp_path / "out", box=(8, 6), native_labels=True)
    assert_same_examples(load_domain(str(tmp_path / "out"), "eval"), resized(domain, (8, 6), labels=False))


def test_a_target_has_neither_labels_nor_counts(folder, tmp_path):
    prepared(load_domain(str(folder), "target"), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.npz"))
    (row,) = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True).take(1)
    assert set(row) == {"image", "name"}
    assert examples(load_domain(str(tmp_path / "out"), "target"))[0].label is None
    with pytest.raises(ValueError, match="prepared without labels: prepare it with --role source"):
        load_domain(str(tmp_path / "out"), "source")


def test_large_ids_take_16_bits(tmp_path):
    domain = load_domain("streets:game:32x64", "source", ignore_index=65535)
    domain = replace(domain, rows=light_rows([{"index": 0}]), num_rows=1)
    prepared(domain, tmp_path / "out")
    assert_same_examples(load_domain(str(tmp_path / "out"), "source", ignore_index=65535), domain)
    with pytest.raises(ValueError, match="was prepared with --ignore_index 65535: give the same here"):
        load_domain(str(tmp_path / "out"), "source")


@pytest.mark.parametrize(
    ("name", "quality", "most"), [("png", None, 0), ("webp-lossless", None, 0), ("jpeg", 95, 6), ("webp", 95, 6)]
)
def test_encodings_lose_what_they_may(name, quality, most):
    image = load_domain("streets:real:64x128", "target").decode({"index": 0}).image
    encoding = ImageEncoding(name, quality)
    content = encoding.encode(image)
    assert encoding.encode(image.copy()) == content
    decoded = datasets.Image().decode_example({"bytes": content, "path": None}).convert("RGB")
    assert np.abs(np.asarray(decoded).astype(int) - image).mean() <= most
    assert encoding.suffix == {"webp-lossless": "webp", "jpeg": "jpg"}.get(name, name)


@pytest.mark.parametrize(("name", "quality"), [("png", 95), ("jpeg", None), ("jpeg", 101)])
def test_a_quality_is_for_what_has_one(name, quality):
    with pytest.raises(ValueError, match="quality"):
        ImageEncoding(name, quality)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_same_input_gives_the_same_bytes(folder, tmp_path, num_workers):
    domain = load_domain(str(folder), "source")
    prepared(domain, tmp_path / "a")
    prepared(domain, tmp_path / "b", num_workers=num_workers)
    assert checksums(tmp_path / "a") == checksums(tmp_path / "b")


def test_the_manifest_tells_sizes_and_checksums(folder, tmp_path):
    prepared(load_domain(str(folder), "source"), tmp_path / "out")
    split = json.loads((tmp_path / "out/manifest.json").read_text())["splits"]["train"]
    for stored in [*split["shards"], split["class_pixels"]]:
        content = (tmp_path / "out" / stored["file"]).read_bytes()
        assert (stored["bytes"], stored["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert [shard["rows"] for shard in split["shards"]] == [1, 2, 1, 2]
    assert split["settings"]["domain"] == str(folder)


# What the papers say goes along, but for sizes that are not there any more.


@pytest.mark.parametrize(
    ("box", "half", "full"),
    [(None, (8, 6), (16, 12)), ((16, 12), (8, 6), (16, 12)), ((8, 6), (8, 6), (8, 6)), ((4, 4), (4, 4), (4, 4))],
)
def test_the_paper_setting_goes_along_but_enlarges_nothing(number_domain, tmp_path, box, half, full):
    paper = PaperSetting((8, 6), (16, 12), margins=(1, 2, 0, 0), margins_size=(12, 16), num_examples={"train": 4})
    prepared(replace(number_domain(4), paper=paper), tmp_path / "out", box=box)
    back = load_domain(str(tmp_path / "out"), "source")
    assert back.paper == replace(paper, half_box=half, full_box=full)


# Interruptions and damage


class Breaks:
    """Decodes until a row, where something outside of the preparation breaks it off."""

    def __init__(self, decode, number):
        self.decode, self.number = decode, number

    def __call__(self, row):
        if row["number"] == self.number:
            raise KeyboardInterrupt
        return self.decode(row)


def test_an_interrupted_preparation_goes_on(number_domain, tmp_path):
    domain = number_domain(10)
    prepared(domain, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        prepared(replace(domain, decode=Breaks(domain.decode, 4)), tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [".train.unfinished.json", *(f"train-0000{k}-of-00006.parquet" for k in range(2))]
    with pytest.raises(ValueError, match="is prepared in part alone: run the same `mfm-hf prepare` again to go on"):
        load_domain(str(tmp_path / "out"), "source")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")}
    prepared(domain, tmp_path / "out")
    assert checksums(tmp_path / "out") == checksums(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_full_disk_leaves_no_half_shard(number_domain, tmp_path):
    """The limit on the size of a file makes the system refuse to write, as on a full disk."""
    domain = number_domain(10)
    prepared(domain, tmp_path / "whole", shard_bytes=4000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(
            OSError, match=r"could not write .*: File too large\. 0 of 3 shards are whole: run the same"
        ):
            prepared(domain, tmp_path / "out", shard_bytes=4000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "out").iterdir()) == []
    prepared(domain, tmp_path / "out", shard_bytes=4000)
    assert checksums(tmp_path / "out") == checksums(tmp_path / "whole")


@pytest.mark.parametrize("verify", [False, True])
def test_what_is_damaged_is_written_again(number_domain, tmp_path, caplog, verify):
    domain, out = number_domain(10), tmp_path / "out"
    prepared(domain, out)
    whole = checksums(out)
    (out / "train-00001-of-00006.parquet").unlink()
    truncated, flipped = out / "train-00002-of-00006.parquet", out / "train-00003-of-00006.parquet"
    truncated.write_bytes(truncated.read_bytes()[:-10])
    if verify:  # of the same size: only the checksum tells
        content = bytearray(flipped.read_bytes())
        content[100] ^= 1
        flipped.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        prepared(domain, out, verify=verify)
    assert checksums(out) == whole
    damaged = [flipped, truncated] if verify else [truncated]
    assert sorted(record.args[0] for record in caplog.records) == sorted(damaged)


# Refusals


def test_another_preparation_of_the_same_split_is_refused(number_domain, tmp_path):
    prepared(number_domain(4), tmp_path / "out")
    with pytest.raises(
        ValueError, match=r"holds the split train with box None and not \(8, 6\): give the same options"
    ):
        prepared(number_domain(4), tmp_path / "out", box=(8, 6))


def test_other_classes_are_refused(number_domain, tmp_path):
    domain = number_domain(4)
    prepared(domain, tmp_path / "out")
    with pytest.raises(ValueError, match="holds a dataset of other classes or another ignore index than numbers"):
        prepared(replace(domain, ignore_index=254, split="validation"), tmp_path / "out")


def test_a_folder_of_something_else_is_refused(number_domain, folder):
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError, match="neither new nor a prepared dataset: give a new folder"):
        prepared(number_domain(4), folder)
    assert sorted(folder.rglob("*")) == before


def test_an_ignore_index_that_no_png_holds_is_refused(number_domain, tmp_path):
    with pytest.raises(ValueError, match="an ignore index of -100 does not fit into a PNG"):
        prepared(replace(number_domain(4), ignore_index=-100), tmp_path / "out")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_examples_are_left_out_or_refused(number_domain, tmp_path, caplog, num_workers):
    domain = number_domain(8, bad=(1, 6))
    with pytest.raises(BadExampleError, match=r"2 examples of numbers are bad \(--max_bad_samples is 1\): number 6 is"):
        prepared(domain, tmp_path / "out", max_bad_samples=1, num_workers=num_workers)
    shutil.rmtree(tmp_path / "out")
    prepared(domain, tmp_path / "out", max_bad_samples=2, num_workers=num_workers)
    back = load_domain(str(tmp_path / "out"), "source")
    assert [example.name for example in examples(back)] == ["0", "2", "3", "4", "5", "7"]
    assert back.class_counts().shape == (6, 19)
    assert "left out a bad example of numbers: number 6 is bad" in caplog.text


def test_a_domain_without_a_usable_example_is_refused(number_domain, tmp_path):
    with pytest.raises(BadExampleError, match="no example of numbers can be used; the last: number 1 is bad"):
        prepared(number_domain(2, bad=(0, 1)), tmp_path / "out", max_bad_samples=5)
