"""Export a checkpoint for use without this package, and compare the file with the checkpoint."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F
from transformers import BaseImageProcessor, PreTrainedModel, SegformerConfig

from mfm_hf._version import __version__
from mfm_hf.hub.deployed import DeployedSegmenter, Normalization, Result
from mfm_hf.models.configuration_daformer import DaformerConfig
from mfm_hf.models.configuration_deeplabv2 import DeepLabV2Config
from mfm_hf.models.configuration_hrda import HrdaConfig

Format = Literal["onnx", "torch_export"]
SUFFIXES: Mapping[Format, str] = {"onnx": ".onnx", "torch_export": ".pt2"}

METADATA_FILE = "metadata.json"
"""What `torch.export.load(file, extra_files={METADATA_FILE: ""})` fills in, as JSON."""

TOLERANCE = 1e-3
"""How far a logit of the file may be from that of the checkpoint."""

# From here on no stage of a Mix Transformer is a single pixel wide, for which torch.export would make another program.
_MIN_SIDE = 64
_TRACED_SIZE = (96, 160)
_CITYSCAPES_HALF = (512, 1024)
_EXPORTABLE = (SegformerConfig, DaformerConfig, DeepLabV2Config, HrdaConfig)


@dataclass(frozen=True)
class Comparison:
    """How far the file is from the checkpoint.

    Attributes:
        size: Height and width of the image that both have seen.
        difference: The largest difference of a logit; of classes, how far the checkpoint's logit of the file's class
            is below its highest one, at most.
    """

    size: tuple[int, int]
    difference: float


def export_checkpoint(
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    file: Path,
    export_format: Format = "onnx",
    result: Result = "classes",
    size: tuple[int, int] | None = None,
    *,
    fixed_size: bool = False,
    include_preprocessing: bool = False,
) -> list[Comparison]:
    """Export a segmenter for images of any size, and compare the file with the segmenter at several sizes.

    Args:
        model: The segmenter, on the CPU. It is put into eval mode.
        processor: Its image processor, whose numbers travel with the file.
        file: What to write: `.onnx`, or `.pt2` for `torch.export.load`.
        export_format: Which of the two.
        result: `classes` of every pixel of the image, or `logits` at the network's own stride (of an HRDA with windows:
            at the image's size). See `DeployedSegmenter.forward`.
        size: Height and width to compare at. Default: 512 x 1024; of an HRDA, two windows.
        fixed_size: Whether the file takes images of this size alone, one at a time.
        include_preprocessing: Whether the file takes RGB images, `uint8` (batch, height, width, 3), and normalises them
            itself. It never resizes.

    Returns:
        The comparisons: at `size`, and unless it is fixed at two others.

    Raises:
        ValueError: If the network or the size cannot be exported, packages are missing, or the file differs from the
            checkpoint by more than `TOLERANCE`. Then no file is left, and one that was there is unharmed.
    """
    check_format(file, export_format)
    size = _check_size(model, size, fixed_size)
    window = model.config.sliding_window if isinstance(model.config, HrdaConfig) and not fixed_size else None
    normalization = Normalization.of(processor)
    segmenter = DeployedSegmenter(
        model.float().eval(), result, normalization if include_preprocessing else None, window
    )
    program = trace(segmenter, size if fixed_size else None)
    facts = metadata(model, processor, segmenter, size if fixed_size else None)

    # Both formats want their own suffix.
    unfinished = file.with_name(f".{file.stem}.unfinished{file.suffix}")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _quiet():
            write = write_onnx if export_format == "onnx" else write_torch_export
            write(program, segmenter, unfinished, facts)
            run = load_exported(unfinished, export_format)
            sizes = [size] if fixed_size else _sizes(size, window.size if window else (_MIN_SIDE, _MIN_SIDE))
            comparisons = [Comparison(one, compare(segmenter, run, one)) for one in sizes]
        for comparison in comparisons:
            if not comparison.difference <= TOLERANCE:  # NaN is no agreement either
                height, width = comparison.size
                raise ValueError(
                    f"the exported file differs from the checkpoint by {comparison.difference:.2g} at {height} x "
                    f"{width} pixels, more than {TOLERANCE:g}, and was not kept: try the other format, or --fixed_size"
                )
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    return comparisons


def check_format(file: Path, export_format: Format) -> None:
    """Check that a file of this name can be made in this format here.

    Raises:
        ValueError: If the suffix is another's, or packages are missing.
    """
    suffix = SUFFIXES[export_format]
    if file.suffix != suffix:
        raise ValueError(f"{file} is no name for {export_format}: give one that ends in {suffix}")
    needed = ("onnx", "onnxscript", "onnxruntime") if export_format == "onnx" else ()
    if any(find_spec(package) is None for package in needed):
        raise ValueError(f"the format onnx needs packages: pip install {' '.join(needed)}")


def trace(segmenter: DeployedSegmenter, size: tuple[int, int] | None) -> ExportedProgram:
    """Return the program of a segmenter, for one image of a fixed size, or, without one, for any number of any size.

    Raises:
        ValueError: If the network fails at the fixed size.
    """
    if size is not None:
        try:
            return torch.export.export(segmenter, (segmenter.random_input(1, size),), strict=False)
        except RuntimeError as error:  # of a convolution that is larger than its input
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"the network cannot see images of {size[0]} x {size[1]} pixels: {reason}") from error
    window = segmenter.window
    lowest = (_MIN_SIDE, _MIN_SIDE) if window is None else window.size
    # Two rows and three columns of windows: a single one would be taken for the rule.
    traced = _TRACED_SIZE
    if window is not None:
        traced = (window.size[0] + window.stride[0], window.size[1] + 2 * window.stride[1])
    dims = {"batch": Dim("batch", min=1), "height": Dim("height", min=lowest[0]), "width": Dim("width", min=lowest[1])}
    shape = tuple(dims.get(name, Dim.STATIC) for name in segmenter.input_axes)
    return torch.export.export(segmenter, (segmenter.random_input(2, traced),), dynamic_shapes=(shape,), strict=False)


def metadata(
    model: PreTrainedModel, processor: BaseImageProcessor, segmenter: DeployedSegmenter, size: tuple[int, int] | None
) -> dict[str, Any]:
    """Return what whoever runs the file has to know, in terms of JSON.

    Args:
        model: The segmenter.
        processor: Its image processor.
        segmenter: What is exported.
        size: Height and width of the only images that the file takes, if so.
    """
    normalization = Normalization.of(processor)
    return {
        "architecture": type(model).__name__,
        "id2label": model.config.id2label,
        "ignore_index": model.config.semantic_loss_ignore_index,
        "rescale_factor": normalization.scale,
        "image_mean": normalization.mean,
        "image_std": normalization.std,
        "resize": dict(processor.size) if processor.do_resize else None,
        "normalized_by": "user" if segmenter.normalization is None else "file",
        "result": segmenter.result,
        "fixed_size": size,
        "window_size": None if segmenter.window is None else segmenter.window.size,
        "mfm_hf_version": __version__,
    }


def write_onnx(program: ExportedProgram, segmenter: DeployedSegmenter, file: Path, facts: Mapping[str, Any]) -> None:
    """Write a single file, with the facts as JSON in its `metadata_props`."""
    axes = {index: name for index, name in enumerate(segmenter.input_axes) if name != "channels"}
    exported = torch.onnx.export(
        program,
        input_names=["pixel_values" if segmenter.normalization is None else "images"],
        output_names=[segmenter.result],
        dynamic_shapes=None if facts["fixed_size"] else (axes,),  # their names alone: the program knows the rest
        dynamo=True,
        verbose=False,
    )
    exported.model.metadata_props.update({name: json.dumps(value) for name, value in facts.items()})
    exported.save(file, external_data=False)


def write_torch_export(
    program: ExportedProgram, segmenter: DeployedSegmenter, file: Path, facts: Mapping[str, Any]
) -> None:
    """Write the program with the facts as its extra file `metadata.json`."""
    torch.export.save(program, file, extra_files={METADATA_FILE: json.dumps(facts)})


def load_exported(file: Path, export_format: Format) -> Callable[[Tensor], Tensor]:
    """Return the function that a file holds, on the CPU: images -> classes or logits."""
    if export_format == "torch_export":
        return torch.export.load(file).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])

    return run


@torch.inference_mode()
def compare(segmenter: DeployedSegmenter, run: Callable[[Tensor], Tensor], size: tuple[int, int]) -> float:
    """Return how far the function of a file is from the network itself, see `Comparison.difference`.

    The network runs as it does everywhere: through its own `forward`, HRDA's windows in its own loops.
    """
    images = segmenter.random_input(1, size)
    logits = segmenter.model(
        pixel_values=images if segmenter.normalization is None else segmenter.normalization(images)
    ).logits
    found = run(images)
    if segmenter.result == "classes" or segmenter.window is not None:
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    expected_shape = logits.shape if segmenter.result == "logits" else (1, *size)
    if found.shape != expected_shape:
        return float("inf")
    if segmenter.result == "logits":
        return (found - logits).abs().max().item()
    chosen = logits.gather(1, found.long()[:, None])
    return (logits.amax(dim=1, keepdim=True) - chosen).max().item()


def _check_size(model: PreTrainedModel, size: tuple[int, int] | None, fixed_size: bool) -> tuple[int, int]:
    if not isinstance(model.config, _EXPORTABLE):
        known = ", ".join(config.model_type for config in _EXPORTABLE)
        raise ValueError(f"a {model.config.model_type} cannot be exported: give one of {known}")
    if fixed_size:
        return size or _CITYSCAPES_HALF
    lowest, default = (_MIN_SIDE, _MIN_SIDE), _CITYSCAPES_HALF
    if isinstance(model.config, HrdaConfig):
        window = model.config.sliding_window
        if window is None:
            raise ValueError(
                "this HRDA has no window_size and sees images of any size at once, which needs --fixed_size with "
                "--height and --width"
            )
        lowest, default = window.size, (window.size[0], window.size[1] + window.stride[1])
    size = size or default
    if size[0] < lowest[0] or size[1] < lowest[1]:
        raise ValueError(
            f"this network is exported for images from {lowest[0]} x {lowest[1]} pixels on, not {size[0]} x {size[1]}: "
            "give a larger --height and --width, or --fixed_size for this size alone"
        )
    return size


def _sizes(size: tuple[int, int], lowest: Sequence[int]) -> list[tuple[int, int]]:
    """Return the size and two others: a smaller one, and one that no stride divides."""
    return [size, (lowest[0], (lowest[1] + size[1]) // 2), (size[0] + 13, size[1] + 6)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to themselves what PyTorch's exporter says of torchvision and of its own deprecated parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
