"""The README of a prepared dataset, by which `datasets` and the Hub find its splits."""

from __future__ import annotations

from mfm_hf.data.manifest import Manifest, PreparedSplit

CARD_FILE = "README.md"

_CARD = """\
---
task_categories:
- image-segmentation
tags:
- semantic-segmentation
- mfm_hf
configs:
- config_name: default
  data_files:
{data_files}
---
# Prepared images for semantic segmentation

Prepared with `mfm-hf prepare` from the domains below. The images keep the licence of their origin, which may forbid to
pass them on.

| Split | Examples | Made from | Images | Labels |
|---|---|---|---|---|
{splits}

Columns: `image`; `label`, one train id per pixel, {ignore_index} without a class; `name`; `class_pixels`, the pixels of
each class in the label before it was resized.

Classes: {classes}.
"""


def dataset_card(manifest: Manifest) -> str:
    """Return the text of the README: YAML with the files of each split, and what there is to know for a reader."""
    return _CARD.format(
        data_files="\n".join(f"  - split: {name}\n    path: {name}-*.parquet" for name in manifest.splits),
        splits="\n".join(_line(name, split) for name, split in manifest.splits.items()),
        ignore_index=manifest.ignore_index,
        classes=", ".join(f"{name} ({train_id})" for train_id, name in enumerate(manifest.classes.names)),
    )


def _line(name: str, split: PreparedSplit) -> str:
    settings = split.settings
    size = "native size" if settings.box is None else f"fitted into {settings.box[0]} x {settings.box[1]}"
    quality = "" if settings.quality is None else f" {settings.quality}"
    labels = "none" if not settings.labelled else "native size" if settings.native_labels else "as the image"
    return f"| {name} | {split.num_examples} | `{settings.domain}` | {size}, {settings.encoding}{quality} | {labels} |"
