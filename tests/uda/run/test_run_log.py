import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from mfm_hf.uda.run.accelerator import flat_config
from mfm_hf.uda.run.run_log import RunLog
from mfm_hf.uda.training_args import UdaTrainingArguments


class Notebook(GeneralTracker):
    """A tracker that keeps everything in memory."""

    name = "notebook"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        self.lines: list[tuple[int | None, dict[str, Any]]] = []

    @property
    def tracker(self) -> list:
        return self.lines

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.config = values

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self.lines.append((step, values))


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def log(notebook: Notebook, tmp_path: Path):
    accelerator = Accelerator(cpu=True, log_with=notebook)
    accelerator.init_trackers("test", config=flat_config(UdaTrainingArguments(crop_size=[32, 48])))
    run_log = RunLog(accelerator, tmp_path, start=10, max_steps=20, images_per_step=6)
    yield run_log
    run_log.bar.close()


def lines_of(log: RunLog) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.path.read_text().splitlines()]


def test_a_line_holds_the_means_since_the_last(log: RunLog, notebook: Notebook) -> None:
    for source, mixed in ((1.0, 4.0), (3.0, 5.0)):
        log.add({"source": torch.tensor(source), "mixed": torch.tensor(mixed)})
    log.flush(12, {"teacher_alpha": 0.5})
    log.add({"source": torch.tensor(7.0)})
    log.flush(13, {})
    first, second = lines_of(log)
    assert {key: first[key] for key in ("step", "loss/source", "loss/mixed", "teacher_alpha")} == {
        "step": 12,
        "loss/source": 2.0,
        "loss/mixed": 4.5,
        "teacher_alpha": 0.5,
    }
    assert (second["step"], second["loss/source"]) == (13, 7.0)
    assert not {"loss/mixed", "teacher_alpha"} & second.keys()
    assert first["images_per_second"] * first["seconds_per_step"] == pytest.approx(6)
    assert log.bar.n == 13
    assert [{"step": step, **values} for step, values in notebook.lines] == [first, second]


def test_the_time_of_a_step_is_the_median_over_the_lines(log: RunLog) -> None:
    for step, pause in ((11, 0.0), (12, 0.1), (13, 0.0)):  # the machine was busy with something else
        time.sleep(pause)
        log.add({"source": torch.tensor(1.0)})
        log.flush(step, {})
    times = [line["seconds_per_step"] for line in lines_of(log)]
    assert log.seconds_per_step == sorted(times)[1] < max(times) / 10


def test_nothing_since_the_last_line_is_no_line(log: RunLog) -> None:
    log.flush(10, {})
    log.add({"source": torch.tensor(1.0)})
    log.restart_clock()
    log.flush(11, {})
    assert not log.path.exists()
    assert log.seconds_per_step == 0


def test_a_resumed_run_appends(log: RunLog) -> None:
    log.path.write_text('{"step": 10}\n')
    log.write(11, {"eval/mean_iou": 0.25})
    assert lines_of(log) == [{"step": 10}, {"step": 11, "eval/mean_iou": 0.25}]


def test_trackers_get_the_arguments_as_plain_values(log: RunLog, notebook: Notebook) -> None:
    assert notebook.config["crop_size"] == "[32, 48]"
    assert notebook.config["recipe"] == "dacs"
    assert notebook.config.keys() == vars(UdaTrainingArguments()).keys()
    assert all(isinstance(value, (bool, int, float, str)) for value in notebook.config.values())


def test_what_a_full_disk_did_not_take_is_written_later(log: RunLog, capsys: pytest.CaptureFixture) -> None:
    """Writing fails as on a full disk, by the system itself and after the first bytes."""
    log.write(10, {"eval/mean_iou": 0.25})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size + 5, hard))
    try:
        log.write(11, {"eval/mean_iou": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [line["step"] for line in lines_of(log)] == [10]
    assert "log.jsonl cannot be written (File too large); trying again with the next line" in capsys.readouterr().out
    log.write(12, {"eval/mean_iou": 0.75})
    assert [line["step"] for line in lines_of(log)] == [10, 11, 12]


def test_half_a_line_goes_on_where_it_was(log: RunLog) -> None:
    for loss in (1.0, 4.0):
        log.add({"source": torch.tensor(loss)})
    kept = log.tensors()
    log.restart_clock()
    log.load_tensors(kept)
    log.add({"source": torch.tensor(7.0)})
    log.flush(13, {})
    assert lines_of(log)[0]["loss/source"] == 4.0
