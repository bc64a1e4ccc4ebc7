import io
import json

import datasets
import numpy as np
import pytest
from PIL import Image

from mfm_hf.data.domain import BadExampleError, check_crop, check_domain
from mfm_hf.data.domains import load_domain

COLUMNS = {"image_column": "pixels", "label_column": "mask"}


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def rows(count):
    rng = np.random.default_rng(0)
    for number in range(count):
        image = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        yield {"pixels": image, "mask": rng.integers(0, 19, (12, 16), dtype=np.uint8), "number": number}


def write_parquet(folder, content, binary=False):
    """Write rows as `datasets` does, in two files."""
    picture = datasets.Value("binary") if binary else datasets.Image()
    features = datasets.Features({"pixels": picture, "mask": picture, "number": datasets.Value("int64")})
    encoded = [
        row | {key: png(row[key]) for key in ("pixels", "mask") if isinstance(row[key], np.ndarray)} for row in content
    ]
    if binary:
        encoded = [row | {key: row[key]["bytes"] for key in ("pixels", "mask")} for row in encoded]
    whole = datasets.Dataset.from_list(encoded, features=features)
    (folder / "data").mkdir(parents=True)
    for index in range(2):
        whole.shard(2, index).to_parquet(folder / f"data/train-0000{index}-of-00002.parquet")
    return folder


@pytest.fixture
def parquet(tmp_path):
    """Ten examples with columns of their own names."""
    return write_parquet(tmp_path / "parquet", rows(10))


@pytest.fixture
def on_hub(parquet, loopback_hub):
    """The same on the Hub."""
    from huggingface_hub import HfApi

    HfApi().create_repo("someone/scenes", repo_type="dataset")
    HfApi().upload_folder(folder_path=parquet, repo_id="someone/scenes", repo_type="dataset")
    return loopback_hub.repos["datasets/someone/scenes"]


def assert_examples(domain, content):
    for row, expected in zip(domain.rows, content, strict=True):
        example = domain.decode(row)
        np.testing.assert_array_equal(example.image, expected["pixels"])
        if domain.labelled:
            np.testing.assert_array_equal(example.label, expected["mask"])
            np.testing.assert_array_equal(domain.label_source.read(row), expected["mask"])


# Reading


@pytest.mark.parametrize("binary", [False, True])
def test_a_folder_of_parquet_is_streamed(tmp_path, binary):
    parquet = write_parquet(tmp_path / "parquet", rows(10), binary)
    domain = load_domain(str(parquet), "source", **COLUMNS)
    assert (domain.num_rows, domain.labelled, domain.row_at, domain.shuffle_buffer) == (10, True, None, 256)
    assert_examples(domain, rows(10))
    names = [domain.decode(row).name for row in domain.rows]
    assert len(set(names)) == 10
    target = load_domain(str(parquet), "target", **COLUMNS)
    assert all(set(row) == {"image"} for row in target.rows)
    assert_examples(target, rows(10))


def test_a_dataset_of_the_hub_is_streamed(on_hub):
    domain = load_domain("someone/scenes", "source", **COLUMNS, shuffle_buffer=4)
    assert (domain.num_rows, domain.shuffle_buffer) == (10, 4)
    assert_examples(domain, rows(10))
    assert domain.classes.names[0] == "road"
    check_domain(domain)  # asks for no rows
    check_crop(domain, (12, 16))


def test_the_card_may_tell_the_number_of_rows(parquet):
    (parquet / "README.md").write_text(
        "---\ndataset_info:\n  splits:\n  - name: train\n    num_examples: 10\n    num_bytes: 1\n---\n"
    )
    assert load_domain(str(parquet), "source", **COLUMNS).num_rows == 10


def test_statistics_know_when_files_change(parquet):
    def fingerprint():
        return load_domain(str(parquet), "source", **COLUMNS).label_source.fingerprint()

    before = fingerprint()
    assert fingerprint() == before
    file = parquet / "data/train-00000-of-00002.parquet"
    file.write_bytes(file.read_bytes())
    assert fingerprint() != before


# Classes


def test_the_dataset_may_bring_its_classes(on_hub):
    on_hub.commit(on_hub.files | {"classes.json": json.dumps({f"kind {k}": k for k in range(19)}).encode()})
    assert load_domain("someone/scenes", "source", **COLUMNS).classes.names[3] == "kind 3"


def test_a_label_map_wins_over_them(parquet, tmp_path):
    (parquet / "classes.json").write_text('{"everything": 0}')
    (tmp_path / "map.json").write_text(
        json.dumps({"even": {"ids": [*range(0, 19, 2)]}, "odd": {"ids": [*range(1, 19, 2)]}})
    )
    domain = load_domain(str(parquet), "source", **COLUMNS, label_map=tmp_path / "map.json")
    assert_examples(domain, [row | {"mask": row["mask"] % 2} for row in rows(10)])


# Bad input


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, r"has no column 'image', only pixels, mask, number: name that of images with --image_column"),
        ({"image_column": "pixels"}, r"has no column 'label', .*: name that of labels with --label_column"),
        (
            {**COLUMNS, "label_column": "number"},
            r"'number' of .* holds no pictures \(int64\), among pixels, m",
        ),
        ({**COLUMNS, "shuffle_buffer": 0}, r"--shuffle_buffer is 0: give at least 1"),
    ],
)
def test_columns_that_are_not_there_are_told_with_those_that_are(parquet, columns, message):
    with pytest.raises(ValueError, match=message):
        load_domain(str(parquet), "source", **columns)


def test_a_missing_split_is_told_with_those_that_are_there(parquet):
    with pytest.raises(ValueError, match=r"has no split 'validation', only train: name one, as in NAME#train"):
        load_domain(str(parquet), "eval", **COLUMNS)


def test_an_unknown_dataset_is_told(loopback_hub):
    with pytest.raises(
        ValueError, match=r"^'someone/else' is neither an existing folder nor a dataset that can be read"
    ):
        load_domain("someone/else", "source")


def test_a_dataset_of_single_files_is_refused(tmp_path):
    (tmp_path / "set/data").mkdir(parents=True)
    Image.new("RGB", (16, 12)).save(tmp_path / "set/data/0.png")
    (tmp_path / "set/data/metadata.jsonl").write_text('{"image_file_name": "0.png", "label_file_name": "0.png"}\n')
    from mfm_hf.data.hub_datasets import hub_domain

    with pytest.raises(ValueError, match="does not consist of Parquet files: load it with"):
        hub_domain(str(tmp_path / "set"), "train", labelled=True, ignore_index=255, name="set")


def test_bad_rows_are_named(tmp_path):
    content = [*rows(4)]
    content[0]["mask"] = np.full((12, 16), 19, np.uint8)
    content[1]["mask"] = np.zeros((6, 8), np.uint8)
    content[2]["pixels"] = {"bytes": b"no picture", "path": "third.png"}
    content[3]["mask"] = None
    domain = load_domain(str(write_parquet(tmp_path / "parquet", content)), "source", **COLUMNS)
    messages = [
        r"label value 19 in the label of \w+ of .*parquet",
        r"the label of \w+ of .*parquet is 6x8, but the image 12x16: they must have one size",
        r"cannot read third.png of .*parquet",
        r"a row of .*parquet lacks its picture",
    ]
    for row, message in zip(domain.rows, messages, strict=True):
        for read in (domain.decode, domain.label_source.read):
            with pytest.raises(BadExampleError, match=message):
                read(row)
