from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfm_hf.data.benchmarks.synthia_labels import SynthiaLabelReader
from mfm_hf.data.domain import BadExampleError


@pytest.fixture
def reader():
    return SynthiaLabelReader(23)


def test_ids_are_those_that_opencv_wrote(reader):
    # cv2.imwrite of OpenCV 5.0: red holds the ids 0 to 22 in turn, green instances of up to 16 bits, blue nothing. With
    # IMREAD_UNCHANGED, OpenCV reads the same ids back as the last channel, which is what the reference converts.
    label = reader.read(Path(__file__).parent / "synthia_label.png")
    np.testing.assert_array_equal(label, np.arange(48).reshape(6, 8) % 23)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "I;16"])
def test_a_label_of_another_kind_is_refused(reader, tmp_path, mode):
    Image.new(mode, (8, 6)).save(tmp_path / "label.png")
    with pytest.raises(BadExampleError, match=r"label.png is no RGB PNG of 16 bits, as SYNTHIA's labels are"):
        reader.read(tmp_path / "label.png")


def test_a_photograph_is_no_label(reader, tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "label.jpg")
    with pytest.raises(BadExampleError, match="is no RGB PNG of 16 bits"):
        reader.read(tmp_path / "label.jpg")


def test_a_truncated_label_is_refused(reader, tmp_path):
    whole = (Path(__file__).parent / "synthia_label.png").read_bytes()
    (tmp_path / "label.png").write_bytes(whole[:-60])
    with pytest.raises(BadExampleError, match=r"cannot read .*label.png"):
        reader.read(tmp_path / "label.png")
