import gc
import logging
import multiprocessing
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
import torch

from mfm_hf.data.domain import BadExampleError, light_rows, load_domain
from mfm_hf.data.folders import write_folder
from mfm_hf.data.loading import TrainingStream, draws
from mfm_hf.data.transforms import TrainingTransform

TRANSFORM = TrainingTransform((8, 8))


def numbers(domain, count, **arguments):
    return [draw.row["number"] for draw in islice(draws(domain, **arguments), count)]


def take(stream, count):
    batches = list(islice(stream, count))
    stream.close()
    return batches


def assert_same_batches(first, second):
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert (one["names"], one["positions"]) == (other["names"], other["positions"])
        assert torch.equal(one["pixel_values"], other["pixel_values"])
        assert torch.equal(one["labels"], other["labels"])


# Draws


def test_every_epoch_is_a_permutation_and_another_one(number_domain):
    domain = number_domain(20)
    order = numbers(domain, 60, seed=0)
    epochs = [order[:20], order[20:40], order[40:]]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, sorted(epochs[0])]}) == 4
    assert numbers(domain, 60, seed=0) == order
    assert numbers(domain, 60, seed=1) != order


def test_positions_count_over_epochs(number_domain):
    assert [draw.position for draw in islice(draws(number_domain(4), seed=0), 10)] == list(range(10))


@pytest.mark.parametrize("start", [0, 3, 20, 47])
def test_draws_resume_anywhere(number_domain, start):
    domain = number_domain(20)
    assert numbers(domain, 30, seed=0, start=start) == numbers(domain, 80, seed=0)[start : start + 30]


def test_processes_share_the_draws(number_domain):
    domain = number_domain(7)
    for rank in range(3):
        own = [(draw.position, draw.row["number"]) for draw in islice(draws(domain, 0, 2, rank, 3), 8)]
        alone = [(draw.position, draw.row["number"]) for draw in islice(draws(domain, 0), 30)]
        assert own == [draw for draw in alone if draw[0] >= 2 and draw[0] % 3 == rank][:8]


# Batches


def test_a_batch(number_domain):
    batch = next(TrainingStream(number_domain(), TRANSFORM, batch_size=3, seed=0))
    assert set(batch) == {"pixel_values", "labels", "names", "positions"}
    assert batch["pixel_values"].shape == (3, 3, 8, 8)
    assert batch["pixel_values"].dtype == torch.uint8
    assert batch["labels"].shape == (3, 8, 8)
    assert batch["labels"].dtype == torch.int64
    assert batch["names"] == [str(number) for number in numbers(number_domain(), 3, seed=0)]
    assert batch["positions"] == [0, 1, 2]


def test_a_target_has_no_labels(folder):
    batch = next(TrainingStream(load_domain(str(folder), "target"), TRANSFORM, batch_size=2, seed=0))
    assert "labels" not in batch


def test_a_sample_differs_from_epoch_to_epoch(number_domain):
    batches = list(islice(TrainingStream(number_domain(1), TRANSFORM, batch_size=1, seed=0), 10))
    assert len({batch["pixel_values"].numpy().tobytes() for batch in batches}) > 5


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_no_sample(number_domain, num_workers):
    domain = number_domain(10, bad=(3,))
    alone = TrainingStream(domain, TRANSFORM, batch_size=4, seed=0, max_bad_samples=1)
    helped = TrainingStream(domain, TRANSFORM, batch_size=4, seed=0, max_bad_samples=1, num_workers=num_workers)
    assert_same_batches(take(helped, 6), take(alone, 6))
    assert helped.position == alone.position == 26  # two of them bad
    assert helped.num_bad == alone.num_bad == 1


