"""`compare.py` and `mfm-hf compare`: many trainings, one table."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._parser import command_parser
from mfm_hf.commands.arguments import ConfigArgumentParser
from mfm_hf.commands.comparison import plot, results, suite, table, trainings
from mfm_hf.files import write_json
from mfm_hf.uda.training_args import UdaTrainingArguments

_DESCRIPTION = """\
Train the runs of a suite with several seeds and lay their results out in one table, beside the paper's numbers.

example:
  {prog} --suite streets --seeds 0 1 2 --output_dir outputs/streets
  {prog} --suite table1_gta --source gta:DIR --target cityscapes:DIR --output_dir outputs/table1 --dry_run
  {prog} --suite table1_gta --source gta:DIR --target cityscapes:DIR --output_dir outputs/table1 --runs MIC "MIC + MFM"

Trainings that are done are not done again, and one that was interrupted goes on from its last checkpoint. Folders may
come from several machines: the table is made of what lies in --output_dir. Unknown options go to every training.
Writes table.md, table.json (every seed by itself) and, with matplotlib, table.png.
"""


def main(argv: list[str] | None = None) -> None:
    """Run the command with the options of `argv` (default: those of the command line)."""
    args, more_flags = _parser().parse_known_args(argv)
    with one_line_errors():
        chosen = suite.load_suite(args.suite)
        domains = {role: name for role in ("source", "target", "eval") if (name := getattr(args, role)) is not None}
        wanted = chosen.with_origins(args.runs or [run.name for run in chosen.runs])
        planned = trainings.plan(chosen, args.seeds, args.output_dir, domains, more_flags)
        steps = _check(planned)
        to_do = [training for training in planned if training.run.name in wanted]
        launcher = shlex.split(args.launcher) if args.launcher else trainings.default_launcher()
        if args.dry_run:
            _print_plan(to_do, launcher)
        failed = [] if args.dry_run or args.table_only else _train(to_do, launcher)
        _print_estimate(planned, wanted, steps)
        lines = results.collect(chosen, planned)
        if any(line.seeds for line in lines):
            _write(chosen, lines, args.output_dir)
    if failed:
        print(f"error: {len(failed)} trainings failed, the first: {failed[0].folder}", file=sys.stderr)
        raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("compare", "compare.py", _DESCRIPTION)
    names = ", ".join(suite.suite_names())
    parser.add_argument("--suite", required=True, metavar="NAME|FILE.yaml", help=f"{names}, or a file of your own")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="seeds of every run")
    parser.add_argument(
        "--runs", nargs="+", metavar="NAME", help="train only these, and what they start from (default: all)"
    )
    parser.add_argument("--output_dir", type=Path, required=True, metavar="DIR", help="for all runs and the table")
    for role in ("source", "target", "eval"):
        parser.add_argument(f"--{role}", metavar="DOMAIN", help=f"the {role} domain (default: the suite's)")
    parser.add_argument(
        "--launcher", metavar="COMMAND", help="what stands before `-m mfm_hf train`, e.g. 'accelerate launch'"
    )
    parser.add_argument("--dry_run", action="store_true", help="print the commands and the estimated time only")
    parser.add_argument("--table_only", action="store_true", help="train nothing, make the table of what is there")
    return parser


def _check(planned: Sequence[trainings.Training]) -> dict[Path, int]:
    """Look at every training's options and folder before the first one starts, and return its steps by its folder.

    Raises:
        ValueError, SystemExit: `train` would refuse the options, or the folder holds another training.
    """
    from mfm_hf.uda.resolution import resolve_recipe

    steps = {}
    for training in planned:
        arguments = ConfigArgumentParser(UdaTrainingArguments, prog=training.run.name).parse(training.flags)
        steps[training.folder] = resolve_recipe(arguments).max_steps
        training.check()
    return steps


def _train(planned: Sequence[trainings.Training], launcher: Sequence[str]) -> list[trainings.Training]:
    """Do what is not done, and return what failed. A training whose start failed is left out."""
    failed: list[trainings.Training] = []
    for training in trainings.unfinished(planned):
        origin = (training.run.start_from, training.seed)
        if origin in [(other.run.name, other.seed) for other in failed]:
            failed.append(training)
            continue
        print(f"\n{training.run.name}, seed {training.seed}: {training.folder}", flush=True)
        code = training.do(launcher)
        if code in (-2, -15, 130, 143):  # stopped by the user or the scheduler, not by a fault
            raise SystemExit(code if code > 0 else 128 - code)
        if code != 0:
            failed.append(training)
    return failed


def _print_plan(planned: Sequence[trainings.Training], launcher: Sequence[str]) -> None:
    for training in planned:
        state = "done: " if training.results is not None else ""
        print(f"{state}{shlex.join(training.command(launcher))}")


def _print_estimate(planned: Sequence[trainings.Training], wanted: Collection[str], steps: dict[Path, int]) -> None:
    waiting = [training for training in planned if training.run.name in wanted and training.results is None]
    if not waiting:
        return
    seconds = trainings.remaining_seconds(planned, wanted, steps)
    if seconds is None:
        total = sum(steps[training.folder] for training in waiting)
        left = f"{len(waiting)} trainings with {total:,} steps are left"
        print(f"{left}; how long a step takes, `mfm-hf train --dry_run` tells")
    else:
        left = f"{len(waiting)} trainings are left"
        print(f"{left}, about {seconds / 3600:.1f} h by the time per step of those that are done")


def _write(chosen: suite.Suite, lines: Sequence[results.Line], output_dir: Path) -> None:
    text = table.as_markdown(chosen, lines)
    (output_dir / "table.md").write_text(text, encoding="utf-8")
    write_json(output_dir / "table.json", table.as_json(chosen, lines))
    print(f"\n{text}\ntable.md and table.json lie in {output_dir}")
    try:
        plot.draw(chosen.title, lines, output_dir / "table.png")
    except ImportError:
        print("no picture, since matplotlib is not installed: pip install matplotlib")
