"""Where the downloads of the benchmarks keep what, and how the papers use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mfm_hf.data.benchmarks.label_ids import (
    CITYSCAPES_IDS,
    GTA_IDS,
    MAPILLARY_IDS,
    SYNTHIA_IDS,
    TRAIN_IDS,
    IdTable,
)
from mfm_hf.data.benchmarks.synthia_labels import SynthiaLabelReader
from mfm_hf.data.domain import PaperSetting
from mfm_hf.data.label_files import LabelReader


@dataclass(frozen=True)
class LabelFiles:
    """One kind of label files. Its folder and suffix are as those of the images, see `Layout`.

    Attributes:
        folder, suffix: Where the files lie, and how their names end.
        ids: What stands in them.
        ignore_others: Whether pixels of other ids have no class. If not, such a file is refused.
        reader: What reads them.
    """

    folder: str
    suffix: str
    ids: IdTable
    ignore_others: bool = True
    reader: type[LabelReader] = LabelReader


@dataclass(frozen=True)
class Split:
    """A split of a benchmark.

    Attributes:
        folder: What its folder is called.
        num_examples: By condition, the images of a whole download. A benchmark without conditions has the one "".
        labelled: Whether its labels are published.
    """

    folder: str
    num_examples: Mapping[str, int]
    labelled: bool = True


@dataclass(frozen=True)
class Layout:
    """The download of a benchmark.

    Attributes:
        title: What people call it.
        images: The folder of the images, with `{split}` and `{condition}` in it; they may lie in folders below it.
        image_suffix: How the names of the images end. An image and its label have the same path up to their suffixes.
        labels: Kinds of label files, the best first.
        splits: The splits by the names that they have here.
        paper: How the papers use it. The number of examples is not in it, but in the splits.
        conditions: The conditions of weather or light that are taken if the user names none.
        labels_vary_in_size: Whether some labels have another size than their image. They are resized to it.
    """

    title: str
    images: str
    image_suffix: str
    labels: tuple[LabelFiles, ...]
    splits: Mapping[str, Split]
    paper: PaperSetting
    conditions: tuple[str, ...] = ("",)
    labels_vary_in_size: bool = False

    @property
    def all_conditions(self) -> tuple[str, ...]:
        """The conditions of any split, without ""."""
        named = {condition: None for split in self.splits.values() for condition in split.num_examples}
        return tuple(condition for condition in named if condition)


def _train_ids(folder: str, suffix: str) -> LabelFiles:
    return LabelFiles(folder, suffix, TRAIN_IDS, ignore_others=False)


# Sizes and margins: the configurations of lhoyer/DAFormer (half) and lhoyer/HRDA and lhoyer/MIC (full).
_ADVERSE = PaperSetting(half_box=(960, 540), full_box=(1920, 1080))
# The papers have none for these. As wide as theirs of GTA, and high enough for crops from 16:9 and from 4:3.
_AS_WIDE_AS_GTA = PaperSetting(half_box=(1280, 960), full_box=(2560, 1920))

_WEATHER = ("fog", "night", "rain", "snow")

LAYOUTS: Mapping[str, Layout] = {
    "gta": Layout(
        title="GTA",
        images="images",
        image_suffix=".png",
        labels=(LabelFiles("labels", ".png", GTA_IDS),),
        splits={"train": Split("", {"": 24966})},  # its authors split it in three, the papers of the field train on all
        paper=PaperSetting(half_box=(1280, 720), full_box=(2560, 1440)),
        labels_vary_in_size=True,
    ),
    "synthia": Layout(
        title="SYNTHIA",
        images="RGB",
        image_suffix=".png",
        labels=(LabelFiles("GT/LABELS", ".png", SYNTHIA_IDS, reader=SynthiaLabelReader),),
        splits={"train": Split("", {"": 9400})},
        paper=PaperSetting(half_box=(1280, 760), full_box=(2560, 1520)),
    ),
    "cityscapes": Layout(
        title="Cityscapes",
        images="leftImg8bit/{split}",
        image_suffix="_leftImg8bit.png",
        labels=(
            _train_ids("gtFine/{split}", "_gtFine_labelTrainIds.png"),
            LabelFiles("gtFine/{split}", "_gtFine_labelIds.png", CITYSCAPES_IDS),
        ),
        splits={
            "train": Split("train", {"": 2975}),
            "validation": Split("val", {"": 500}),
            "test": Split("test", {"": 1525}, labelled=False),
        },
        paper=PaperSetting(
            half_box=(1024, 512), full_box=(2048, 1024), margins=(30, 240, 30, 30), margins_size=(1024, 2048)
        ),
    ),
    "acdc": Layout(
        title="ACDC",
        images="rgb_anon/{condition}/{split}",
        image_suffix="_rgb_anon.png",
        labels=(
            _train_ids("gt/{condition}/{split}", "_gt_labelTrainIds.png"),
            LabelFiles("gt/{condition}/{split}", "_gt_labelIds.png", CITYSCAPES_IDS),
        ),
        splits={
            "train": Split("train", dict.fromkeys(_WEATHER, 400)),
            "validation": Split("val", dict.fromkeys(_WEATHER, 100) | {"night": 106}),
            "test": Split("test", dict.fromkeys(_WEATHER, 500), labelled=False),
        },
        paper=_ADVERSE,
        conditions=_WEATHER,
    ),
    "dark_zurich": Layout(
        title="Dark Zurich",
        images="rgb_anon/{split}/{condition}",
        image_suffix="_rgb_anon.png",
        labels=(
            _train_ids("gt/{split}/{condition}", "_gt_labelTrainIds.png"),
            LabelFiles("gt/{split}/{condition}", "_gt_labelIds.png", CITYSCAPES_IDS),
        ),
        splits={
            "train": Split("train", {"night": 2416, "twilight": 2920, "day": 3041}, labelled=False),
            "validation": Split("val", {"night": 50}),
            "test": Split("test", {"night": 151}, labelled=False),
        },
        paper=_ADVERSE,
        conditions=("night",),
    ),
    "bdd100k": Layout(
        title="BDD100K",
        images="images/10k/{split}",
        image_suffix=".jpg",
        labels=(_train_ids("labels/sem_seg/masks/{split}", ".png"),),
        splits={
            "train": Split("train", {"": 7000}),
            "validation": Split("val", {"": 1000}),
            "test": Split("test", {"": 2000}, labelled=False),
        },
        paper=_AS_WIDE_AS_GTA,
    ),
    "mapillary": Layout(
        title="Mapillary Vistas",
        images="{split}/images",
        image_suffix=".jpg",
        labels=(
            LabelFiles("{split}/v1.2/labels", ".png", MAPILLARY_IDS),
            LabelFiles("{split}/labels", ".png", MAPILLARY_IDS),
        ),
        splits={
            "train": Split("training", {"": 18000}),
            "validation": Split("validation", {"": 2000}),
            "test": Split("testing", {"": 5000}, labelled=False),
        },
        paper=_AS_WIDE_AS_GTA,
    ),
}
"""The layouts by the prefix that names them in the string of a domain."""
