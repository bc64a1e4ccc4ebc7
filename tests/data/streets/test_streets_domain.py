import numpy as np
import pytest

from mfm_hf.data.domains import load_domain
from mfm_hf.data.streets.drawing import draw_street


def test_a_row_is_an_index_and_its_example_the_scene_of_that_index():
    domain = load_domain("streets:real:32x64", "eval")
    row = list(domain.rows)[7]
    assert row == {"index": 7}
    example = domain.decode(row)
    image, label = draw_street("real", "validation", 7, 32, 64)
    np.testing.assert_array_equal(example.image, image)
    np.testing.assert_array_equal(example.label, label)
    assert example.name == "real_validation_00007"


def test_the_default_size_is_128_by_256():
    domain = load_domain("streets:game", "target")
    assert domain.decode({"index": 0}).image.shape == (128, 256, 3)


@pytest.mark.parametrize("ignore_index", [254, -100])
def test_unlabelled_pixels_get_the_ignore_index(ignore_index):
    usual = load_domain("streets:game:32x64", "source")
    other = load_domain("streets:game:32x64", "source", ignore_index=ignore_index)
    index = next(i for i in range(50) if (usual.decode({"index": i}).label == 255).any())
    expected = usual.decode({"index": index}).label.astype(int)
    expected[expected == 255] = ignore_index
    np.testing.assert_array_equal(other.decode({"index": index}).label, expected)


@pytest.mark.parametrize("name", ["streets:game:64", "streets:game:0x64", "streets:game:64x128:2", "streets:game:"])
def test_a_bad_size_is_refused(name):
    with pytest.raises(ValueError, match="with a size as in streets:game:64x128"):
        load_domain(name, "source")


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="streets:game has no split 'test': choose one of train, validation"):
        load_domain("streets:game#test", "source")


def test_a_size_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="a street of 16x64 pixels is too small, 32 is the least"):
        load_domain("streets:game:16x64", "source")
