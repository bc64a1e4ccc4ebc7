"""`mfm-hf benchmark`: measure speed on this machine."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._files import check_can_write
from mfm_hf.commands._parser import HelpFormatter, command_parser, positive_int
from mfm_hf.uda.training_args import UdaTrainingArguments

_DESCRIPTION = """\
Measure speed on this machine, beside plain baselines in the same run.

examples:
  {prog} train --recipe daformer --model daformer --backbone mit-b0 --crop_size 256 --steps 10 --json outputs/train.json
  {prog} train --backbone mit-b5 --mixed_precision bf16 --mfm --without eager_attention views_one_by_one
  {prog} inference --model segformer --backbone mit-b2 --image_size 512 1024 --window 512
  {prog} losses --backbone mit-b0 --crop_size 128 --steps 200
  {prog} data --output outputs/data.json
"""


def main(argv: list[str] | None = None) -> None:
    """Run the command with the options of `argv` (default: those of the command line)."""
    args = _parse(argv)
    with one_line_errors():
        args.run(args)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = command_parser("benchmark", "benchmark.py", _DESCRIPTION)
    parts = parser.add_subparsers(title="what to measure", required=True, metavar="PART")

    def add_part(name: str, description: str) -> argparse.ArgumentParser:
        return parts.add_parser(name, help=description, formatter_class=HelpFormatter, allow_abbrev=False)

    _add_train(add_part("train", "a training step, beside a plain one and supervised fine-tuning"))
    _add_inference(add_part("inference", "segmenting images: precision, batches, windows, and what MFM costs there"))
    _add_losses(add_part("losses", "whether the fast step and bf16 learn as the plain step does"))
    _add_all(add_part("all", "a step of every recipe with and without MFM, inference, and data"))
    data = add_part("data", "reading training samples, from raw PNG files and from prepared datasets")
    data.add_argument("--images", type=positive_int, default=4, metavar="N", help="images of each size")
    data.add_argument("--repeats", type=positive_int, default=5, metavar="N", help="times that each is read")
    data.add_argument("--output", type=Path, metavar="FILE.json", help="where to write the figures, too")
    data.set_defaults(run=_benchmark_data)
    return parser.parse_args(argv)


def _add_network(part: argparse.ArgumentParser) -> None:
    """Add what describes the network: options of `train_uda.py`, with their meaning there."""
    recipes = get_args(get_type_hints(UdaTrainingArguments)["recipe"])
    part.add_argument("--recipe", choices=recipes, default="daformer", help="method")
    part.add_argument("--model", metavar="NAME", help="architecture (default: the recipe's)")
    part.add_argument("--backbone", metavar="NAME", help="encoder, with random weights (default: the papers')")
    part.add_argument("--mfm", action="store_true", help="with Masked Feature Modeling, and without it beside that")
    part.add_argument("--use_cpu", action="store_true", help="measure the CPU even where there is a GPU")
    part.add_argument("--seed", type=int, default=0, help="of weights and inputs")
    part.add_argument("--json", type=Path, metavar="FILE.json", help="where to write the figures, too")


def _add_step(part: argparse.ArgumentParser, steps: int) -> None:
    part.add_argument(
        "--crop_size", type=positive_int, nargs="+", metavar="PIXELS", help="one number or two (default: the recipe's)"
    )
    part.add_argument("--per_device_train_batch_size", type=positive_int, metavar="N", help="default: the recipe's")
    part.add_argument("--steps", type=positive_int, default=steps, metavar="N", help="steps of each candidate")


def _add_train(part: argparse.ArgumentParser) -> None:
    _add_network(part)
    _add_step(part, steps=5)
    part.add_argument("--warmup", type=positive_int, default=1, metavar="N", help="steps before that")
    part.add_argument("--mixed_precision", choices=("no", "bf16"), default="no", help="of this package's step")
    part.add_argument("--encode", choices=("views_together", "one_by_one"), help="default: as in training")
    part.add_argument("--compile", action="store_true", help="measure the compiled step, too")
    part.add_argument(
        "--without", nargs="+", default=[], metavar="HANDICAP", help="measure the plain step without one of its own"
    )
    part.add_argument(
        "--other_encode", action=argparse.BooleanOptionalAction, default=True, help="measure the other encode, too"
    )
    part.add_argument("--data_wait", action=argparse.BooleanOptionalAction, default=True, help="measure waiting")
    part.set_defaults(run=_benchmark_train)


def _add_inference(part: argparse.ArgumentParser) -> None:
    _add_network(part)
    part.add_argument(
        "--image_size", type=positive_int, nargs=2, default=[1024, 2048], metavar=("H", "W"), help="in pixels"
    )
    part.add_argument("--batch_sizes", type=positive_int, nargs="+", default=[1, 2], metavar="N", help="at once")
    part.add_argument("--window", type=positive_int, metavar="PIXELS", help="side of sliding windows")
    part.add_argument("--compile", action="store_true", help="measure the compiled network, too")
    part.add_argument("--repeats", type=positive_int, default=3, metavar="N", help="times that each is measured")
    part.set_defaults(run=_benchmark_inference)


def _add_losses(part: argparse.ArgumentParser) -> None:
    _add_network(part)
    _add_step(part, steps=200)
    part.set_defaults(run=_benchmark_losses)


def _add_all(part: argparse.ArgumentParser) -> None:
    _add_network(part)
    _add_step(part, steps=3)
    part.add_argument("--images", type=positive_int, default=8, metavar="N", help="images of each size")
    part.add_argument("--repeats", type=positive_int, default=3, metavar="N", help="times that each is read")
    part.set_defaults(
        run=_benchmark_all, mfm=True, warmup=1, mixed_precision="no", encode=None, compile=False, without=[],
        other_encode=True, data_wait=True, image_size=[1024, 2048], batch_sizes=[1, 2], window=None,
    )  # fmt: skip


def _training_arguments(args: argparse.Namespace) -> UdaTrainingArguments:
    """Return those of the options that are arguments of training, and check where the figures go."""
    if args.json is not None:
        check_can_write(args.json)
    names = {field.name for field in fields(UdaTrainingArguments)}
    return UdaTrainingArguments(**{name: value for name, value in vars(args).items() if name in names})


def _report(text: str, result: Mapping[str, Any], args: argparse.Namespace) -> None:
    from mfm_hf.files import write_json

    print(text)
    if args.json is not None:
        write_json(args.json, result)


def _benchmark_train(args: argparse.Namespace) -> None:
    _report(*_train(args), args)


def _train(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    from mfm_hf.benchmarking.tables import training_table
    from mfm_hf.benchmarking.training import measure_training

    result = measure_training(
        _training_arguments(args),
        steps=args.steps,
        warmup=args.warmup,
        without=args.without,
        data_wait=args.data_wait,
        other_encode=args.other_encode,
    )
    return training_table(result), result


def _benchmark_inference(args: argparse.Namespace) -> None:
    _report(*_inference(args), args)


def _inference(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    from mfm_hf.benchmarking.inference import measure_inference
    from mfm_hf.benchmarking.tables import inference_table

    height, width = args.image_size
    training_args = _training_arguments(args)
    result = measure_inference(
        training_args, (height, width), batch_sizes=args.batch_sizes, window=args.window, repeats=args.repeats
    )
    return inference_table(result), result


def _benchmark_losses(args: argparse.Namespace) -> None:
    from mfm_hf.benchmarking.loss_curves import compare_losses
    from mfm_hf.benchmarking.tables import losses_table

    result = compare_losses(_training_arguments(args), args.steps)
    _report(losses_table(result), result, args)


def _benchmark_all(args: argparse.Namespace) -> None:
    """Each part is written as soon as it is measured."""
    from mfm_hf.uda.recipes import RECIPES

    results: dict[str, Any] = {}
    for recipe in RECIPES.values():
        if recipe.uses_target:
            text, results[recipe.name] = _train(argparse.Namespace(**{**vars(args), "recipe": recipe.name}))
            _report(f"## {recipe.name}\n\n{text}\n", results, args)
    text, results["inference"] = _inference(args)
    _report(f"## inference\n\n{text}\n", results, args)
    text, data = _data(args)
    _report(f"## data\n\n{text}", results | data, args)


def _benchmark_data(args: argparse.Namespace) -> None:
    from mfm_hf.files import write_json

    if args.output is not None:
        check_can_write(args.output)
    text, result = _data(args)
    print(text)
    if args.output is not None:
        write_json(args.output, result)


def _data(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    # This import takes seconds; `--help` does without.
    from mfm_hf.benchmarking.data import WORKLOADS, measure_data, table

    speeds = []
    for workload in WORKLOADS:
        with tempfile.TemporaryDirectory() as folder:
            speeds += measure_data(workload, Path(folder), args.images, args.repeats)
    return table(speeds), {"data": [asdict(speed) for speed in speeds]}
