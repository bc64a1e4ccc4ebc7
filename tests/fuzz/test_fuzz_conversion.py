from __future__ import annotations

import io
import pickle
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import SegformerForSemanticSegmentation

from mfm_hf.commands._checkpoint import load_model
from mfm_hf.commands.train import load_pretrained
from mfm_hf.hub.conversion import convert_checkpoint, convert_to_reference
from mfm_hf.hub.reference.checkpoint import CheckpointError, read_checkpoint
from mfm_hf.hub.reference.detection import detect_network
from mfm_hf.hub.reference.settings import Settings
from tests.fuzz.tools import cases, damaged, only_one_line_errors
from tests.reference_weights import TINY_HEADS, reference_weights
from tests.tiny_models import encoder_config

WEIGHTS = {name: tensor.clone() for name, tensor in reference_weights("net_mit_segformer").items()}
NAMES = sorted(WEIGHTS)


def saved(content: Any, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


SMALL = {
    zipped: saved({"meta": {"CLASSES": ("a", "b")}, "state_dict": {"w": torch.ones(3)}}, zipped) for zipped in (0, 1)
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("conversion")
    return (root / f"{number}.pth" for number in count())


@cases(0.05)
@given(st.sampled_from(list(SMALL.values())).flatmap(damaged) | st.binary(max_size=200))
def test_damaged_files(paths: Iterator[Path], content: bytes) -> None:
    path = next(paths)
    path.write_bytes(content)
    with only_one_line_errors(names=path.name):
        read_checkpoint(path)
    path.unlink()


TENSORS = st.one_of(
    st.lists(st.integers(0, 3), max_size=4).map(torch.zeros),
    st.sampled_from([torch.float16, torch.int64, torch.bool, torch.complex64]).map(
        lambda kind: torch.ones(2, dtype=kind)
    ),
    st.just(torch.zeros(1).expand(5)),
    st.just(torch.eye(2).to_sparse()),
    st.just(torch.zeros(2, device="meta")),
)
VALUES = TENSORS | st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)


@st.composite
def altered_weights(draw: st.DrawFn) -> dict[Any, Any]:
    """A state dict with tensors missing, of other shapes or kinds, or under other names."""
    weights: dict[Any, Any] = dict(WEIGHTS)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(NAMES))
        match draw(st.sampled_from(["drop", "replace", "cut", "rename", "add", "part"])):
            case "drop":
                weights.pop(name, None)
            case "replace":
                weights[name] = draw(VALUES)
            case "cut":
                tensor = weights.get(name)
                if isinstance(tensor, Tensor) and tensor.ndim:
                    weights[name] = tensor[: draw(st.integers(0, 2))]
            case "rename":
                weights[draw(st.sampled_from(["module.", "model.", "ema_model.", "x"])) + name] = weights.pop(
                    name, None
                )
            case "add":
                weights[draw(st.sampled_from([*NAMES, 3, "", "backbone.layer1.0.conv1.weight"]))] = draw(VALUES)
            case "part":
                start = draw(st.sampled_from(["backbone.", "decode_head.", "backbone.block1", "decode_head.linear_c"]))
                weights = {key: value for key, value in weights.items() if not str(key).startswith(start)}
    return weights


SETTINGS = st.just(TINY_HEADS) | st.dictionaries(
    st.sampled_from(["num_attention_heads", "dilations", "context_scale", "nothing"]),
    st.lists(st.integers(-1, 4), max_size=5) | st.floats() | st.text(max_size=3),
    max_size=2,
)


@cases(0.02)
@given(weights=altered_weights(), wanted=st.sampled_from(["student", "teacher"]), settings=SETTINGS)
def test_altered_weights(paths: Iterator[Path], weights: dict[Any, Any], wanted: Any, settings: dict[str, Any]) -> None:
    path = next(paths)
    torch.save({"state_dict": weights}, path)
    with only_one_line_errors():
        reference = read_checkpoint(path, wanted)
        detect_network(reference.tensors, Settings(settings)).to_ours(reference.tensors)
    path.unlink()


