"""The trainings of a suite: their command lines, which are done, and doing the others."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from mfm_hf.commands.comparison.suite import Suite, SuiteRun
from mfm_hf.files import write_json

COMMAND_FILE = "command.json"


@dataclass(frozen=True)
class Training:
    """One run of a suite with one seed.

    Attributes:
        run: The run.
        seed: Its seed.
        folder: Its output folder.
        flags: The options of `train`, without those that go on from a checkpoint.
    """

    run: SuiteRun
    seed: int
    folder: Path
    flags: tuple[str, ...]

    @property
    def results(self) -> dict[str, Any] | None:
        """What the training came to; None while it is not done.

        Raises:
            ValueError: The folder holds another training.
        """
        self.check()
        file = self.folder / "results.json"
        return json.loads(file.read_text()) if file.is_file() else None

    def command(self, launcher: Sequence[str]) -> list[str]:
        """Return the command line that does it, from its last checkpoint where there is one."""
        if any(self.folder.glob("checkpoint-*")):
            again = ["--resume_from_checkpoint", "latest"]
        elif self._used:  # it was interrupted with nothing to go on from
            again = ["--overwrite_output_dir"]
        else:
            again = []
        return [*launcher, "-m", "mfm_hf", "train", *self.flags, *again]

    def do(self, launcher: Sequence[str]) -> int:
        """Train, and return the exit code.

        Raises:
            ValueError: The folder holds another training.
        """
        self.check()
        command = self.command(launcher)
        write_json(self.folder / COMMAND_FILE, {"flags": self._identity})
        return run_command(command)

    def check(self) -> None:
        """See that the folder is free, or this training's own.

        Raises:
            ValueError: It holds a training with other options, or something else.
        """
        if not self._used:
            return
        try:
            known = json.loads((self.folder / COMMAND_FILE).read_text())["flags"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError(
                f"{self.folder} holds a training that is not of this suite: give another --output_dir"
            ) from None
        if known != self._identity:
            other = next((word for word in known if word not in self._identity), "fewer options")
            raise ValueError(
                f"{self.folder} was trained with other options ({other}): give another --output_dir, or delete it"
            )

    @property
    def _used(self) -> bool:
        return self.folder.is_dir() and any(self.folder.iterdir())

    @property
    def _identity(self) -> list[str]:
        """The options without the folders, so that results may be moved, or come from another machine."""
        words, skip = [], False
        for word in self.flags:
            if not skip and word not in ("--output_dir", "--model_name_or_path"):
                words.append(word)
            skip = word in ("--output_dir", "--model_name_or_path")
        return words


def plan(
    suite: Suite, seeds: Sequence[int], output_dir: Path, domains: Mapping[str, str], more_flags: Sequence[str]
) -> list[Training]:
    """Return the trainings of a suite, seed by seed, each after the one that it starts from.

    Args:
        suite: The suite.
        seeds: The seeds that every run is trained with.
        output_dir: Where all folders lie.
        domains: `source`, `target` and `eval`, as far as the user gave them; they win over those of the suite.
        more_flags: Options of `train` for every run; they win over all others.
    """
    trainings = []
    for seed in seeds:
        for run in suite.runs:
            folder = output_dir / run.folder / f"seed-{seed}"
            flags = [*suite.flags_of(run), *_domain_flags(suite, run, domains), "--seed", str(seed)]
            if run.start_from is not None:
                origin = output_dir / suite[run.start_from].folder / f"seed-{seed}"
                flags += ["--model_name_or_path", str(origin)]
            trainings.append(Training(run, seed, folder, (*flags, *more_flags, "--output_dir", str(folder))))
    return trainings


def _domain_flags(suite: Suite, run: SuiteRun, domains: Mapping[str, str]) -> list[str]:
    named = {role: suite.flags[role] for role in ("source", "target", "eval") if role in suite.flags} | dict(domains)
    if run.oracle and "target" in named:
        named["source"] = named["target"]
    return [word for role, name in named.items() for word in (f"--{role}", name)]


def default_launcher() -> list[str]:
    """Return the command that `-m mfm_hf train` is put behind."""
    return [sys.executable]


def run_command(command: Sequence[str]) -> int:
    """Run a command, pass SIGTERM and SIGINT on to it, and return its exit code.

    A training that has heard one saves before it ends. Without this, a scheduler's SIGTERM would leave it running, and
    at Ctrl-C `subprocess.run` kills it after a quarter of a second.
    """
    process = subprocess.Popen(command)

    def pass_on(signum: int, frame: FrameType | None) -> None:
        process.send_signal(signum)

    previous = {signum: signal.signal(signum, pass_on) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        return process.wait()
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def unfinished(trainings: Sequence[Training]) -> Iterator[Training]:
    """Yield the trainings that are not done when their turn comes."""
    for training in trainings:
        if training.results is None:
            yield training


def remaining_seconds(
    trainings: Sequence[Training], chosen: Collection[str], steps: Mapping[Path, int]
) -> float | None:
    """Estimate the time of the chosen trainings that are not done, from the time per step of all that are.

    A training without a finished one of its own run is taken to be as slow as the mean of all.

    Args:
        trainings: All trainings of the suite.
        chosen: Names of the runs to be done.
        steps: By folder, the steps of each.

    Returns:
        Seconds; None if nothing is finished yet.
    """
    results = [(training, training.results) for training in trainings]
    times = [(training.run, time) for training, result in results if result and (time := result["seconds_per_step"])]
    if not times:
        return None
    overall = sum(time for _, time in times) / len(times)
    total = 0.0
    for training, result in results:
        if result is None and training.run.name in chosen:
            own = [time for run, time in times if run == training.run]
            total += steps[training.folder] * (sum(own) / len(own) if own else overall)
    return total
