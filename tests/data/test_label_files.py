import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.data.domain import BadExampleError
from mfm_hf.data.label_files import LabelReader

COLORS = {color: train_id for train_id, color in enumerate(CITYSCAPES.colors)}
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def png(pixels, color_type, bits=8, palette=None):
    """A PNG as its specification has it, written without Pillow. `pixels`: `(height, width)` or with channels."""
    height, width = pixels.shape[:2]
    channels = pixels.reshape(height, -1)
    if bits < 8:
        powers = 1 << np.arange(bits - 1, -1, -1)
        lines = [np.packbits((line[:, None] & powers > 0).ravel()).tobytes() for line in channels]
    else:
        lines = [line.astype(f">u{bits // 8}").tobytes() for line in channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))]
    if palette is not None:
        chunks.append((b"PLTE", np.array(palette, np.uint8).tobytes()))
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines))), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def read(reader, data):
    with Image.open(io.BytesIO(data)) as image:
        return reader.decode(image, "town/00.png")


@pytest.fixture
def ids():
    return np.random.default_rng(0).integers(0, 19, (12, 17), dtype=np.uint8)


# Ids


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_ids_in_greyscale_of_every_depth(bits):
    num_classes = min(2**bits, 300)
    ids = np.random.default_rng(0).integers(0, num_classes, (12, 17))
    np.testing.assert_array_equal(read(LabelReader(num_classes, 65535), png(ids, GREY, bits)), ids)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_ids_as_indices_of_a_palette(bits):
    num_classes = min(2**bits, 19)
    ids = np.random.default_rng(0).integers(0, num_classes, (12, 17))
    data = png(ids, PALETTE, bits, CITYSCAPES.colors[:num_classes])
    np.testing.assert_array_equal(read(LabelReader(num_classes), data), ids)


def test_ids_beside_alpha(ids):
    np.testing.assert_array_equal(
        read(LabelReader(19), png(np.stack([ids, np.full_like(ids, 7)], axis=2), GREY_ALPHA)), ids
    )


@pytest.mark.parametrize(
    ("num_classes", "ignore_index", "dtype"),
    [(19, 255, np.uint8), (254, 254, np.uint8), (255, 255, np.int32), (19, -100, np.int32), (19, 65535, np.int32)],
)
def test_labels_are_small_where_they_can_be(num_classes, ignore_index, dtype, ids):
    label = read(LabelReader(num_classes, ignore_index), png(ids, GREY, 16))
    assert label.dtype == dtype
    np.testing.assert_array_equal(label, ids)


def test_the_ignore_index_stands_for_itself():
    ids = np.array([[0, 2, 255]])
    assert read(LabelReader(3), png(ids, GREY)).tolist() == [[0, 2, 255]]
    assert read(LabelReader(3, ids={2: 0, 0: None, 5: 1}), png(ids, GREY)).tolist() == [[255, 0, 255]]
    assert read(LabelReader(3, ids={2: 0, 0: 1, 255: 2}), png(ids, GREY)).tolist() == [[1, 0, 2]]
    assert read(LabelReader(3, ignore_index=0), png(ids[:, :2], GREY)).tolist() == [[0, 2]]


def test_ids_of_an_annotation_become_train_ids():
    ids = np.array([[7, 8, 11], [26, 40_000, 7]])
    reader = LabelReader(3, ids={7: 0, 8: 1, 26: 1, 40_000: 2, 11: None})
    assert read(reader, png(ids, GREY, 16)).tolist() == [[0, 1, 255], [1, 2, 0]]


def test_other_ids_can_be_ignored():
    ids = np.array([[7, 8, 11, 255]])
    assert read(LabelReader(2, ids={8: 1, 7: 0}, ignore_others=True), png(ids, GREY)).tolist() == [[0, 1, 255, 255]]


def test_ids_of_a_picture_that_was_read_elsewhere():
    ids = np.array([[3, 70_000]])
    with pytest.raises(BadExampleError, match="x holds ids from 3 to 70000: use 0 to 65535"):
        LabelReader(5).from_ids(ids, "x")
    with pytest.raises(BadExampleError, match="x holds ids from -3 to 3"):
        LabelReader(5).from_ids(np.array([[-3, 3]]), "x")
    assert LabelReader(5).from_ids(ids[:, :1], "x").tolist() == [[3]]


# Colours


@pytest.mark.parametrize("color_type", [RGB, RGBA, PALETTE])
def test_colours_become_train_ids(color_type, ids):
    colors = np.array(CITYSCAPES.colors, np.uint8)
    if color_type == PALETTE:
        # In another order than the classes, so that an index cannot pass for a train id.
        data = png(18 - ids, PALETTE, palette=colors[::-1])
    else:
        alpha = np.random.default_rng(1).integers(0, 256, (12, 17, 1))
        data = png(np.concatenate([colors[ids], alpha], axis=2)[:, :, : 3 if color_type == RGB else 4], color_type)
    label = read(LabelReader(19, colors=COLORS), data)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, ids)


@pytest.mark.parametrize("bits", [1, 8])
def test_black_and_white_may_be_stored_as_grey(bits):
    pixels = np.array([[0, 1, 1, 0]]) * (1 if bits == 1 else 255)
    reader = LabelReader(2, colors={(255, 255, 255): 0, (0, 0, 0): 1})
    assert read(reader, png(pixels, GREY, bits)).tolist() == [[1, 0, 0, 1]]


