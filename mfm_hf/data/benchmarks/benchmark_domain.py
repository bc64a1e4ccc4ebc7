"""Domains `gta:DIR`, `cityscapes:DIR`, `acdc:DIR:night` and so on: benchmarks in the folders of their downloads."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from mfm_hf.data.benchmarks.layouts import LAYOUTS, LabelFiles, Layout, Split
from mfm_hf.data.classes import CITYSCAPES, IGNORE_INDEX
from mfm_hf.data.domain import Domain
from mfm_hf.data.file_domain import file_domain

logger = logging.getLogger(__name__)


def is_benchmark(address: str) -> bool:
    """Whether a string begins with the prefix of a benchmark, as in `gta:DIR`."""
    prefix, colon, _ = address.partition(":")
    return bool(colon) and prefix in LAYOUTS


def benchmark_domain(
    address: str, split: str, *, labelled: bool, ignore_index: int = IGNORE_INDEX, name: str | None = None
) -> Domain:
    """Open a benchmark. Its classes are the 19 of Cityscapes, whatever its own are.

    Args:
        address: `PREFIX:DIR` with a prefix of `LAYOUTS` and the folder of the download, or `PREFIX:DIR:CONDITION` for
            one condition: `acdc:DIR` has fog, night, rain and snow; `dark_zurich:DIR` the nights, unless it says
            `twilight` or `day`.
        split: `train`, `validation` or `test`.
        labelled: Whether labels are needed; if not, they are not read even where they exist.
        ignore_index: The label of pixels without a class.
        name: The name of the domain; default: the address.

    Raises:
        FileNotFoundError: The folder is not there, or holds no images where the benchmark has them.
        ValueError: The benchmark has no such split or condition, or no labels for it, or labels are missing.
    """
    layout, directory, conditions = _parse(address)
    part = _split(layout, address, split, conditions, labelled)
    images = _find(directory, layout.images, layout.image_suffix, part, conditions)
    if not images:
        raise FileNotFoundError(_no_images(address.partition(":")[0], layout, directory, part, conditions))
    num_expected = sum(part.num_examples[condition] for condition in conditions)
    _tell_partial(layout.title, split, directory, len(images), num_expected)
    kind, labels = layout.labels[0], None
    if labelled:
        kind, labels = _find_labels(layout, directory, part, conditions, images)
    ending = layout.image_suffix.partition(".")[0]  # an example is called as its image is, which servers ask for
    return file_domain(
        name=name or address,
        split=split,
        classes=CITYSCAPES,
        reader=kind.reader(len(CITYSCAPES), ignore_index, ids=kind.ids, ignore_others=kind.ignore_others),
        images={stem + ending: path for stem, path in images.items()},
        labels=None if labels is None else {stem + ending: path for stem, path in labels.items()},
        folder=directory,
        paper=replace(layout.paper, num_examples=_num_examples(layout, conditions)),
        fit_labels=layout.labels_vary_in_size,
    )


def _parse(address: str) -> tuple[Layout, Path, tuple[str, ...]]:
    """The layout, the folder and the conditions that an address names."""
    prefix, _, place = address.partition(":")
    layout = LAYOUTS[prefix]
    if not place:
        raise ValueError(f"{address!r} names no folder: write {prefix}:DIR with the folder of the download")
    directory, conditions = Path(place).expanduser(), layout.conditions  # a shell expands ~ at the start of a word only
    head, colon, tail = place.rpartition(":")
    if colon and not directory.exists():
        directory, conditions = Path(head).expanduser(), (tail,)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} is not a folder: give that of the {layout.title} download")
    if not set(conditions) <= {*layout.conditions, *layout.all_conditions}:
        known = f"only {', '.join(layout.all_conditions)}" if layout.all_conditions else "it has none"
        raise ValueError(f"{layout.title} has no condition {tail!r}, {known}: mend or leave out ':{tail}'")
    return layout, directory, conditions


def _split(layout: Layout, address: str, split: str, conditions: Sequence[str], labelled: bool) -> Split:
    """The split of a layout that can serve."""
    if split not in layout.splits:
        known = ", ".join(layout.splits)
        raise ValueError(f"{layout.title} has no split {split!r}, only {known}: name one, as in {address}#train")
    part = layout.splits[split]
    if missing := [name for name in conditions if name not in part.num_examples]:
        known = ", ".join(part.num_examples)
        raise ValueError(f"{layout.title} has no {missing[0]} images in its split {split!r}, only {known}: name one")
    if labelled and not part.labelled:
        known = ", ".join(name for name, other in layout.splits.items() if other.labelled)
        raise ValueError(
            f"the labels of {layout.title}'s split {split!r} are not public, only those of {known}: use it as a target"
        )
    return part


def _num_examples(layout: Layout, conditions: Sequence[str]) -> dict[str, int]:
    return {split: sum(part.num_examples.get(name, 0) for name in conditions) for split, part in layout.splits.items()}


def _find(directory: Path, folder: str, suffix: str, part: Split, conditions: Sequence[str]) -> dict[str, str]:
    """The files of a kind by stem: the condition, if any, and the path below the folder without the suffix. Sorted."""
    found = {}
    for condition in conditions:
        root = directory / folder.format(split=part.folder, condition=condition)
        # Tens of thousands of files, maybe far away: folders are listed, and paths are text, which is ten times faster.
        for place, _, names in os.walk(root, followlinks=True):
            below = PurePosixPath(condition, *Path(place).relative_to(root).parts)
            prefix = f"{below}/" if below.parts else ""
            for name in names:
                if name.endswith(suffix) and not name.startswith("."):
                    found[prefix + name.removesuffix(suffix)] = os.path.join(place, name)
    return dict(sorted(found.items()))


def _find_labels(
    layout: Layout, directory: Path, part: Split, conditions: Sequence[str], images: Mapping[str, str]
) -> tuple[LabelFiles, dict[str, str]]:
    """The best kind of label files that is there for all images, and the files by stem."""
    missing_by_kind = {}
    for kind in layout.labels:
        labels = _find(directory, kind.folder, kind.suffix, part, conditions)
        missing = [stem for stem in images if stem not in labels]
        if not missing:
            return kind, {stem: labels[stem] for stem in images}
        missing_by_kind[_pattern(kind.folder, kind.suffix, part, conditions)] = missing
    missing = min(missing_by_kind.values(), key=len)
    listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    raise ValueError(
        f"{len(missing)} of {len(images)} {layout.title} images in {directory} have no label ({listed}): looked for "
        f"{' and '.join(missing_by_kind)}. Complete the download, or remove these images"
    )


def _pattern(folder: str, suffix: str, part: Split, conditions: Sequence[str]) -> str:
    """Where files of a kind are looked for, as a shell would write it."""
    condition = f"{{{','.join(conditions)}}}" if len(conditions) > 1 else conditions[0]
    return f"{folder.format(split=part.folder, condition=condition)}/**/*{suffix}"


def _no_images(prefix: str, layout: Layout, directory: Path, part: Split, conditions: Sequence[str]) -> str:
    """What to say when there are no images. Archives often hold one folder more, or people name one too deep."""
    pattern = _pattern(layout.images, layout.image_suffix, part, conditions)
    message = f"{directory} is not the folder of the {layout.title} download: it has no {pattern}"
    first = Path(pattern).parts[0]
    if not (directory / first).is_dir():
        nearby = [*sorted(path for path in directory.iterdir() if path.is_dir()), directory.parent]
        if meant := next((path for path in nearby if (path / first).is_dir()), None):
            return f"{message}; did you mean {prefix}:{meant}?"
    return message


@lru_cache  # source, target and evaluation may open one folder
def _tell_partial(title: str, split: str, directory: Path, num_found: int, num_expected: int) -> None:
    if num_found < num_expected:
        logger.warning(
            "%s: %s of %s images found (%s, in %s)", title, f"{num_found:,}", f"{num_expected:,}", split, directory
        )
