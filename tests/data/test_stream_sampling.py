from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest

from mfm_hf.data.class_statistics import ClassStatistics
from mfm_hf.data.classes import class_set_from_names
from mfm_hf.data.domain import BadExampleError, Domain, Example, LabelSource, light_rows
from mfm_hf.data.loading import TrainingStream
from mfm_hf.data.rare_class_sampling import RareClassSampler, RareClassSampling, class_probabilities
from mfm_hf.data.stream_sampling import block_bounds, rare_class_draws_in_blocks
from mfm_hf.data.transforms import TrainingTransform

CONFIG = RareClassSampling(temperature=0.3, min_pixels=3)
NUM_CLASSES = 4
CLASSES = class_set_from_names(("road", "car", "pole", "train"))


class Counted:
    """Example i is a label of 60 pixels with as many of each class as its row of counts says."""

    def __init__(self, counts, bad=()):
        self.counts, self.bad = counts, bad

    def read(self, row):
        if row["number"] in self.bad:
            raise BadExampleError(f"number {row['number']} is bad")
        return np.repeat(np.arange(NUM_CLASSES, dtype=np.uint8), self.counts[row["number"]]).reshape(6, 10)

    def __call__(self, row):
        return Example(str(row["number"]), np.zeros((6, 10, 3), np.uint8), self.read(row))


