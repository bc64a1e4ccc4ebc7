"""The built-in pair of domains: procedural street scenes in the style of a game and in the style of a real camera.

Nothing is stored or downloaded. A scene is drawn from its style, split and index alone: `scene` lays it out in
metres, `geometry` looks at it, and `appearance` takes the picture.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from mfm_hf.data.streets import layout, look
from mfm_hf.data.streets.appearance import render
from mfm_hf.data.streets.geometry import LABELS, look_at
from mfm_hf.data.streets.scene import lay_out

Style = Literal["game", "real"]
STREETS_SPLITS = {"train": 2975, "validation": 500}
"""Number of scenes by split, as many as Cityscapes has images."""
MIN_SIZE = 32  # pixels; below it nobody recognises a street

_DOMAINS = {
    "game": (layout.GAME, look.GAME),
    "real": (layout.REAL, look.REAL),
}


def draw_street(style: Style, split: str, index: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street scene. The same style, split and index give the same street at every size.

    Args:
        style: "game" (clean and saturated) or "real" (grey, textured, noisy, in changing light).
        split: "train" or "validation"; their scenes never coincide.
        index: number of the scene within its split, from 0 to `STREETS_SPLITS[split] - 1`.
        height, width: size of the image in pixels, at least 32 each.

    Returns:
        The image, uint8 (H, W, 3) in RGB, and its label map, uint8 (H, W) with the train ids of Cityscapes and 255 for
        the few pixels of no class.

    Raises:
        ValueError: an unknown style or split, an index outside the split, or a size that is too small.
    """
    _check(style, split, index, height, width)
    layout, look = _DOMAINS[style]
    key = (get_args(Style).index(style), list(STREETS_SPLITS).index(split), index)
    camera, shapes = lay_out(layout, np.random.default_rng((*key, 0)))
    surfaces = look_at(shapes, camera, height, width)
    labels = np.array([LABELS["sky"], *(shape.label for shape in shapes)], np.uint8)
    image = render(look, shapes, camera, surfaces, np.random.default_rng((*key, 1)))
    return image, labels[surfaces.ids]


def _check(style: str, split: str, index: int, height: int, width: int) -> None:
    if style not in _DOMAINS:
        raise ValueError(f"Unknown streets style '{style}'; choose one of {', '.join(_DOMAINS)}.")
    if split not in STREETS_SPLITS:
        raise ValueError(f"Unknown streets split '{split}'; choose one of {', '.join(STREETS_SPLITS)}.")
    if not 0 <= index < STREETS_SPLITS[split]:
        raise ValueError(
            f"Scene {index} is outside streets split '{split}'; choose an index from 0 to {STREETS_SPLITS[split] - 1}."
        )
    if height < MIN_SIZE or width < MIN_SIZE:
        raise ValueError(
            f"A street of {height}x{width} pixels is too small; make height and width at least {MIN_SIZE}."
        )
