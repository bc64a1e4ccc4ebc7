import json
import os
import signal
from functools import partial

import pytest

from mfm_hf.benchmarking import candidate, data_wait, training
from mfm_hf.benchmarking.candidate import Candidate, measure_candidate, measure_in_own_process, own_step, plain_step
from mfm_hf.benchmarking.machine import Machine
from mfm_hf.benchmarking.plain_step import Handicaps
from mfm_hf.benchmarking.tables import training_table
from mfm_hf.benchmarking.training import COMPILED, FAST, FINE_TUNING, NO_MFM, PLAIN, measure_training
from mfm_hf.uda.compilation import compile_networks
from mfm_hf.uda.training_args import UdaTrainingArguments

SMALL = {"source": ((96, 128), (2.5, 1.5)), "target": ((96, 192), (2.0, 1.0))}


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the seconds that new processes take to import their libraries, and those of large matrix products."""
    monkeypatch.setattr(training, "measure_in_own_process", measure_candidate)
    known = Machine("a processor", 1, "", {"float32": 1e11, "bfloat16": 1e12})
    monkeypatch.setattr(candidate, "describe_machine", lambda device, dtypes: known)


def test_all_steps_are_measured_beside_each_other(args: UdaTrainingArguments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_wait, "SIZES", SMALL)
    result = measure_training(args, steps=2, warmup=0, without=["eager_attention"])
    seconds = result["seconds_per_step"]
    assert list(seconds) == [
        FAST,
        NO_MFM,
        f"{FAST}, one_by_one",
        PLAIN,
        f"{PLAIN} without eager_attention",
        FINE_TUNING,
    ]
    assert result["encode"] == "views_together"
    assert seconds.keys() == result["peak_memory"].keys() == result["matrix_product"].keys()
    assert result["speedup_over_plain"] == pytest.approx(seconds[PLAIN] / seconds[FAST])
    assert {"encode", "decode", "teacher", "views", "rebuild", "backward", "optimizer", "ema"} == set(result["parts"])
    flops = result["flops_per_step"]
    assert flops[FAST] > flops[NO_MFM] > 0
    assert result["mfm_cost"]["operations"] == pytest.approx(flops[FAST] / flops[NO_MFM] - 1)
    assert 0 <= result["data_wait"]["share"] < 1
    json.dumps(result)  # for the file
    table = training_table(result)
    assert f"| {PLAIN} without eager_attention |" in table
    assert "MFM adds" in table


def test_without_mfm_there_is_nothing_to_compare(args: UdaTrainingArguments) -> None:
    args.mfm, args.recipe = False, "source_only"
    result = measure_training(args, steps=1, warmup=0, data_wait=False, other_encode=False)
    assert result["data_wait"] is None
    assert result["mfm_cost"] is None
    assert NO_MFM not in result["seconds_per_step"]


def test_the_compiled_step_is_measured_beside_the_others(
    args: UdaTrainingArguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = partial(compile_networks, backend="eager")
    monkeypatch.setattr("mfm_hf.uda.adaptation_step.compile_networks", quick)
    args.mfm, args.recipe, args.compile = False, "source_only", True
    result = measure_training(args, steps=1, warmup=1, data_wait=False, other_encode=False)
    assert list(result["seconds_per_step"]) == [FAST, COMPILED, PLAIN, FINE_TUNING]
    assert result["first_losses"][COMPILED] == pytest.approx(result["first_losses"][FAST])
    assert result["compile_seconds"] > result["seconds_per_step"][COMPILED]  # a graph is captured in seconds
    assert f"Compiling takes {result['compile_seconds']:.0f} s" in training_table(result)
    with pytest.raises(ValueError, match="--warmup 1 or more"):
        measure_training(args, steps=1, warmup=0)


def test_a_wrong_handicap_is_named(args: UdaTrainingArguments) -> None:
    with pytest.raises(ValueError, match="no handicap 'slow_disk': choose among views_one_by_one"):
        measure_training(args, steps=1, without=["slow_disk"])


def test_a_process_of_its_own_finds_what_this_one_finds(args: UdaTrainingArguments) -> None:
    plain = Candidate(plain_step(Handicaps()), args)
    here, there = measure_candidate(plain, 1, 0), measure_in_own_process(plain, 1, 0)
    assert there.first_losses == pytest.approx(here.first_losses, rel=1e-5)
    assert len(there.seconds) == 1
    assert there.peak_memory > 2**26  # libraries and network


def _killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_was_killed_is_told_in_a_line(args: UdaTrainingArguments) -> None:
    with pytest.raises(ValueError, match="memory runs out: choose a smaller --crop_size"):
        measure_in_own_process(Candidate(_killed, args), 1, 0)


def test_own_step_counts_the_images_of_both_domains(args: UdaTrainingArguments) -> None:
    found = measure_candidate(Candidate(own_step, args), 1, 0)
    assert found.images_per_step == 4
    assert found.encode == "views_together"
    assert (found.flops, found.parts, found.data_wait) == (None, None, None)
