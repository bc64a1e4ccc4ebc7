"""What labels show: the file `classes.json` of a folder, or the one that `--label_map` names.

    {"road": 7, "car": 26}                                        ids in the label PNGs
    {"road": [128, 64, 128], "car": [0, 0, 142]}                  colours, as [red, green, blue]
    {"road": 7, "vehicle": {"ids": [26, 27]}, "ignore": 0}        several ids of a class; ids of none
    {"road": 7, "car": {"ids": [26], "colors": [[0, 0, 142]]}}    ids, and the colour to draw a class in
    {"road": 7, "car": 26, "ignore": "others"}                    all other ids are of no class

If there are any ids, labels are read by ids, else by colours. If every class has one id and these are 0 to n - 1, they
are the train ids; otherwise the train ids are 0, 1, ... in the order of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mfm_hf.data.classes import CITYSCAPES, ClassSet, class_set_from_names
from mfm_hf.data.label_files import MAX_ID, Color, LabelReader

_IGNORE = "ignore"
_OTHERS = "others"
_FORMS = 'write {"name": id, ...}, {"name": [red, green, blue], ...} or {"name": {"ids": [id, ...]}, ...}'

_Raw = TypeVar("_Raw", int, Color)


@dataclass(frozen=True)
class LabelMap:
    """Classes, and how labels show them.

    Attributes:
        classes: The classes.
        ids, colors, ignore_others: As in `LabelReader`.
    """

    classes: ClassSet
    ids: Mapping[int, int | None] | None = None
    colors: Mapping[Color, int | None] | None = None
    ignore_others: bool = False

    def reader(self, ignore_index: int) -> LabelReader:
        """Return what reads such labels.

        Raises:
            ValueError: The classes are numbered anew, and the ignore index is one of the numbers.
        """
        return LabelReader(len(self.classes), ignore_index, self.ids, self.colors, self.ignore_others)


def read_label_map(path: Path) -> LabelMap:
    """Read a label map (see the module's description).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or no label map.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no label map {path}: {_FORMS}")
    try:
        return _label_map(json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repetition))
    except (ValueError, RecursionError) as error:  # the latter from brackets in brackets
        raise ValueError(f"{path} is no label map ({error}): {_FORMS}") from error


def write_label_map(classes: ClassSet, path: Path) -> None:
    """Write the label map of labels that hold train ids, with colours unless they are the usual ones.

    Raises:
        ValueError: A class has the name that stands for what is of no class.
    """
    if _IGNORE in classes.names:
        raise ValueError(f"no class can be called {_IGNORE!r} in {path}, where this means pixels of no class")
    usual = classes == _class_set(classes.names, {})
    values = [i if usual else {"ids": [i], "colors": [color]} for i, color in enumerate(classes.colors)]
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in zip(classes.names, values, strict=True)]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


@dataclass(frozen=True)
class _Entry:
    """What shows a class in labels."""

    ids: tuple[int, ...] = ()
    colors: tuple[Color, ...] = ()


def _label_map(content: Any) -> LabelMap:
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    ignore = content.pop(_IGNORE, None)
    entries = {name: _entry(name, value) for name, value in content.items()}
    has_train_ids = sorted(entry.ids for entry in entries.values()) == [(i,) for i in range(len(entries))]
    if has_train_ids:
        entries = dict(sorted(entries.items(), key=lambda item: item[1].ids))
    classes = _class_set(tuple(entries), {name: entry.colors[0] for name, entry in entries.items() if entry.colors})
    if has_train_ids and ignore is None:
        return LabelMap(classes)
    listed: list[tuple[str, int | None, _Entry]] = [
        (name, train_id, entry) for train_id, (name, entry) in enumerate(entries.items())
    ]
    if ignore not in (None, _OTHERS):
        listed.append((_IGNORE, None, _entry(_IGNORE, ignore)))
    if any(entry.ids for _, _, entry in listed):
        ids = _table("ids", ((name, train_id, entry.ids) for name, train_id, entry in listed))
        return LabelMap(classes, ids=ids, ignore_others=ignore == _OTHERS)
    colors = _table("colours", ((name, train_id, entry.colors) for name, train_id, entry in listed))
    return LabelMap(classes, colors=colors, ignore_others=ignore == _OTHERS)


def _entry(name: str, value: Any) -> _Entry:
    if _is_number(value, MAX_ID):
        return _Entry(ids=(value,))
    if _is_color(value):
        return _Entry(colors=(tuple(value),))
    if isinstance(value, dict) and value.keys() <= {"ids", "colors"}:
        ids, colors = value.get("ids", []), value.get("colors", [])
        lists = isinstance(ids, list) and isinstance(colors, list)
        if lists and all(_is_number(number, MAX_ID) for number in ids) and all(map(_is_color, colors)):
            return _Entry(tuple(ids), tuple(tuple(color) for color in colors))
    raise ValueError(f"{name!r} is {json.dumps(value)}, neither an id (0 to {MAX_ID}) nor a colour (three of 0 to 255)")


def _table(kind: str, listed: Iterable[tuple[str, int | None, tuple[_Raw, ...]]]) -> dict[_Raw, int | None]:
    """Train ids, None for what is ignored, by what shows them in labels."""
    names: dict[_Raw, str] = {}
    table: dict[_Raw, int | None] = {}
    for name, train_id, raws in listed:
        if not raws:
            raise ValueError(f"{name!r} has no {kind}, by which these labels are read")
        for raw in raws:
            if raw in names:
                raise ValueError(f"{raw} is {names[raw]!r} and {name!r}")
            names[raw], table[raw] = name, train_id
    return table


def _class_set(names: tuple[str, ...], colors: Mapping[str, Color]) -> ClassSet:
    """The classes in these colours, or in the usual ones where none is given."""
    usual = CITYSCAPES if names == CITYSCAPES.names else class_set_from_names(names)
    return ClassSet(names, tuple(colors.get(name, color) for name, color in zip(names, usual.colors, strict=True)))


def _is_number(value: Any, maximum: int) -> bool:
    return type(value) is int and 0 <= value <= maximum  # isinstance would let true and false through


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_number(number, 255) for number in value)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the dict, unless a name is repeated: JSON itself keeps the last one, and so would lose a class."""
    names = [name for name, _ in pairs]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ValueError(f"it has two entries {repeated[0]!r}")
    return dict(pairs)
