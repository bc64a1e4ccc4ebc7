import struct

import numpy as np
import pytest
from PIL import Image

from mfm_hf.data.domain import BadExampleError
from mfm_hf.data.image_files import read_image


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    ("mode", "channels", "suffix"),
    [("L", (0, 0, 0), "png"), ("LA", (0, 0, 0), "png"), ("RGB", (0, 1, 2), "bmp"), ("RGBA", (0, 1, 2), "png")],
)
def test_grey_is_repeated_and_alpha_dropped(tmp_path, pixels, mode, channels, suffix):
    own = pixels[..., : len(mode)].squeeze() if mode != "LA" else pixels[..., [0, 3]]
    image = Image.fromarray(own)
    assert image.mode == mode
    image.save(tmp_path / f"image.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"image.{suffix}"), pixels[..., channels])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_of_16_bits_the_upper_8_are_kept(tmp_path, suffix):
    deep = np.array([[0, 255, 256, 0x1234, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / f"image.{suffix}")
    assert read_image(tmp_path / f"image.{suffix}")[0].tolist() == [[v] * 3 for v in (0, 0, 1, 0x12, 255)]


def test_palettes_and_printers_colours(tmp_path):
    image = Image.new("RGB", (4, 4), (10, 200, 30))
    image.quantize(2).save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").tolist() == np.asarray(image).tolist()
    image.convert("CMYK").save(tmp_path / "printed.tif")
    assert read_image(tmp_path / "printed.tif").tolist() == np.asarray(image).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_known_range_are_refused(tmp_path, dtype):
    Image.fromarray(np.full((4, 4), 70_000, dtype)).save(tmp_path / "image.tif")
    with pytest.raises(
        BadExampleError, match=r"pixels of .*image\.tif are neither 8-bit nor 16-bit \(mode [FI]\): save"
    ):
        read_image(tmp_path / "image.tif")


def tiff(height, width, channels):
    """A black TIFF as its specification has it, written without Pillow."""
    data = bytes(height * width * channels)
    fields = [
        *[(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)],
        *[(277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(data))],
    ]
    directory = struct.pack("<H", len(fields)) + b"".join(struct.pack("<HHII", *field) for field in fields)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + struct.pack("<I", 0)


def test_another_number_of_channels_is_refused(tmp_path):
    (tmp_path / "image.tif").write_bytes(tiff(4, 6, channels=1))
    assert read_image(tmp_path / "image.tif").shape == (4, 6, 3)
    (tmp_path / "image.tif").write_bytes(tiff(4, 6, channels=5))
    with pytest.raises(BadExampleError, match=r"cannot read .*image\.tif"):
        read_image(tmp_path / "image.tif")
