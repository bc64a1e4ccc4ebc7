from dataclasses import replace
from pathlib import Path

import pytest

from mfm_hf.data.domains import load_domain
from mfm_hf.data.folders import write_folder
from mfm_hf.data.subset import evenly_spaced, same_examples


@pytest.fixture
def streets():
    return load_domain("streets:game:32x64", "source")


@pytest.mark.parametrize(("num_rows", "expected"), [(1, [0]), (3, [0, 991, 1983]), (2974, [*range(2974)])])
def test_rows_are_spread_evenly(streets, num_rows, expected):
    part = evenly_spaced(streets, num_rows)
    assert [row["index"] for row in part.rows] == expected
    assert part.num_rows == num_rows
    assert part.row_at(num_rows - 1) == {"index": expected[-1]}
    assert part.decode(part.row_at(0)).name == "game_train_00000"
    assert part.label_source is None


def test_what_can_only_be_streamed_gives_its_first_rows(streets):
    part = evenly_spaced(replace(streets, row_at=None), 3)
    assert [row["index"] for row in part.rows] == [0, 1, 2]


def test_a_small_domain_stays_itself(streets):
    assert evenly_spaced(streets, streets.num_rows) is streets


def test_splits_that_are_one_are_found_out(streets, tmp_path: Path):
    validation = load_domain("streets:game:32x64", "eval")
    assert not same_examples(streets, validation)
    assert not same_examples(replace(streets, num_rows=500), validation)  # alike in their rows, not in their labels
    write_folder(streets, tmp_path / "flat", limit=2)
    write_folder(streets, tmp_path / "split/train", limit=2)
    write_folder(validation, tmp_path / "split/validation", limit=2)
    for name, same in (("flat", True), ("split", False)):
        address = str(tmp_path / name)
        assert same_examples(load_domain(address, "eval"), load_domain(address, "source")) is same
