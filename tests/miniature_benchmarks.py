"""Miniature downloads of the benchmarks: the folders, names and encodings of the real ones, images of 16 x 16 pixels.

Where a label holds ids, it holds all of them, 0 to 255.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

ALL_IDS = np.arange(256, dtype=np.uint8).reshape(16, 16)
TRAIN_IDS = np.where(ALL_IDS < 19, ALL_IDS, 255).astype(np.uint8)


def _grey(ids, path):
    Image.fromarray(ids).save(path)


def _palette(ids, path):
    image = Image.fromarray(ids)
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(path)


def _red_of_16_bits(ids, path):
    """As SYNTHIA's: three channels of 16 bits, red the id, green the instance. Pillow cannot write it."""
    pixels = np.zeros((*ids.shape, 3), ">u2")
    pixels[..., 0], pixels[..., 1] = ids, 257 * (ids + 1.0)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)  # 0: stored without a filter
    header = struct.pack(">IIBBBBB", *ids.shape[::-1], 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    content = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))


_FRAMES = {"train": "GOPR0475_frame_000041", "val": "GOPR0476_frame_000161", "test": "GP010476_frame_000071"}
_WEATHER = ("fog", "night", "rain", "snow")

# Of each: the images, of which some are not asked for, and the labels with what they hold and what writes it.
IMAGES = {
    "gta": ["images/00001.png", "images/00002.png"],
    "synthia": ["RGB/0000000.png", "RGB/0000001.png"],
    "cityscapes": [
        "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png",
        "leftImg8bit/train/bochum/bochum_000000_000313_leftImg8bit.png",
        "leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png",
        "leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png",
    ],
    "acdc": [
        f"rgb_anon/{weather}/{folder}/{frame[:8]}/{frame}_{kind}.png"
        for weather in _WEATHER
        for split, frame in _FRAMES.items()
        for folder, kind in ((split, "rgb_anon"), (f"{split}_ref", "rgb_ref_anon"))
    ],
    "dark_zurich": [
        "rgb_anon/train/night/GOPR0345/GOPR0345_frame_000001_rgb_anon.png",
        "rgb_anon/train/twilight/GOPR0347/GOPR0347_frame_000001_rgb_anon.png",
        "rgb_anon/train/day/GOPR0348/GOPR0348_frame_000001_rgb_anon.png",
        "rgb_anon/val/night/GOPR0356/GOPR0356_frame_000321_rgb_anon.png",
        "rgb_anon/val_ref/day/GOPR0356_ref/GOPR0356_frame_000321_ref_rgb_anon.png",
        "rgb_anon/test/night/GOPR0364/GOPR0364_frame_000004_rgb_anon.png",
    ],
    "bdd100k": [
        "images/10k/train/0004a4c0-d4dff0ad.jpg",
        "images/10k/val/7d06fefd-f7be05a6.jpg",
        "images/10k/test/ac6d4f42-00000000.jpg",
    ],
    "mapillary": [
        "training/images/__CRyFzoDOXn6unQ6a3DnQ.jpg",
        "validation/images/_1Gn_xkw7sa_i9GU4mkxxQ.jpg",
        "testing/images/__OHEMmpYcTy8zqMVLNFRg.jpg",
    ],
}
_TRAIN_IDS, _ALL_IDS = (TRAIN_IDS, _grey), (ALL_IDS, _grey)
LABELS = {
    "gta": {path.replace("images", "labels"): (ALL_IDS, _palette) for path in IMAGES["gta"]},
    "synthia": {path.replace("RGB", "GT/LABELS"): (ALL_IDS, _red_of_16_bits) for path in IMAGES["synthia"]},
    "cityscapes": {
        path.replace("leftImg8bit/", "gtFine/").replace("leftImg8bit", f"gtFine_{kind}"): (ALL_IDS, _grey)
        for path in IMAGES["cityscapes"]
        for kind in ("labelIds", "instanceIds", "color")
    },
    "acdc": {
        path.replace("rgb_anon/", "gt/").replace("rgb_anon", f"gt_{kind}"): label
        for path in IMAGES["acdc"]
        if "/test" not in path
        for kind, label in (("labelTrainIds", _TRAIN_IDS), ("labelIds", _ALL_IDS), ("labelColor", _ALL_IDS))
    },
    "dark_zurich": {
        f"gt/val/night/GOPR0356/GOPR0356_frame_000321_gt_{kind}.png": label
        for kind, label in (("labelTrainIds", _TRAIN_IDS), ("labelIds", _ALL_IDS), ("labelColor", _ALL_IDS))
    },
    "bdd100k": {
        path.replace("images/10k", "labels/sem_seg/masks").replace("jpg", "png"): _TRAIN_IDS
        for path in IMAGES["bdd100k"][:2]
    },
    "mapillary": {
        path.replace("images", f"{version}/labels").replace("jpg", "png"): label
        for path in IMAGES["mapillary"][:2]
        for version, label in (("v1.2", (ALL_IDS, _palette)), ("v2.0", (ALL_IDS[::-1], _palette)))
    },
}


def write_benchmark(prefix: str, root: Path) -> Path:
    """Write the miniature download of a benchmark, and return its folder."""
    rng = np.random.default_rng(0)
    for name in IMAGES[prefix]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / name)
    for name, (ids, save) in LABELS[prefix].items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save(ids, root / name)
    return root
