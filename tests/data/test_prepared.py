import logging
import multiprocessing
import pickle
import sys
import threading

import numpy as np
import pytest

from mfm_hf.data.class_statistics import collect_class_statistics
from mfm_hf.data.domain import BadExampleError
from mfm_hf.data.domains import load_domain
from mfm_hf.data.image_encoding import ImageEncoding
from mfm_hf.data.preparation import Preparation, prepare
from mfm_hf.hub.publish_dataset import publish_dataset


@pytest.fixture
def dataset(number_domain, tmp_path):
    """Twelve examples in four shards, of 12 x 16 pixels, as PNG."""
    prepare(number_domain(12), tmp_path / "dataset", Preparation(ImageEncoding("png"), shard_bytes=3000))
    return tmp_path / "dataset"


@pytest.fixture
def published(dataset, loopback_hub):
    """The same on the Hub; its server is a web server, too."""
    publish_dataset(dataset, "someone/numbers")
    return loopback_hub


@pytest.fixture
def website(published):
    """The address of the same on a web server, which knows nobody."""
    published.repos["datasets/someone/numbers"].private = False
    return f"{published.url}/datasets/someone/numbers/resolve/main"


def assert_same_examples(first, second):
    for row, other in zip(first.rows, second.rows, strict=True):
        one, other = first.decode(row), second.decode(other)
        assert one.name == other.name
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)


# Rows


def test_rows_are_light_and_can_be_jumped_to(dataset, number_domain):
    domain = load_domain(str(dataset), "source")
    assert list(domain.rows)[:4] == [
        {"shard": 0, "row": 0},
        {"shard": 0, "row": 1},
        {"shard": 0, "row": 2},
        {"shard": 1, "row": 0},
    ]
    for index in (11, 0, 7, 3):
        assert domain.decode(domain.row_at(index)).name == str(index)
    assert_same_examples(domain, number_domain(12))


def test_statistics_are_read_and_not_counted(dataset, number_domain, monkeypatch):
    expected = collect_class_statistics(number_domain(12)).counts
    domain = load_domain(str(dataset), "source")
    monkeypatch.setattr("mfm_hf.data.prepared.PreparedDecoder.__call__", None)
    np.testing.assert_array_equal(collect_class_statistics(domain).counts, expected)


def _names(decode, rows):
    return [decode(row).name for row in rows]


def test_a_decoder_goes_into_other_processes(dataset):
    domain = load_domain(str(dataset), "source")
    rows = list(domain.rows)
    domain.decode(rows[0])  # its shard is open here
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_names, (domain.decode, rows)) == [str(number) for number in range(12)]
    assert pickle.loads(pickle.dumps(domain.decode)) == domain.decode


# Places


@pytest.mark.parametrize("address", ["website", "hf://datasets/someone/numbers", "someone/numbers"])
def test_the_same_is_read_from_anywhere(dataset, published, request, address):
    address = request.getfixturevalue(address) if address == "website" else address
    assert_same_examples(load_domain(address, "source"), load_domain(str(dataset), "source"))
    assert load_domain(f"{address}#train", "target").split == "train"
    with pytest.raises(ValueError, match=r"has no split 'validation', only train: prepare it too"):
        load_domain(address, "eval")


def test_a_row_is_fetched_without_its_neighbours(dataset, published):
    domain = load_domain("someone/numbers", "source")
    domain.decode(domain.row_at(0))  # the shard's end is read once
    sent = published.sent_bytes
    domain.decode(domain.row_at(2))
    assert published.sent_bytes - sent < (dataset / "train-00000-of-00004.parquet").stat().st_size / 2


def test_a_connection_that_breaks_is_tried_again(website, published, monkeypatch, caplog):
    monkeypatch.setattr("mfm_hf.data.prepared._RETRY_WAITS", (0.0, 0.0))
    domain = load_domain(website, "source")
    published.fail("GET .*parquet", 503, times=2)
    with caplog.at_level(logging.INFO, logger="mfm_hf.data.prepared"):
        assert domain.decode(domain.row_at(5)).name == "5"
    assert len(caplog.records) == 2
    published.fail("GET .*parquet", 503, times=3)
    with pytest.raises(BadExampleError, match=r"cannot read row 0 of http://.*/train-00003-of-00004.parquet \(503"):
        domain.decode(domain.row_at(9))