class Call:
    """Pickles as a call, which unpickling makes."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def calls_that_make(marker: Path) -> list[Call]:
    import os
    import runpy
    import subprocess

    return [
        Call(os.mkdir, str(marker)),
        Call(os.system, f"mkdir {marker}"),
        Call(eval, f"__import__('os').mkdir({str(marker)!r})"),
        Call(exec, f"import os; os.mkdir({str(marker)!r})"),
        Call(subprocess.check_output, ["mkdir", str(marker)]),
        Call(Path.mkdir, marker),
        Call(open, str(marker), "w"),
        Call(torch.save, torch.zeros(1), str(marker)),
        Call(shutil.copytree, str(marker.parent), str(marker)),
        Call(runpy.run_path, str(marker.parent / "code.py")),
    ]


@cases(0.02)
@given(
    which=st.integers(0, 9),
    place=st.sampled_from(["alone", "state_dict", "tensor", "name", "meta", "classes", "attribute"]),
    zipped=st.booleans(),
    bare=st.booleans(),
)
def test_code_is_never_run(paths: Iterator[Path], which: int, place: str, zipped: bool, bare: bool) -> None:
    path = next(paths)
    marker = path.with_suffix(".made")
    (path.parent / "code.py").write_text(f"import os; os.mkdir({str(marker)!r})")
    bomb = calls_that_make(marker)[which]
    weight = torch.zeros(2)
    content: Any = {
        "alone": bomb,
        "state_dict": {"state_dict": bomb},
        "tensor": {"state_dict": {"w": weight, "v": bomb}},
        "name": {"state_dict": {"w": weight, bomb: weight}},
        "meta": {"state_dict": {"w": weight}, "meta": [bomb]},
        "classes": {"state_dict": {"w": weight}, "meta": {"CLASSES": (bomb,)}},
        "attribute": {"state_dict": {"w": weight}, "optimizer": {"state": {0: {"step": bomb}}}},
    }[place]
    path.write_bytes(pickle.dumps(content) if bare else saved(content, zipped))
    with pytest.raises(CheckpointError, match=path.name):
        read_checkpoint(path)
    assert not marker.exists()
    path.unlink()


@pytest.mark.parametrize("which", range(10))
def test_the_code_would_run_if_it_were_let(which: int, tmp_path: Path) -> None:
    marker = tmp_path / "made"
    (tmp_path / "code.py").write_text(f"import os; os.mkdir({str(marker)!r})")
    pickle.loads(pickle.dumps(calls_that_make(marker)[which]))
    assert marker.exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("folder") / "whole"
    SegformerForSemanticSegmentation(encoder_config(num_labels=3)).save_pretrained(path)
    return path


@cases(0.01)
@given(data=st.data())
def test_damaged_folders(folder: Path, paths: Iterator[Path], data: st.DataObject) -> None:
    """Weights of `transformers` on the way back to a reference, and of the commands that load them."""
    path = next(paths)
    copy = Path(shutil.copytree(folder, path.with_suffix(".folder")))
    weights = copy / "model.safetensors"
    weights.write_bytes(data.draw(damaged(weights.read_bytes())))
    with only_one_line_errors(names=str(copy)):
        convert_to_reference(copy, path)
    with only_one_line_errors(names=str(copy)):
        load_model(str(copy), "cpu")
    with only_one_line_errors(names=str(copy)):
        load_pretrained("--model_name_or_path", str(copy))
    shutil.rmtree(copy)


def test_a_whole_file_is_converted(paths: Iterator[Path]) -> None:
    path = next(paths)
    torch.save({"state_dict": WEIGHTS}, path)
    convert_checkpoint(path, path.with_suffix(".out"), settings=TINY_HEADS)
    assert (path.with_suffix(".out") / "model.safetensors").is_file()
