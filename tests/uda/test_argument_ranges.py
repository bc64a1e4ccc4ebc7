from dataclasses import fields

import pytest

from mfm_hf.uda import argument_ranges
from mfm_hf.uda.training_args import UdaTrainingArguments


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("logging_steps", 0, "--logging_steps must be at least 1, not 0"),
        ("learning_rate", float("nan"), "--learning_rate must be a finite number, not nan"),
        ("weight_decay", -0.1, "--weight_decay must be at least 0, not -0.1"),
        ("rare_class_temperature", 0.0, "--rare_class_temperature must be above 0, not 0.0"),
        ("teacher_alpha", 1.5, "--teacher_alpha is a share of the teacher, from 0 to 1, not 1.5"),
        ("pseudo_label_margins", [1, 2], r"--pseudo_label_margins takes 4 numbers of pixels, not \[1, 2\]"),
        ("source_size", [0, 2], r"--source_size takes 2 numbers of pixels, not \[0, 2\]"),
        ("crop_size", [], r"--crop_size takes one or two positive numbers, not \[\]"),
    ],
)
def test_a_number_out_of_range_is_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        UdaTrainingArguments(**{name: value})


def test_every_number_has_a_range():
    """A new option that is forgotten here would be found out of range only where it is used."""
    ranged = {*argument_ranges._LEAST, *argument_ranges._SHARES, *argument_ranges._PIXELS}
    ranged |= {*argument_ranges._ABOVE_ZERO, *argument_ranges._SIDES}
    numbers = {item.name for item in fields(UdaTrainingArguments) if {"int", "float", "list[int]"} & kinds(item.type)}
    assert numbers - ranged == {"ignore_index"}  # which is any number
    assert ranged <= numbers


def kinds(annotation):
    return set(str(annotation).replace("<class '", "").replace("'>", "").replace(" | ", "|").split("|"))
