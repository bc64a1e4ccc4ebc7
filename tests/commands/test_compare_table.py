"""What a critical reader asks of the table: spread, paired gains with their interval, cost, and every seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from scipy import stats

from mfm_hf.commands.comparison import confidence_interval as intervals
from mfm_hf.commands.comparison import plot
from mfm_hf.commands.comparison.results import Line, collect
from mfm_hf.commands.comparison.suite import Suite, SuiteRun
from mfm_hf.commands.comparison.table import as_json, as_markdown, spread
from mfm_hf.commands.comparison.trainings import Training, plan
from mfm_hf.files import write_json

SUITE = Suite(
    title="a table",
    where="Table 1",
    flags={"recipe": "dacs", "target": "streets:real"},
    runs=(
        SuiteRun("warm-up", {"recipe": "source_only"}, shown=False),
        SuiteRun("source-only", {"recipe": "source_only"}, start_from="warm-up"),
        SuiteRun("DACS", baseline="source-only", start_from="warm-up", paper=52.1),
        SuiteRun("DACS + MFM", {"mfm": "true"}, baseline="DACS", start_from="warm-up", paper=55.9),
        SuiteRun("oracle", {"recipe": "source_only"}, oracle=True, baseline="source-only"),
    ),
)
MEAN_IOU = {
    "source-only": [0.40, 0.41, 0.39],
    "DACS": [0.50, 0.52, 0.51],
    "DACS + MFM": [0.51, 0.52, 0.535],
    "oracle": [0.70, 0.71],
}


def write_results(training: Training, mean_iou: float, seconds_per_step: float) -> None:
    write_json(training.folder / "command.json", {"flags": training._identity})
    results = {
        "mean_iou": mean_iou,
        "per_class_iou": {"road": mean_iou + 0.1, "car": 0.1, "train": None},
        "steps": 750,
        "seconds_per_step": seconds_per_step,
        "peak_memory_bytes": 2**30 + training.seed,
        "hardware": "1 x CPU",
        "arguments": {
            "source": "gta:/data/of/mine/gta",
            "target": "/data/of/mine/city",
            "label_map": "/data/of/mine/map.json",
            "output_dir": str(training.folder),
            "crop_size": [64, 128],
        },
    }
    if training.run.start_from is not None:
        results["arguments"]["model_name_or_path"] = "/data/of/mine/warm_up/seed-0"
    write_json(training.folder / "results.json", results)


@pytest.fixture
def lines(tmp_path: Path) -> list[Line]:
    planned = plan(SUITE, [2, 1, 0], tmp_path, {}, [])
    for training in planned:
        scores = MEAN_IOU.get(training.run.name, [])
        if training.seed < len(scores):
            write_results(training, scores[training.seed], 0.25 if "MFM" in training.run.name else 0.2)
    return collect(SUITE, planned)


def test_the_quantiles_are_those_of_students_t():
    expected = [stats.t.ppf(0.975, degrees) for degrees in range(1, len(intervals.T_QUANTILES) + 1)]
    assert list(intervals.T_QUANTILES) == pytest.approx(expected, abs=6e-4)


def test_the_interval_is_that_of_the_paired_t_test(lines):
    gains = next(line for line in lines if line.name == "DACS + MFM").gains
    expected = stats.ttest_rel(MEAN_IOU["DACS + MFM"], MEAN_IOU["DACS"]).confidence_interval(0.95)
    assert intervals.confidence_interval(gains) == pytest.approx([100 * expected.low, 100 * expected.high], abs=1e-3)
    assert intervals.confidence_interval(gains[:1]) is None


def test_the_interval_of_many_seeds_is_a_little_too_wide():
    values = [float(value % 7) for value in range(100)]
    low, high = intervals.confidence_interval(values)
    exact = stats.t.interval(0.95, 99, loc=sum(values) / 100, scale=stats.sem(values))
    assert 1 < (high - low) / (exact[1] - exact[0]) < 1.07


def test_the_table_shows_paired_gains_with_their_interval_and_cost(lines):
    text = as_markdown(SUITE, lines)
    assert "| source-only | 3 | 40.0 ± 1.0 | - | - | - | 0.2 | - | 1.00 GiB |" in text
    assert (
        "| DACS | 3 | 51.0 ± 1.0 | +11.0 ± 1.0 over source-only | +8.5 to +13.5 | 52.1 | 0.2 | 1.00 | 1.00 GiB |"
        in text
    )
    assert (
        "| DACS + MFM | 3 | 52.2 ± 1.3 | +1.2 ± 1.3 over DACS | -2.0 to +4.3 | 55.9 | 0.25 | 1.25 | 1.00 GiB |" in text
    )
    assert "| oracle | 2 | 70.5 ± 0.7 | +30.0 ± 0.0 over source-only | +30.0 to +30.0 |" in text
    assert "Column `paper`: Table 1" in text
    assert "| DACS | 61.0 | 10.0 | - |" in text


def test_gains_are_counted_of_seeds_that_the_baseline_has_too(tmp_path):
    planned = plan(SUITE, [0, 1], tmp_path, {}, [])
    for training in planned:
        if training.run.name == "DACS" or (training.run.name == "source-only" and training.seed == 1):
            write_results(training, MEAN_IOU[training.run.name][training.seed], 0.2)
    dacs = collect(SUITE, planned)[1]
    assert dacs.gains == pytest.approx([11.0])
    text = as_markdown(SUITE, [dacs])
    assert "| DACS | 2 | 51.0 ± 1.4 | +11.0 over source-only (seeds: 1) | - |" in text


def test_a_training_that_was_resumed_after_its_last_step_has_no_time(tmp_path):
    planned = plan(SUITE, [0], tmp_path, {}, [])
    for training in planned:
        if training.run.name in ("DACS", "DACS + MFM"):
            write_results(training, 0.5, 0.0 if training.run.name == "DACS" else 0.2)
    _, dacs, with_mfm, _ = collect(SUITE, planned)
    assert (dacs.seconds_per_step, with_mfm.seconds_per_step, with_mfm.cost) == (None, 0.2, None)


def test_the_table_can_be_made_again_from_its_json_which_names_no_place(lines, tmp_path):
    text = json.dumps(as_json(SUITE, lines))
    assert "/" not in text
    run = json.loads(text)["runs"][2]
    assert run["name"] == "DACS + MFM"
    assert run["seeds"][1] | {"gain": None, "cost": None} == {
        "seed": 1,
        "mean_iou": pytest.approx(52.0),
        "per_class_iou": {"road": pytest.approx(62.0), "car": pytest.approx(10.0), "train": None},
        "gain": None,
        "cost": None,
        "seconds_per_step": 0.25,
        "steps": 750,
        "peak_memory_bytes": 2**30 + 1,
        "hardware": "1 x CPU",
        "arguments": {"source": "gta", "target": "city", "crop_size": [64, 128]},
    }
    assert run["gain"]["interval_95"] == pytest.approx(intervals.confidence_interval([1.0, 0.0, 2.5]))
    assert run["start_from"] == "warm-up"


def test_the_picture_shows_the_two_bounds_and_the_gains(lines, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    plot.draw("a table", lines, tmp_path / "table.png")
    shares, gains = figures[0].axes
    bounds = {line.get_label(): line.get_xdata() for line in shares.lines if line.get_linestyle() == "--"}
    assert {name: x[0] for name, x in bounds.items()} == pytest.approx({"source-only": 40.0, "oracle": 70.5})
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == [
        "mean", "a seed", "the paper", "95 % interval of the mean gain", "source-only", "oracle",
    ]  # fmt: skip
    drawn = [list(line.get_xdata()) for line in gains.lines if len(line.get_xdata()) == 2]
    assert pytest.approx(intervals.confidence_interval([1.0, 0.0, 2.5])) in drawn


def test_a_spread_is_that_of_a_sample():
    assert spread([1.0, 2.0, 3.0]) == "2.0 ± 1.0"
    assert spread([2.0], sign=True) == "+2.0"
    assert spread([-0.01], sign=True) == "+0.0"
    assert spread([]) == "-"