def counts_of(num_rows, shows=lambda number, class_id: True):
    """Pixels per example and class; the later a class, the rarer."""
    rng = np.random.default_rng(0)
    counts = np.zeros((num_rows, NUM_CLASSES), np.int64)
    for number in range(num_rows):
        for class_id in range(1, NUM_CLASSES):
            if shows(number, class_id):
                counts[number, class_id] = rng.integers(0, 18 // class_id)
    counts[:, 0] = 60 - counts.sum(axis=1)
    return counts


def stream_domain(counts, shuffle_buffer=16, bad=()):
    """A domain that can only be streamed."""
    decoder = Counted(counts, bad)
    rows = light_rows([{"number": number} for number in range(len(counts))])
    source = LabelSource(decoder.read, lambda: "")
    return Domain(
        "stream",
        "train",
        CLASSES,
        255,
        True,
        rows,
        len(counts),
        decoder,
        label_source=source,
        shuffle_buffer=shuffle_buffer,
    )


def take(domain, count, **arguments):
    return list(islice(rare_class_draws_in_blocks(domain, CONFIG, **{"seed": 0, **arguments}), count))


def test_blocks_are_of_one_size():
    assert block_bounds(10, 16) == [0, 10]
    assert block_bounds(33, 16) == [0, 11, 22, 33]
    sizes = np.diff(block_bounds(24_966, 256))
    assert (sizes.sum(), sizes.min(), sizes.max()) == (24_966, 254, 255)


def test_draws_come_from_their_block_and_show_their_class():
    counts = counts_of(40)
    bounds = block_bounds(40, 16)
    for draw in take(stream_domain(counts), 120):
        begin, end = next(pair for pair in pairwise(bounds) if draw.position % 40 < pair[1])
        assert begin <= draw.row["number"] < end
        assert counts[draw.row["number"], draw.required.class_id] > CONFIG.min_pixels
        assert draw.required.pixels == CONFIG.min_pixels * CONFIG.min_crop_ratio


def test_in_a_block_draws_follow_the_formula():
    """A chi-squared test, with P(c) of the formula as it stands in the paper."""
    counts = counts_of(16)
    num_draws = 2000
    drawn = np.bincount(
        [draw.required.class_id for draw in take(stream_domain(counts), num_draws)], minlength=NUM_CLASSES
    )
    shares = counts.sum(axis=0) / counts.sum()
    expected = np.exp((1 - shares) / 0.3) / np.exp((1 - shares) / 0.3).sum() * num_draws
    assert ((drawn - expected) ** 2 / expected).sum() < 16.3  # 3 degrees of freedom: once in 1000 times


def test_over_all_blocks_a_class_is_drawn_with_its_mean_probability():
    """And not quite by the formula of the whole: the train is in one block of four."""
    counts = counts_of(64, shows=lambda number, class_id: class_id < 3 or number < 16)
    num_draws = 64 * 40
    drawn = np.bincount(
        [draw.required.class_id for draw in take(stream_domain(counts), num_draws)], minlength=NUM_CLASSES
    )
    mean = np.mean([class_probabilities(counts[k : k + 16].sum(axis=0), 0.3) for k in range(0, 64, 16)], axis=0)
    standard_deviation = np.sqrt(mean * (1 - mean) / num_draws)
    assert (np.abs(drawn / num_draws - mean) < 4 * standard_deviation).all()
    exact = RareClassSampler(ClassStatistics(counts, CLASSES.names), CONFIG).probabilities
    assert drawn[3] / num_draws < exact[3] / 3


def test_blocks_that_are_alike_give_what_is_drawn_from_the_whole():
    counts = np.tile(counts_of(16), (8, 1))
    num_draws = 128 * 12
    drawn = np.bincount(
        [draw.required.class_id for draw in take(stream_domain(counts), num_draws)], minlength=NUM_CLASSES
    )
    exact = RareClassSampler(ClassStatistics(counts, CLASSES.names), CONFIG).probabilities
    np.testing.assert_allclose(drawn / num_draws, exact, atol=4 * 0.5 / np.sqrt(num_draws))


@pytest.mark.parametrize("start", [0, 5, 13, 16, 40, 93])
@pytest.mark.parametrize("world_size", [1, 3])
def test_draws_resume_anywhere_on_any_process(start, world_size):
    domain = stream_domain(counts_of(40))
    whole = take(domain, 160)
    assert [draw.position for draw in whole] == list(range(160))
    for rank in range(world_size):
        own = take(domain, 20, start=start, rank=rank, world_size=world_size)
        assert own == [draw for draw in whole if draw.position >= start and draw.position % world_size == rank][:20]
    assert take(domain, 160, seed=1) != whole


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_of_samples_resumes_whatever_the_workers(num_workers):
    domain, transform = stream_domain(counts_of(40)), TrainingTransform((4, 4))
    setting = {"batch_size": 3, "seed": 0, "rare_class_sampling": CONFIG}
    expected = list(islice(TrainingStream(domain, transform, **setting), 12))
    stopped = TrainingStream(domain, transform, **setting, num_workers=num_workers)
    first = list(islice(stopped, 5))
    stopped.close()
    resumed = TrainingStream(domain, transform, **setting, num_workers=num_workers, start=stopped.position)
    for batch, other in zip([*first, *islice(resumed, 7)], expected, strict=True):
        assert (batch["names"], batch["positions"]) == (other["names"], other["positions"])
        assert (batch["labels"] == other["labels"]).all()
    resumed.close()


def test_bad_labels_are_never_drawn(caplog):
    domain = stream_domain(counts_of(20), bad=(3, 7))
    drawn = take(domain, 200, max_bad_samples=2)
    assert not {3, 7} & {draw.row["number"] for draw in drawn}
    assert sorted(record.getMessage() for record in caplog.records) == [  # once, though they are met ten times
        "never draw a bad sample of stream: number 3 is bad",
        "never draw a bad sample of stream: number 7 is bad",
    ]
    with pytest.raises(
        BadExampleError, match=r"2 labels of stream are bad \(--max_bad_samples is 1\); the last: number 7"
    ):
        take(domain, 200, max_bad_samples=1)


def test_a_block_that_shows_nothing_enough_is_an_error():
    with pytest.raises(ValueError, match="lower --rare_class_min_pixels"):
        next(rare_class_draws_in_blocks(stream_domain(counts_of(8)), replace(CONFIG, min_pixels=60), seed=0))


@pytest.mark.parametrize("num_rows", [18, 22])
def test_an_epoch_of_another_length_is_an_error(num_rows):
    domain = replace(stream_domain(counts_of(num_rows)), num_rows=20)
    with pytest.raises(ValueError, match=rf"stream has {num_rows} rows in epoch 0, not 20 as at the start"):
        take(domain, 30)
