"""Flags from the fields of a dataclass, and a YAML file for any of them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool


class ConfigArgumentParser(HfArgumentParser):
    """`HfArgumentParser` with `--config FILE.yaml`, and with `--no_x` for every on/off flag.

    What the file says is turned into flags that stand before those of the command line. So it is checked and converted
    by the same rules (YAML itself would leave `6e-5` a string, and take `mixed_precision: no` for false), and the
    command line wins.
    """

    def __init__(self, dataclass_type: type, **kwargs: Any) -> None:
        super().__init__(dataclass_type, allow_abbrev=False, **kwargs)
        self.add_argument("--config", metavar="FILE.yaml", help="File with any of the options, one per line.")

    @staticmethod
    def _parse_dataclass_field(parser: argparse.ArgumentParser, field: dataclasses.Field) -> None:
        if field.type not in (bool, bool | None):
            HfArgumentParser._parse_dataclass_field(parser, field)
            return
        # The library gives only a flag that is on by default its negation, and an optional one no short form.
        flag = {"nargs": "?", "const": True, "type": string_to_bool, "default": field.default, **field.metadata}
        parser.add_argument(f"--{field.name}", metavar="true|false", **flag)
        parser.add_argument(f"--no_{field.name}", action="store_false", dest=field.name, help=argparse.SUPPRESS)

    def parse(self, argv: Sequence[str]) -> Any:
        """Return the dataclass that the arguments make, those of `--config` among them.

        Raises:
            ValueError: If an option does not exist, a value is out of its range, or the file is no mapping of options.
            OSError: If the file cannot be read.
            SystemExit: If argparse refuses an argument; its message says which.
        """
        finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        finder.add_argument("--config")
        known, rest = finder.parse_known_args(argv)
        from_file = [] if known.config is None else config_flags(Path(known.config))
        arguments, *_, unknown = self.parse_args_into_dataclasses(
            [*from_file, *rest], return_remaining_strings=True, look_for_args_file=False
        )
        if unknown:
            raise ValueError(f"there is no option {unknown[0]}: see --help for those there are")
        return arguments


def config_flags(path: Path) -> list[str]:
    """Return the flags that a YAML file of options stands for.

    Raises:
        ValueError: If it is not a mapping of options to values.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # every value as a text
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:  # the last from brackets in brackets
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold lines of the form `option: value`")
    return option_flags(content)


def option_flags(options: Mapping[str, Any]) -> list[str]:
    """Return the flags that stand for options by name: texts and lists of texts, none for an empty text or `null`."""
    flags: list[str] = []
    for name, value in options.items():
        match value:
            case "" | "null" | "~":
                continue
            case list() if all(isinstance(item, str) for item in value):
                flags += [f"--{name}", *value]
            case str():
                flags += [f"--{name}", value]
            case _:
                raise ValueError(f"the option {name} holds lists or mappings: give it a value, or a list of values")
    return flags
