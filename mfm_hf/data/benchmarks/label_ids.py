"""The ids in the label files of the benchmarks, by the Cityscapes class that they stand for.

Ids that a table lacks have no class: their pixels are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

from mfm_hf.data.classes import CITYSCAPES, IGNORE_INDEX

IdTable = Mapping[int, int | None]
"""Id in the file -> train id, or None for pixels without a class."""


def _by_id(ids: Mapping[str, tuple[int, ...]]) -> IdTable:
    return {number: CITYSCAPES.label2id[name] for name, numbers in ids.items() for number in numbers}


TRAIN_IDS: IdTable = {train_id: train_id for train_id in CITYSCAPES.id2label} | {IGNORE_INDEX: None}
"""Files `*_labelTrainIds.png`, and the masks of BDD100K."""

# cityscapesScripts, helpers/labels.py, columns id and trainId. ACDC and Dark Zurich have the same ids.
CITYSCAPES_IDS: IdTable = _by_id(
    {
        "road": (7,),
        "sidewalk": (8,),
        "building": (11,),
        "wall": (12,),
        "fence": (13,),
        "pole": (17,),
        "traffic light": (19,),
        "traffic sign": (20,),
        "vegetation": (21,),
        "terrain": (22,),
        "sky": (23,),
        "person": (24,),
        "rider": (25,),
        "car": (26,),
        "truck": (27,),
        "bus": (28,),
        "train": (31,),
        "motorcycle": (32,),
        "bicycle": (33,),
    }
)

# The makers of GTA took the ids of Cityscapes over (lhoyer/DAFormer: tools/convert_datasets/gta.py).
GTA_IDS: IdTable = CITYSCAPES_IDS

# lhoyer/DAFormer: tools/convert_datasets/synthia.py. Terrain (16), truck (18) and train (20) have ids, which SYNTHIA's
# RAND-CITYSCAPES part never uses, so 16 classes are left.
SYNTHIA_IDS: IdTable = _by_id(
    {
        "road": (3,),
        "sidewalk": (4,),
        "building": (2,),
        "wall": (21,),
        "fence": (5,),
        "pole": (7,),
        "traffic light": (15,),
        "traffic sign": (9,),
        "vegetation": (6,),
        "terrain": (16,),
        "sky": (1,),
        "person": (10,),
        "rider": (17,),
        "car": (8,),
        "truck": (18,),
        "bus": (19,),
        "train": (20,),
        "motorcycle": (12,),
        "bicycle": (11,),
    }
)

# Vistas 1.2, 66 ids (lhoyer/HRDA: tools/convert_datasets/mapillary.py). Road takes in lane markings and manholes,
# sidewalk the curb, pole the utility pole, rider all who ride.
MAPILLARY_IDS: IdTable = _by_id(
    {
        "road": (13, 24, 41),
        "sidewalk": (2, 15),
        "building": (17,),
        "wall": (6,),
        "fence": (3,),
        "pole": (45, 47),
        "traffic light": (48,),
        "traffic sign": (50,),
        "vegetation": (30,),
        "terrain": (29,),
        "sky": (27,),
        "person": (19,),
        "rider": (20, 21, 22),
        "car": (55,),
        "truck": (61,),
        "bus": (54,),
        "train": (58,),
        "motorcycle": (57,),
        "bicycle": (52,),
    }
)
