"""Suites: lists of runs that belong into one table, as YAML.

title: what the table shows
where: the table or figure of the paper
flags: {recipe: dacs, max_steps: 40000}       # of every run
runs:
  - name: DACS + MFM
    flags: {mfm: true}                         # of this run; they win over those of the suite
    paper: 55.9                                # the paper's mean IoU in percent, if it states one
    baseline: DACS                             # the run that its gain is counted from
    start_from: warm-up                        # a run of this suite whose network it starts from
    oracle: true                               # learns from the target's labels: --source becomes the target
    shown: false                               # only there for others to start from
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from mfm_hf.commands.arguments import option_flags

SUITES = Path(__file__).with_name("suites")


@dataclass(frozen=True)
class SuiteRun:
    """One line of the table.

    Attributes:
        name: What the line is called; unique in the suite.
        flags: Options of `train`, by name without dashes, as text.
        paper: The paper's mean IoU in percent; None where it states none.
        baseline: Name of the run that the gain is counted from; None for none.
        start_from: Name of the run whose network it starts from; None for the suite's usual start.
        oracle: Whether it learns from the target's own labels.
        shown: Whether it has a line in the table.
    """

    name: str
    flags: Mapping[str, Any] = field(default_factory=dict)
    paper: float | None = None
    baseline: str | None = None
    start_from: str | None = None
    oracle: bool = False
    shown: bool = True

    @property
    def folder(self) -> str:
        """The name as a folder's."""
        return "".join(letter if letter.isalnum() else "_" for letter in self.name.lower()).strip("_")


@dataclass(frozen=True)
class Suite:
    """The runs of a table, in its order.

    Attributes:
        title: What the table shows.
        where: Where the paper's numbers stand; empty where there are none.
        flags: Options of `train` that all runs share.
        runs: The runs; one comes after those it starts from.
    """

    title: str
    runs: tuple[SuiteRun, ...]
    where: str = ""
    flags: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known: set[str] = set()
        folders: set[str] = set()
        for run in self.runs:
            if run.folder in folders:
                raise ValueError(f"two runs would lie in one folder, {run.folder}: rename {run.name!r}")
            if run.start_from is not None and run.start_from not in known:
                raise ValueError(f"{run.name!r} starts from {run.start_from!r}, which is no run before it")
            known.add(run.name)
            folders.add(run.folder)
        for run in self.runs:
            if run.baseline is not None and run.baseline not in known:
                raise ValueError(f"the baseline of {run.name!r}, {run.baseline!r}, is no run of the suite")

    def __getitem__(self, name: str) -> SuiteRun:
        return next(run for run in self.runs if run.name == name)

    def with_origins(self, names: Sequence[str]) -> set[str]:
        """Return the names of some runs, and of those that they start from.

        Raises:
            ValueError: The suite has no such run.
        """
        known = [run.name for run in self.runs]
        wanted: set[str] = set()
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"choose of {', '.join(map(repr, known))}"
                raise ValueError(f"the suite has no run {name!r}: {hint}")
            origin: str | None = name
            while origin is not None:
                wanted.add(origin)
                origin = self[origin].start_from
        return wanted

    def is_source_only(self, run: SuiteRun) -> bool:
        """Return whether a run learns from the source alone: what adaptation has to beat."""
        return not run.oracle and {**self.flags, **run.flags}.get("recipe") == "source_only"

    def flags_of(self, run: SuiteRun) -> list[str]:
        """Return the options of a run as those of a command line, the suite's first."""
        return option_flags({**self.flags, **run.flags})


def load_suite(name: str) -> Suite:
    """Read a suite of the package by its name, or a file.

    Raises:
        ValueError: There is no such suite, or the file is none; the line says what to mend.
    """
    path = Path(name) if Path(name).is_file() else SUITES / f"{name}.yaml"
    if not path.is_file():
        names = suite_names()
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose {', '.join(names)}, or a YAML file of your own"
        raise ValueError(f"there is no suite {name!r}: {hint}")
    try:
        # Every value as the text that it is: `train` reads it by its own rules.
        content = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    values = _checked(content, Suite, path)
    runs = values.get("runs")
    if not isinstance(runs, list) or not runs:
        raise ValueError(f"{path} lists no runs: write them below `runs:`, each with a `name`")
    return Suite(**{**values, "runs": tuple(_read_run(run, path) for run in runs)})


def suite_names() -> list[str]:
    """Return the names of the package's suites."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def _read_run(content: Any, path: Path) -> SuiteRun:
    values = _checked(content, SuiteRun, path)
    if "paper" in values:
        values["paper"] = float(values["paper"])
    for key in ("oracle", "shown"):
        if key in values:
            if values[key] not in ("true", "false"):
                raise ValueError(f"{path}: {key} is true or false, not {values[key]!r}")
            values[key] = values[key] == "true"
    return SuiteRun(**values)


def _checked(content: Any, kind: type, path: Path) -> dict[str, Any]:
    """Return a mapping of YAML whose keys are fields of a dataclass, those without a default among them."""
    if not isinstance(content, dict):
        raise ValueError(f"{path}: {content!r} must be a mapping such as `name: DACS`")
    known = [item.name for item in fields(kind)]
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ValueError(f"{path}: there is no {unknown[0]!r} here, only {', '.join(known)}")
    if known[0] not in content:
        raise ValueError(f"{path}: {known[0]!r} is missing")
    return dict(content)