def test_an_address_without_a_dataset_is_one_line(published):
    for address in (f"{published.url}/nothing", "http://127.0.0.1:9/nothing"):  # the latter has no server
        with pytest.raises(
            FileNotFoundError, match=r"cannot find http://.*/nothing/manifest.json: give the address of"
        ):
            load_domain(address, "source")


def test_without_the_hub_an_unknown_name_is_one_line():
    with pytest.raises(
        ValueError, match=r"'no/where' is neither an existing folder nor a dataset that can be read from"
    ):
        load_domain("no/where", "source")


# Damage


def test_a_missing_shard_is_named(dataset):
    (dataset / "train-00002-of-00004.parquet").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"train-00002-of-00004.parquet is missing, which manifest.json names: pr"
    ):
        load_domain(str(dataset), "source")


def test_a_truncated_shard_is_named(dataset):
    path = dataset / "train-00001-of-00004.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        OSError, match=r"train-00001-of-00004.parquet has 100 bytes, but manifest.json says \d+: prepare"
    ):
        load_domain(str(dataset), "source")


def test_a_flipped_bit_is_noticed(dataset, number_domain):
    """Parquet keeps a checksum of every page."""
    path = dataset / "train-00000-of-00004.parquet"
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 50] ^= 1
    path.write_bytes(content)
    domain = load_domain(str(dataset), "source")
    with pytest.raises(BadExampleError, match=r"cannot read row 0 of .*parquet \(.*CRC.*\): prepare the dataset again"):
        domain.decode(domain.row_at(0))
    assert domain.decode(domain.row_at(1)).name == "1"


def test_damaged_statistics_are_noticed(dataset):
    path = dataset / "train-class_pixels.npz"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"train-class_pixels.npz is damaged, its checksum is not that of manifest.json"
    ):
        load_domain(str(dataset), "source").class_counts()


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2}', '{"format": 1}'])
def test_a_manifest_that_cannot_be_read_is_one_line(dataset, content):
    (dataset / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest.json cannot be read \(.*\): prepare the dataset again"):
        load_domain(str(dataset), "source")


def test_a_prepared_dataset_takes_no_label_map(dataset, tmp_path):
    with pytest.raises(ValueError, match="was prepared, and has its classes: leave --label_map away"):
        load_domain(str(dataset), "source", label_map=tmp_path / "map.json")


# Publishing


def test_a_dataset_is_published_privately_and_replaced_as_a_whole(dataset, published, number_domain, tmp_path):
    repo = published.repos["datasets/someone/numbers"]
    assert repo.private
    assert set(repo.files) == {".gitattributes", *(path.name for path in dataset.iterdir())}
    prepare(number_domain(5), tmp_path / "less", Preparation(ImageEncoding("png")))
    publish_dataset(tmp_path / "less", "someone/numbers")
    assert set(repo.files) == {".gitattributes", *(path.name for path in (tmp_path / "less").iterdir())}


def test_an_incomplete_dataset_is_not_published(dataset, loopback_hub):
    (dataset / "README.md").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks README\.md: prepare it again"):
        publish_dataset(dataset, "someone/numbers")
    with pytest.raises(FileNotFoundError, match=r"holds no manifest\.json"):
        publish_dataset(dataset.parent, "someone/numbers")
    assert loopback_hub.repos == {}


def test_a_dataset_is_not_added_to_a_public_repository(dataset, published):
    published.repos["datasets/someone/numbers"].private = False
    with pytest.raises(OSError, match="exists and is public"):
        publish_dataset(dataset, "someone/numbers")


# Threads


def test_threads_may_read_one_shard_at_the_same_time(dataset):
    """Sharing an open file, they waited for each other for ever, after a hundred images or so of an evaluation."""
    domain = load_domain(str(dataset), "source")
    done = []

    def read():
        for _ in range(100):
            done.append(domain.decode({"shard": 0, "row": 0}).name)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=read, daemon=True) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        threads[0].join(timeout=30)
        for thread in threads[1:]:
            thread.join(timeout=1)
    finally:
        sys.setswitchinterval(interval)
    assert done == ["0"] * 400
