"""The trainings of a suite: their command lines, which are done, and doing the others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
            ValueError: The folder holds a training with other options.
        """
        file = self.folder / "results.json"
        if not file.is_file():
            return None
        self._check_command()
        return json.loads(file.read_text())

    def command(self, launcher: Sequence[str]) -> list[str]:
        """Return the command line that does it, from its last checkpoint where there is one."""
        resume = ["--resume_from_checkpoint", "latest"] if any(self.folder.glob("checkpoint-*")) else []
        return [*launcher, "-m", "mfm_hf", "train", *self.flags, *resume]

    def do(self, launcher: Sequence[str]) -> int:
        """Train, and return the exit code.

        Raises:
            ValueError: The folder holds a training with other options.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / COMMAND_FILE).is_file():
            self._check_command()
        write_json(self.folder / COMMAND_FILE, {"flags": self._identity})
        return subprocess.run(self.command(launcher), check=False).returncode

    @property
    def _identity(self) -> list[str]:
        """The options without the folders, so that results may be moved, or come from another machine."""
        words, skip = [], False
        for word in self.flags:
            if not skip and word not in ("--output_dir", "--model_name_or_path"):
                words.append(word)
            skip = word in ("--output_dir", "--model_name_or_path")
        return words

    def _check_command(self) -> None:
        file = self.folder / COMMAND_FILE
        try:
            known = json.loads(file.read_text())["flags"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError(
                f"{self.folder} holds a training that is not of this suite: give another --output_dir"
            ) from None
        if known != self._identity:
            other = next((word for word in known if word not in self._identity), "fewer options")
            raise ValueError(
                f"{self.folder} was trained with other options ({other}): give another --output_dir, or delete it"
            )


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


def unfinished(trainings: Sequence[Training]) -> Iterator[Training]:
    """Yield the trainings that are not done when their turn comes."""
    for training in trainings:
        if training.results is None:
            yield training


def remaining_seconds(trainings: Sequence[Training], steps: Mapping[Path, int]) -> float | None:
    """Estimate the time of the trainings that are not done, from the time per step of those that are.

    A training without a finished one of its own run is taken to be as slow as the mean of all.

    Args:
        trainings: The trainings.
        steps: By folder, the steps of each.

    Returns:
        Seconds; None if nothing is finished yet.
    """
    done = {training.folder: training.results for training in trainings}
    times = [(training, result["seconds_per_step"]) for training in trainings if (result := done[training.folder])]
    if not times:
        return None
    overall = sum(time for _, time in times) / len(times)
    total = 0.0
    for training in trainings:
        if done[training.folder] is None:
            own = [time for other, time in times if other.run == training.run]
            total += steps[training.folder] * (sum(own) / len(own) if own else overall)
    return total
