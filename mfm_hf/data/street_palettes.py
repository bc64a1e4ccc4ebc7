"""The colours and surface textures of the two built-in domains: clean and saturated, or grey, dark and varied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mfm_hf.data.street_geometry import Material
from mfm_hf.data.street_geometry import Material as M

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """The colours of M materials, each of which has one or more.

    Attributes:
        colors: float32 (M, K, 3) from 0 to 1; what lies beyond the number of a material is zero.
        counts: int (M,), how many colours each material has. The sky has a black one: it is painted otherwise.
    """

    colors: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, colors: Mapping[Material, tuple[Color, ...]]) -> Palette:
        """The palette of 8-bit RGB colours for every material but the sky."""
        counts = np.ones(len(Material), np.int64)
        table = np.zeros((len(Material), max(map(len, colors.values())), 3), np.float32)
        for material, choices in colors.items():
            counts[material] = len(choices)
            table[material, : len(choices)] = choices
        return cls(table / 255, counts)


GAME_PALETTE = Palette.of(
    {
        M.ASPHALT: ((98, 100, 108),),
        M.MARKING: ((245, 245, 240),),
        M.RAIL: ((60, 62, 70),),
        M.PAVING: ((196, 186, 168),),
        M.KERB: ((222, 216, 204),),
        M.GRASS: ((112, 186, 70),),
        M.SHADOW: ((52, 54, 62),),
        M.FACADE: (
            (226, 178, 140),
            (214, 120, 92),
            (236, 214, 160),
            (168, 190, 214),
            (206, 150, 170),
            (190, 200, 176),
            (240, 226, 204),
            (150, 130, 170),
        ),
        M.SHOP: ((150, 90, 70), (80, 110, 150), (120, 140, 100), (170, 150, 120), (130, 80, 110)),
        M.CORNICE: ((250, 242, 228), (196, 90, 70), (90, 130, 180), (240, 200, 110)),
        M.ROOF: ((190, 84, 58), (150, 70, 60), (100, 104, 124)),
        M.WALL: ((206, 196, 184), (190, 130, 104), (176, 176, 190)),
        M.FENCE: ((130, 96, 70), (90, 96, 110), (230, 230, 226)),
        M.STEEL: ((150, 154, 164),),
        M.CASING: ((40, 42, 46),),
        M.LAMP_RED: ((255, 50, 40),),
        M.LAMP_AMBER: ((255, 200, 40),),
        M.LAMP_GREEN: ((50, 240, 110),),
        M.SIGN: ((220, 30, 40), (225, 40, 40), (250, 205, 30), (30, 90, 220)),
        M.SIGN_WHITE: ((250, 250, 250),),
        M.LEAF: ((70, 160, 52), (92, 174, 58), (54, 140, 60), (120, 180, 60)),
        M.LEAF_LIT: ((104, 192, 70), (126, 204, 80), (84, 172, 80), (150, 206, 80)),
        M.LEAF_DARK: ((44, 118, 42), (58, 130, 46), (36, 104, 50), (80, 134, 46)),
        M.BARK: ((120, 84, 56), (104, 80, 62)),
        M.SKIN: ((240, 196, 164), (206, 150, 112), (132, 88, 64)),
        M.HAIR: ((60, 40, 30), (30, 28, 30), (150, 110, 60), (100, 60, 40)),
        M.CLOTH: (
            (220, 60, 60),
            (60, 110, 210),
            (240, 200, 70),
            (80, 180, 120),
            (240, 240, 240),
            (160, 70, 170),
            (250, 140, 50),
        ),
        M.TROUSERS: ((50, 70, 130), (60, 60, 70), (130, 110, 90), (40, 44, 56)),
        M.PAINT: (
            (210, 40, 44),
            (40, 90, 200),
            (240, 240, 244),
            (250, 190, 30),
            (40, 160, 120),
            (36, 38, 44),
            (180, 186, 196),
            (240, 120, 40),
        ),
        M.BUS_PAINT: ((250, 190, 30), (220, 50, 50), (60, 160, 90)),
        M.TRAM_PAINT: ((70, 190, 180), (240, 236, 220), (140, 80, 180)),
        M.CARGO: ((244, 244, 240), (120, 170, 220), (230, 200, 150)),
        M.GLASS: ((58, 84, 112),),
        M.TYRE: ((34, 34, 38),),
        M.SPOKES: ((166, 168, 172),),
        M.TRIM: ((86, 88, 96),),
        M.TAIL_LIGHT: ((230, 30, 40),),
        M.HEAD_LIGHT: ((255, 250, 220),),
        M.BIN: ((90, 110, 90), (110, 110, 120)),
        M.BONNET: ((60, 60, 66),),
    }
)
REAL_PALETTE = Palette.of(
    {
        M.ASPHALT: ((103, 102, 101), (89, 89, 90), (117, 114, 111)),
        M.MARKING: ((202, 200, 192), (186, 183, 175)),
        M.RAIL: ((65, 62, 61),),
        M.PAVING: ((145, 138, 131), (133, 130, 127), (152, 140, 129)),
        M.KERB: ((164, 160, 153),),
        M.GRASS: ((94, 109, 58), (105, 110, 65), (84, 103, 56)),
        M.SHADOW: ((41, 42, 44),),
        M.FACADE: (
            (171, 157, 140),
            (148, 127, 113),
            (190, 180, 166),
            (137, 130, 127),
            (165, 136, 113),
            (146, 109, 92),
            (195, 180, 150),
            (156, 155, 157),
            (123, 106, 96),
        ),
        M.SHOP: ((81, 75, 73), (97, 88, 80), (68, 72, 77), (107, 95, 84)),
        M.CORNICE: ((146, 138, 127), (120, 108, 99), (102, 94, 90)),
        M.ROOF: ((109, 74, 62), (90, 74, 70), (84, 79, 84)),
        M.WALL: ((134, 126, 118), (127, 101, 88), (144, 140, 135), (114, 110, 104)),
        M.FENCE: ((92, 84, 74), (81, 84, 83), (117, 112, 104), (71, 78, 71)),
        M.STEEL: ((110, 112, 111), (92, 94, 95), (125, 126, 124)),
        M.CASING: ((38, 38, 37),),
        M.LAMP_RED: ((233, 68, 54),),
        M.LAMP_AMBER: ((235, 179, 66),),
        M.LAMP_GREEN: ((90, 210, 154),),
        M.SIGN: ((168, 42, 44), (154, 50, 48), (206, 166, 62), (52, 84, 150)),
        M.SIGN_WHITE: ((217, 215, 210),),
        M.LEAF: ((66, 86, 46), (79, 95, 51), (58, 79, 49), (91, 102, 54), (103, 104, 53)),
        M.LEAF_LIT: ((95, 115, 62), (107, 122, 67), (83, 104, 64), (121, 129, 71), (132, 127, 67)),
        M.LEAF_DARK: ((42, 59, 34), (49, 64, 37), (36, 53, 35), (58, 69, 39), (66, 71, 39)),
        M.BARK: ((75, 63, 51), (87, 75, 63)),
        M.SKIN: ((196, 155, 132), (167, 123, 98), (109, 79, 63)),
        M.HAIR: ((51, 41, 33), (37, 32, 29), (109, 88, 63), (116, 109, 103)),
        M.CLOTH: (
            (67, 65, 70),
            (83, 84, 100),
            (118, 70, 67),
            (134, 125, 114),
            (62, 72, 69),
            (171, 165, 158),
            (102, 89, 77),
        ),
        M.TROUSERS: ((47, 53, 70), (45, 45, 49), (82, 75, 68), (63, 67, 76)),
        M.PAINT: (
            (63, 62, 63),
            (124, 123, 123),
            (173, 171, 167),
            (52, 56, 75),
            (117, 46, 45),
            (48, 46, 45),
            (92, 93, 93),
            (147, 139, 126),
            (68, 79, 72),
        ),
        M.BUS_PAINT: ((176, 139, 60), (151, 67, 54), (127, 127, 111), (93, 108, 88)),
        M.TRAM_PAINT: ((113, 143, 143), (173, 170, 155), (124, 105, 138)),
        M.CARGO: ((182, 183, 178), (129, 141, 153), (158, 146, 125)),
        M.GLASS: ((47, 56, 63),),
        M.TYRE: ((30, 30, 30),),
        M.SPOKES: ((118, 119, 117),),
        M.TRIM: ((68, 69, 70),),
        M.TAIL_LIGHT: ((168, 42, 42),),
        M.HEAD_LIGHT: ((219, 217, 199),),
        M.BIN: ((74, 82, 74), (86, 85, 83)),
        M.BONNET: ((48, 49, 52),),
    }
)
