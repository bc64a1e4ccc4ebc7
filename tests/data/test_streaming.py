"""Domains that are read from shards: shared among processes and workers, resumed, and read for long."""

from collections import Counter
from itertools import islice

import numpy as np
import psutil
import pytest
import torch

from mfm_hf.data.class_statistics import collect_class_statistics
from mfm_hf.data.domains import load_domain
from mfm_hf.data.folders import write_folder
from mfm_hf.data.image_encoding import ImageEncoding
from mfm_hf.data.loading import TrainingStream
from mfm_hf.data.preparation import Preparation, prepare
from mfm_hf.data.rare_class_sampling import RareClassSampler, RareClassSampling
from mfm_hf.data.resizing import resized
from mfm_hf.data.transforms import TrainingTransform

NUM_EXAMPLES = 24
TRANSFORM = TrainingTransform((8, 8))


@pytest.fixture
def prepared(number_domain, tmp_path):
    """24 examples in eight shards."""
    prepare(number_domain(NUM_EXAMPLES), tmp_path / "dataset", Preparation(ImageEncoding("png"), shard_bytes=3000))
    return load_domain(str(tmp_path / "dataset"), "source")


@pytest.fixture
def streamed(prepared, tmp_path):
    """The same as somebody else's dataset: Parquet without a manifest, shuffled in a buffer of five rows."""
    for name in ("manifest.json", "README.md", "train-class_pixels.npz"):
        (tmp_path / "dataset" / name).unlink()
    domain = load_domain(str(tmp_path / "dataset"), "source", shuffle_buffer=5)
    assert domain.row_at is None
    return domain


def names(stream, num_batches):
    taken = [name for batch in islice(stream, num_batches) for name in batch["names"]]
    stream.close()
    return taken


@pytest.mark.parametrize("kind", ["prepared", "streamed"])
def test_processes_and_workers_see_disjoint_samples_and_together_all(request, kind):
    domain = request.getfixturevalue(kind)
    setting = {"batch_size": 3, "seed": 0, "num_workers": 2, "world_size": 2}
    for epoch in range(2):
        start = epoch * NUM_EXAMPLES
        shares = [names(TrainingStream(domain, TRANSFORM, **setting, rank=rank, start=start), 4) for rank in range(2)]
        assert Counter(shares[0] + shares[1]) == Counter(dict.fromkeys(shares[0] + shares[1], 1))
        assert len(shares[0] + shares[1]) == NUM_EXAMPLES


def rare_classes(domain):
    """The sampling that the domain allows: exact where rows can be jumped to."""
    config = RareClassSampling(temperature=0.1, min_pixels=8)
    return config if domain.row_at is None else RareClassSampler(collect_class_statistics(domain), config)


@pytest.mark.parametrize("kind", ["prepared", "streamed"])
@pytest.mark.parametrize("by_class", [False, True])
def test_interrupted_and_resumed_equals_uninterrupted(request, kind, by_class):
    domain = request.getfixturevalue(kind)
    sampling = rare_classes(domain) if by_class else None
    for rank in range(2):
        setting = {"batch_size": 2, "seed": 1, "rank": rank, "world_size": 2, "rare_class_sampling": sampling}
        expected = list(islice(TrainingStream(domain, TRANSFORM, **setting), 12))
        stopped = TrainingStream(domain, TRANSFORM, **setting)
        first = list(islice(stopped, 7))
        resumed = TrainingStream(domain, TRANSFORM, **setting, start=stopped.position)
        for batch, other in zip([*first, *islice(resumed, 5)], expected, strict=True):
            assert (batch["names"], batch["positions"]) == (other["names"], other["positions"])
            assert torch.equal(batch["pixel_values"], other["pixel_values"])
            assert torch.equal(batch["labels"], other["labels"])


def test_source_and_target_run_independently(prepared):
    """Streams of two lengths go round at their own pace, each in its own order."""
    short = TrainingStream(prepared, TRANSFORM, batch_size=5, seed=0)
    other = TrainingStream(prepared, TRANSFORM, batch_size=5, seed=1)
    taken = [(next(short)["names"], next(other)["names"]) for _ in range(12)]
    for side in range(2):
        alone = TrainingStream(prepared, TRANSFORM, batch_size=5, seed=side)
        assert [pair[side] for pair in taken] == [next(alone)["names"] for _ in range(12)]
    assert [pair[0] for pair in taken] != [pair[1] for pair in taken]


@pytest.mark.parametrize("by_class", [False, True])
def test_what_was_prepared_without_loss_gives_the_samples_of_the_original(number_domain, tmp_path, by_class):
    """Resized beforehand, or as it is read."""
    write_folder(number_domain(NUM_EXAMPLES), tmp_path / "files")
    original = load_domain(str(tmp_path / "files"), "source")
    prepare(original, tmp_path / "small", Preparation(ImageEncoding("webp-lossless"), box=(12, 9)))
    streams = [
        TrainingStream(
            domain, TRANSFORM, batch_size=5, seed=0, rare_class_sampling=rare_classes(domain) if by_class else None
        )
        for domain in (load_domain(str(tmp_path / "small"), "source"), resized(original, (12, 9), labels=True))
    ]
    for _ in range(8):
        batch, other = map(next, streams)
        assert (batch["names"], batch["positions"]) == (other["names"], other["positions"])
        assert torch.equal(batch["pixel_values"], other["pixel_values"])
        assert torch.equal(batch["labels"], other["labels"])


@pytest.mark.parametrize("kind", ["prepared", "streamed"])
def test_memory_stays_flat(request, kind):
    """Eighty epochs of samples of 10 KB, 20 MB in all, would show if any were kept."""
    domain = request.getfixturevalue(kind)
    stream = TrainingStream(domain, TRANSFORM, batch_size=24, seed=0, rare_class_sampling=rare_classes(domain))
    process = psutil.Process()
    resident = [process.memory_info().rss for _ in islice(stream, 60)]
    assert np.mean(resident[-5:]) - np.mean(resident[15:20]) < 4e6
