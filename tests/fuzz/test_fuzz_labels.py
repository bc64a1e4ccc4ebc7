from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from mfm_hf.data.domain import check_domain
from mfm_hf.data.folders import folder_domain
from tests.fuzz.tools import BOTTOMLESS, JSON, altered, cases, damaged, only_one_line_errors

MODES = {"1": bool, "L": np.uint8, "P": np.uint8, "I;16": np.uint16, "I": np.int32}
DEEP_MODES = {"LA": 2, "RGB": 3, "RGBA": 4}
FORMATS = {"L": ["PNG", "JPEG", "WEBP"], "RGB": ["PNG", "JPEG", "BMP"], "I": ["TIFF"]}
CLASSES = {"road": 0, "car": 1, "sky": 2}


@st.composite
def pictures(draw: st.DrawFn, most: int = 300) -> bytes:
    """A picture of few pixels, of one of the formats and modes that people have, whatever its name says."""
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    mode = draw(st.sampled_from([*MODES, *DEEP_MODES]))
    values = draw(st.lists(st.integers(0, draw(st.sampled_from([2, most]))), min_size=1, max_size=8))
    shape = (height, width, DEEP_MODES[mode]) if mode in DEEP_MODES else (height, width)
    pixels = np.resize(np.array(values), shape).astype(MODES.get(mode, np.uint8))
    image = Image.fromarray(pixels) if mode != "P" else Image.fromarray(pixels, "L").convert("P")
    file = io.BytesIO()
    image.save(file, draw(st.sampled_from(FORMATS.get(mode, ["PNG", "TIFF"]))))
    return file.getvalue()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


PIXEL = png(Image.new("L", (1, 1)))
FILES = pictures() | pictures().flatmap(damaged) | st.binary(max_size=40)
CLASS_FILES = st.one_of(
    st.just(CLASSES),
    altered({**CLASSES, "ignore": "others"}),
    altered({"road": {"ids": [7], "colors": [[1, 2, 3]]}, "car": [0, 0, 255], "ignore": [4]}),
    JSON,
).map(lambda content: json.dumps(content).encode()) | damaged(json.dumps(CLASSES).encode())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """New folders, since the package may remember what it read."""
    root = tmp_path_factory.mktemp("labels")
    return (root / str(number) for number in count())


@cases(0.25)
@given(
    image=FILES, label=FILES, classes=st.none() | CLASS_FILES, ignore_index=st.sampled_from([255, 0, -1, 65535, 2**40])
)
@example(image=b"", label=b"", classes=BOTTOMLESS, ignore_index=255)
@example(image=PIXEL, label=PIXEL, classes=None, ignore_index=2**40)
def test_folders(folders: Iterator[Path], image: bytes, label: bytes, classes: bytes | None, ignore_index: int) -> None:
    folder = next(folders)
    for kind, content in (("images", image), ("labels", label)):
        (folder / kind).mkdir(parents=True)
        (folder / kind / "a.png").write_bytes(content)
    if classes is not None:
        (folder / "classes.json").write_bytes(classes)
    with only_one_line_errors():
        domain = folder_domain(folder, "train", labelled=True, ignore_index=ignore_index)
        with only_one_line_errors(names="a.png"):
            check_domain(domain)
        with only_one_line_errors(names="a.png"):
            decoded = domain.decode(next(iter(domain.rows)))
            assert decoded.image.dtype == np.uint8
            assert decoded.image.shape == (*decoded.label.shape, 3)
            known = {*range(len(domain.classes)), ignore_index}
            assert set(np.unique(decoded.label).tolist()) <= known
    shutil.rmtree(folder)


@cases(0.05)
@given(classes=CLASS_FILES)
@example(classes=BOTTOMLESS)
def test_class_files_are_named(folders: Iterator[Path], classes: bytes) -> None:
    folder = next(folders)
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(folder / "images/a.png")
    (folder / "classes.json").write_bytes(classes)
    with only_one_line_errors(names="classes.json"):
        folder_domain(folder, "train", labelled=False)
    shutil.rmtree(folder)
