"""The measurements as tables in Markdown, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mfm_hf.benchmarking.training import COMPILED, FAST, FINE_TUNING, PLAIN


def training_table(result: Mapping[str, Any]) -> str:
    """Return what `measure_training` found, and the memory where it was measured."""
    seconds, processor, spread = (result[name] for name in ("seconds_per_step", "processor_seconds_per_step", "spread"))
    rows = [
        [
            name,
            f"{seconds[name]:.3f}",
            f"{spread[name][0]:.3f} to {spread[name][2]:.3f}",
            f"{processor[name]:.3f}",
            f"{seconds[name] / seconds[FAST]:.2f}x",
            f"{result['peak_memory'][name] / 2**30:.2f}",
            f"{result['matrix_product'][name] / 1e9:.0f}",
        ]
        for name in seconds
    ]
    head = ["Step", "s", "Quartiles", "Processor s", "Against this package", "Peak GiB", "Matrix product, GFLOP/s"]
    tables = [_table(head, rows)]
    peaks = ", ".join(f"{flops / 1e9:.0f} in {name}" for name, flops in result["machine"]["peak_flops"].items())
    tables.append(
        f"{result['images_per_second']:.2f} images/s; {result['speedup_over_plain']:.2f} times as fast as the {PLAIN}; "
        f"{result['times_fine_tuning']:.2f} times the time of {FINE_TUNING}; "
        f"{result['flops_per_step'][FAST] / 1e9:.0f} GFLOP a step, {result['fraction_of_peak']:.0%} of what a matrix "
        f"product reaches here (GFLOP/s: {peaks}). Views are encoded {result['encode']}.\n"
        f"{result['machine']['device']}, {result['machine']['threads']} threads, {result['machine']['versions']}"
    )
    if (cost := result["mfm_cost"]) is not None:
        tables.append(
            f"MFM adds {cost['time']:.1%} to the time of a step (processor time: {cost['processor_time']:.1%}) "
            f"and {cost['operations']:.1%} to its operations."
        )
    if (taken := result["compile_seconds"]) is not None:
        tables.append(f"Compiling takes {taken:.0f} s at the first step. {_won_back(seconds, taken)}")
    if (data := result["data_wait"]) is not None:
        tables.append(
            f"A step that reads PNG files waits {data['wait']:.3f} of its {data['step']:.3f} s for its batches."
        )
    parts = sorted(result["parts"].items(), key=lambda part: -part[1])
    tables.append(_table(["Part", "s"], [[name, f"{taken:.3f}"] for name, taken in parts]))
    return "\n\n".join(tables)


def _won_back(seconds: Mapping[str, float], taken: float) -> str:
    won = seconds[FAST] - seconds[COMPILED]
    return f"It is won back after {taken / won:,.0f} steps." if won > 0 else "It is not won back."


def inference_table(result: Mapping[str, Any]) -> str:
    """Return what `measure_inference` found."""
    rows = [
        [
            speed["precision"] + (", compiled" if speed["compiled"] else ""),
            "whole"
            if speed["window"] is None
            else f"windows of {speed['window']}, {speed['window_batch_size']} at once, {speed['window_blending']}",
            str(speed["batch_size"]),
            f"{speed['seconds_per_batch']:.3f}",
            f"{speed['images_per_second']:.2f}",
        ]
        for speed in result["speeds"]
    ]
    starts = ", ".join(f"{taken:.0f} s in {name}" for name, taken in result["compile_seconds"].items())
    evaluation = result["evaluation"]
    mfm = [
        [name, f"{cost['parameters']:,}", f"{cost['flops'] / 1e9:.1f}", f"{cost['seconds']:.3f}"]
        for name, cost in result["mfm"].items()
    ]
    return "\n\n".join(
        [
            _table(["Precision", "Image", "Batch", "s per batch", "images/s"], rows),
            *([f"Compiling adds to the first batch: {starts}."] if starts else []),
            f"Of an evaluated image the network takes {evaluation['network']:.3f} s; classes at full size "
            f"({evaluation['classes_at_full_size']:.3f} s) and metric ({evaluation['metric']:.3f} s) are "
            f"{evaluation['share_of_network']:.1%} of that.",
            _table(["Trained", "Parameters", "GFLOP", "s"], mfm),
        ]
    )


def losses_table(result: Mapping[str, Any]) -> str:
    """Return what `compare_losses` found."""
    differences = [
        [name, f"{found['mean']:.2%}", f"{found['largest']:.2%}"] for name, found in result["differences"].items()
    ]
    ends = [[name, f"{curve[0]:.4f}", f"{curve[-1]:.4f}"] for name, curve in result["losses"].items()]
    return "\n\n".join(
        [
            _table(["Step", "First loss", "Last loss"], ends),
            _table([f"Curves of {result['steps']} steps", "Mean difference", "Largest"], differences),
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