def test_several_colours_for_a_class_and_for_none():
    pixels = np.array([[[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]])
    reader = LabelReader(2, -100, colors={(0, 0, 1): 0, (1, 0, 0): 1, (0, 1, 0): 1, (0, 0, 0): None})
    assert read(reader, png(pixels, RGB)).tolist() == [[0, 1, 1, -100]]


def test_every_colour_can_be_a_class():
    values = np.arange(0, 1 << 24, 40_009)
    colors = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1)
    reader = LabelReader(len(values), 1000, colors={tuple(color): i for i, color in enumerate(colors.tolist())})
    assert read(reader, png(colors[None], RGB)).tolist() == [list(range(len(values)))]


def test_other_colours_can_be_ignored():
    reader = LabelReader(1, colors={(1, 2, 3): 0}, ignore_others=True)
    assert read(reader, png(np.array([[[1, 2, 3], [3, 2, 1]]]), RGB)).tolist() == [[0, 255]]


def test_a_reader_goes_to_workers_without_its_table(ids):
    reader = LabelReader(19, colors=COLORS)
    label = read(reader, png(np.array(CITYSCAPES.colors)[ids], RGB))
    sent = pickle.dumps(reader)
    assert len(sent) < 10_000
    np.testing.assert_array_equal(read(pickle.loads(sent), png(np.array(CITYSCAPES.colors)[ids], RGB)), label)


# What is wrong with a label


@pytest.mark.parametrize(
    ("reader", "pixels", "color_type", "message"),
    [
        (
            LabelReader(3),
            np.array([[0, 3, 3, 9]]),
            GREY,
            r"label value 3 in town/00\.png \(pixels: 2\), but there are 3 classes and the ignore index is 255",
        ),
        (
            LabelReader(2, ids={7: 0, 8: 1}),
            np.array([[7, 8, 9, 9]]),
            GREY,
            r"label value 9 in town/00\.png \(pixels: 2\), which the label map does not list: add it to a class",
        ),
        (
            LabelReader(2, colors={(1, 2, 3): 0, (3, 2, 1): 1}),
            np.array([[[1, 2, 3], [200, 100, 50], [200, 100, 50]]]),
            RGB,
            r"colour \[200, 100, 50\] in town/00\.png \(pixels: 2\), which the label map does not list: add it",
        ),
        (
            LabelReader(2, colors={(1, 2, 3): 0, (3, 2, 1): 1}),
            np.array([[[1, 2, 3], [5, 5, 5], [5, 5, 5], [0, 0, 0], [9, 9, 9]]]),
            RGB,
            r"colour \[5, 5, 5\] in town/00\.png \(pixels: 2; and 2 more such colours\)",
        ),
        (LabelReader(3), np.zeros((2, 2, 3), int), RGB, r"00\.png is a colour picture \(mode RGB\): a label holds one"),
        (LabelReader(3), np.zeros((2, 2, 4), int), RGBA, r"is a colour picture \(mode RGBA\)"),
    ],
)
def test_what_is_not_listed_is_an_error(reader, pixels, color_type, message):
    with pytest.raises(BadExampleError, match=message):
        read(reader, png(pixels, color_type))


def test_16_bits_are_no_colour():
    with pytest.raises(BadExampleError, match=r"has no colours \(mode I.*, but the label map lists colours"):
        read(LabelReader(1, colors={(0, 0, 0): 0}), png(np.zeros((2, 2), int), GREY, 16))


@pytest.mark.parametrize("content", [b"", b"no image", png(np.zeros((4, 4), int), GREY)[:44]])
def test_a_file_that_cannot_be_read(tmp_path, content):
    (tmp_path / "label.png").write_bytes(content)
    with pytest.raises(BadExampleError, match=r"cannot read .*label\.png"):
        LabelReader(3).read(tmp_path / "label.png")


@pytest.mark.parametrize("color_type", [GREY, PALETTE, RGB])
def test_a_damaged_label_never_ends_in_another_error(color_type, ids, tmp_path):
    pixels = np.array(CITYSCAPES.colors)[ids] if color_type == RGB else ids
    whole, rng = (
        png(pixels, color_type, palette=CITYSCAPES.colors if color_type == PALETTE else None),
        np.random.default_rng(0),
    )
    reader, num_bad = LabelReader(19, colors=COLORS if color_type == RGB else None), 0
    for _ in range(100):
        damaged = bytearray(whole)
        for position in rng.integers(len(whole), size=3):
            damaged[position] = rng.integers(256)
        (tmp_path / "label.png").write_bytes(damaged)
        try:
            reader.read(tmp_path / "label.png")
        except BadExampleError:
            num_bad += 1
    assert num_bad > 50


def test_tables_that_contradict_each_other():
    with pytest.raises(ValueError, match="give one table, not both"):
        LabelReader(1, ids={1: 0}, colors={(0, 0, 0): 0})
    with pytest.raises(ValueError, match=r"--ignore_index 0 is also the number of a class.*leave it at 255"):
        LabelReader(2, 0, ids={1: 0, 2: 1})
