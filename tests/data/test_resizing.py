from pathlib import Path

import numpy as np
import pytest

from mfm_hf.data.domains import load_domain
from mfm_hf.data.resizing import fit_size, resize_image, resize_label, resized

# Images and labels of noise, and what `cv2.resize` of OpenCV 5.0.0 made of them.
OPENCV = np.load(Path(__file__).parent / "opencv_resize.npz")
CASES = range(5)


@pytest.mark.parametrize("case", CASES)
def test_images_are_resized_as_opencv_does(case):
    wanted = OPENCV[f"image_out{case}"]
    resized_image = resize_image(OPENCV[f"image{case}"], wanted.shape[:2])
    assert np.abs(resized_image.astype(int) - wanted).max() <= 1
    assert resized_image.dtype == np.uint8
    assert resized_image.flags.c_contiguous


@pytest.mark.parametrize("case", CASES)
def test_labels_are_resized_as_opencv_does(case):
    wanted = OPENCV[f"label_out{case}"]
    np.testing.assert_array_equal(resize_label(OPENCV[f"label{case}"], wanted.shape), wanted)


@pytest.mark.parametrize(
    ("image_size", "box", "wanted"),
    [
        ((1052, 1914), (1280, 720), (704, 1280)),  # GTA, as methods and papers state it
        ((1052, 1914), (2560, 1440), (1407, 2560)),
        ((760, 1280), (1280, 760), (760, 1280)),
        ((1024, 2048), (1024, 512), (512, 1024)),
        ((1914, 1052), (1280, 720), (1280, 704)),  # an upright image lies in the box upright
        ((1, 4000), (100, 100), (1, 100)),
    ],
)
def test_images_fit_the_box_with_their_aspect_ratio(image_size, box, wanted):
    assert fit_size(image_size, box) == wanted


@pytest.mark.parametrize("labels", [True, False])
def test_a_domain_is_resized_with_its_labels_or_without(labels):
    domain = load_domain("streets:game:64x128", "source")
    row = next(iter(domain.rows))
    native, small = domain.decode(row), resized(domain, (64, 32), labels=labels).decode(row)
    np.testing.assert_array_equal(small.image, resize_image(native.image, (32, 64)))
    wanted = resize_label(native.label, (32, 64)) if labels else native.label
    np.testing.assert_array_equal(small.label, wanted)


def test_what_has_the_size_already_is_not_touched():
    image, label = OPENCV["image0"], OPENCV["label0"]
    assert resize_image(image, image.shape[:2]) is image
    assert resize_label(label, label.shape) is label
