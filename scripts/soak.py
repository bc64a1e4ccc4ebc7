"""Kill a run again and again, and compare what it ends with to an uninterrupted run; watch the memory of a long one.

    python scripts/soak.py --kills 20 --terms 10 --memory_steps 2000 --output outputs/soak.json

The training is DACS with MFM on a few of the built-in streets, written out as files, with a tiny network. Options after
`--` go to it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Imported before the runs are forked, so that each need not do it anew.
import torch

import mfm_hf.uda.trainer  # noqa: F401
from mfm_hf.commands.train import main as train
from mfm_hf.data.domains import load_domain
from mfm_hf.data.folders import write_folder

TRAINING = [
    *(
        "--crop_size",
        "32",
        "64",
        "--model",
        "segformer",
        "--backbone",
        "tiny",
        "--mfm",
        "--mfm_dim",
        "32",
        "--mfm_grid",
        "4",
    ),
    *("--warmup_steps", "0", "--pseudo_label_threshold", "0.05", "--logging_steps", "3", "--save_total_limit", "2"),
    *("--eval_steps", "20", "--selection_images", "4", "--dataloader_num_workers", "0", "--use_cpu"),
]
# What no two runs have in common.
TIMES = {"seconds", "seconds_per_step", "images_per_second", "selection_seconds", "peak_memory_bytes"}
OWN = TIMES | {"arguments"}
WARM_UP = 0.25  # share of a run after which its memory should have settled


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs, at least.")
    parser.add_argument("--terms", type=int, default=10, help="SIGTERMs, at least.")
    parser.add_argument("--steps", type=int, default=60, help="Steps of the run that is killed.")
    parser.add_argument("--save_steps", type=int, default=5, help="Steps between its checkpoints.")
    parser.add_argument("--memory_steps", type=int, default=2000, help="Steps of the run whose memory is watched.")
    parser.add_argument("--seed", type=int, default=0, help="Of the moments.")
    parser.add_argument("--output", type=Path, help="JSON file for the figures.")
    parser.add_argument("training", nargs="*", help="Options of the training, after --.")
    args = parser.parse_args(argv)
    if args.steps % args.save_steps:
        parser.error("--steps must be a multiple of --save_steps: the last checkpoints are compared")
    return args


def write_streets(folder: Path) -> list[str]:
    """Write a few images of each domain, and return the options that name them."""
    for name, place, count in (
        ("game:32x64#train", "game/train", 24),
        ("game:32x64", "game/validation", 4),
        ("real:32x64#train", "real/train", 24),
        ("real:32x64", "real/validation", 4),
    ):
        write_folder(load_domain(f"streets:{name}", "eval"), folder / place, limit=count)
    return ["--source", str(folder / "game"), "--target", str(folder / "real")]


class Run:
    """A training in a process of its own."""

    def __init__(self, folder: Path, flags: list[str]) -> None:
        self.folder = folder
        self.started = time.monotonic()
        resume = ["--resume_from_checkpoint", "latest"] if any(folder.glob("checkpoint-*")) else []
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(self._train([*TRAINING, *flags, "--output_dir", str(folder), *resume]))

    def _train(self, argv: list[str]) -> int:
        log = os.open(self.folder.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        torch.set_num_threads(1)
        try:
            train(argv)
        except SystemExit as error:
            return int(error.code or 0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            return 1
        finally:
            sys.stdout.flush()
        return 0

    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal; None while the run goes on."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @property
    def is_saving(self) -> bool:
        return any(self.folder.glob(".checkpoint-*.partial"))

    @property
    def resident_bytes(self) -> int:
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")


def interrupt(run: Run, signum: int, moments: random.Random, seconds: float) -> int:
    """Send a signal at a random moment, every third time within a save, and return the exit code.

    Args:
        run: The run.
        signum: The signal.
        moments: Draws the moment.
        seconds: The latest moment, from the start of the run.
    """
    within_save = moments.random() < 1 / 3
    at = run.started + moments.uniform(0, seconds)
    while (code := run.exit_code()) is None:
        if time.monotonic() > at and (run.is_saving or not within_save):
            os.kill(run.pid, signum)
            return run.wait()
        time.sleep(0.0002)
    return code


def last_state(folder: Path, steps: int) -> dict[str, Any]:
    """Return what two runs must have in common, down to the last bit."""
    names = ("student", "teacher", "optimizer")
    files = [folder / "model.safetensors", *(folder / f"checkpoint-{steps}/{name}.safetensors" for name in names)]
    results = json.loads((folder / "results.json").read_text())
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {
        **{path.name: path.read_bytes() for path in files},
        "results": {name: value for name, value in results.items() if name not in OWN},
        "log": [{name: value for name, value in line.items() if name not in TIMES} for line in lines],
    }


def soak(
    args: argparse.Namespace, scratch: Path, signum: int, count: int, expected: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Interrupt runs until `count` signals have struck, let each run finish, and compare it with the expected state."""
    flags = ["--max_steps", str(args.steps), "--save_steps", str(args.save_steps), *args.training]
    moments = random.Random(args.seed + signum)
    struck, saved, within_save, runs, differing = 0, 0, 0, 0, set()
    while struck < count:
        folder = scratch / f"{signal.Signals(signum).name}_{runs}"
        code = None
        while code != 0:
            run = Run(folder, flags)
            code = interrupt(run, signum, moments, seconds) if struck < count else run.wait()
            if code in (-signum, 128 + signum):
                struck += 1
                saved += code == 128 + signum
                within_save += run.is_saving
            elif code != 0:
                raise SystemExit(f"a run ended with {code}:\n{folder.with_suffix('.txt').read_text()[-3000:]}")
        runs += 1
        state = last_state(folder, args.steps)
        differing |= {name for name in expected if state[name] != expected[name]}
        shutil.rmtree(folder)
    return {
        "signals": struck,
        "left_half_written": within_save,
        "ended_in_good_order": saved,
        "runs": runs,
        "differing": sorted(differing),
    }


