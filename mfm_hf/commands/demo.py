"""`make demo` and `mfm-hf demo`: source-only, DACS and DACS + MFM on the built-in streets, in a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from mfm_hf.commands import train
from mfm_hf.commands._errors import one_line_errors
from mfm_hf.commands._parser import command_parser
from mfm_hf.commands.arguments import config_flags
from mfm_hf.files import write_json

CONFIG = Path(__file__).with_name("demo.yaml")
SHOWN_IMAGES = 4

_DESCRIPTION = """\
Adapt a small network from streets:game to streets:real in a few minutes on two CPU cores: trained on the source only,
by DACS, and by DACS with Masked Feature Modeling, with the same seed and budget. All three start from one warm-up on
the source, which stands in for ImageNet weights. Prints a table and writes the networks, results.json and demo.png.

Unknown options go to every training, for example: {prog} --seed 1 --max_steps 3000
"""


@dataclass(frozen=True)
class Run:
    """One training of the demo. Its flags say how it differs from the others."""

    title: str
    folder: str
    flags: tuple[str, ...]


WARM_UP = Run("warm-up", "warm_up", ("--recipe", "source_only", "--no_final_evaluation"))
RUNS = (
    Run("source-only", "source_only", ("--recipe", "source_only")),
    Run("DACS", "dacs", ("--recipe", "dacs")),
    Run("DACS + MFM", "dacs_mfm", ("--recipe", "dacs", "--mfm")),
)


def main(argv: list[str] | None = None) -> None:
    """Run the demo with the options of `argv` (default: those of the command line)."""
    parser = command_parser("demo", "demo.py", _DESCRIPTION)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/demo"), metavar="DIR", help="for all results")
    args, training_flags = parser.parse_known_args(argv)

    warm_up = run_training(WARM_UP, args.output_dir, training_flags)
    start = ["--model_name_or_path", str(args.output_dir / WARM_UP.folder)]
    results = {run.title: run_training(run, args.output_dir, [*training_flags, *start]) for run in RUNS}
    with one_line_errors():
        record = {"config": config_flags(CONFIG), "warm_up": warm_up, "runs": results}
        write_json(args.output_dir / "results.json", record)
        draw_picture(args.output_dir, target=warm_up["target"])
    print(f"\n{table(results)}\n\nnetworks, results.json and demo.png lie in {args.output_dir}")


def run_training(run: Run, output_dir: Path, more_flags: Sequence[str]) -> dict[str, Any]:
    """Train as the demo's config, the run and `more_flags` say, and return the results."""
    flags = [*run.flags, "--output_dir", str(output_dir / run.folder), "--overwrite_output_dir", *more_flags]
    print(f"\n{run.title}: mfm-hf train --config {CONFIG.name} {' '.join(flags)}")
    return train.main(["--config", str(CONFIG), *flags])


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out the results of the runs, a column each."""
    classes = list(next(iter(results.values()))["per_class_iou"])
    rows = [["", *results]]
    rows.append(["target mean IoU (%)", *(percent(result["mean_iou"]) for result in results.values())])
    rows += [
        [f"  {name}", *(percent(result["per_class_iou"][name]) for result in results.values())] for name in classes
    ]
    rows.append(["ms per training step", *(f"{1000 * result['seconds_per_step']:.0f}" for result in results.values())])
    for title, key in (("in training", "parameters_in_training"), ("after export", "parameters_exported")):
        rows.append([f"parameters {title}", *(f"{result[key]:,}" for result in results.values())])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def percent(share: float | None) -> str:
    """Write a share in percent; a dash where a class neither occurs nor is predicted."""
    return "-" if share is None else f"{100 * share:.1f}"


def draw_picture(output_dir: Path, target: str) -> None:
    """Write demo.png: for a few target images the image, the truth, and what each of the networks says."""
    import torch
    from transformers import AutoModelForSemanticSegmentation

    from mfm_hf.data.domains import load_domain
    from mfm_hf.data.transforms import normalize
    from mfm_hf.evaluation.visualization import color_map, grid

    domain = load_domain(target, "eval")
    examples = [domain.decode(row) for row in islice(domain.rows, SHOWN_IMAGES)]
    rows = [[example.image, color_map(cast(np.ndarray, example.label), domain.classes)] for example in examples]
    for run in RUNS:
        model = AutoModelForSemanticSegmentation.from_pretrained(output_dir / run.folder)
        for example, row in zip(examples, rows, strict=True):
            pixels = normalize(torch.from_numpy(example.image.copy()).permute(2, 0, 1)[None])
            with torch.inference_mode():
                logits = model(pixel_values=pixels).logits
            size = example.image.shape[:2]
            logits = torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
            row.append(color_map(logits.argmax(1)[0].numpy(), domain.classes))
    grid(rows, ["target image", "truth", *(run.title for run in RUNS)], scale=2).save(output_dir / "demo.png")
