"""The colours and surface textures of the two built-in domains: clean and saturated, or grey, dark and varied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mfm_hf.data.streets.geometry import Material
from mfm_hf.data.streets.geometry import Material as M

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
        M.ASPHALT: ((99, 100, 107),),
        M.MARKING: ((239, 239, 234),),
        M.RAIL: ((61, 62, 69),),
        M.PAVING: ((190, 180, 164),),
        M.KERB: ((215, 210, 198),),
        M.GRASS: ((110, 177, 69),),
        M.SHADOW: ((51, 53, 60),),
        M.FACADE: (
            (219, 174, 138),
            (208, 122, 95),
            (228, 206, 156),
            (166, 185, 205),
            (201, 149, 165),
            (186, 194, 171),
            (231, 217, 196),
            (150, 131, 165),
        ),
        M.SHOP: ((143, 89, 70), (80, 107, 142), (116, 134, 97), (161, 143, 115), (125, 80, 106)),
        M.CORNICE: ((236, 228, 215), (188, 92, 73), (92, 128, 172), (227, 191, 109)),
        M.ROOF: ((180, 83, 59), (144, 70, 61), (99, 101, 119)),
        M.WALL: ((198, 188, 176), (183, 128, 104), (171, 170, 181)),
        M.FENCE: ((125, 95, 71), (89, 95, 107), (215, 215, 211)),
        M.STEEL: ((145, 149, 158),),
        M.CASING: ((40, 42, 46),),
        M.LAMP_RED: ((252, 52, 42),),
        M.LAMP_AMBER: ((253, 198, 43),),
        M.LAMP_GREEN: ((55, 237, 115),),
        M.SIGN: ((220, 30, 40), (225, 40, 40), (250, 205, 30), (30, 90, 220)),
        M.SIGN_WHITE: ((246, 246, 245),),
        M.LEAF: ((71, 152, 52), (91, 165, 57), (56, 134, 59), (116, 170, 59)),
        M.LEAF_LIT: ((104, 184, 69), (124, 195, 78), (86, 166, 78), (146, 196, 78)),
        M.LEAF_DARK: ((45, 112, 41), (57, 123, 45), (37, 99, 49), (77, 126, 45)),
        M.BARK: ((116, 82, 56), (101, 79, 62)),
        M.SKIN: ((231, 188, 157), (201, 147, 110), (134, 91, 67)),
        M.HAIR: ((62, 43, 33), (35, 32, 33), (143, 106, 60), (98, 61, 42)),
        M.CLOTH: (
            (208, 63, 63),
            (64, 108, 198),
            (226, 189, 72),
            (82, 171, 117),
            (226, 225, 225),
            (154, 72, 162),
            (235, 135, 54),
        ),
        M.TROUSERS: ((51, 69, 123), (60, 60, 69), (123, 105, 87), (42, 45, 57)),
        M.PAINT: (
            (198, 44, 48),
            (45, 89, 189),
            (225, 224, 228),
            (234, 179, 36),
            (45, 152, 117),
            (41, 43, 48),
            (171, 176, 185),
            (225, 116, 45),
        ),
        M.BUS_PAINT: ((238, 182, 35), (211, 56, 53), (67, 155, 89)),
        M.TRAM_PAINT: ((76, 185, 176), (229, 226, 212), (139, 86, 176)),
        M.CARGO: ((235, 235, 230), (123, 168, 212), (222, 195, 149)),
        M.GLASS: ((57, 81, 106),),
        M.TYRE: ((34, 34, 38),),
        M.SPOKES: ((161, 162, 166),),
        M.TRIM: ((84, 86, 93),),
        M.TAIL_LIGHT: ((223, 31, 40),),
        M.HEAD_LIGHT: ((251, 246, 218),),
        M.BIN: ((89, 107, 88), (107, 107, 116)),
        M.BONNET: ((59, 59, 64),),
    }
)
REAL_PALETTE = Palette.of(
    {
        M.ASPHALT: ((101, 101, 103), (92, 92, 96), (111, 109, 110)),
        M.MARKING: ((217, 215, 209), (206, 204, 197)),
        M.RAIL: ((63, 62, 64),),
        M.PAVING: ((179, 170, 155), (174, 167, 154), (181, 170, 155)),
        M.KERB: ((202, 197, 187),),
        M.GRASS: ((106, 160, 66), (110, 160, 68), (102, 158, 65)),
        M.SHADOW: ((45, 46, 50),),
        M.FACADE: (
            (182, 163, 148),
            (167, 144, 131),
            (195, 178, 166),
            (160, 146, 140),
            (178, 149, 131),
            (166, 132, 117),
            (198, 178, 155),
            (173, 162, 160),
            (151, 130, 119),
        ),
        M.SHOP: ((98, 88, 86), (108, 97, 90), (89, 86, 88), (115, 101, 93)),
        M.CORNICE: ((163, 147, 134), (145, 128, 115), (134, 118, 109)),
        M.ROOF: ((122, 78, 69), (109, 78, 73), (106, 81, 83)),
        M.WALL: ((153, 140, 132), (149, 124, 112), (160, 149, 143), (140, 129, 123)),
        M.FENCE: ((112, 103, 95), (105, 103, 101), (128, 122, 115), (98, 100, 93)),
        M.STEEL: ((123, 126, 129), (112, 115, 119), (134, 135, 137)),
        M.CASING: ((38, 38, 37),),
        M.LAMP_RED: ((240, 62, 49),),
        M.LAMP_AMBER: ((242, 186, 57),),
        M.LAMP_GREEN: ((77, 220, 139),),
        M.SIGN: ((168, 42, 44), (154, 50, 48), (206, 166, 62), (52, 84, 150)),
        M.SIGN_WHITE: ((228, 227, 223),),
        M.LEAF: ((78, 137, 53), (82, 140, 55), (75, 135, 55), (86, 143, 56), (91, 143, 56)),
        M.LEAF_LIT: ((109, 167, 72), (113, 169, 74), (105, 163, 73), (118, 171, 75), (121, 171, 74)),
        M.LEAF_DARK: ((50, 100, 42), (53, 102, 43), (48, 98, 42), (56, 104, 44), (59, 104, 44)),
        M.BARK: ((88, 69, 54), (96, 77, 62)),
        M.SKIN: ((195, 151, 125), (176, 130, 103), (138, 101, 80)),
        M.HAIR: ((62, 47, 35), (53, 41, 33), (101, 78, 55), (105, 92, 82)),
        M.CLOTH: (
            (105, 91, 91),
            (116, 104, 111),
            (139, 95, 89),
            (149, 131, 120),
            (102, 96, 90),
            (174, 157, 149),
            (128, 108, 96),
        ),
        M.TROUSERS: ((55, 59, 76), (54, 54, 62), (78, 74, 75), (65, 68, 79)),
        M.PAINT: (
            (94, 86, 81),
            (134, 127, 120),
            (167, 158, 149),
            (87, 83, 89),
            (130, 76, 69),
            (85, 76, 69),
            (114, 107, 100),
            (150, 137, 122),
            (97, 98, 86),
        ),
        M.BUS_PAINT: ((176, 137, 59), (160, 90, 55), (144, 129, 92), (122, 116, 77)),
        M.TRAM_PAINT: ((126, 152, 160), (165, 169, 168), (133, 127, 157)),
        M.CARGO: ((188, 190, 186), (153, 163, 170), (171, 166, 152)),
        M.GLASS: ((51, 65, 80),),
        M.TYRE: ((30, 30, 30),),
        M.SPOKES: ((135, 136, 136),),
        M.TRIM: ((74, 75, 79),),
        M.TAIL_LIGHT: ((189, 38, 41),),
        M.HEAD_LIGHT: ((231, 228, 206),),
        M.BIN: ((83, 91, 85), (91, 94, 90)),
        M.BONNET: ((52, 52, 57),),
    }
)
