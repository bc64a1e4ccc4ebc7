import gc
import logging
import multiprocessing
from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from mfm_hf.data.class_statistics import collect_class_statistics
from mfm_hf.data.domain import BadExampleError, light_rows
from mfm_hf.data.domains import load_domain
from mfm_hf.data.draws import draws, rare_class_draws
from mfm_hf.data.folders import write_folder
from mfm_hf.data.loading import TrainingStream
from mfm_hf.data.rare_class_sampling import RareClassSampler, RareClassSampling
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


def test_margins_come_with_the_batch(number_domain):
    transform = TrainingTransform((12, 16), flip_probability=0, margins=(2, 3, 0, 0))
    batch = next(TrainingStream(number_domain(), transform, batch_size=3, seed=0))
    assert batch["valid"].shape == (3, 12, 16)
    assert batch["valid"].any(dim=2).tolist() == [[False] * 2 + [True] * 7 + [False] * 3] * 3


# Rare class sampling. A label of noise has 192 pixels of 19 classes; a crop has 64.


def rare_class_sampler(domain, max_bad_samples=0, **config):
    statistics = collect_class_statistics(domain, max_bad_samples=max_bad_samples)
    return RareClassSampler(statistics, RareClassSampling(**{"temperature": 0.1, "min_pixels": 8, **config}))


def test_rare_class_draws_are_a_function_of_seed_and_position(number_domain):
    domain = number_domain(20)
    sampler = rare_class_sampler(domain)
    whole = list(islice(rare_class_draws(domain, sampler, seed=0), 60))
    assert [draw.position for draw in whole] == list(range(60))
    assert list(islice(rare_class_draws(domain, sampler, seed=1), 60)) != whole
    for rank in range(3):
        own = list(islice(rare_class_draws(domain, sampler, 0, 7, rank, 3), 15))
        assert own == [draw for draw in whole if draw.position >= 7 and draw.position % 3 == rank][:15]


def test_a_rare_class_draw_shows_its_class(number_domain):
    domain = number_domain(20)
    counts = [np.bincount(domain.decode({"number": number}).label.ravel(), minlength=19) for number in range(20)]
    drawn = list(islice(rare_class_draws(domain, rare_class_sampler(domain), seed=0), 200))
    assert all(counts[draw.row["number"]][draw.required.class_id] > 8 for draw in drawn)
    assert {draw.required.pixels for draw in drawn} == {4}
    assert len({draw.required.class_id for draw in drawn}) == 19


def test_crops_show_the_class_that_they_were_drawn_for(number_domain):
    domain = number_domain(20)
    sampler = rare_class_sampler(domain)
    classes = [draw.required.class_id for draw in islice(rare_class_draws(domain, sampler, seed=0), 200)]
    shares = []
    for sampling in (sampler, None):
        batches = islice(TrainingStream(domain, TRANSFORM, 1, seed=0, rare_class_sampling=sampling), 200)
        labels = [batch["labels"] for batch in batches]
        shares.append(np.mean([int((label == c).sum()) > 4 for label, c in zip(labels, classes, strict=True)]))
    # In a crop of noise the pixels of a class are binomial(64, 1/19): more than 4 in 24 % of the crops.
    assert shares[0] > 0.7
    assert shares[1] < 0.4


@pytest.mark.parametrize(("num_workers", "world_size"), [(0, 2), (1, 1), (2, 2)])
def test_a_rare_class_stream_resumes_whatever_the_workers(number_domain, num_workers, world_size):
    domain = number_domain(10, bad=(3,))
    sampler = rare_class_sampler(domain, max_bad_samples=1)
    setting = {"batch_size": 3, "seed": 0, "max_bad_samples": 1, "rare_class_sampling": sampler}
    for rank in range(world_size):
        share = {**setting, "rank": rank, "world_size": world_size}
        expected = take(TrainingStream(domain, TRANSFORM, **share), 6)
        stopped = TrainingStream(domain, TRANSFORM, **share, num_workers=num_workers)
        first = take(stopped, 2)
        resumed = TrainingStream(domain, TRANSFORM, **share, start=stopped.position, num_workers=num_workers)
        assert_same_batches(first + take(resumed, 4), expected)


def test_two_processes_share_a_rare_class_stream(number_domain):
    domain = number_domain(10)
    setting = {"seed": 0, "rare_class_sampling": rare_class_sampler(domain)}
    whole = next(TrainingStream(domain, TRANSFORM, 8, **setting))
    for rank in range(2):
        share = next(TrainingStream(domain, TRANSFORM, 4, rank=rank, world_size=2, **setting))
        assert torch.equal(share["pixel_values"], whole["pixel_values"][rank::2])
        assert share["names"] == whole["names"][rank::2]


def test_rare_class_sampling_needs_random_access(number_domain):
    domain = number_domain()
    setting = {"batch_size": 1, "seed": 0, "rare_class_sampling": rare_class_sampler(domain)}
    with pytest.raises(ValueError, match="numbers can only be read in order, but rare class sampling by statistics"):
        TrainingStream(replace(domain, row_at=None), TRANSFORM, **setting)


def test_the_statistics_of_another_domain_are_refused(number_domain):
    sampler = rare_class_sampler(number_domain(4))
    with pytest.raises(ValueError, match="statistics are of 4 examples, but numbers has 10"):
        TrainingStream(number_domain(10), TRANSFORM, 1, seed=0, rare_class_sampling=sampler)


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


def test_a_rare_class_stream_that_can_draw_bad_samples_alone_ends(number_domain):
    sampler = rare_class_sampler(number_domain(3), min_pixels=16, leave_out_scarce=True)
    drawable = {sampler.draw(np.random.default_rng(seed))[1] for seed in range(50)}
    assert len(drawable) == sampler.num_drawable < 3
    domain = number_domain(3, bad=tuple(drawable))  # gone bad since they were counted
    stream = TrainingStream(domain, TRANSFORM, 1, seed=0, max_bad_samples=100, rare_class_sampling=sampler)
    with pytest.raises(BadExampleError, match=f"{len(drawable)} of {len(drawable)} samples in numbers are bad"):
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


# Resumption, and data that changes meanwhile


def test_bad_samples_are_counted_over_a_resumption(number_domain):
    setting = {"batch_size": 3, "seed": 0, "max_bad_samples": 1}
    stopped = TrainingStream(number_domain(10, bad=(3,)), TRANSFORM, **setting)
    take(stopped, 4)
    (reason,) = stopped.bad_samples
    again = {**setting, "start": stopped.position, "bad_samples": stopped.bad_samples}
    resumed = TrainingStream(number_domain(10, bad=(3,)), TRANSFORM, **again)
    take(resumed, 4)
    assert resumed.bad_samples == (reason,)
    with pytest.raises(BadExampleError, match="2 of 10 samples"):
        take(TrainingStream(number_domain(10, bad=(3, 5)), TRANSFORM, **again), 8)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(("there", "start"), [(7, 0), (7, 5), (12, 0), (0, 0)])
def test_a_domain_whose_rows_have_become_fewer_or_more_is_an_error(number_domain, there, start, num_workers):
    rows = number_domain(there).rows if there else light_rows([])
    domain = replace(number_domain(10), rows=rows)
    setting = {"batch_size": 1, "seed": 0, "start": start, "num_workers": num_workers}
    with pytest.raises(ValueError, match=f"numbers has {there} rows in epoch 0, not 10 as at the start: files were"):
        take(TrainingStream(domain, TRANSFORM, **setting), 13)
