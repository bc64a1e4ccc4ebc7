"""The tables against the sources that they come from, id by id."""

import pytest

from mfm_hf.data.benchmarks.label_ids import CITYSCAPES_IDS, GTA_IDS, MAPILLARY_IDS, SYNTHIA_IDS, TRAIN_IDS

# As the converters of the reference implementations write them: id -> train id.
GTA = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14}
GTA |= {28: 15, 31: 16, 32: 17, 33: 18}
SYNTHIA = {3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9, 1: 10, 10: 11, 17: 12, 8: 13, 18: 14, 19: 15}
SYNTHIA |= {20: 16, 12: 17, 11: 18}
MAPILLARY = {13: 0, 24: 0, 41: 0, 2: 1, 15: 1, 17: 2, 6: 3, 3: 4, 45: 5, 47: 5, 48: 6, 50: 7, 30: 8, 29: 9, 27: 10}
MAPILLARY |= {19: 11, 20: 12, 21: 12, 22: 12, 55: 13, 61: 14, 54: 15, 58: 16, 57: 17, 52: 18}


@pytest.mark.parametrize(
    ("table", "expected"),
    [(GTA_IDS, GTA), (SYNTHIA_IDS, SYNTHIA), (MAPILLARY_IDS, MAPILLARY)],
    ids=["gta", "synthia", "mapillary"],
)
def test_every_id_has_the_train_id_of_the_reference(table, expected):
    assert {number: table.get(number) for number in range(256)} == {
        number: expected.get(number) for number in range(256)
    }


def test_cityscapes_ids_are_those_of_the_official_scripts():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels")
    official = {label.id: label.trainId for label in labels.labels if not label.ignoreInEval}
    assert len(official) == 19
    assert dict(CITYSCAPES_IDS) == official


def test_train_ids_stand_for_themselves():
    assert dict(TRAIN_IDS) == {**{number: number for number in range(19)}, 255: None}
