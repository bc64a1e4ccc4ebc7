from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfm_hf.commands.preview import main
from mfm_hf.data.classes import CITYSCAPES


def preview(domain: object, output: Path, *options: str) -> np.ndarray:
    main(["--domain", str(domain), "--output", str(output), *options])
    return np.asarray(Image.open(output).convert("RGB"))


def contains(sheet: np.ndarray, cell: np.ndarray) -> bool:
    height, width = cell.shape[:2]
    corners = np.argwhere((sheet == cell[0, 0]).all(axis=-1))
    return any(np.array_equal(sheet[y : y + height, x : x + width], cell) for y, x in corners)


def test_sheet_shows_the_first_images_enlarged(folder_domain: Path, tmp_path: Path) -> None:
    sheet = preview(folder_domain, tmp_path / "new/sheet.png", "--rows", "1", "--columns", "2")
    for name, shown in {"a": True, "b": True, "c": False}.items():
        image = np.asarray(Image.open(folder_domain / f"images/{name}.png"))
        scale = 512 // image.shape[1]
        assert contains(sheet, image.repeat(scale, axis=0).repeat(scale, axis=1)) == shown


def test_last_row_may_be_short_and_labels_may_be_missing(folder_domain: Path, tmp_path: Path) -> None:
    with_labels = preview(folder_domain, tmp_path / "sheet.png", "--columns", "2")
    shutil.rmtree(folder_domain / "labels")
    without = preview(folder_domain, tmp_path / "sheet.png", "--columns", "2", "--role", "target")
    assert with_labels.shape[1] > 4 * 480
    assert 2 * 480 < without.shape[1] < 3 * 480


def test_a_label_map_gives_classes_their_colours(folder_domain: Path, tmp_path: Path) -> None:
    label_map = {name: {"ids": [index], "colors": [[255, 255, index]]} for index, name in enumerate(CITYSCAPES.names)}
    (tmp_path / "map.json").write_text(json.dumps(label_map))
    sheet = preview(folder_domain, tmp_path / "sheet.png", "--label_map", str(tmp_path / "map.json"))
    assert {(255, 255, index) for index in range(19)} <= {tuple(color) for color in sheet.reshape(-1, 3).tolist()}


def test_wide_images_are_reduced(tmp_path: Path) -> None:
    (tmp_path / "wide/images").mkdir(parents=True)
    Image.new("RGB", (2000, 500), (10, 200, 30)).save(tmp_path / "wide/images/x.png")
    sheet = preview(tmp_path / "wide", tmp_path / "sheet.png", "--role", "target")
    assert (sheet == (10, 200, 30)).all(axis=-1).sum() == 512 * 128


@pytest.mark.parametrize(
    ("domain", "output", "message"),
    [("nowhere", "sheet.png", "nowhere"), ("city", "sheet.txt", "give one that ends in .png"), ("city", ".", "ends")],
)
def test_bad_input_gets_one_line(
    folder_domain: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    domain: str,
    output: str,
    message: str,
) -> None:
    monkeypatch.chdir(folder_domain.parent)
    with pytest.raises(SystemExit) as stopped:
        main(["--domain", domain, "--output", output])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
