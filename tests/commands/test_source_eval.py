"""Which source images the train command measures on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mfm_hf.commands.train import open_source_eval_domain
from mfm_hf.data.domains import load_domain
from mfm_hf.uda.training_args import UdaTrainingArguments

STREETS = "streets:game:32x64"


def opened(source: object, **kwargs: object) -> tuple[str, str] | None:
    args = UdaTrainingArguments(source=str(source), **kwargs)
    domain = open_source_eval_domain(args, load_domain(args.source, "source"))
    return None if domain is None else (domain.name, domain.split)


@pytest.fixture
def split_folder(folder_domain: Path, tmp_path: Path) -> Path:
    """A folder with a training and a validation split."""
    folder = tmp_path / "split"
    for split in ("train", "validation"):
        shutil.copytree(folder_domain, folder / split)
        (folder / split / "images/b.png").unlink()
        (folder / split / "labels/b.png").unlink()
    return folder


def test_the_validation_split_of_the_source_is_the_default(split_folder: Path) -> None:
    assert opened(STREETS) == (STREETS, "validation")
    assert opened(f"{STREETS}#train") == (STREETS, "validation")
    assert opened(split_folder) == (str(split_folder), "validation")


def test_images_that_are_trained_on_are_not_measured_on(
    folder_domain: Path, split_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert opened(folder_domain) is None
    assert "its validation split is what it is trained on" in capsys.readouterr().err
    assert opened(f"{STREETS}#validation") is None
    assert "its validation split is what it is trained on" in capsys.readouterr().err
    shutil.rmtree(split_folder / "validation")
    assert opened(split_folder) is None
    assert "no validation split" in capsys.readouterr().err


def test_what_the_user_names_is_used_or_refused(folder_domain: Path) -> None:
    assert opened(folder_domain, source_eval=f"{folder_domain}") == (str(folder_domain), "validation")
    assert opened(folder_domain, source_eval=f"{folder_domain}", selection_images=0) is None
    with pytest.raises(ValueError, match="have different classes"):
        opened(folder_domain, source_eval=STREETS)
    with pytest.raises(ValueError, match="neither an existing folder nor"):
        opened(STREETS, source_eval="nowhere")
