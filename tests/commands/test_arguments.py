from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from mfm_hf.commands.arguments import ConfigArgumentParser
from mfm_hf.uda.training_args import UdaTrainingArguments


@dataclass
class Options:
    name: str = "x"
    rate: float = 0.1
    steps: int | None = None
    size: list[int] | None = field(default=None)
    method: Literal["one", "other"] = "one"
    quick: bool = False
    careful: bool = True


@pytest.fixture
def parse(tmp_path: Path):
    """A function that parses flags together with the text of a config file, if any."""

    def run(*flags: str, config: str | None = None, options: type = Options) -> Any:
        file = tmp_path / "config.yaml"
        if config is not None:
            file.write_text(config)
        from_file = [] if config is None else ["--config", str(file)]
        return ConfigArgumentParser(options).parse([*from_file, *flags])

    return run


def test_defaults(parse) -> None:
    assert parse() == Options()


def test_values_of_the_file_are_those_of_flags(parse) -> None:
    config = "rate: 6e-5\nsteps: 7\nsize: [64, 128]\nmethod: other\nname: a b\n"
    flags = ["--rate", "6e-5", "--steps", "7", "--size", "64", "128", "--method", "other", "--name", "a b"]
    from_file = parse(config=config)
    assert from_file == parse(*flags) == Options("a b", 6e-5, 7, [64, 128], "other")
    assert isinstance(from_file.rate, float)


def test_the_command_line_wins(parse) -> None:
    config = "rate: 1e-3\nsize: [64, 128]\nmethod: other\nquick: true\n"
    parsed = parse("--size", "32", "--rate", "2", "--no_quick", config=config)
    assert parsed == Options(rate=2.0, size=[32], method="other", quick=False)


def test_config_may_stand_anywhere(parse, tmp_path: Path) -> None:
    (tmp_path / "steps.yaml").write_text("steps: 3\nrate: 3\n")
    assert parse("--rate", "1", "--config", str(tmp_path / "steps.yaml")) == Options(rate=1.0, steps=3)


@pytest.mark.parametrize(("word", "value"), [("true", True), ("yes", True), ("False", False), ("no", False)])
def test_switches_of_the_file(word: str, value: bool, parse) -> None:
    assert parse(config=f"quick: {word}\ncareful: {word}\n") == Options(quick=value, careful=value)


def test_switches_of_the_command_line(parse) -> None:
    assert parse("--quick", "--no_careful") == Options(quick=True, careful=False)
    assert parse("--no_quick", "--careful") == Options(quick=False, careful=True)


def test_no_is_a_word_where_the_option_is_no_switch(parse) -> None:
    """For YAML it is false, but not for `mixed_precision: no`."""
    assert parse(config="name: no\n").name == "no"


def test_null_means_the_default(parse) -> None:
    assert parse(config="rate: null\nsize:\n") == Options()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("steps: many\n", "--steps: invalid int value: 'many'"),
        ("method: third\n", "--method: invalid choice: 'third'"),
        ("size: [64, wide]\n", "--size: invalid int value: 'wide'"),
        ("quick: perhaps\n", "--quick: Truthy value expected: got perhaps"),
    ],
)
def test_bad_values_of_the_file_are_refused_like_flags(
    config: str, message: str, parse, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(config=config)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_unknown_options_are_named(parse) -> None:
    with pytest.raises(ValueError, match="no option --stepz"):
        parse(config="stepz: 3\n")
    with pytest.raises(ValueError, match="no option --step:"):  # no abbreviations
        parse("--step", "3")


@pytest.mark.parametrize("config", ["- a\n- b\n", "just words\n", ""])
def test_a_file_of_something_else_is_refused(config: str, parse) -> None:
    with pytest.raises(ValueError, match=r"config\.yaml must hold lines of the form `option: value`"):
        parse(config=config)


def test_a_file_that_is_not_yaml_is_refused(parse) -> None:
    with pytest.raises(ValueError, match=r"config\.yaml is not YAML"):
        parse(config="size: [64, 128\n")


def test_a_missing_file_is_named(parse, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        parse("--config", str(tmp_path / "nowhere.yaml"))


def test_every_training_argument_has_help_and_a_flag(capsys: pytest.CaptureFixture[str], parse) -> None:
    with pytest.raises(SystemExit):
        parse("--help", options=UdaTrainingArguments)
    text = capsys.readouterr().out
    for name, item in UdaTrainingArguments.__dataclass_fields__.items():
        assert f"--{name}" in text
        assert item.metadata["help"].endswith("."), name
    assert parse("--mfm", "--no_mfm", options=UdaTrainingArguments).mfm is False
