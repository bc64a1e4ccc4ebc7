"""What a run says while it runs: a progress bar, a line of JSON per log step, and the trackers."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from mfm_hf.uda.run.run_folder import LOG_FILE


class RunLog:
    """Averages the losses between two log steps, and measures the time that the steps take.

    Losses stay on the device until they are logged, so that a step does not wait for them; the time of a step is
    therefore known for the steps between two log lines together.

    Args:
        accelerator: Knows the main process and the trackers.
        output_dir: Folder of `log.jsonl`.
        start: Step at which the run starts or goes on.
        max_steps: Last step.
        images_per_step: Images of all processes together, source and target.
    """

    def __init__(
        self, accelerator: Accelerator, output_dir: Path, start: int, max_steps: int, images_per_step: int
    ) -> None:
        self.accelerator = accelerator
        self.path = output_dir / LOG_FILE
        self.images_per_step = images_per_step
        self.bar = tqdm(
            total=max_steps, initial=start, desc="train", unit="step", disable=not accelerator.is_main_process
        )
        self._sums: dict[str, Tensor] = {}
        self._count = 0  # steps since the last line that were not skipped
        self._unwritten: list[str] = []  # lines that the disk has not taken yet
        self._times: list[float] = []  # of a step, by line
        self._started = time.perf_counter()

    @property
    def seconds_per_step(self) -> float:
        """Median over the lines so far of the time of a step, evaluations and checkpoints left out; 0 without a line.

        A mean would tell of a machine that was asleep or at work on something else.
        """
        return statistics.median(self._times) if self._times else 0.0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Note the losses of a step; of one that was skipped, none."""
        for name, loss in losses.items():
            self._sums[name] = self._sums[name] + loss if name in self._sums else loss
        self._count += bool(losses)
        self.bar.update()

    def flush(self, step: int, state: Mapping[str, float]) -> None:
        """Log the mean losses since the last line, the time of a step, and further values."""
        if self._count == 0:
            return
        means = {f"loss/{name}": (total / self._count).item() for name, total in self._sums.items()}
        seconds = time.perf_counter() - self._started  # after the means, which wait for the device
        speed = {"seconds_per_step": seconds / self._count}
        self._times.append(speed["seconds_per_step"])
        speed["images_per_second"] = self.images_per_step / speed["seconds_per_step"]
        self.bar.set_postfix(
            {name.removeprefix("loss/"): f"{mean:.3f}" for name, mean in means.items()},
            images_per_second=f"{speed['images_per_second']:.1f}",
        )
        self.write(step, {**means, **state, **speed})
        self.restart_clock()

    def restart_clock(self) -> None:
        """Begin a new line here: what came since the last one was not training."""
        self._sums, self._count = {}, 0
        self._started = time.perf_counter()

    def tensors(self) -> dict[str, Tensor]:
        """Return what the next line depends on: sums of the losses since the last one, and of how many steps."""
        return {"count": torch.tensor(self._count), **{f"sum/{name}": total for name, total in self._sums.items()}}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to where `tensors` was called."""
        device = self.accelerator.device
        self._sums = {name[4:]: total.to(device) for name, total in tensors.items() if name.startswith("sum/")}
        self._count = int(tensors["count"])

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write a line to `log.jsonl` and to the trackers, from the main process.

        A disk that is full ends no training: the line is kept in memory, and is written with the next one.
        """
        self.accelerator.log(dict(values), step=step)
        if not self.accelerator.is_main_process:
            return
        self._unwritten.append(json.dumps({"step": step, **values}) + "\n")
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a") as file:
                file.write("".join(self._unwritten))
        except OSError as error:
            with suppress(OSError):
                os.truncate(self.path, size)  # half a line may have been written
            self.say(f"warning: {self.path} cannot be written ({error.strerror}); trying again with the next line")
        else:
            self._unwritten.clear()

    def say(self, line: str) -> None:
        """Print a line above the progress bar, from the main process."""
        if self.accelerator.is_main_process:
            self.bar.write(line)
