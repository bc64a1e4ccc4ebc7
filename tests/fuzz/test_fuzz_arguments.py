from __future__ import annotations

import contextlib
import io
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from mfm_hf.commands.arguments import ConfigArgumentParser
from mfm_hf.uda.resolution import describe, resolve_rebuilder, resolve_recipe
from mfm_hf.uda.training_args import UdaTrainingArguments
from tests.fuzz.tools import BOTTOMLESS, JSON, cases, damaged, only_one_line_errors

PARSER = ConfigArgumentParser(UdaTrainingArguments)
FLAGS = [item.name for item in fields(UdaTrainingArguments)]
# The words that the options of a choice know, wherever they are given.
WORDS = sorted(
    {
        word
        for action in PARSER._actions
        for word in action.choices or ()
        if isinstance(word, str)
    }
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.sampled_from([0.5, 1e-3, 1e308, 2**63, 512, 1024]),
).map(str)
VALUES = NUMBERS | st.sampled_from([*WORDS, "true", "false", "no", "null", ""]) | st.text(max_size=10)


@st.composite
def options(draw: st.DrawFn) -> dict[str, list[str]]:
    """Some options, most of which there are, with up to four values each."""
    names = st.sampled_from(FLAGS) | st.sampled_from(FLAGS).map("no_{}".format) | st.text("abc_-=", max_size=5)
    return draw(st.dictionaries(names, st.lists(VALUES, max_size=4), max_size=6))


def parse(argv: list[str]) -> None:
    """Do what the command does with its arguments before it opens anything."""
    said = io.StringIO()
    with contextlib.suppress(SystemExit), only_one_line_errors(), contextlib.redirect_stderr(said):
        args = PARSER.parse(argv)
        check_numbers(args)
        recipe = resolve_recipe(args)
        resolve_rebuilder(args)
        assert yaml.safe_load(describe(recipe, args))["recipe"]["name"] == recipe.name
    assert not said.getvalue() or "error: " in said.getvalue()  # not in its last line, if a value has line breaks


def check_numbers(args: Any) -> None:
    """What was let through can be counted with."""
    for item in fields(args):
        value = getattr(args, item.name)
        for number in value if isinstance(value, list) else [value]:
            assert not isinstance(number, float) or math.isfinite(number), item.name
    for name in ("logging_steps", "per_device_eval_batch_size", "per_device_train_batch_size", "max_steps"):
        value = getattr(args, name)
        assert value is None or value >= 1, name


@cases(0.23)
@given(options())
@example({"logging_steps": ["0"]})
@example({"learning_rate": ["nan"]})
@example({"crop_size": []})
def test_command_lines(given_options: dict[str, list[str]]) -> None:
    parse([word for name, values in given_options.items() for word in (f"--{name}", *values)])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "run.yaml"


WHOLE = yaml.safe_dump({"recipe": "mic", "crop_size": [64, 128], "mfm": True, "learning_rate": 6e-5}).encode()


@cases(0.15)
@given(
    content=st.one_of(
        st.dictionaries(st.sampled_from(FLAGS) | st.text(max_size=5), VALUES | JSON, max_size=6).map(
            lambda mapping: yaml.safe_dump(mapping).encode()
        ),
        JSON.map(lambda value: yaml.safe_dump(value).encode()),
        damaged(WHOLE),
        st.binary(max_size=40),
    )
)
@example(BOTTOMLESS[:2000])
def test_config_files(config: Path, content: bytes) -> None:
    config.write_bytes(content)
    parse(["--config", str(config)])


def test_the_words_are_those_of_the_options() -> None:
    """Else the cases would get past no option that has choices."""
    assert {"dacs", "one_by_one", "released"} <= set(WORDS)
