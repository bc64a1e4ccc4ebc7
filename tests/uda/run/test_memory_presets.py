from dataclasses import fields
from typing import get_args, get_type_hints

import pytest

from mfm_hf.uda.run.memory_presets import MEMORY_OPTIONS, MemoryPreset
from mfm_hf.uda.training_args import UdaTrainingArguments

PRESETS = get_args(MemoryPreset)


def test_every_preset_has_a_row():
    assert set(MEMORY_OPTIONS) == {None, *PRESETS}
    assert get_type_hints(UdaTrainingArguments)["memory_preset"] == MemoryPreset | None
    by_default = {item.name: item.default for item in fields(UdaTrainingArguments)}
    for options in MEMORY_OPTIONS.values():  # None alone can be told from what is given
        assert {by_default[name] for name in options} == {None}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_in_what_is_not_given(preset):
    args = UdaTrainingArguments(memory_preset=preset)
    assert {name: getattr(args, name) for name in MEMORY_OPTIONS[preset]} == MEMORY_OPTIONS[preset]
    assert args.changed() == {"memory_preset": preset}


@pytest.mark.parametrize(
    ("name", "value"), [("mixed_precision", "no"), ("gradient_checkpointing", False), ("encode", "views_together")]
)
def test_what_is_given_wins(name, value):
    args = UdaTrainingArguments(memory_preset="11gb", **{name: value})
    assert getattr(args, name) == value
    assert args.changed() == {"memory_preset": "11gb", name: value}


def test_without_a_preset_nothing_is_saved():
    args = UdaTrainingArguments()
    assert (args.gradient_checkpointing, args.mixed_precision, args.encode) == (False, "no", None)
    assert args.changed() == {}
