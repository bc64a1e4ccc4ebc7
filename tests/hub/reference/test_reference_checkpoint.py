import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mfm_hf.hub.reference.checkpoint import CheckpointError, read_checkpoint

Save = Callable[[Any], Path]


class RunsCode:
    """Pickles as a call that makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_named_and_never_run(zipped: bool, tmp_path: Path) -> None:
    path, made = tmp_path / "evil.pth", tmp_path / "made"
    content = {"state_dict": {"weight": torch.zeros(2)}, "meta": RunsCode(made)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil\.pth was refused: it wants to call \w+\.mkdir"):
        read_checkpoint(path)
    assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.exists()  # so the file would have run its code


def test_code_in_a_bare_pickle_is_never_run(tmp_path: Path) -> None:
    path, made = tmp_path / "evil.pth", tmp_path / "made"
    path.write_bytes(pickle.dumps(RunsCode(made)))
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        read_checkpoint(path)
    assert not made.exists()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_named(share: float, save: Save) -> None:
    path = save({"state_dict": {f"layer{index}.weight": torch.randn(50, 50) for index in range(4)}})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pth is no PyTorch checkpoint, or a truncated one"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(range(256)) * 10])
def test_a_foreign_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "foreign.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"foreign\.pth is no PyTorch checkpoint"):
        read_checkpoint(path)


def test_a_foreign_zip_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "foreign.pth", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(CheckpointError, match=r"foreign\.pth is no PyTorch checkpoint"):
        read_checkpoint(tmp_path / "foreign.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no network"),
        ({"epoch": 3}, "holds no network"),
        ({"state_dict": {"weight": torch.zeros(1), "step": 3}}, "something else than a tensor under 'step'"),
        ({"weight": torch.zeros(1).expand(10**9)}, "expanded tensor, 'weight'"),
        ({"weight": torch.eye(2).to_sparse()}, "sparse"),
    ],
)
def test_what_is_no_network_is_named(content: Any, message: str, save: Save) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(save(content))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.pth"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"is a folder: .* --to reference"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("container", ["state_dict", "model", None])
def test_the_containers_of_the_code_bases(container: str | None, save: Save) -> None:
    weights = {"weight": torch.ones(2)}
    checkpoint = read_checkpoint(save(weights if container is None else {container: weights, "epoch": 3}))
    assert list(checkpoint.tensors) == ["weight"]
    assert checkpoint.class_names is None


def test_the_networks_of_a_training(save: Save) -> None:
    prefixes = {"model.": 1.0, "ema_model.": 2.0, "imnet_model.": 3.0}
    path = save({"state_dict": {f"module.{prefix}weight": torch.tensor(value) for prefix, value in prefixes.items()}})
    assert read_checkpoint(path).tensors == {"weight": torch.tensor(1.0)}
    assert read_checkpoint(path, "teacher").tensors == {"weight": torch.tensor(2.0)}


def test_a_missing_network_is_named(save: Save) -> None:
    with pytest.raises(CheckpointError, match=r"holds no teacher \(no name starts with 'ema_model\.'\)"):
        read_checkpoint(save({"backbone.weight": torch.zeros(1)}), "teacher")
    with pytest.raises(CheckpointError, match=r"holds no student \(no name starts with 'model\.'\)"):
        read_checkpoint(save({"ema_model.weight": torch.zeros(1)}), "student")


def test_the_logs_of_mmcv_are_read_along(save: Save) -> None:
    meta = {"CLASSES": ("road", "car"), "hook_msgs": {"best_score": np.float64(0.68), "iteration": np.int64(40_000)}}
    checkpoint = read_checkpoint(save({"state_dict": {"weight": torch.zeros(1)}, "meta": meta}))
    assert checkpoint.class_names == ("road", "car")