def watch_memory(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Train for long, and compare the resident size at the end with that after the warm-up."""
    folder = scratch / "memory"
    run = Run(folder, ["--max_steps", str(args.memory_steps), "--save_steps", "100", *args.training])
    samples: list[tuple[float, int]] = []
    while (code := run.exit_code()) is None:
        if (folder / "log.jsonl").exists():
            samples.append((time.monotonic(), run.resident_bytes))
        time.sleep(0.1)
    if code != 0:
        raise SystemExit(f"the run ended with {code}:\n{folder.with_suffix('.txt').read_text()[-3000:]}")
    start, end = samples[0][0], samples[-1][0]

    def median(low: float, high: float) -> float:
        shares = [((moment - start) / (end - start), size) for moment, size in samples]
        return statistics.median(size for share, size in shares if size and low <= share <= high)

    before, after = median(WARM_UP, WARM_UP + 0.1), median(0.9, 1.0)
    return {
        "steps": args.memory_steps,
        "mib_after_warm_up": round(before / 2**20, 1),
        "mib_at_the_end": round(after / 2**20, 1),
        "growth": round(after / before - 1, 4),
    }


def table(figures: dict[str, Any]) -> Iterator[str]:
    yield "| | signals | within a save | ended in good order | runs | differences from the uninterrupted run |"
    yield "|---|---|---|---|---|---|"
    for name in ("SIGKILL", "SIGTERM"):
        entry = figures[name]
        differing = ", ".join(entry["differing"]) or "none"
        counts = (entry[key] for key in ("signals", "left_half_written", "ended_in_good_order", "runs"))
        yield f"| {name} | {' | '.join(map(str, counts))} | {differing} |"
    if memory := figures.get("memory"):
        before, after = (f"{memory[key]} MiB" for key in ("mib_after_warm_up", "mib_at_the_end"))
        yield f"\nResident size of {memory['steps']} steps: {before} after {WARM_UP:.0%}, {after} at the end"
        yield f"({memory['growth']:+.2%})."


def main(argv: list[str] | None = None) -> int:
    args = parse(sys.argv[1:] if argv is None else argv)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        args.training = [*write_streets(scratch / "streets"), *args.training]
        flags = ["--max_steps", str(args.steps), "--save_steps", str(args.save_steps), *args.training]
        whole = Run(scratch / "whole", flags)
        if whole.wait() != 0:
            raise SystemExit(f"the run fails by itself:\n{(scratch / 'whole.txt').read_text()[-3000:]}")
        seconds = time.monotonic() - whole.started
        expected = last_state(whole.folder, args.steps)
        figures: dict[str, Any] = {"seconds_uninterrupted": round(seconds, 2), "seed": args.seed}
        for signum, count in ((signal.SIGKILL, args.kills), (signal.SIGTERM, args.terms)):
            figures[signal.Signals(signum).name] = soak(args, scratch, signum, count, expected, 0.6 * seconds)
        if args.memory_steps:
            figures["memory"] = watch_memory(args, scratch)
    print(*table(figures), sep="\n")
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(figures, indent=2) + "\n")
    return int(any(figures[name]["differing"] for name in ("SIGKILL", "SIGTERM")))


if __name__ == "__main__":
    raise SystemExit(main())