def test_creating_a_stream_leaves_the_global_random_numbers_alone(number_domain):
    state = torch.get_rng_state()
    take(TrainingStream(number_domain(), TRANSFORM, batch_size=2, seed=0), 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_two_processes_make_the_batches_of_one_of_double_size(number_domain):
    domain = number_domain(10)
    ranks = [TrainingStream(domain, TRANSFORM, batch_size=2, seed=0, rank=rank, world_size=2) for rank in range(2)]
    whole = TrainingStream(domain, TRANSFORM, batch_size=4, seed=0)
    for _ in range(7):
        shares = [next(rank) for rank in ranks]
        batch = next(whole)
        order = torch.tensor([position for share in shares for position in share["positions"]]).argsort()
        assert torch.equal(torch.cat([share["pixel_values"] for share in shares])[order], batch["pixel_values"])
        assert ranks[0].position == ranks[1].position == whole.position


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_resumed_stream_goes_on_as_if_nothing_had_been(number_domain, world_size):
    domain = number_domain(10, bad=(3, 4))
    for rank in range(world_size):
        setting = {"batch_size": 3, "seed": 0, "rank": rank, "world_size": world_size, "max_bad_samples": 2}
        expected = take(TrainingStream(domain, TRANSFORM, **setting), 9)[4:]
        stopped = TrainingStream(domain, TRANSFORM, **setting)
        take(stopped, 4)
        resumed = TrainingStream(domain, TRANSFORM, **setting, start=stopped.position)
        assert_same_batches(take(resumed, 5), expected)


def test_a_drawn_domain_trains_like_its_files(tmp_path):
    drawn = load_domain("streets:game:32x64", "source")
    drawn = replace(drawn, rows=light_rows([{"index": index} for index in range(6)]), num_rows=6)
    write_folder(drawn, tmp_path / "files")
    files = load_domain(str(tmp_path / "files"), "source")
    streams = [TrainingStream(domain, TRANSFORM, batch_size=4, seed=0) for domain in (drawn, files)]
    assert_same_batches(take(streams[0], 4), take(streams[1], 4))


# Bad samples


def test_a_corrupt_file_is_named_counted_and_skipped(folder, caplog):
    path = folder / "images" / "town" / "02.png"
    path.write_bytes(path.read_bytes()[:100])
    stream = TrainingStream(load_domain(str(folder), "source"), TRANSFORM, batch_size=5, seed=0, max_bad_samples=1)
    with caplog.at_level(logging.WARNING):
        batches = take(stream, 4)
    assert Counter(name for batch in batches for name in batch["names"]) == {
        f"town/0{index}": 4 for index in (0, 1, 3, 4, 5)
    }
    assert stream.num_bad == 1
    (record,) = caplog.records  # once, though it was met in four epochs
    assert "images/town/02.png" in record.getMessage()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_too_many_corrupt_files_are_an_error(folder, num_workers):
    for index in (1, 4, 5):
        (folder / "images" / "town" / f"0{index}.png").write_text("no image")
    domain = load_domain(str(folder), "source")
    stream = TrainingStream(domain, TRANSFORM, 3, seed=0, num_workers=num_workers, max_bad_samples=2)
    message = r"3 of 6 samples in .*set are bad \(--max_bad_samples is 2\); the last: cannot read .*/0[145]\.png"
    with pytest.raises(BadExampleError, match=message):
        take(stream, 4)
    stream.close()


def test_a_stream_of_bad_samples_alone_ends(number_domain):
    stream = TrainingStream(number_domain(3, bad=(0, 1, 2)), TRANSFORM, 1, seed=0, max_bad_samples=100)
    with pytest.raises(BadExampleError, match="3 of 3 samples in numbers are bad"):
        next(stream)


# The end


@pytest.mark.parametrize("closing", [True, False], ids=["closed", "dropped"])
def test_workers_end_with_their_stream(number_domain, closing):
    stream = TrainingStream(number_domain(), TRANSFORM, batch_size=2, seed=0, num_workers=2)
    next(stream)
    assert len(multiprocessing.active_children()) == 2
    if closing:
        stream.close()
        assert next(stream, None) is None
    del stream
    gc.collect()
    assert multiprocessing.active_children() == []
